//! Mixtures of models.

use std::path::Path;

use tempfile::TempDir;
use zimage_kernels::blocks::Format;
use zimage_weights::convert::{Conversion, Model as _, Opened, Precision, Reach, Target, convert};
use zimage_weights::merge::{Merged, Method};
use zimage_weights::random::RandomCheckpoint;
use zimage_weights::{Checkpoint, Component};

/// Three models of the same sizes and other numbers.
struct Models(TempDir);

impl Models {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let tokenizer =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/models/tiny-a/tokenizer/tokenizer.json");
        for (seed, name) in ["a", "b", "c"].into_iter().enumerate() {
            let plan = RandomCheckpoint { format: Format::F32, ..RandomCheckpoint::tiny(448, seed as u64) };
            plan.write(&root.path().join(name), &tokenizer).expect("written");
        }
        Self(root)
    }

    fn open(&self, name: &str) -> Opened {
        Opened::new(Checkpoint::open(&self.0.path().join(name)).expect("a checkpoint")).expect("weights")
    }

    fn merged(&self, names: &[&str], method: Method, alphas: &[f32]) -> Merged {
        let others = names[1..].iter().map(|name| self.open(name)).collect();
        Merged::new(self.open(names[0]), others, method, alphas, false).expect("a mixture")
    }
}

const NAME: &str = "layers.0.attention.to_q.weight";

fn values(model: &dyn zimage_weights::convert::Model) -> Vec<f32> {
    let view = model.stored(Component::Transformer, NAME).expect("there");
    let mut values = vec![0.0; view.shape.iter().product()];
    model.rows(Component::Transformer, NAME, 0..view.shape[0], &mut values).expect("read");
    values
}

#[test]
fn models_are_mixed_by_the_formulas() {
    let models = Models::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| values(&models.open(name)));
    let check = |merged: Merged, expected: &dyn Fn(usize) -> f32| {
        for (at, value) in values(&merged).into_iter().enumerate() {
            assert!((value - expected(at)).abs() < 1e-6, "{at}: {value} and {}", expected(at));
        }
    };
    check(models.merged(&["a", "b"], Method::WeightedSum, &[0.0]), &|at| a[at]);
    check(models.merged(&["a", "b"], Method::WeightedSum, &[1.0]), &|at| b[at]);
    check(models.merged(&["a", "b"], Method::WeightedSum, &[0.25]), &|at| 0.75 * a[at] + 0.25 * b[at]);
    let two = |at: usize| 0.5 * (0.75 * a[at] + 0.25 * b[at]) + 0.5 * c[at];
    check(models.merged(&["a", "b", "c"], Method::WeightedSum, &[0.25, 0.5]), &two);
    check(models.merged(&["a", "b", "c"], Method::AddDifference, &[0.5]), &|at| a[at] + 0.5 * (b[at] - c[at]));
}

#[test]
fn a_mixture_is_written_like_any_model_and_the_rest_is_that_of_the_first() {
    let models = Models::new();
    let merged = models.merged(&["a", "b"], Method::WeightedSum, &[0.5]);
    let path = models.0.path().join("mixed");
    let conversion =
        Conversion { target: Target::Diffusers, precision: Precision::Keep, reach: Reach::default(), replace: false };
    let info = merged.info().to_string().into_bytes();
    convert(&merged, &conversion, &path, &[("merge_info.json", info)], &mut |_| true).expect("written");
    let (mixed, a) = (models.open("mixed"), models.open("a"));
    assert_eq!(values(&mixed), values(&merged));
    for component in [Component::TextEncoder, Component::Vae] {
        for spec in a.specs(component) {
            let [x, y] = [&a, &mixed].map(|model| model.stored(component, &spec.name).expect("there").bytes());
            assert!(x == y, "{}", spec.name);
        }
    }
    let info = std::fs::read_to_string(path.join("merge_info.json")).expect("kept");
    assert!(info.contains("weighted-sum") && info.contains("/b\""), "{info}");
}

#[test]
fn what_does_not_mix_is_refused_with_the_reason() {
    let models = Models::new();
    let error = |others: Vec<Opened>, method, alphas: &[f32]| {
        let merged = Merged::new(models.open("a"), others, method, alphas, false);
        merged.err().expect("refused").to_string()
    };
    assert!(error(vec![], Method::WeightedSum, &[]).contains("there are 1 models and 0 weights"));
    assert!(error(vec![models.open("b")], Method::AddDifference, &[1.0]).contains("three models A, B, C"));
    assert!(error(vec![models.open("b")], Method::WeightedSum, &[f32::NAN]).contains("is no number to mix by"));
    let tokenizer = models.0.path().join("a/tokenizer/tokenizer.json");
    let mut other = RandomCheckpoint::tiny(448, 0);
    other.transformer.n_layers = 3;
    other.write(&models.0.path().join("other"), &tokenizer).expect("written");
    assert!(error(vec![models.open("other")], Method::WeightedSum, &[0.5]).contains("transformer has other sizes"));
    let quantized = Conversion {
        target: Target::Mlx,
        precision: "int8".parse().expect("a precision"),
        reach: Reach::default(),
        replace: false,
    };
    convert(&models.open("b"), &quantized, &models.0.path().join("q"), &[], &mut |_| true).expect("written");
    let message = error(vec![models.open("q")], Method::WeightedSum, &[0.5]);
    assert!(message.contains("stored as affine 8-bit, group 64") && message.contains("--dequantize"), "{message}");
    Merged::new(models.open("a"), vec![models.open("q")], Method::WeightedSum, &[0.5], true).expect("asked for");
}
