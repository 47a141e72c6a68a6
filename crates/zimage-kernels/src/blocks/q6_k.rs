//! Q6_K: 6.5625 bits a value; 16 groups of 16 values, each with a scale; `value = d s (q - 32)`.
//!
//! Source: `block_q6_K`, `quantize_row_q6_K_ref` and `dequantize_row_q6_K` of ggml.

use super::layout::{Block, LARGE, decode_each, encode_each, half, to_half};
use super::search::{LEAST, Lanes, fit_around_zero, nearest_int, side_by_side};
use crate::Level;
use crate::level::per_level;

/// 256 values.
#[repr(C)]
pub struct Q6K {
    /// The lower four bits. 64 bytes hold 128 values: the lower halves values 0 to 63, the upper ones 64 to 127.
    pub ql: [u8; 128],
    /// The upper two bits. 32 bytes hold 128 values: the lowest two bits values 0 to 31, the next two 32 to 63, ...
    pub qh: [u8; 64],
    /// The scales of the groups.
    pub scales: [i8; 16],
    /// Scale of the scales, f16.
    pub d: [u8; 2],
}

const _: () = assert!(size_of::<Q6K>() == 210);

// SAFETY: bytes alone.
unsafe impl Block for Q6K {
    const LEN: usize = LARGE;
}

#[inline(always)]
pub(super) fn decode(src: &[u8], dst: &mut [f32]) {
    decode_each(
        src,
        dst,
        #[inline(always)]
        |block: &Q6K, values: &mut [f32; LARGE]| {
            let d = half(block.d);
            // Two groups at once: loops over 16 values are not vectorized.
            for (pair, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                let (low_shift, high_shift) = (pair / 2 % 2 * 4, pair % 4 * 2);
                let low = &block.ql[pair / 4 * 64 + pair % 2 * 32..][..32];
                let high = &block.qh[pair / 4 * 32..][..32];
                let [first, second] = [0, 1].map(|group| d * f32::from(block.scales[pair * 2 + group]));
                for (i, ((value, low), high)) in values.iter_mut().zip(low).zip(high).enumerate() {
                    let q = low >> low_shift & 15 | (high >> high_shift & 3) << 4;
                    *value = if i < 16 { first } else { second } * f32::from(q as i8 - 32);
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
            let fit = fit_around_zero(&x, 32.0);
            let extreme = fit.scales.iter().fold(0.0, |max: f32, s| if s.abs() > max.abs() { *s } else { max });
            if extreme.abs() < LEAST {
                return Q6K { ql: [0; 128], qh: [0; 64], scales: [0; 16], d: to_half(0.0) };
            }
            let inverse = -128.0 / extreme;
            let d = to_half(1.0 / inverse);
            let scales = fit.scales.map(|scale| nearest_int(inverse * scale).min(127) as i8);
            let mut numbers = [0; LARGE];
            for (group, numbers) in numbers.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let scale = half(d) * f32::from(scales[group]);
                if scale == 0.0 {
                    *numbers = fit.numbers[group];
                    continue;
                }
                for (number, value) in numbers.iter_mut().zip(&values[group * 16..]) {
                    *number = (nearest_int(value / scale).clamp(-32, 31) + 32) as u8;
                }
            }
            pack(&numbers, scales, d)
        },
    );
}

#[inline(always)]
fn pack(numbers: &[u8; LARGE], scales: [i8; 16], d: [u8; 2]) -> Q6K {
    let (mut ql, mut qh) = ([0; 128], [0; 64]);
    for (side, numbers) in numbers.as_chunks::<128>().0.iter().enumerate() {
        for i in 0..64 {
            ql[side * 64 + i] = numbers[i] & 15 | (numbers[i + 64] & 15) << 4;
        }
        for i in 0..32 {
            qh[side * 32 + i] = (0..4).fold(0, |byte, k| byte | numbers[i + k * 32] >> 4 << (k * 2));
        }
    }
    Q6K { ql, qh, scales, d }
}
