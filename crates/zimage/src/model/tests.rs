//! Models in the formats of other programs, with weights that their libraries quantized.

use crate::model::Residency;
use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use zimage_weights::container::{Container, Metadata, TensorSource, write_safetensors};
use zimage_weights::dialect::{Rule, comfyui, layout, mflux, mlx};
use zimage_weights::inspect::{doctor, inspect};
use zimage_weights::{Checkpoint, Component, Dtype, Parts, TensorView, WeightView};

use super::Parameters;
use super::text_encoder::TextEncoder;
use super::transformer::{Lane, Transformer};
use crate::goldens::tolerances::STAGE;
use crate::goldens::{Golden, assert_close, checkpoint, devices, json, path};

/// A file with the tensors of an overlay, and all others of the transformer of `tiny-a` beside them.
struct Assembled(TempDir);

impl Assembled {
    fn new(case: &Value) -> Self {
        let text = |key: &str| case[key].as_str().expect("a text");
        let overlay = path(&format!("formats/{}.safetensors", text("name")));
        let overlay = Container::open(&overlay).expect("an overlay");
        let mut views = dense(&rules(text("dialect")));
        views.retain(|view| overlay.info(&view.name).is_none());
        views.extend(overlay.names().map(|name| overlay.tensor(name).expect("there")));
        let metadata: Metadata = serde_json::from_value(case["metadata"].clone()).expect("texts");
        let directory = tempfile::tempdir().expect("a directory");
        let source = |view: &TensorView| {
            let data = view.data.clone();
            TensorSource::new(view.name.clone(), view.dtype, &view.shape, move |out| out.write_all(&data))
        };
        let tensors = views.iter().map(source).collect();
        write_safetensors(&directory.path().join("x.safetensors"), &metadata, tensors).expect("written");
        fs::copy(path("models/tiny-a/transformer/config.json"), directory.path().join("config.json")).expect("copied");
        Self(directory)
    }

    fn file(&self) -> std::path::PathBuf {
        self.0.path().join("x.safetensors")
    }
}

fn rules(dialect: &str) -> Vec<Rule> {
    let sizes = checkpoint("tiny-a").vae_config().into();
    match dialect {
        "comfyui" => comfyui::rules(Component::Transformer, sizes),
        "mlx" => mlx::rules(Component::Transformer, sizes, true),
        "mflux" => mflux::rules(Component::Transformer),
        other => panic!("no dialect {other}"),
    }
}

/// The transformer of `tiny-a` under other names.
fn dense(rules: &[Rule]) -> Vec<TensorView> {
    let checkpoint = checkpoint("tiny-a");
    let weights = checkpoint.weights(Component::Transformer).expect("audited");
    let stacked = |names: &[String]| -> Vec<u8> {
        let views = names.iter().map(|name| weights.tensor(name).expect("there"));
        views.flat_map(|view: WeightView| view.bytes().expect("floats")).collect()
    };
    let tensors = layout(rules, &checkpoint.specs(Component::Transformer)).into_iter();
    tensors
        .map(|tensor| {
            let data = stacked(&tensor.made_of).into();
            TensorView { name: tensor.name, dtype: Dtype::F32, shape: tensor.shape, data }
        })
        .collect()
}

/// The transformer of a file, with the other parts of a tiny model or of the file's directory.
fn open(transformer: &Path, text_encoder: &Path) -> Checkpoint {
    let tiny = path("models/tiny-a");
    let parts = Parts {
        transformer: transformer.to_path_buf(),
        text_encoder: Some(text_encoder.to_path_buf()),
        vae: Some(tiny.clone()),
        tokenizer: Some(tiny),
        ..Parts::default()
    };
    Checkpoint::from_parts(&parts).unwrap_or_else(|error| panic!("{}: {error}", transformer.display()))
}

/// The transformer computes what diffusers computes with the dequantized weights.
fn check_transformer(case: &str, checkpoint: &Checkpoint, golden: &Golden) {
    let weights = checkpoint.weights(Component::Transformer).unwrap_or_else(|error| panic!("{case}: {error}"));
    for device in devices() {
        let parameters = Parameters::new(&weights, &device);
        let transformer =
            Transformer::load(checkpoint.transformer_config(), &parameters, Residency::MAPPED).expect("it loads");
        let latents = golden.tensor("latents", &device).reshape(&[16, 4, 6]);
        let caption = transformer.caption(&golden.tensor("caption", &device), 4, 6).expect("finite");
        let time = transformer.time_condition(golden.values("t")[0]).expect("finite");
        let output = transformer.forward_one(Lane::new(&latents, &caption, &time)).expect("finite").velocity;
        assert_close(case, &golden.values(case), &output.to_vec(), STAGE);
    }
}

fn check_text_encoder(case: &str, checkpoint: &Checkpoint, golden: &Golden) {
    let weights = checkpoint.weights(Component::TextEncoder).unwrap_or_else(|error| panic!("{case}: {error}"));
    for device in devices() {
        let parameters = Parameters::new(&weights, &device);
        let encoder =
            TextEncoder::load(checkpoint.text_encoder_config(), &parameters, Residency::MAPPED).expect("it loads");
        let hidden = encoder.forward(&golden.ids("ids")).expect("finite").to_vec();
        assert_close(case, &golden.values("hidden"), &hidden, STAGE);
    }
}

#[test]
fn quantized_transformers_compute_what_diffusers_computes_with_their_weights() {
    let golden = Golden::open("formats/outputs.safetensors");
    for case in json("formats/cases.json")["overlays"].as_array().expect("a list") {
        let name = case["name"].as_str().expect("a name");
        let file = Assembled::new(case);
        check_transformer(name, &open(&file.file(), &path("models/tiny-a")), &golden);
        let report = inspect(&file.file()).expect("a report");
        assert!(report.supported, "{name}");
        assert_eq!(serde_json::to_value(report.dialect).expect("a name"), case["dialect"], "{name}");
        let checkpoint = checkpoint("tiny-a");
        let weights = checkpoint.weights(Component::Transformer).expect("audited");
        assert_eq!(report.parts[0].parameters, weights.precision().parameters(), "{name}: packed values are counted");
        let diagnosis = doctor(&file.file()).expect("a diagnosis");
        assert!(diagnosis.parts.iter().all(zimage_weights::inspect::PartDiagnosis::fits), "{name}: {diagnosis:?}");
    }
}

#[test]
fn gguf_models_compute_what_diffusers_and_transformers_compute_with_their_weights() {
    let golden = Golden::open("formats/gguf/outputs.safetensors");
    let text_encoder = path("formats/gguf/qwen3.gguf");
    for style in ["city96", "sdcpp"] {
        let checkpoint = open(&path(&format!("formats/gguf/{style}.gguf")), &text_encoder);
        check_transformer(style, &checkpoint, &golden);
        check_text_encoder(style, &checkpoint, &golden);
    }
}

#[test]
fn the_quantized_text_encoder_of_mflux_computes_what_transformers_computes_with_its_weights() {
    let golden = Golden::open("formats/mflux/outputs.safetensors");
    let checkpoint = open(&path("formats/gguf/city96.gguf"), &path("formats/mflux/text_encoder"));
    check_text_encoder("mflux", &checkpoint, &golden);
    let embedding =
        checkpoint.weights(Component::TextEncoder).and_then(|weights| weights.tensor("embed_tokens.weight"));
    let rows = embedding.expect("there").decode();
    // A loader that leaves out the scales reads zeros here.
    assert!(rows.chunks_exact(64).all(|row| row.iter().any(|value| *value != 0.0)));
}
