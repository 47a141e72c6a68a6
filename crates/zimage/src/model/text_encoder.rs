//! Qwen3 as a text encoder: the residual stream before its last layer.
//!
//! Z-Image reads `hidden_states[-2]`, so the last layer and the final norm are neither loaded nor computed. Attention
//! is causal and padding would stand on the right, so only the real tokens are run.
//!
//! Source: transformers `Qwen3Model`, diffusers `ZImagePipeline._encode_prompt`.

use super::{Pages, Parameters, Residency, Watch};
use crate::Result;
use zimage_tensor::{Activations, Linear, Mask, Tensor, Weight, ops};
use zimage_weights::schema::TextEncoderConfig;

/// The text encoder.
pub struct TextEncoder {
    config: TextEncoderConfig,
    embed_tokens: Weight,
    layers: Vec<Layer>,
    residency: Residency,
    pages: Pages,
}

struct Layer {
    input_layernorm: Tensor,
    self_attn: Attention,
    post_attention_layernorm: Tensor,
    mlp: Mlp,
}

struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    q_norm: Tensor,
    k_norm: Tensor,
}

struct Mlp {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

/// Cosines and sines of the rotary angles, `(tokens, head_dim / 2)` each.
struct Rope {
    cos: Tensor,
    sin: Tensor,
}

impl TextEncoder {
    /// Reads the layers that are used.
    pub fn load(config: &TextEncoderConfig, parameters: &Parameters, residency: Residency) -> Result<TextEncoder> {
        let layers = (0..config.n_layers - 1).map(|i| {
            let prepared = i < residency.prepared_blocks;
            let layer = Layer::load(&parameters.below("layers").below(i).prepared(prepared))?;
            if prepared {
                parameters.pages().release();
            }
            Ok(layer)
        });
        Ok(TextEncoder {
            config: config.clone(),
            embed_tokens: parameters.weight("embed_tokens.weight")?,
            layers: layers.collect::<Result<_>>()?,
            residency,
            pages: parameters.pages(),
        })
    }

    /// How much of it stays in memory.
    pub fn residency(&self) -> Residency {
        self.residency
    }

    /// Token ids -> `(ids, hidden_size)`, `hidden_states[-2]`.
    ///
    /// # Errors
    /// [`crate::Error::NonFinite`] with the layer's name.
    pub fn forward(&self, ids: &[u32]) -> Result<Tensor> {
        let mut h = ops::embedding(&self.embed_tokens, ids);
        let rope = self.rope(ids.len(), &h)?;
        let mut watch = Watch::new("text encoder");
        for (i, layer) in self.layers.iter().enumerate() {
            layer.forward(&mut h, &rope, &self.config);
            watch.look(&h, || format!("layers.{i}"))?;
            if self.residency.streamed && i >= self.residency.prepared_blocks {
                self.pages.release();
            }
        }
        watch.finish(h.device())?;
        Ok(h)
    }

    fn rope(&self, tokens: usize, like: &Tensor) -> Result<Rope> {
        let half = self.config.head_dim / 2;
        let theta = self.config.rope_theta as f32;
        let angles: Vec<f32> = (0..tokens)
            .flat_map(|position| {
                (0..half).map(move |i| position as f32 * (1.0 / theta.powf(2.0 * i as f32 / (2 * half) as f32)))
            })
            .collect();
        let table = |f: fn(f32) -> f32| {
            Tensor::from_vec(like.device(), &[tokens, half], angles.iter().map(|&angle| f(angle)).collect())
        };
        Ok(Rope { cos: table(f32::cos)?, sin: table(f32::sin)? })
    }
}

impl Layer {
    fn load(p: &Parameters) -> Result<Layer> {
        Ok(Layer {
            input_layernorm: p.tensor("input_layernorm.weight")?,
            self_attn: Attention::load(&p.below("self_attn"))?,
            post_attention_layernorm: p.tensor("post_attention_layernorm.weight")?,
            mlp: Mlp::load(&p.below("mlp"))?,
        })
    }

    fn forward(&self, h: &mut Tensor, rope: &Rope, config: &TextEncoderConfig) {
        let a = Activations::rms_norm(h, &self.input_layernorm, config.rms_norm_eps as f32);
        ops::add(h, &self.self_attn.forward(a, rope, config));
        let m = Activations::rms_norm(h, &self.post_attention_layernorm, config.rms_norm_eps as f32);
        ops::add(h, &self.mlp.forward(m));
    }
}

impl Attention {
    fn load(p: &Parameters) -> Result<Attention> {
        Ok(Attention {
            q_proj: p.linear("q_proj")?,
            k_proj: p.linear("k_proj")?,
            v_proj: p.linear("v_proj")?,
            o_proj: p.linear("o_proj")?,
            q_norm: p.tensor("q_norm.weight")?,
            k_norm: p.tensor("k_norm.weight")?,
        })
    }

    fn forward(&self, x: Activations, rope: &Rope, config: &TextEncoderConfig) -> Tensor {
        let mut q = ops::rms_norm(&ops::project(&x, &self.q_proj), &self.q_norm, config.rms_norm_eps as f32);
        let mut k = ops::rms_norm(&ops::project(&x, &self.k_proj), &self.k_norm, config.rms_norm_eps as f32);
        let v = ops::project(&x, &self.v_proj);
        ops::rope_halves(&mut q, &rope.cos, &rope.sin);
        ops::rope_halves(&mut k, &rope.cos, &rope.sin);
        let attended = ops::attention(&q, &k, &v, config.n_heads, Mask::Causal);
        ops::project(&Activations::of(attended), &self.o_proj)
    }
}

impl Mlp {
    fn load(p: &Parameters) -> Result<Mlp> {
        Ok(Mlp { gate_proj: p.linear("gate_proj")?, up_proj: p.linear("up_proj")?, down_proj: p.linear("down_proj")? })
    }

    fn forward(&self, x: Activations) -> Tensor {
        let gate = ops::project(&x, &self.gate_proj);
        let up = ops::project(&x, &self.up_proj);
        ops::project(&Activations::silu_mul(gate, &up), &self.down_proj)
    }
}

#[cfg(test)]
mod tests;
