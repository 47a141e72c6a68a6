//! The transformer block: attention and a gated feed-forward, each between two norms (before and on its output).
//!
//! Source: diffusers `ZImageTransformerBlock`.

use super::super::Parameters;
use super::positions::Rope;
use crate::Result;
use zimage_tensor::{Activations, Linear, Mask, Tensor, ops};
use zimage_weights::schema::TransformerConfig;

/// Epsilon of the norms on queries and keys; fixed in the reference, unlike that of the other norms.
const QK_NORM_EPS: f32 = 1e-5;

/// A block without modulation, as the caption's refiner has them.
pub struct Block {
    attention: Attention,
    feed_forward: FeedForward,
    attention_norm1: Tensor,
    attention_norm2: Tensor,
    ffn_norm1: Tensor,
    ffn_norm2: Tensor,
    eps: f32,
}

/// A block whose branches are scaled and gated by the time.
pub struct ModulatedBlock {
    block: Block,
    ada_ln_modulation: Linear,
}

/// Scales and gates of one block at one time, `(1, dim)` each: `1 + s` and `tanh(g)` are done.
pub struct Modulation {
    scale_msa: Tensor,
    gate_msa: Tensor,
    scale_mlp: Tensor,
    gate_mlp: Tensor,
}

struct Attention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    norm_q: Tensor,
    norm_k: Tensor,
    n_heads: usize,
}

struct FeedForward {
    w1: Linear,
    w2: Linear,
    w3: Linear,
}

impl Block {
    /// Reads a block of `config`'s size.
    pub fn load(config: &TransformerConfig, p: &Parameters) -> Result<Block> {
        Ok(Block {
            attention: Attention::load(config.n_heads, &p.below("attention"))?,
            feed_forward: FeedForward::load(&p.below("feed_forward"))?,
            attention_norm1: p.tensor("attention_norm1.weight")?,
            attention_norm2: p.tensor("attention_norm2.weight")?,
            ffn_norm1: p.tensor("ffn_norm1.weight")?,
            ffn_norm2: p.tensor("ffn_norm2.weight")?,
            eps: config.norm_eps as f32,
        })
    }

    /// `x` is `(tokens, dim)`.
    pub fn forward(&self, x: &mut Tensor, rope: &Rope) {
        let a = self.attention.forward(Activations::rms_norm(x, &self.attention_norm1, self.eps), rope);
        ops::add_rms_norm(x, &a, &self.attention_norm2, self.eps);
        let f = self.feed_forward.forward(Activations::rms_norm(x, &self.ffn_norm1, self.eps));
        ops::add_rms_norm(x, &f, &self.ffn_norm2, self.eps);
    }
}

impl ModulatedBlock {
    /// Reads a block of `config`'s size and its modulation.
    pub fn load(config: &TransformerConfig, p: &Parameters) -> Result<ModulatedBlock> {
        Ok(ModulatedBlock {
            block: Block::load(config, p)?,
            ada_ln_modulation: p.linear_with_bias("adaLN_modulation.0")?,
        })
    }

    /// The modulation at the time whose embedding is `temb`.
    pub fn modulation(&self, temb: &Tensor) -> Modulation {
        let chunks = ops::chunk(&ops::linear(temb, &self.ada_ln_modulation), 4);
        let [mut scale_msa, mut gate_msa, mut scale_mlp, mut gate_mlp] =
            <[Tensor; 4]>::try_from(chunks).expect("four chunks were asked for: this is a bug");
        ops::one_plus(&mut scale_msa);
        ops::tanh(&mut gate_msa);
        ops::one_plus(&mut scale_mlp);
        ops::tanh(&mut gate_mlp);
        Modulation { scale_msa, gate_msa, scale_mlp, gate_mlp }
    }

    /// `x` is `(tokens, dim)`.
    pub fn forward(&self, x: &mut Tensor, rope: &Rope, m: &Modulation) {
        let b = &self.block;
        let a = b.attention.forward(Activations::rms_norm_scaled(x, &b.attention_norm1, &m.scale_msa, b.eps), rope);
        ops::add_rms_norm_gated(x, &a, &b.attention_norm2, &m.gate_msa, b.eps);
        let f = b.feed_forward.forward(Activations::rms_norm_scaled(x, &b.ffn_norm1, &m.scale_mlp, b.eps));
        ops::add_rms_norm_gated(x, &f, &b.ffn_norm2, &m.gate_mlp, b.eps);
    }
}

impl Attention {
    fn load(n_heads: usize, p: &Parameters) -> Result<Attention> {
        Ok(Attention {
            to_q: p.linear("to_q")?,
            to_k: p.linear("to_k")?,
            to_v: p.linear("to_v")?,
            to_out: p.linear("to_out.0")?,
            norm_q: p.tensor("norm_q.weight")?,
            norm_k: p.tensor("norm_k.weight")?,
            n_heads,
        })
    }

    fn forward(&self, x: Activations, rope: &Rope) -> Tensor {
        let mut q = ops::project(&x, &self.to_q);
        let mut k = ops::project(&x, &self.to_k);
        let v = ops::project(&x, &self.to_v);
        drop(x);
        ops::rms_norm_rope(&mut q, &self.norm_q, QK_NORM_EPS, &rope.cos, &rope.sin);
        ops::rms_norm_rope(&mut k, &self.norm_k, QK_NORM_EPS, &rope.cos, &rope.sin);
        let attended = ops::attention(&q, &k, &v, self.n_heads, Mask::None);
        drop((q, k, v));
        ops::project(&Activations::of(attended), &self.to_out)
    }
}

impl FeedForward {
    fn load(p: &Parameters) -> Result<FeedForward> {
        Ok(FeedForward { w1: p.linear("w1")?, w2: p.linear("w2")?, w3: p.linear("w3")? })
    }

    fn forward(&self, x: Activations) -> Tensor {
        let gate = ops::project(&x, &self.w1);
        let up = ops::project(&x, &self.w3);
        drop(x);
        let hidden = Activations::silu_mul(gate, &up);
        drop(up);
        ops::project(&hidden, &self.w2)
    }
}
