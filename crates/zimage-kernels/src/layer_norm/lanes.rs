//! The loop that is compiled once per level.

use crate::reduce::sum_of;

#[inline(always)]
pub(super) fn layer_norm_scaled(out: &mut [f32], x: &[f32], scale: &[f32], eps: f32) {
    let cols = scale.len().max(1);
    for (out, x) in out.chunks_exact_mut(cols).zip(x.chunks_exact(cols)) {
        let mean = (sum_of(x, |v| v) / cols as f64) as f32;
        // Around the mean, not E[x²] - mean², which loses digits when the mean is large.
        let variance = sum_of(x, |v| (v - mean) * (v - mean)) / cols as f64;
        let inverse = (1.0 / (variance + f64::from(eps)).sqrt()) as f32;
        for ((out, v), scale) in out.iter_mut().zip(x).zip(scale) {
            *out = (v - mean) * inverse * scale;
        }
    }
}
