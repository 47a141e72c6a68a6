//! The loops that are compiled once per level.

use crate::exp::silu;
use crate::reduce::sum_of;

#[inline(always)]
pub(super) fn group_norm(out: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32], eps: f32) {
    apply(out, x, weight, bias, eps, |v| v);
}

#[inline(always)]
pub(super) fn group_norm_silu(out: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32], eps: f32) {
    apply(out, x, weight, bias, eps, silu);
}

#[inline(always)]
fn apply(out: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32], eps: f32, then: impl Fn(f32) -> f32) {
    let pixels = x.len() / weight.len().max(1);
    if pixels == 0 {
        return;
    }
    let mean = (sum_of(x, |v| v) / x.len() as f64) as f32;
    // Around the mean, not E[x²] - mean², which loses digits when the mean is large.
    let variance = sum_of(x, |v| (v - mean) * (v - mean)) / x.len() as f64;
    let inverse = (1.0 / (variance + f64::from(eps)).sqrt()) as f32;
    let channels = out.chunks_exact_mut(pixels).zip(x.chunks_exact(pixels));
    for ((out, x), (weight, bias)) in channels.zip(weight.iter().zip(bias)) {
        let factor = inverse * weight;
        for (out, v) in out.iter_mut().zip(x) {
            *out = then((v - mean) * factor + bias);
        }
    }
}
