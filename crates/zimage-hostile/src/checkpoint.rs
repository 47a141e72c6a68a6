//! A file as the weights of a model: names, packings, configs told from shapes, values.

use bytes::Bytes;
use serde_json::json;
use zimage_weights::container::File;
use zimage_weights::inspect::doctor;
use zimage_weights::{Checkpoint, Component, TextEncoderConfig, TransformerConfig, VaeConfig, Weights};

use crate::container::framed;
use crate::scratch;

/// Tensors with more values are not decoded: that would only take time.
const MAX_DECODED: usize = 1 << 14;

/// Reads a safetensors or GGUF file as each part of a small model, and as what its names and shapes say that it is.
///
/// Bytes that begin with a brace are framed as in [`crate::safetensors`].
pub fn checkpoint(bytes: &[u8]) {
    as_model(framed(bytes), &Component::ALL);
}

/// Everything that is done with the weights of a model; the file is tried as each of these parts.
pub(crate) fn as_model(bytes: Bytes, components: &[Component]) {
    if File::from_bytes("hostile", bytes.clone()).is_ok() {
        for &component in components {
            if let Ok(weights) = small(component, bytes.clone()).weights(component) {
                decode(&weights);
            }
        }
    }
    let folder = scratch::folder("checkpoint", &[("hostile.safetensors", &bytes)]);
    if let Ok(diagnosis) = doctor(&folder.join("hostile.safetensors")) {
        serde_json::to_string(&diagnosis).expect("a report is JSON");
    }
}

fn decode(weights: &Weights) {
    let _ = (weights.precision().to_string(), weights.size_bytes());
    for (name, shape) in weights.iter() {
        let view = weights.tensor(name).expect("audited weights have every tensor");
        let elements = shape.iter().product::<usize>();
        assert_eq!(view.matrix().rows() * view.matrix().cols(), elements, "{name}");
        if elements <= MAX_DECODED {
            assert_eq!(view.decode().len(), elements, "{name}");
        }
    }
}

/// A small model of which these bytes are one part; the others are missing.
pub(crate) fn small(component: Component, weights: Bytes) -> Checkpoint {
    let json = |value: serde_json::Value| Bytes::from(value.to_string());
    let part = |part: Component| if part == component { weights.clone() } else { Bytes::new() };
    let files = vec![
        ("model_index.json", json(json!({ "_class_name": "ZImagePipeline" }))),
        ("scheduler/scheduler_config.json", json(json!({}))),
        ("tokenizer/tokenizer.json", json(json!({}))),
        ("transformer/config.json", json(transformer().to_json())),
        ("text_encoder/config.json", json(text_encoder().to_json())),
        ("vae/config.json", json(vae().to_json())),
        ("transformer/diffusion_pytorch_model.safetensors", part(Component::Transformer)),
        ("text_encoder/model.safetensors", part(Component::TextEncoder)),
        ("vae/diffusion_pytorch_model.safetensors", part(Component::Vae)),
    ];
    Checkpoint::from_files(files).expect("its configs are valid")
}

/// The smallest transformer whose rows are whole blocks of 32 values.
pub(crate) fn transformer() -> TransformerConfig {
    TransformerConfig {
        in_channels: 16,
        patch_size: 2,
        dim: 96,
        n_layers: 1,
        n_refiner_layers: 1,
        n_heads: 1,
        norm_eps: 1e-5,
        cap_feat_dim: 64,
        rope_theta: 256.0,
        t_scale: 1000.0,
        axes_dims: [32, 32, 32],
        axes_lens: [1536, 512, 512],
    }
}

/// The same of the text encoder.
pub(crate) fn text_encoder() -> TextEncoderConfig {
    TextEncoderConfig {
        vocab_size: 8,
        hidden_size: 64,
        intermediate_size: 64,
        n_layers: 1,
        n_heads: 2,
        n_kv_heads: 1,
        head_dim: 32,
        max_positions: 512,
        rms_norm_eps: 1e-6,
        rope_theta: 1e6,
    }
}

/// A small autoencoder of two levels.
pub(crate) fn vae() -> VaeConfig {
    VaeConfig {
        block_out_channels: vec![8, 8],
        layers_per_block: 1,
        latent_channels: 16,
        norm_num_groups: 4,
        scaling_factor: 0.3611,
        shift_factor: 0.1159,
        sample_size: 64,
    }
}
