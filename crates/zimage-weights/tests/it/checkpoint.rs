//! Whole checkpoints: written at random, opened, damaged.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tempfile::TempDir;
use zimage_weights::container::{Container, Metadata, TensorSource, write_safetensors};
use zimage_weights::random::{RandomCheckpoint, vocabulary_of};
use zimage_weights::{Checkpoint, Component, Dtype, Role, TensorView};

/// A `tokenizer.json` with 300 tokens, as far as this crate reads it.
const TOKENIZER: &str =
    r#"{"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 299, "content": "<|end|>"}]}"#;

/// A random checkpoint of tiny size in a directory of its own.
pub struct Written {
    root: TempDir,
}

impl Written {
    pub fn new() -> Self {
        Self::with_seed(0)
    }

    fn with_seed(seed: u64) -> Self {
        let written = Self { root: tempfile::tempdir().expect("a directory") };
        let tokenizer = written.root.path().join("tokenizer.json");
        fs::write(&tokenizer, TOKENIZER).expect("written");
        let vocabulary = vocabulary_of(&tokenizer).expect("a tokenizer");
        RandomCheckpoint::tiny(vocabulary, seed).write(&written.path(), &tokenizer).expect("written");
        written
    }

    pub fn path(&self) -> PathBuf {
        self.root.path().join("model")
    }

    pub fn file(&self, file: &str) -> PathBuf {
        self.path().join(file)
    }

    fn open_error(&self) -> String {
        let error = Checkpoint::open(&self.path()).expect_err("a damaged checkpoint").to_string();
        error.replace(&self.path().display().to_string(), "MODEL")
    }

    fn weights_error(&self, component: Component) -> String {
        let checkpoint = Checkpoint::open(&self.path()).expect("a checkpoint");
        let error = checkpoint.weights(component).expect_err("damaged weights").to_string();
        error.replace(&self.path().display().to_string(), "MODEL")
    }

    /// Replaces the weights of a part by one file with other tensors.
    pub fn rewrite(&self, component: Component, change: impl Fn(TensorView) -> Vec<TensorView>) {
        let checkpoint = Checkpoint::open(&self.path()).expect("a checkpoint");
        let container = checkpoint.container(component).expect("weights");
        let views: Vec<_> = container.names().flat_map(|name| change(container.tensor(name).expect("there"))).collect();
        let folder = self.file(component.folder());
        for entry in fs::read_dir(&folder).expect("listed") {
            let path = entry.expect("an entry").path();
            if path.to_string_lossy().contains("safetensors") {
                fs::remove_file(path).expect("removed");
            }
        }
        write(&folder.join(format!("{}.safetensors", component.weights_stem())), &views);
    }
}

fn write(path: &Path, views: &[TensorView]) {
    let source = |view: &TensorView| {
        let data = view.data.clone();
        TensorSource::new(view.name.clone(), view.dtype, &view.shape, move |out| out.write_all(&data))
    };
    write_safetensors(path, &Metadata::new(), views.iter().map(source).collect()).expect("written");
}

fn f32s(view: &TensorView) -> Vec<f32> {
    assert_eq!(view.dtype, Dtype::F32);
    view.data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn a_directory_is_opened_and_every_tensor_is_there() {
    let written = Written::new();
    let checkpoint = Checkpoint::open(&written.path()).expect("a checkpoint");
    assert_eq!(checkpoint.label(), written.path().display().to_string());
    assert_eq!(checkpoint.scheduler_config()["shift"], 3.0);
    assert_eq!(checkpoint.tokenizer_json().expect("there"), TOKENIZER);
    assert!(checkpoint.tokenizer_config().expect("valid").is_some());
    for component in Component::ALL {
        let weights = checkpoint.weights(component).expect("audited");
        assert_eq!(weights.component(), component);
        assert_eq!(weights.precision().to_string(), "f32");
        for spec in checkpoint.specs(component) {
            let view = weights.tensor(&spec.name).expect("there");
            assert_eq!((view.name, view.shape), (spec.name, spec.shape));
        }
    }
    let shards = |component| checkpoint.weights(component).expect("audited").files().len();
    assert!(shards(Component::Transformer) > 1 && shards(Component::TextEncoder) > 1, "the tiny shape has shards");
    assert_eq!(shards(Component::Vae), 1);
}

#[test]
fn random_weights_keep_activations_at_their_size() {
    let written = Written::new();
    let checkpoint = Checkpoint::open(&written.path()).expect("a checkpoint");
    for component in Component::ALL {
        let weights = checkpoint.weights(component).expect("audited");
        for spec in checkpoint.specs(component).iter().filter(|spec| spec.elements() >= 2000) {
            let values = weights.tensor(&spec.name).expect("there").decode();
            let n = values.len() as f32;
            let mean = values.iter().sum::<f32>() / n;
            let deviation = (values.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / n).sqrt();
            let fan_in: usize = spec.shape[1..].iter().product();
            let expected = match spec.role {
                Role::Embedding => 1.0,
                _ if spec.name.contains("adaLN") => 0.5 / (fan_in as f32).sqrt(),
                _ => 1.0 / (fan_in as f32).sqrt(),
            };
            assert!((deviation / expected - 1.0).abs() < 0.1, "{}: {deviation} not {expected}", spec.name);
            assert!(mean.abs() < 0.1 * expected, "{}: mean {mean}", spec.name);
        }
    }
}

#[test]
fn equal_seeds_give_equal_files_and_other_seeds_others() {
    let bytes = |written: &Written| fs::read(written.file("vae/diffusion_pytorch_model.safetensors")).expect("read");
    let (first, again, other) = (Written::new(), Written::new(), Written::with_seed(1));
    assert!(bytes(&first) == bytes(&again));
    assert!(bytes(&first) != bytes(&other));
}

#[test]
fn a_directory_in_use_and_a_table_that_is_too_small_are_refused() {
    let written = Written::new();
    let tokenizer = written.file("tokenizer/tokenizer.json");
    let error = RandomCheckpoint::tiny(300, 0).write(&written.path(), &tokenizer).expect_err("in use").to_string();
    assert!(error.starts_with("cannot write a checkpoint to "), "{error}");
    let empty = tempfile::tempdir().expect("a directory");
    let error = RandomCheckpoint::tiny(299, 0).write(empty.path(), &tokenizer).expect_err("too small").to_string();
    assert!(error.contains("vocab_size is 299, expected at least the 300 tokens of "), "{error}");
}

#[test]
fn files_in_memory_give_the_same_tensors() {
    let written = Written::new();
    let on_disk = Checkpoint::open(&written.path()).expect("a checkpoint");
    let embedded = Checkpoint::from_files(in_memory(&written.path())).expect("a checkpoint");
    assert_eq!(embedded.label(), "embedded demo model");
    for component in Component::ALL {
        let (a, b) = (on_disk.weights(component).expect("audited"), embedded.weights(component).expect("audited"));
        assert!(b.files()[0].ends_with(" of the embedded demo model"), "{:?}", b.files());
        for (name, _) in a.iter() {
            assert_eq!(a.tensor(name).expect("there").bytes(), b.tensor(name).expect("there").bytes(), "{name}");
        }
    }
    let error = Checkpoint::from_files(Vec::new()).expect_err("nothing").to_string();
    assert!(error.starts_with("embedded demo model cannot be opened: it has no model_index.json"), "{error}");
}

/// All files of a directory under their relative paths.
fn in_memory(root: &Path) -> Vec<(&'static str, Bytes)> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("listed") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let relative = path.strip_prefix(root).expect("inside").to_str().expect("a plain name").to_owned();
            files.push((&*relative.leak(), Bytes::from(fs::read(&path).expect("read"))));
        }
    }
    files
}

#[test]
fn all_missing_files_are_listed_at_once() {
    let written = Written::new();
    fs::remove_dir_all(written.file("vae")).expect("removed");
    fs::remove_dir_all(written.file("tokenizer")).expect("removed");
    fs::remove_file(written.file("text_encoder/model.safetensors.index.json")).expect("removed");
    assert_eq!(
        written.open_error(),
        "MODEL is not a complete checkpoint, missing: vae/config.json, tokenizer/tokenizer.json, \
         text_encoder/model.safetensors or its .index.json, vae/diffusion_pytorch_model.safetensors or its .index.json"
    );
}

#[test]
fn other_models_and_other_things_are_refused_by_name() {
    let written = Written::new();
    let index = written.file("model_index.json");
    fs::write(&index, r#"{"_class_name": "FluxPipeline"}"#).expect("written");
    assert!(
        written
            .open_error()
            .starts_with("MODEL cannot be opened: this is a FluxPipeline checkpoint, not Z-Image\nhint: ")
    );
    fs::write(&index, "{").expect("written");
    assert!(written.open_error().starts_with("MODEL/model_index.json is not valid JSON: EOF"));
    fs::remove_file(&index).expect("removed");
    // Without it the directory is a collection of parts, each recognised by itself.
    assert_eq!(Checkpoint::open(&written.path()).expect("parts").origins().len(), 5);
    let file = written.file("vae/diffusion_pytorch_model.safetensors");
    let error = Checkpoint::open(&file).expect_err("a file").to_string();
    assert!(
        error.contains("is not a complete checkpoint, missing: the transformer, the text encoder\nhint: "),
        "{error}"
    );
    let error = Checkpoint::open(&written.file("absent")).expect_err("nothing").to_string();
    assert!(error.starts_with("cannot open "), "{error}");
}

#[test]
fn a_bad_config_is_named_when_the_checkpoint_is_opened() {
    let written = Written::new();
    let path = written.file("transformer/config.json");
    let config = fs::read_to_string(&path).expect("read").replace("\"qk_norm\": true", "\"qk_norm\": false");
    fs::write(&path, config).expect("written");
    assert_eq!(written.open_error(), "MODEL/transformer/config.json: qk_norm is false, expected true");
}

#[test]
fn the_text_encoder_may_lack_its_prefix_and_have_an_output_layer() {
    let written = Written::new();
    written.rewrite(Component::TextEncoder, |view| {
        let name = view.name.strip_prefix("model.").expect("the prefix of the official files").to_owned();
        let mut views = vec![TensorView { name, ..view.clone() }];
        if view.name == "model.embed_tokens.weight" {
            views.push(TensorView { name: "lm_head.weight".to_owned(), ..view });
        }
        views
    });
    let checkpoint = Checkpoint::open(&written.path()).expect("a checkpoint");
    let weights = checkpoint.weights(Component::TextEncoder).expect("audited");
    assert!(weights.tensor("layers.0.self_attn.q_proj.weight").is_ok());
    let error = weights.tensor("lm_head.weight").expect_err("it is ignored").to_string();
    assert_eq!(error, format!("text encoder of {} has no tensor lm_head.weight", written.path().display()));
}

#[test]
fn a_tensor_under_both_names_is_refused() {
    let written = Written::new();
    written.rewrite(Component::TextEncoder, |view| match &*view.name {
        "model.norm.weight" => vec![view.clone(), TensorView { name: "norm.weight".to_owned(), ..view }],
        _ => vec![view],
    });
    let error = written.weights_error(Component::TextEncoder);
    assert!(error.contains("35 of 35 tensors matched\n  unknown norm.weight"), "{error}");
}

#[test]
fn an_audit_lists_everything_that_does_not_fit() {
    let written = Written::new();
    written.rewrite(Component::Vae, |view| match &*view.name {
        "decoder.conv_in.bias" => Vec::new(),
        "decoder.conv_out.bias" => vec![TensorView { name: "decoder.conv_out.bais".to_owned(), ..view }],
        "encoder.conv_in.bias" => vec![TensorView { shape: vec![4, 4], ..view }],
        "encoder.conv_out.bias" => vec![view.clone(), TensorView { name: "x".to_owned(), ..view }],
        _ => vec![view],
    });
    let count = Checkpoint::open(&written.path()).expect("a checkpoint").specs(Component::Vae).len();
    assert_eq!(
        written.weights_error(Component::Vae),
        format!(
            "MODEL: the VAE does not fit its config: {} of {count} tensors matched\
             \n  missing decoder.conv_in.bias\
             \n  missing decoder.conv_out.bias\
             \n  unknown decoder.conv_out.bais, the nearest known name is decoder.conv_out.bias\
             \n  unknown x\
             \n  misshapen encoder.conv_in.bias: expected [16], found [4, 4]",
            count - 3
        )
    );
}

#[test]
fn weights_that_no_kernel_reads_are_refused_by_their_type() {
    let written = Written::new();
    written.rewrite(Component::Transformer, |view| match view.name.contains("to_q.weight") {
        true => vec![TensorView { dtype: Dtype::I32, ..view }],
        false => vec![view],
    });
    assert_eq!(
        written.weights_error(Component::Transformer),
        "MODEL: 4 tensors of the transformer cannot be read, the first is context_refiner.0.attention.to_q.weight: it is \
         stored as I32"
    );
}

/// Mapped files show up in the list of mappings, and disappear with the last tensor.
#[cfg(target_os = "linux")]
#[test]
fn dropping_the_last_tensor_unmaps_its_file() {
    let written = Written::new();
    let path = fs::canonicalize(written.file("vae/diffusion_pytorch_model.safetensors")).expect("a path");
    let mapped = || fs::read_to_string("/proc/self/maps").expect("read").contains(&path.display().to_string());
    let checkpoint = Checkpoint::open(&written.path()).expect("a checkpoint");
    assert!(!mapped(), "opening a checkpoint maps nothing");
    let weights = checkpoint.weights(Component::Vae).expect("audited");
    let tensor = weights.tensor("decoder.conv_in.bias").expect("there");
    drop(weights);
    assert!(mapped(), "a tensor keeps its file");
    drop(tensor);
    assert!(!mapped());
}

#[test]
fn formats_are_written_as_they_are_named() {
    let written = Written::new();
    let half = written.root.path().join("half");
    let tokenizer = written.file("tokenizer/tokenizer.json");
    let format = Dtype::BF16.format().expect("a weight format");
    let plan = RandomCheckpoint { format, ..RandomCheckpoint::tiny(300, 0) };
    plan.write(&half, &tokenizer).expect("written");
    let container = |root: &Path, component| Checkpoint::open(root).expect("open").container(component).expect("open");
    let (full, half): (Container, Container) =
        (container(&written.path(), Component::Transformer), container(&half, Component::Transformer));
    let dtypes: BTreeMap<Dtype, usize> = half.iter().fold(BTreeMap::new(), |mut counts, (_, info)| {
        *counts.entry(info.dtype).or_default() += 1;
        counts
    });
    assert_eq!(dtypes.keys().collect::<Vec<_>>(), [&Dtype::BF16]);
    let (a, b) = (full.tensor("x_pad_token").expect("there"), half.tensor("x_pad_token").expect("there"));
    for (exact, short) in f32s(&a).iter().zip(b.data.as_chunks::<2>().0) {
        let value = f32::from_bits(u32::from(u16::from_le_bytes(*short)) << 16);
        assert!((value - exact).abs() <= exact.abs() / 256.0, "{value} is not {exact} rounded");
    }
}

#[test]
fn formats_with_blocks_are_not_written_to_safetensors() {
    let written = Written::new();
    let directory = written.root.path().join("quantized");
    let format = Dtype::Q8_0.format().expect("a weight format");
    let plan = RandomCheckpoint { vae_format: format, ..RandomCheckpoint::tiny(300, 0) };
    let error = plan.write(&directory, &written.file("tokenizer/tokenizer.json")).expect_err("refused").to_string();
    assert_eq!(error, "weights cannot be written as q8_0 here");
    assert!(!directory.exists());
}
