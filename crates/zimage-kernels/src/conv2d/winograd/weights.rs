//! The weight's transform `G w Gᵀ`, with f64 sums.

use super::transform::KERNEL;
use super::{PLACES, PRODUCTS, block_channels};
use crate::Level;
use crate::level::per_level;
use crate::tile::TileMut;

/// Most output channels of a block.
const MOST: usize = 8;

/// Transforms `weight`, the `(channels, cin, 3, 3)` of one block; the channels that a block lacks become zeros.
///
/// Row `p` of `packed` is `(cin, block_channels)`; at the naive level row `tap` is `(cout, cin)`.
pub(super) fn pack(level: Level, packed: &mut TileMut, weight: &[f32], cin: usize) {
    let channels = block_channels(level);
    per_level!(level, copied, transformed, (packed: &mut TileMut, weight: &[f32], cin: usize, channels: usize))
}

fn copied(packed: &mut TileMut, weight: &[f32], cin: usize, _channels: usize) {
    for tap in 0..9 {
        for (c, value) in packed.row_mut(tap)[..cin].iter_mut().enumerate() {
            *value = weight[c * 9 + tap];
        }
    }
}

#[inline(always)]
fn transformed(packed: &mut TileMut, weight: &[f32], cin: usize, channels: usize) {
    for c in 0..cin {
        let mut taps = [[0.0f64; MOST]; 9];
        for (r, channel) in weight.chunks_exact(9 * cin).enumerate() {
            for (tap, value) in taps.iter_mut().zip(&channel[9 * c..9 * c + 9]) {
                tap[r] = f64::from(*value);
            }
        }
        let mut columns = [[0.0; MOST]; 3 * PLACES];
        for i in 0..PLACES {
            for j in 0..3 {
                columns[3 * i + j] = combined(KERNEL[i], taps[j], taps[3 + j], taps[6 + j]);
            }
        }
        for p in 0..PRODUCTS {
            let [x, y, z] = [0, 1, 2].map(|j| columns[p / PLACES * 3 + j]);
            let values = combined(KERNEL[p % PLACES], x, y, z);
            for (to, value) in packed.row_mut(p)[c * channels..][..channels].iter_mut().zip(values) {
                *to = value as f32;
            }
        }
    }
}

#[inline(always)]
fn combined(factors: [f64; 3], x: [f64; MOST], y: [f64; MOST], z: [f64; MOST]) -> [f64; MOST] {
    let mut sum = [0.0; MOST];
    for (i, sum) in sum.iter_mut().enumerate() {
        *sum = factors[0] * x[i] + factors[1] * y[i] + factors[2] * z[i];
    }
    sum
}
