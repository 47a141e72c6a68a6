//! Group norm of one group of channels, alone and followed by SiLU.

mod lanes;
mod naive;

#[cfg(test)]
mod tests;

use crate::Level;
use crate::level::per_level;

/// `out = (x - mean) / sqrt(variance + eps) * weight[channel] + bias[channel]` over one group,
/// with the biased variance of the whole group.
///
/// `x` and `out` are the group's channels, `(channels, pixels)`; `weight` and `bias` are
/// `(channels)`, the group's part only.
///
/// # Panics
/// When the lengths do not fit each other.
///
/// Source: `torch.nn.GroupNorm`.
pub fn group_norm(level: Level, out: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32], eps: f32) {
    check(out, x, weight, bias);
    per_level!(level, naive::group_norm, lanes::group_norm,
        (out: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32], eps: f32))
}

/// [`group_norm`], then `silu`.
///
/// # Panics
/// When the lengths do not fit each other.
pub fn group_norm_silu(level: Level, out: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32], eps: f32) {
    check(out, x, weight, bias);
    per_level!(level, naive::group_norm_silu, lanes::group_norm_silu,
        (out: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32], eps: f32))
}

fn check(out: &[f32], x: &[f32], weight: &[f32], bias: &[f32]) {
    assert_eq!(out.len(), x.len(), "lengths of the group");
    assert_eq!(weight.len(), bias.len(), "lengths of weight and bias");
    let channels = weight.len();
    assert!(
        x.is_empty() || channels > 0 && x.len().is_multiple_of(channels),
        "{} values in {channels} channels",
        x.len()
    );
}
