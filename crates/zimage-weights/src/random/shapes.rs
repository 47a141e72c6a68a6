//! The shapes that random checkpoints come in, and the JSON files beside the weights.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};
use zimage_kernels::blocks::Format;

use super::RandomCheckpoint;
use crate::schema::{TextEncoderConfig, TransformerConfig, VaeConfig};
use crate::{Error, Result};

impl RandomCheckpoint {
    /// The sizes of Z-Image-Turbo: 6.2, 4.0 and 0.08 billion parameters, 20.5 GB in bf16.
    pub fn turbo(seed: u64) -> Self {
        Self {
            transformer: TransformerConfig {
                in_channels: 16,
                patch_size: 2,
                dim: 3840,
                n_layers: 30,
                n_refiner_layers: 2,
                n_heads: 30,
                norm_eps: 1e-5,
                cap_feat_dim: 2560,
                rope_theta: 256.0,
                t_scale: 1000.0,
                axes_dims: [32, 48, 48],
                axes_lens: [1536, 512, 512],
            },
            text_encoder: TextEncoderConfig {
                vocab_size: 151_936,
                hidden_size: 2560,
                intermediate_size: 9728,
                n_layers: 36,
                n_heads: 32,
                n_kv_heads: 8,
                head_dim: 128,
                max_positions: 40960,
                rms_norm_eps: 1e-6,
                rope_theta: 1e6,
            },
            vae: VaeConfig {
                block_out_channels: vec![128, 256, 512, 512],
                layers_per_block: 2,
                latent_channels: 16,
                norm_num_groups: 32,
                scaling_factor: 0.3611,
                shift_factor: 0.1159,
                sample_size: 1024,
            },
            format: Format::BF16,
            vae_format: Format::BF16,
            transformer_shard_bytes: 10_000_000_000,
            text_encoder_shard_bytes: 4_000_000_000,
            seed,
        }
    }

    /// The same model with sizes of a few dozen, in f32 and in several shards. Half of its sizes are odd on purpose:
    /// the feed-forward layers have 170 columns. `vocabulary` is the number of tokens of the tokenizer.
    pub fn tiny(vocabulary: usize, seed: u64) -> Self {
        let turbo = Self::turbo(seed);
        Self {
            transformer: TransformerConfig {
                dim: 64,
                n_layers: 2,
                n_refiner_layers: 1,
                n_heads: 4,
                cap_feat_dim: 48,
                axes_dims: [4, 6, 6],
                ..turbo.transformer
            },
            text_encoder: TextEncoderConfig {
                vocab_size: vocabulary,
                hidden_size: 48,
                intermediate_size: 88,
                n_layers: 3,
                n_heads: 4,
                n_kv_heads: 2,
                head_dim: 16,
                ..turbo.text_encoder
            },
            vae: VaeConfig {
                block_out_channels: vec![16, 24, 32, 32],
                layers_per_block: 1,
                norm_num_groups: 8,
                sample_size: 64,
                ..turbo.vae
            },
            format: Format::F32,
            vae_format: Format::F32,
            transformer_shard_bytes: 500_000,
            text_encoder_shard_bytes: 100_000,
            seed,
        }
    }
}

/// The parts of a `tokenizer.json` that number the tokens.
#[derive(Deserialize)]
struct Tokenizer {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

#[derive(Deserialize)]
struct Model {
    vocab: std::collections::HashMap<String, usize>,
}

#[derive(Deserialize)]
struct AddedToken {
    id: usize,
}

/// Rows that an embedding table needs for a `tokenizer.json`: its highest token number plus one.
pub fn vocabulary_of(tokenizer: &Path) -> Result<usize> {
    let text = fs::read(tokenizer).map_err(Error::io("read", tokenizer))?;
    let parsed: Tokenizer = serde_json::from_slice(&text)
        .map_err(|source| Error::Json { file: tokenizer.display().to_string(), source })?;
    let added = parsed.added_tokens.into_iter().map(|token| token.id);
    Ok(parsed.model.vocab.into_values().chain(added).max().map_or(0, |highest| highest.saturating_add(1)))
}

pub(crate) fn model_index() -> Value {
    json!({
        "_class_name": "ZImagePipeline",
        "_diffusers_version": "0.36.0",
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "Qwen3Model"],
        "tokenizer": ["transformers", "Qwen2Tokenizer"],
        "transformer": ["diffusers", "ZImageTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    })
}

pub(super) fn scheduler_config() -> Value {
    json!({
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "_diffusers_version": "0.36.0",
        "num_train_timesteps": 1000,
        "shift": 3.0,
        "use_dynamic_shifting": false,
    })
}

/// The chat template is Qwen3's for plain messages, without tools and system prompts, which Z-Image never uses.
pub(crate) fn tokenizer_config() -> Value {
    json!({
        "add_bos_token": false,
        "add_prefix_space": false,
        "chat_template": "{%- for message in messages %}\
            {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\
            {%- endfor %}\
            {%- if add_generation_prompt %}\
            {{- '<|im_start|>assistant\\n' }}\
            {%- if enable_thinking is defined and enable_thinking is false %}\
            {{- '<think>\\n\\n</think>\\n\\n' }}\
            {%- endif %}\
            {%- endif %}",
        "clean_up_tokenization_spaces": false,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": false,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": null,
    })
}
