//! The denoiser, diffusers' `ZImageTransformer2DModel`.

use serde_json::{Value, json};

use super::fields::Fields;
use super::{Component, Role, Specs, TensorSpec};
use crate::Result;

/// Size of the sinusoidal time embedding, fixed in the model's code.
pub const TIME_FREQUENCIES: usize = 256;
/// Hidden size of the time embedder, fixed in the model's code.
pub const TIME_HIDDEN: usize = 1024;
/// Largest size of the vector that modulates the blocks, fixed in the model's code.
const MAX_ADALN_DIM: usize = 256;

/// Sizes of the transformer. Every instance satisfies the constraints that [`TransformerConfig::from_json`] lists.
#[derive(Clone, Debug, PartialEq)]
pub struct TransformerConfig {
    /// Channels of the latents.
    pub in_channels: usize,
    /// Latents per token along height and width.
    pub patch_size: usize,
    /// Width of the residual stream.
    pub dim: usize,
    /// Blocks over image and caption together.
    pub n_layers: usize,
    /// Blocks over the image alone, and as many over the caption alone.
    pub n_refiner_layers: usize,
    /// Attention heads.
    pub n_heads: usize,
    /// Epsilon of every RMS norm.
    pub norm_eps: f64,
    /// Width of the caption features, which is the hidden size of the text encoder.
    pub cap_feat_dim: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// The time in 0..1 is multiplied by this before it is embedded.
    pub t_scale: f64,
    /// Share of a head that encodes the position along (time, height, width).
    pub axes_dims: [usize; 3],
    /// Number of positions along (time, height, width).
    pub axes_lens: [usize; 3],
}

impl TransformerConfig {
    /// Reads a `transformer/config.json`.
    ///
    /// Refuses ([`crate::Error::Config`]) another class, patch sizes other than `[2]` and `[1]`, grouped heads, no QK norm, an
    /// image-conditioned (Omni) transformer, heads that do not divide `dim`, and axes that are odd or do not add up to a head.
    pub fn from_json(value: &Value) -> Result<Self> {
        let fields = Fields::new(Component::Transformer.config_file(), value)?;
        fields.if_there_must_be("_class_name", "ZImageTransformer2DModel")?;
        fields.must_be("all_patch_size", json!([2]))?;
        fields.must_be("all_f_patch_size", json!([1]))?;
        fields.must_be("qk_norm", true)?;
        fields.must_be_absent("siglip_feat_dim")?;
        let config = Self {
            in_channels: fields.count("in_channels")?,
            patch_size: 2,
            dim: fields.count("dim")?,
            n_layers: fields.count("n_layers")?,
            n_refiner_layers: fields.count("n_refiner_layers")?,
            n_heads: fields.count("n_heads")?,
            norm_eps: fields.positive("norm_eps")?,
            cap_feat_dim: fields.count("cap_feat_dim")?,
            rope_theta: fields.positive("rope_theta")?,
            t_scale: fields.positive("t_scale")?,
            axes_dims: axes(&fields, "axes_dims")?,
            axes_lens: axes(&fields, "axes_lens")?,
        };
        config.check(&fields)?;
        Ok(config)
    }

    fn check(&self, fields: &Fields<'_>) -> Result<()> {
        let Self { dim, n_heads, axes_dims, .. } = *self;
        fields.must_be("n_kv_heads", n_heads)?;
        fields.check(dim % n_heads == 0, "dim", dim, format_args!("a multiple of n_heads, {n_heads}"))?;
        let even = axes_dims.iter().all(|n| n % 2 == 0);
        fields.check(even, "axes_dims", json!(axes_dims), "even numbers")?;
        let head_dim = self.head_dim();
        let sum: usize = axes_dims.iter().sum();
        let expected = format_args!("a sum of {head_dim}, which is dim / n_heads");
        fields.check(sum == head_dim, "axes_dims", json!(axes_dims), expected)?;
        for (key, n) in [("n_layers", self.n_layers), ("n_refiner_layers", self.n_refiner_layers)] {
            fields.check(n <= super::MAX_LAYERS, key, n, format_args!("at most {}", super::MAX_LAYERS))?;
        }
        Ok(())
    }

    /// The config as diffusers writes it; [`TransformerConfig::from_json`] reads it back.
    pub fn to_json(&self) -> Value {
        json!({
            "_class_name": "ZImageTransformer2DModel",
            "all_f_patch_size": [1],
            "all_patch_size": [self.patch_size],
            "axes_dims": self.axes_dims,
            "axes_lens": self.axes_lens,
            "cap_feat_dim": self.cap_feat_dim,
            "dim": self.dim,
            "in_channels": self.in_channels,
            "n_heads": self.n_heads,
            "n_kv_heads": self.n_heads,
            "n_layers": self.n_layers,
            "n_refiner_layers": self.n_refiner_layers,
            "norm_eps": self.norm_eps,
            "qk_norm": true,
            "rope_theta": self.rope_theta,
            "t_scale": self.t_scale,
        })
    }

    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.dim / self.n_heads
    }

    /// Hidden size of the feed-forward layers: Python's `int(dim / 3 * 8)`, with its rounding.
    pub fn ffn_hidden(&self) -> usize {
        (self.dim as f64 / 3.0 * 8.0) as usize
    }

    /// Size of the time vector that modulates the blocks.
    pub fn adaln_dim(&self) -> usize {
        self.dim.min(MAX_ADALN_DIM)
    }

    /// Numbers in one image token: a patch of `patch_size` by `patch_size` latents with all channels.
    pub fn patch_dim(&self) -> usize {
        self.patch_size * self.patch_size * self.in_channels
    }
}

fn axes(fields: &Fields<'_>, key: &str) -> Result<[usize; 3]> {
    let counts = fields.counts(key)?;
    let found = json!(counts);
    counts.try_into().map_err(|_| fields.wrong(key, &found, "three numbers: time, height, width"))
}

/// Every tensor of the transformer, in the order of the model's code.
pub fn tensors(config: &TransformerConfig) -> Vec<TensorSpec> {
    let TransformerConfig { dim, cap_feat_dim, .. } = *config;
    let (patch, adaln) = (config.patch_dim(), config.adaln_dim());
    let mut specs = Specs::default();
    specs.push("x_pad_token".to_owned(), &[1, dim], Role::Token);
    specs.push("cap_pad_token".to_owned(), &[1, dim], Role::Token);
    specs.linear_bias("all_x_embedder.2-1", dim, patch);
    specs.linear_bias("all_final_layer.2-1.linear", patch, dim);
    specs.linear_bias("all_final_layer.2-1.adaLN_modulation.1", dim, adaln);
    for n in 0..config.n_refiner_layers {
        block(&mut specs, config, &format!("noise_refiner.{n}"));
        modulation(&mut specs, config, &format!("noise_refiner.{n}"));
    }
    for n in 0..config.n_refiner_layers {
        block(&mut specs, config, &format!("context_refiner.{n}"));
    }
    specs.linear_bias("t_embedder.mlp.0", TIME_HIDDEN, TIME_FREQUENCIES);
    specs.linear_bias("t_embedder.mlp.2", adaln, TIME_HIDDEN);
    specs.norm("cap_embedder.0", cap_feat_dim);
    specs.linear_bias("cap_embedder.1", dim, cap_feat_dim);
    for n in 0..config.n_layers {
        block(&mut specs, config, &format!("layers.{n}"));
        modulation(&mut specs, config, &format!("layers.{n}"));
    }
    specs.0
}

/// Attention, feed-forward and their norms: 13 tensors.
fn block(specs: &mut Specs, config: &TransformerConfig, prefix: &str) {
    let (dim, hidden) = (config.dim, config.ffn_hidden());
    for norm in ["norm_q", "norm_k"] {
        specs.norm(&format!("{prefix}.attention.{norm}"), config.head_dim());
    }
    for linear in ["to_q", "to_k", "to_v", "to_out.0"] {
        specs.linear(&format!("{prefix}.attention.{linear}"), dim, dim);
    }
    specs.linear(&format!("{prefix}.feed_forward.w1"), hidden, dim);
    specs.linear(&format!("{prefix}.feed_forward.w2"), dim, hidden);
    specs.linear(&format!("{prefix}.feed_forward.w3"), hidden, dim);
    for norm in ["attention_norm1", "ffn_norm1", "attention_norm2", "ffn_norm2"] {
        specs.norm(&format!("{prefix}.{norm}"), dim);
    }
}

/// Scales and gates of attention and feed-forward, from the time vector.
fn modulation(specs: &mut Specs, config: &TransformerConfig, prefix: &str) {
    specs.linear_bias(&format!("{prefix}.adaLN_modulation.0"), 4 * config.dim, config.adaln_dim());
}
