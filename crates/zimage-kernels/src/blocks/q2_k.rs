//! Q2_K: 2.625 bits a value; 16 groups of 16 values, each with a scale and a minimum; `value = d s q - dmin m`.
//!
//! Source: `block_q2_K`, `quantize_row_q2_K_ref` and `dequantize_row_q2_K` of ggml.

use super::layout::{Block, LARGE, decode_each, encode_each, half, to_half};
use super::search::{Lanes, Steps, fit_above_minimum, nearest_int, side_by_side};
use crate::Level;
use crate::level::per_level;

/// 256 values.
#[repr(C)]
pub struct Q2K {
    /// A byte for each group of 16 values: the scale `s` in the lower half, the minimum `m` in the upper one.
    pub scales: [u8; 16],
    /// The numbers 0 to 3. 32 bytes hold 128 values: the lowest two bits values 0 to 31, the next two 32 to 63, ...
    pub qs: [u8; 64],
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Scale of the minima, f16.
    pub dmin: [u8; 2],
}

const _: () = assert!(size_of::<Q2K>() == 84);

// SAFETY: bytes alone.
unsafe impl Block for Q2K {
    const LEN: usize = LARGE;
}

#[inline(always)]
pub(super) fn decode(src: &[u8], dst: &mut [f32]) {
    decode_each(
        src,
        dst,
        #[inline(always)]
        |block: &Q2K, values: &mut [f32; LARGE]| {
            let (d, dmin) = (half(block.d), half(block.dmin));
            // Two groups at once: loops over 16 values are not vectorized.
            for (pair, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                let shift = pair % 4 * 2;
                let [first, second] = [0, 1].map(|group| {
                    let byte = block.scales[pair * 2 + group];
                    (d * f32::from(byte & 15), dmin * f32::from(byte >> 4))
                });
                for (i, (value, q)) in values.iter_mut().zip(&block.qs[pair / 4 * 32..][..32]).enumerate() {
                    let (scale, minimum) = if i < 16 { first } else { second };
                    *value = scale * f32::from(q >> shift & 3) - minimum;
                }
            }
        },
    );
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
            let x: Lanes<16, 16> = side_by_side(values);
            let weights = x.map(|values| values.map(f32::abs));
            let fit = fit_above_minimum(&x, &weights, STEPS);
            let (d, scales) = four_bits(&fit.scales);
            let (dmin, minima) = four_bits(&fit.minima);
            let mut numbers = [0; LARGE];
            for (group, numbers) in numbers.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let scale = half(d) * f32::from(scales[group]);
                let minimum = half(dmin) * f32::from(minima[group]);
                if scale == 0.0 {
                    *numbers = fit.numbers[group];
                    continue;
                }
                for (number, value) in numbers.iter_mut().zip(&values[group * 16..]) {
                    *number = nearest_int((value + minimum) / scale).clamp(0, 3) as u8;
                }
            }
            let scales = std::array::from_fn(|group| scales[group] | minima[group] << 4);
            Q2K { scales, qs: pack(&numbers), d, dmin }
        },
    );
}

const STEPS: Steps = Steps { highest: 3.0, first: -0.5, last: 15, by_magnitude: true };

/// Numbers of 4 bits and, as f16, what they are multiples of; 0 where none is positive.
#[inline(always)]
fn four_bits(values: &[f32; 16]) -> ([u8; 2], [u8; 16]) {
    let largest = values.iter().fold(0.0, |max: f32, value| if *value > max { *value } else { max });
    if largest <= 0.0 {
        return (to_half(0.0), [0; 16]);
    }
    let inverse = 15.0 / largest;
    (to_half(largest / 15.0), values.map(|value| nearest_int(inverse * value) as u8 & 15))
}

/// Numbers of 2 bits, four to a byte, 32 apart.
#[inline(always)]
pub(super) fn pack(numbers: &[u8; LARGE]) -> [u8; 64] {
    std::array::from_fn(|i| {
        let first = i / 32 * 128 + i % 32;
        (0..4).fold(0, |byte, k| byte | numbers[first + k * 32] << (k * 2))
    })
}
