//! Root mean square norms of rows, alone and fused with the modulation around them.

mod lanes;
mod naive;

#[cfg(test)]
mod tests;

use crate::Level;
use crate::level::per_level;

/// `out = x / sqrt(mean(x²) + eps) * weight`, row by row.
///
/// `weight` is `(cols)`; `x` and `out` are `(rows, cols)`. With `cols` the size of a head it
/// normalizes heads.
///
/// # Panics
/// When the lengths differ or are no multiple of `cols`.
///
/// Source: `torch.nn.RMSNorm`.
pub fn rms_norm(level: Level, out: &mut [f32], x: &[f32], weight: &[f32], eps: f32) {
    check(out.len(), x.len(), weight.len());
    per_level!(level, naive::rms_norm, lanes::rms_norm, (out: &mut [f32], x: &[f32], weight: &[f32], eps: f32))
}

/// [`rms_norm`] in place.
///
/// # Panics
/// When the length of `x` is no multiple of that of `weight`.
pub fn rms_norm_in_place(level: Level, x: &mut [f32], weight: &[f32], eps: f32) {
    check(x.len(), x.len(), weight.len());
    per_level!(level, naive::rms_norm_in_place, lanes::rms_norm_in_place, (x: &mut [f32], weight: &[f32], eps: f32))
}

/// `out = rms_norm(x) * weight * scale`, with `scale` `(cols)` the same for all rows.
///
/// # Panics
/// When the lengths differ or are no multiple of `cols`.
pub fn rms_norm_scaled(level: Level, out: &mut [f32], x: &[f32], weight: &[f32], scale: &[f32], eps: f32) {
    check(out.len(), x.len(), weight.len());
    assert_eq!(scale.len(), weight.len(), "length of the scale");
    per_level!(level, naive::rms_norm_scaled, lanes::rms_norm_scaled,
        (out: &mut [f32], x: &[f32], weight: &[f32], scale: &[f32], eps: f32))
}

/// `x += gate * (rms_norm(y) * weight)`, with `gate` `(cols)` the same for all rows.
///
/// # Panics
/// When the lengths differ or are no multiple of `cols`.
pub fn add_rms_norm_gated(level: Level, x: &mut [f32], y: &[f32], weight: &[f32], gate: &[f32], eps: f32) {
    check(x.len(), y.len(), weight.len());
    assert_eq!(gate.len(), weight.len(), "length of the gate");
    per_level!(level, naive::add_rms_norm_gated, lanes::add_rms_norm_gated,
        (x: &mut [f32], y: &[f32], weight: &[f32], gate: &[f32], eps: f32))
}

/// `x += rms_norm(y) * weight`.
///
/// # Panics
/// When the lengths differ or are no multiple of `cols`.
pub fn add_rms_norm(level: Level, x: &mut [f32], y: &[f32], weight: &[f32], eps: f32) {
    check(x.len(), y.len(), weight.len());
    per_level!(level, naive::add_rms_norm, lanes::add_rms_norm, (x: &mut [f32], y: &[f32], weight: &[f32], eps: f32))
}

fn check(out: usize, x: usize, cols: usize) {
    assert_eq!(out, x, "lengths of the rows");
    assert!(x == 0 || cols > 0 && x.is_multiple_of(cols), "{x} values in rows of {cols}");
}
