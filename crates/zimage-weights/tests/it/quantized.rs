//! Models that MLX programs quantized: what the original application reads wrongly, and what is no weight at all.

use std::fs;
use std::path::PathBuf;

use zimage_kernels::blocks::Format;
use zimage_weights::container::{Metadata, TensorSource, write_safetensors};
use zimage_weights::dialect::{Rule, layout, mflux, mlx, place};
use zimage_weights::inspect::{doctor, inspect};
use zimage_weights::{Checkpoint, Component, Dtype, Parts, TensorView, Weights};

use crate::parts::Model;

/// One part under the names of `rules`, its kernels in their order, its matrices in 8 bits where groups of 32 fit.
fn named(model: &Model, component: Component, rules: &[Rule], quantized: bool) -> Vec<TensorView> {
    let checkpoint = model.open();
    let weights = checkpoint.weights(component).expect("audited");
    let tensors = layout(rules, &checkpoint.specs(component)).into_iter();
    tensors
        .flat_map(|tensor| {
            let view = weights.tensor(&tensor.made_of[0]).expect("there");
            let dtype = if view.cols() * 2 * view.shape.iter().rev().skip(1).product::<usize>()
                == view.bytes().expect("floats").len()
            {
                Dtype::BF16
            } else {
                Dtype::F32
            };
            let mut data = view.bytes().expect("floats").to_vec();
            if place(rules, &tensor.made_of[0]).transposed {
                data = channels_last(&data, &view.shape, dtype.block_bytes());
            }
            let view = TensorView { name: tensor.name, dtype, shape: tensor.shape, data: data.into() };
            if quantized && matches!(*view.shape, [_, cols] if cols % 32 == 0) && view.name.ends_with(".weight") {
                in_8_bits(&view)
            } else {
                vec![view]
            }
        })
        .collect()
}

fn channels_last(data: &[u8], shape: &[usize], size: usize) -> Vec<u8> {
    let [out, input, height, width] = shape[..] else { return data.to_vec() };
    let pixels = height * width;
    let mut turned = Vec::new();
    for at in
        (0..out).flat_map(|o| (0..pixels).flat_map(move |p| (0..input).map(move |i| (o * input + i) * pixels + p)))
    {
        turned.extend_from_slice(&data[at * size..(at + 1) * size]);
    }
    turned
}

/// Words, scales of 0.5 and biases of -3, so that every value is known: `code / 2 - 3`.
fn in_8_bits(view: &TensorView) -> Vec<TensorView> {
    let (rows, cols) = (view.shape[0], view.shape[1]);
    let base = view.name.strip_suffix("weight").expect("a weight");
    let codes: Vec<u8> = (0..rows * cols).map(|i| (i * 7 % 251) as u8).collect();
    let all = |half: u16| -> Vec<u8> { (0..rows * cols / 32).flat_map(|_| half.to_le_bytes()).collect() };
    let tensor = |end: &str, dtype, cols, data: Vec<u8>| TensorView {
        name: format!("{base}{end}"),
        dtype,
        shape: vec![rows, cols],
        data: data.into(),
    };
    vec![
        tensor("weight", Dtype::U32, cols / 4, codes),
        tensor("scales", Dtype::F16, cols / 32, all(0x3800)),
        tensor("biases", Dtype::F16, cols / 32, all(0xc200)),
    ]
}

fn write(path: &std::path::Path, views: &[TensorView]) {
    let source = |view: &TensorView| {
        let data = view.data.clone();
        TensorSource::new(view.name.clone(), view.dtype, &view.shape, move |out| out.write_all(&data))
    };
    write_safetensors(path, &Metadata::new(), views.iter().map(source).collect()).expect("written");
}

/// A directory of the original application with the configs of the model; `change` may damage a part.
struct Application {
    model: Model,
    directory: PathBuf,
}

impl Application {
    fn new(transposed: bool, change: impl Fn(Component, &mut Vec<TensorView>)) -> Self {
        let model = Model::new(Format::BF16);
        let directory = model.path("application");
        fs::create_dir_all(directory.join("tokenizer")).expect("made");
        let sizes = model.open().vae_config().into();
        for (component, file) in
            [(Component::Transformer, "weights"), (Component::TextEncoder, "text_encoder"), (Component::Vae, "vae")]
        {
            let rules = mlx::rules(component, sizes, transposed);
            let mut views = named(&model, component, &rules, component != Component::Vae);
            views.retain(|view| !mlx::DROPPED.contains(&&*view.name));
            change(component, &mut views);
            write(&directory.join(format!("{file}.safetensors")), &views);
            let config = model.path("model").join(component.config_file());
            fs::copy(config, directory.join(format!("{}_config.json", component.folder()))).expect("copied");
        }
        fs::copy(model.path("given.json"), directory.join("tokenizer/tokenizer.json")).expect("copied");
        Self { model, directory }
    }

    fn open(&self) -> Checkpoint {
        let pad_tokens_from = Some(self.model.path("model"));
        let transformer = self.directory.clone();
        Checkpoint::from_parts(&Parts { transformer, pad_tokens_from, ..Parts::default() }).expect("a checkpoint")
    }

    fn weights(&self, component: Component) -> Weights {
        self.open().weights(component).unwrap_or_else(|error| panic!("{error}"))
    }

    fn error(&self, component: Component) -> String {
        self.open().weights(component).expect_err("refused").to_string()
    }
}

#[test]
fn norms_of_an_8_bit_model_are_those_of_the_file_and_not_zero() {
    let application = Application::new(true, |_, _| ());
    let original = application.model.open();
    for component in [Component::Transformer, Component::TextEncoder] {
        let (own, weights) = (original.weights(component).expect("audited"), application.weights(component));
        let norms = original.specs(component).into_iter().filter(|spec| spec.shape.len() == 1);
        for spec in norms {
            let (own, found) = (own.tensor(&spec.name).expect("there"), weights.tensor(&spec.name).expect("there"));
            assert_eq!(own.decode(), found.decode(), "{}", spec.name);
        }
        let counts = weights.precision().counts;
        assert!(counts.iter().any(|count| count.format == "affine 8-bit, group 32"), "{counts:?}");
    }
}

#[test]
fn embeddings_of_a_quantized_text_encoder_are_scaled_and_not_zero() {
    // The rows of captions have 48 values, which no group divides, so the projection stands for the table of tokens.
    let application = Application::new(true, |_, _| ());
    let view = application.weights(Component::TextEncoder).tensor("layers.0.mlp.down_proj.weight").expect("there");
    let expected: Vec<f32> = (0..48 * 64).map(|i| (i * 7 % 251) as f32 / 2.0 - 3.0).collect();
    assert_eq!(view.decode(), expected);
    let without = Application::new(true, |_, views| views.retain(|view| !view.name.ends_with(".scales")));
    let error = without.error(Component::TextEncoder);
    assert!(error.contains("layers.0.mlp.down_proj.biases"), "biases without scales are unknown: {error}");
    let nothing = |_: Component, views: &mut Vec<TensorView>| {
        views.retain(|view| !view.name.ends_with(".scales") && !view.name.ends_with(".biases"));
    };
    let error = Application::new(true, nothing).error(Component::TextEncoder);
    assert!(error.contains("misshapen layers.0.mlp.down_proj.weight: expected [48, 64], found [48, 16]"), "{error}");
}

#[test]
fn the_order_of_axes_of_the_vae_is_told_once_and_not_per_tensor() {
    let [turned, kept] = [true, false].map(|transposed| Application::new(transposed, |_, _| ()));
    let original = turned.model.open();
    let own = original.weights(Component::Vae).expect("audited");
    let (turned, kept) = (turned.weights(Component::Vae), kept.weights(Component::Vae));
    for spec in original.specs(Component::Vae) {
        let values = own.tensor(&spec.name).expect("there").decode();
        for (order, weights) in [("turned", &turned), ("kept", &kept)] {
            let found = weights.tensor(&spec.name).expect("there");
            // The first kernel of the encoder has the same shape in both orders.
            assert_eq!((&found.shape, found.decode() == values), (&spec.shape, true), "{order} {}", spec.name);
        }
    }
}

#[test]
fn missing_tensors_of_a_quantized_model_are_errors() {
    for (component, lost, listed) in [
        (Component::Transformer, "layers.0.attention_norm1.weight", "missing layers.0.attention_norm1.weight"),
        (Component::Transformer, "layers.1.attention.to_q.weight", "missing layers.1.attention.to_q.weight"),
        (Component::Transformer, "t_embedder.mlp.layers.0.bias", "missing t_embedder.mlp.0.bias"),
        (Component::TextEncoder, "norm.weight", "missing norm.weight"),
        (Component::Vae, "decoder.mid_block.layers.1.to_q.bias", "missing decoder.mid_block.attentions.0.to_q.bias"),
    ] {
        let application = Application::new(true, |_, views| views.retain(|view| view.name != lost));
        let error = application.error(component);
        assert!(error.contains(listed), "{lost}: {error}");
        assert!(!doctor(&application.directory).expect("a diagnosis").usable);
    }
}

#[test]
fn pad_tokens_that_are_missing_are_asked_for() {
    let application = Application::new(true, |_, _| ());
    let diagnosis = doctor(&application.directory).expect("a diagnosis");
    let problem = diagnosis.parts[0].problem.as_ref().expect("a problem");
    assert!(problem.contains("--pad-tokens-from PATH"), "{problem}");
    let alone = inspect(&application.directory.join("weights.safetensors")).expect("a report");
    assert!(diagnosis.report.supported && alone.supported, "they are read with pad tokens");
    let parts: Vec<_> = diagnosis.report.parts.iter().map(|part| part.component).collect();
    assert_eq!(parts, Component::ALL.map(Some));
}

#[test]
fn frequencies_that_mflux_saves_are_no_weights() {
    let model = Model::new(Format::BF16);
    for prefix in ["", "model."] {
        let mut views = named(&model, Component::TextEncoder, &mflux::rules(Component::TextEncoder), true);
        let name = "rotary_emb.inv_freq".to_owned();
        views.push(TensorView { name, dtype: Dtype::F32, shape: vec![64], data: vec![0; 256].into() });
        views.iter_mut().for_each(|view| view.name = format!("{prefix}{}", view.name));
        let text_encoder = model.path("mflux.safetensors");
        write(&text_encoder, &views);
        let parts = Parts { transformer: model.path("model"), text_encoder: Some(text_encoder), ..Parts::default() };
        let weights = Checkpoint::from_parts(&parts).and_then(|checkpoint| checkpoint.weights(Component::TextEncoder));
        assert!(weights.is_ok(), "{weights:?}");
    }
}
