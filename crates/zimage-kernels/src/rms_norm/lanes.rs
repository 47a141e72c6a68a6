//! The loops that are compiled once per level.

use crate::reduce::sum_of;

#[inline(always)]
fn inverse_root(x: &[f32], eps: f32) -> f32 {
    let mean = sum_of(x, |v| v * v) / x.len() as f64;
    (1.0 / (mean + f64::from(eps)).sqrt()) as f32
}

#[inline(always)]
pub(super) fn rms_norm(out: &mut [f32], x: &[f32], weight: &[f32], eps: f32) {
    let cols = weight.len().max(1);
    for (out, x) in out.chunks_exact_mut(cols).zip(x.chunks_exact(cols)) {
        let inverse = inverse_root(x, eps);
        for ((out, v), w) in out.iter_mut().zip(x).zip(weight) {
            *out = v * inverse * w;
        }
    }
}

#[inline(always)]
pub(super) fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) {
    for x in x.chunks_exact_mut(weight.len().max(1)) {
        let inverse = inverse_root(x, eps);
        for (v, w) in x.iter_mut().zip(weight) {
            *v = *v * inverse * w;
        }
    }
}

#[inline(always)]
pub(super) fn rms_norm_scaled(out: &mut [f32], x: &[f32], weight: &[f32], scale: &[f32], eps: f32) {
    let cols = weight.len().max(1);
    for (out, x) in out.chunks_exact_mut(cols).zip(x.chunks_exact(cols)) {
        let inverse = inverse_root(x, eps);
        for (((out, v), w), scale) in out.iter_mut().zip(x).zip(weight).zip(scale) {
            *out = v * inverse * w * scale;
        }
    }
}

#[inline(always)]
pub(super) fn add_rms_norm_gated(x: &mut [f32], y: &[f32], weight: &[f32], gate: &[f32], eps: f32) {
    let cols = weight.len().max(1);
    for (x, y) in x.chunks_exact_mut(cols).zip(y.chunks_exact(cols)) {
        let inverse = inverse_root(y, eps);
        for (((x, v), w), gate) in x.iter_mut().zip(y).zip(weight).zip(gate) {
            *x += gate * (v * inverse * w);
        }
    }
}

#[inline(always)]
pub(super) fn add_rms_norm(x: &mut [f32], y: &[f32], weight: &[f32], eps: f32) {
    let cols = weight.len().max(1);
    for (x, y) in x.chunks_exact_mut(cols).zip(y.chunks_exact(cols)) {
        let inverse = inverse_root(y, eps);
        for ((x, v), w) in x.iter_mut().zip(y).zip(weight) {
            *x += v * inverse * w;
        }
    }
}
