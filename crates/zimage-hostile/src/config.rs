//! The JSON files of a checkpoint.

use bytes::Bytes;
use serde_json::{Value, json};
use zimage::model::scheduler::{Schedule, SchedulerConfig};
use zimage_weights::inspect::inspect;
use zimage_weights::schema::{text_encoder, transformer, vae};
use zimage_weights::{Checkpoint, Component, Dtype, TensorSpec, TextEncoderConfig, TransformerConfig, VaeConfig};

use crate::checkpoint;
use crate::scratch;
use crate::write::{self, Claim};

/// Reads a JSON text as every config, as the index of shards, and as the config beside the files of MLX.
pub fn config(bytes: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
        if let Ok(config) = TransformerConfig::from_json(&value) {
            assert_eq!(TransformerConfig::from_json(&config.to_json()).as_ref().ok(), Some(&config));
            specs(&transformer::tensors(&config));
        }
        if let Ok(config) = TextEncoderConfig::from_json(&value) {
            assert_eq!(TextEncoderConfig::from_json(&config.to_json()).as_ref().ok(), Some(&config));
            specs(&text_encoder::tensors(&config));
        }
        if let Ok(config) = VaeConfig::from_json(&value) {
            assert_eq!(VaeConfig::from_json(&config.to_json()).as_ref().ok(), Some(&config));
            specs(&vae::tensors(&config));
        }
        if let Ok(config) = SchedulerConfig::from_json(&value) {
            let _ = Schedule::new(4, config.shift);
        }
        beside(bytes);
    }
    index(bytes);
}

/// The tensors that a config asks for can be counted.
fn specs(specs: &[TensorSpec]) {
    for spec in specs {
        let elements = spec.shape.iter().try_fold(1_usize, |product, n| product.checked_mul(*n));
        assert!(elements.and_then(|elements| elements.checked_mul(8)).is_some(), "{}: {:?}", spec.name, spec.shape);
    }
}

/// A `config.json` beside weights that carry the names of MLX.
fn beside(bytes: &[u8]) {
    let claim = |name: &str, shape: &[usize]| Claim {
        name: name.to_owned(),
        dtype: Dtype::F32,
        shape: shape.to_vec(),
        pattern: Vec::new(),
    };
    let claims = [claim("cap_embedder.layers.1.weight", &[4, 4]), claim("t_embedder.mlp.layers.0.weight", &[2, 2])];
    let weights = write::safetensors(&[], &claims);
    let folder = scratch::folder("config", &[("weights.safetensors", &weights), ("config.json", bytes)]);
    let _ = inspect(&folder.join("weights.safetensors"));
}

/// The list of the shards of a part, with two shards to choose from.
fn index(bytes: &[u8]) {
    let shard = |name: &str| {
        let claim = Claim { name: name.to_owned(), dtype: Dtype::F32, shape: vec![1], pattern: Vec::new() };
        Bytes::from(write::safetensors(&[], &[claim]))
    };
    let json = |value: Value| Bytes::from(value.to_string());
    let files = vec![
        ("model_index.json", json(json!({ "_class_name": "ZImagePipeline" }))),
        ("scheduler/scheduler_config.json", json(json!({}))),
        ("tokenizer/tokenizer.json", json(json!({}))),
        ("transformer/config.json", json(checkpoint::transformer().to_json())),
        ("text_encoder/config.json", json(checkpoint::text_encoder().to_json())),
        ("vae/config.json", json(checkpoint::vae().to_json())),
        ("transformer/diffusion_pytorch_model.safetensors", Bytes::new()),
        ("text_encoder/model.safetensors", Bytes::new()),
        ("vae/diffusion_pytorch_model.safetensors.index.json", Bytes::copy_from_slice(bytes)),
        ("vae/a", shard("a")),
        ("vae/b", shard("b")),
    ];
    let checkpoint = Checkpoint::from_files(files).expect("its configs are valid");
    let _ = checkpoint.container(Component::Vae);
}
