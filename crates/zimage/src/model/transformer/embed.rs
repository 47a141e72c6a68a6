//! The embedders and the final layer: what stands before and after the blocks.
//!
//! Source: diffusers `TimestepEmbedder`, `FinalLayer` of `transformer_z_image.py`.

use super::super::Parameters;
use crate::Result;
use zimage_tensor::{Device, Linear, Tensor, ops};

/// Half the size of the sinusoidal timestep embedding.
const FREQUENCIES: usize = 128;

/// Epsilon of the final layer norm.
const FINAL_NORM_EPS: f32 = 1e-6;

/// Time -> its features `(1, 256)` -> `(1, min(dim, 256))`.
pub struct TimestepEmbedder {
    mlp_0: Linear,
    mlp_2: Linear,
    t_scale: f32,
}

impl TimestepEmbedder {
    /// Reads `t_embedder`.
    pub fn load(t_scale: f32, p: &Parameters) -> Result<TimestepEmbedder> {
        let mlp = p.below("mlp");
        Ok(TimestepEmbedder { mlp_0: mlp.linear_with_bias("0")?, mlp_2: mlp.linear_with_bias("2")?, t_scale })
    }

    /// The features of a time: `t` runs from 0, pure noise, to 1, the picture. Cosines come first.
    pub fn features(&self, t: f32, device: &Device) -> Result<Tensor> {
        let t = t * self.t_scale;
        let angle = |i: usize| t * (-(10000f32.ln()) * i as f32 / FREQUENCIES as f32).exp();
        let cos = (0..FREQUENCIES).map(|i| angle(i).cos());
        let sin = (0..FREQUENCIES).map(|i| angle(i).sin());
        Ok(Tensor::from_vec(device, &[1, 2 * FREQUENCIES], cos.chain(sin).collect())?)
    }

    /// `features` comes from [`TimestepEmbedder::features`].
    pub fn forward(&self, features: &Tensor) -> Tensor {
        let mut hidden = ops::linear(features, &self.mlp_0);
        ops::silu(&mut hidden);
        ops::linear(&hidden, &self.mlp_2)
    }
}

/// Caption features `(n, cap_feat_dim)` -> `(n, dim)`.
pub struct CaptionEmbedder {
    norm: Tensor,
    linear: Linear,
    eps: f32,
}

impl CaptionEmbedder {
    /// Reads `cap_embedder`.
    pub fn load(eps: f32, p: &Parameters) -> Result<CaptionEmbedder> {
        Ok(CaptionEmbedder { norm: p.tensor("0.weight")?, linear: p.linear_with_bias("1")?, eps })
    }

    /// One token per row.
    pub fn forward(&self, caption: &Tensor) -> Tensor {
        ops::linear(&ops::rms_norm(caption, &self.norm, self.eps), &self.linear)
    }
}

/// `(tokens, dim)` -> `(tokens, 4 * channels)`.
pub struct FinalLayer {
    linear: Linear,
    ada_ln_modulation: Linear,
}

impl FinalLayer {
    /// Reads `all_final_layer.2-1`.
    pub fn load(p: &Parameters) -> Result<FinalLayer> {
        Ok(FinalLayer {
            linear: p.linear_with_bias("linear")?,
            ada_ln_modulation: p.linear_with_bias("adaLN_modulation.1")?,
        })
    }

    /// The scale of this time, `(1, dim)`.
    pub fn scale(&self, temb_silu: &Tensor) -> Tensor {
        let mut scale = ops::linear(temb_silu, &self.ada_ln_modulation);
        ops::one_plus(&mut scale);
        scale
    }

    /// `scale` comes from [`FinalLayer::scale`].
    pub fn forward(&self, x: &Tensor, scale: &Tensor) -> Tensor {
        ops::linear(&ops::layer_norm_scaled(x, scale, FINAL_NORM_EPS), &self.linear)
    }
}
