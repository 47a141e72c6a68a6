//! Where tokens stand, and the rotary tables that follow from it.
//!
//! Every token has an integer position on three axes (t, h, w). Caption token `i` stands at `(1 + i, 0, 0)`, padding
//! included; the image token at `(h, w)` of the grid stands at `(padded caption length + 1, h, w)`; image padding
//! stands at the origin, where the rotation is the identity.
//!
//! Source: diffusers `ZImageTransformer2DModel._pad_with_ids`, `RopeEmbedder`.

use crate::Result;
use zimage_tensor::{Device, Tensor};
use zimage_weights::schema::TransformerConfig;

/// Both streams are padded to a multiple of this many tokens, with learned tokens that are attended.
pub const SEQUENCE_MULTIPLE: usize = 32;

/// A position on the axes (t, h, w).
pub type Position = [u32; 3];

/// How many padding tokens follow `tokens` real ones.
pub fn padding(tokens: usize) -> usize {
    tokens.next_multiple_of(SEQUENCE_MULTIPLE) - tokens
}

/// Positions of a padded caption of `padded` tokens.
pub fn caption_positions(padded: usize) -> Vec<Position> {
    (1..=padded as u32).map(|t| [t, 0, 0]).collect()
}

/// Positions of an image of `height x width` tokens and its padding, after a padded caption of `caption` tokens.
pub fn image_positions(caption: usize, height: usize, width: usize) -> Vec<Position> {
    let t = caption as u32 + 1;
    let grid = (0..height as u32).flat_map(|h| (0..width as u32).map(move |w| [t, h, w]));
    grid.chain(std::iter::repeat_n([0; 3], padding(height * width))).collect()
}

/// Cosines and sines of the rotary angles, `(tokens, head_dim / 2)` each.
pub struct Rope {
    pub(super) cos: Tensor,
    pub(super) sin: Tensor,
}

impl Rope {
    /// The tables of these positions. Angles are formed in f64 and rounded once to f32, as the reference does.
    pub fn new(config: &TransformerConfig, positions: &[Position], device: &Device) -> Result<Rope> {
        let frequencies: Vec<(usize, f64)> = (0..3)
            .flat_map(|axis| {
                let dim = config.axes_dims[axis];
                (0..dim / 2).map(move |k| (axis, config.rope_theta.powf(2.0 * k as f64 / dim as f64).recip()))
            })
            .collect();
        let angles: Vec<f32> = positions
            .iter()
            .flat_map(|p| frequencies.iter().map(|&(axis, frequency)| (f64::from(p[axis]) * frequency) as f32))
            .collect();
        let table = |f: fn(f32) -> f32| {
            let values = angles.iter().map(|&angle| f(angle)).collect();
            Tensor::from_vec(device, &[positions.len(), frequencies.len()], values)
        };
        Ok(Rope { cos: table(f32::cos)?, sin: table(f32::sin)? })
    }
}
