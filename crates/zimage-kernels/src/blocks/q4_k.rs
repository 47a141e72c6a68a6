//! Q4_K: 4.5 bits a value; 8 groups of 32 values, each with a scale and a minimum; `value = d s q - dmin m`.
//!
//! Source: `block_q4_K`, `get_scale_min_k4`, `quantize_row_q4_K_ref` and `dequantize_row_q4_K` of ggml.

use super::layout::{Block, LARGE, decode_each, encode_each, half, to_half};
use super::search::{Fit, Lanes, Steps, fit_above_minimum, nearest_int, side_by_side};
use crate::Level;
use crate::level::per_level;

/// 256 values.
#[repr(C)]
pub struct Q4K {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Scale of the minima, f16.
    pub dmin: [u8; 2],
    /// Scales and minima of the groups, see [`scale_and_minimum`].
    pub scales: [u8; 12],
    /// The numbers 0 to 15. 32 bytes hold two groups, one in the lower halves and the next in the upper ones.
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<Q4K>() == 144);

// SAFETY: bytes alone.
unsafe impl Block for Q4K {
    const LEN: usize = LARGE;
}

#[inline(always)]
pub(super) fn decode(src: &[u8], dst: &mut [f32]) {
    decode_each(
        src,
        dst,
        #[inline(always)]
        |block: &Q4K, values: &mut [f32; LARGE]| {
            let (d, dmin) = (half(block.d), half(block.dmin));
            for (group, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                let (scale, minimum) = scale_and_minimum(&block.scales, group);
                let (scale, minimum) = (d * f32::from(scale), dmin * f32::from(minimum));
                let shift = group % 2 * 4;
                for (value, q) in values.iter_mut().zip(&block.qs[group / 2 * 32..][..32]) {
                    *value = scale * f32::from(q >> shift & 15) - minimum;
                }
            }
        },
    );
}

/// Scale and minimum of a group, 6 bits each. Groups 0 to 3 have the lower six bits of bytes 0 to 3 and 4 to 7; of
/// groups 4 to 7, bytes 8 to 11 hold the lower four bits (scales in the lower halves, minima in the upper ones) and
/// the two bits left over in bytes 0 to 7 the upper ones.
#[inline(always)]
pub(super) fn scale_and_minimum(scales: &[u8; 12], group: usize) -> (u8, u8) {
    if group < 4 {
        return (scales[group] & 63, scales[group + 4] & 63);
    }
    let low = scales[group + 4];
    (low & 15 | scales[group - 4] >> 6 << 4, low >> 4 | scales[group] >> 6 << 4)
}

pub(super) fn encode(level: Level, src: &[f32], dst: &mut [u8]) {
    per_level!(level, encode_blocks, encode_blocks, (src: &[f32], dst: &mut [u8]));
}

#[inline(always)]
fn encode_blocks(src: &[f32], dst: &mut [u8]) {
    encode_each(
        src,
        dst,
        #[inline(always)]
        |values: &[f32; LARGE]| {
            let parts = Parts::of(values, Steps { highest: 15.0, first: -1.0, last: 20, by_magnitude: false });
            let mut qs = [0; 128];
            for (i, byte) in qs.iter_mut().enumerate() {
                let low = i / 32 * 64 + i % 32;
                *byte = parts.numbers[low] | parts.numbers[low + 32] << 4;
            }
            Q4K { d: parts.d, dmin: parts.dmin, scales: parts.scales, qs }
        },
    );
}

/// What Q4_K and Q5_K pack, each in its own way.
pub(super) struct Parts {
    pub(super) d: [u8; 2],
    pub(super) dmin: [u8; 2],
    pub(super) scales: [u8; 12],
    pub(super) numbers: [u8; LARGE],
}

impl Parts {
    #[inline(always)]
    pub(super) fn of(values: &[f32; LARGE], steps: Steps) -> Parts {
        let x = side_by_side(values);
        let fit = fit_above_minimum(&x, &weights(&x), steps);
        let largest = |values: &[f32; 8]| values.iter().fold(0.0, |max: f32, v| if *v > max { *v } else { max });
        let (scale, minimum) = (largest(&fit.scales), largest(&fit.minima));
        let (d, dmin) = (to_half(scale / 63.0), to_half(minimum / 63.0));
        let six_bits = |values: &[f32; 8], largest: f32| {
            let inverse = if largest > 0.0 { 63.0 / largest } else { 0.0 };
            values.map(|value| (nearest_int(inverse * value) as u8).min(63))
        };
        let scales = pack(six_bits(&fit.scales, scale), six_bits(&fit.minima, minimum));
        Parts { d, dmin, scales, numbers: numbers(values, &fit, (half(d), half(dmin)), &scales, steps.highest as i32) }
    }
}

/// The root of the mean square of the group, plus the magnitude of the value.
#[inline(always)]
fn weights(x: &Lanes<32, 8>) -> Lanes<32, 8> {
    let mut squares = [0.0; 8];
    for values in x {
        for (sum, value) in squares.iter_mut().zip(values) {
            *sum += value * value;
        }
    }
    let mean: [f32; 8] = squares.map(|sum: f32| (sum / 32.0).sqrt());
    std::array::from_fn(|i| std::array::from_fn(|g| mean[g] + x[i][g].abs()))
}

/// The numbers once more, with the scales as they are stored. Those of the search stay where a scale is stored as 0.
#[inline(always)]
fn numbers(
    values: &[f32; LARGE],
    fit: &Fit<32, 8>,
    (d, dmin): (f32, f32),
    scales: &[u8; 12],
    highest: i32,
) -> [u8; LARGE] {
    let mut numbers = [0; LARGE];
    for (group, numbers) in numbers.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, minimum) = scale_and_minimum(scales, group);
        let (scale, minimum) = (d * f32::from(scale), dmin * f32::from(minimum));
        if scale == 0.0 {
            *numbers = fit.numbers[group];
            continue;
        }
        for (number, value) in numbers.iter_mut().zip(&values[group * 32..]) {
            *number = nearest_int((value + minimum) / scale).clamp(0, highest) as u8;
        }
    }
    numbers
}

/// The inverse of [`scale_and_minimum`].
#[inline(always)]
fn pack(scales: [u8; 8], minima: [u8; 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for group in 0..4 {
        packed[group] = scales[group] | scales[group + 4] >> 4 << 6;
        packed[group + 4] = minima[group] | minima[group + 4] >> 4 << 6;
        packed[group + 8] = scales[group + 4] & 15 | (minima[group + 4] & 15) << 4;
    }
    packed
}
