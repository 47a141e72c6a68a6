//! The loops that are compiled once per level.

use super::Moments;
use crate::reduce::sum_of;

/// Values that are read twice, from the first-level cache the second time.
const BLOCK: usize = 4096;

#[inline(always)]
pub(super) fn moments(x: &[f32]) -> Moments {
    let mut all = Moments::default();
    for block in x.chunks(BLOCK) {
        let count = block.len() as f64;
        let mean = sum_of(block, |v| v) / count;
        // Around the mean, not E[x²] - mean², which loses digits when the mean is large.
        let near = mean as f32;
        let rounded = mean - f64::from(near);
        let squares = sum_of(block, |v| (v - near) * (v - near)) - count * rounded * rounded;
        all = all.merged(Moments { count, mean, squares: squares.max(0.0) });
    }
    all
}

#[inline(always)]
pub(super) fn normalize(out: &mut [f32], x: &[f32], mean: f32, factor: f32, bias: f32) {
    for (out, v) in out.iter_mut().zip(x) {
        *out = (v - mean) * factor + bias;
    }
}
