//! Layer norm of rows without parameters of its own, fused with a scale.

mod lanes;
mod naive;

#[cfg(test)]
mod tests;

use crate::Level;
use crate::level::per_level;

/// `out = (x - mean) / sqrt(variance + eps) * scale`, row by row, with the biased variance.
///
/// `scale` is `(cols)`; `x` and `out` are `(rows, cols)`.
///
/// # Panics
/// When the lengths differ or are no multiple of `cols`.
///
/// Source: `torch.nn.LayerNorm` with `elementwise_affine=False`.
pub fn layer_norm_scaled(level: Level, out: &mut [f32], x: &[f32], scale: &[f32], eps: f32) {
    let cols = scale.len();
    assert_eq!(out.len(), x.len(), "lengths of the rows");
    assert!(x.is_empty() || cols > 0 && x.len().is_multiple_of(cols), "{} values in rows of {cols}", x.len());
    per_level!(level, naive::layer_norm_scaled, lanes::layer_norm_scaled,
        (out: &mut [f32], x: &[f32], scale: &[f32], eps: f32))
}
