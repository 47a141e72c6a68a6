//! The text encoder, transformers' `Qwen3Model`.

use serde_json::{Value, json};

use super::fields::Fields;
use super::{Component, Role, Specs, TensorSpec};
use crate::Result;

/// Sizes of the text encoder. Every instance satisfies the constraints that [`TextEncoderConfig::from_json`] lists.
#[derive(Clone, Debug, PartialEq)]
pub struct TextEncoderConfig {
    /// Rows of the embedding table; at least the number of tokens of the tokenizer.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Hidden size of the feed-forward layers.
    pub intermediate_size: usize,
    /// Number of layers.
    pub n_layers: usize,
    /// Heads of the queries.
    pub n_heads: usize,
    /// Heads of keys and values; each serves `n_heads / n_kv_heads` query heads.
    pub n_kv_heads: usize,
    /// Width of one head. It is independent of `hidden_size / n_heads`.
    pub head_dim: usize,
    /// Number of positions.
    pub max_positions: usize,
    /// Epsilon of every RMS norm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
}

impl TextEncoderConfig {
    /// Reads a `text_encoder/config.json`, written by transformers 4 or 5.
    ///
    /// Refuses ([`crate::Error::Config`]) another model type, scaled rotary positions, biases in the attention, a sliding window
    /// that is in use, activations other than SiLU, heads that are odd or do not group.
    pub fn from_json(value: &Value) -> Result<Self> {
        let fields = Fields::new(Component::TextEncoder.config_file(), value)?;
        fields.must_be("model_type", "qwen3")?;
        fields.must_be("hidden_act", "silu")?;
        fields.if_there_must_be("attention_bias", false)?;
        fields.if_there_must_be("use_sliding_window", false)?;
        fields.must_be_absent("quantization_config")?;
        if let Some(types) = fields.optional("layer_types") {
            let full = types.as_array().is_some_and(|types| types.iter().all(|kind| kind == "full_attention"));
            fields.check(full, "layer_types", types.clone(), "full_attention in every layer")?;
        }
        let config = Self {
            vocab_size: fields.count("vocab_size")?,
            hidden_size: fields.count("hidden_size")?,
            intermediate_size: fields.count("intermediate_size")?,
            n_layers: fields.count("num_hidden_layers")?,
            n_heads: fields.count("num_attention_heads")?,
            n_kv_heads: fields.count("num_key_value_heads")?,
            head_dim: fields.count("head_dim")?,
            max_positions: fields.count("max_position_embeddings")?,
            rms_norm_eps: fields.positive("rms_norm_eps")?,
            rope_theta: rope_theta(&fields)?,
        };
        config.check(&fields)?;
        Ok(config)
    }

    fn check(&self, fields: &Fields<'_>) -> Result<()> {
        let Self { n_layers, n_heads, n_kv_heads, head_dim, .. } = *self;
        let expected = format_args!("a multiple of num_key_value_heads, {n_kv_heads}");
        fields.check(n_heads % n_kv_heads == 0, "num_attention_heads", n_heads, expected)?;
        fields.check(head_dim % 2 == 0, "head_dim", head_dim, "an even number")?;
        let expected = format_args!("at most {}", super::MAX_LAYERS);
        fields.check(n_layers <= super::MAX_LAYERS, "num_hidden_layers", n_layers, expected)
    }

    /// The config as transformers 4 writes it, which transformers 5 reads as well.
    pub fn to_json(&self) -> Value {
        json!({
            "architectures": ["Qwen3ForCausalLM"],
            "attention_bias": false,
            "attention_dropout": 0.0,
            "bos_token_id": 151643,
            "eos_token_id": 151645,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "initializer_range": 0.02,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_positions,
            "max_window_layers": self.n_layers,
            "model_type": "qwen3",
            "num_attention_heads": self.n_heads,
            "num_hidden_layers": self.n_layers,
            "num_key_value_heads": self.n_kv_heads,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_scaling": null,
            "rope_theta": self.rope_theta,
            "sliding_window": null,
            "tie_word_embeddings": true,
            "use_cache": true,
            "use_sliding_window": false,
            "vocab_size": self.vocab_size,
        })
    }
}

/// The base of the rotary frequencies: a key of its own up to transformers 4, part of `rope_parameters` since 5.
fn rope_theta(fields: &Fields<'_>) -> Result<f64> {
    for key in ["rope_parameters", "rope_scaling"] {
        let Some(rope) = fields.optional(key) else { continue };
        let kind = rope.get("rope_type").or_else(|| rope.get("type"));
        let plain = kind.is_none_or(|kind| kind == "default") && rope.is_object();
        fields.check(plain, key, rope.clone(), "rope_type default: positions are not scaled")?;
        if let Some(theta) = rope.get("rope_theta") {
            let base = theta.as_f64().filter(|x| x.is_finite() && *x > 0.0);
            return base.ok_or_else(|| fields.wrong(key, rope, "a rope_theta above 0"));
        }
    }
    fields.positive("rope_theta")
}

/// Every tensor of the text encoder, in the order of the model's code.
pub fn tensors(config: &TextEncoderConfig) -> Vec<TensorSpec> {
    let mut specs = Specs::default();
    let table = [config.vocab_size, config.hidden_size];
    specs.push("embed_tokens.weight".to_owned(), &table, Role::Embedding);
    for n in 0..config.n_layers {
        layer(&mut specs, config, &format!("layers.{n}"));
    }
    specs.norm("norm", config.hidden_size);
    specs.0
}

/// One layer: 11 tensors.
fn layer(specs: &mut Specs, config: &TextEncoderConfig, prefix: &str) {
    let TextEncoderConfig { hidden_size: hidden, intermediate_size: inner, head_dim, .. } = *config;
    let (q, kv) = (config.n_heads * head_dim, config.n_kv_heads * head_dim);
    specs.linear(&format!("{prefix}.self_attn.q_proj"), q, hidden);
    specs.linear(&format!("{prefix}.self_attn.k_proj"), kv, hidden);
    specs.linear(&format!("{prefix}.self_attn.v_proj"), kv, hidden);
    specs.linear(&format!("{prefix}.self_attn.o_proj"), hidden, q);
    specs.norm(&format!("{prefix}.self_attn.q_norm"), head_dim);
    specs.norm(&format!("{prefix}.self_attn.k_norm"), head_dim);
    specs.linear(&format!("{prefix}.mlp.gate_proj"), inner, hidden);
    specs.linear(&format!("{prefix}.mlp.up_proj"), inner, hidden);
    specs.linear(&format!("{prefix}.mlp.down_proj"), hidden, inner);
    specs.norm(&format!("{prefix}.input_layernorm"), hidden);
    specs.norm(&format!("{prefix}.post_attention_layernorm"), hidden);
}
