//! Q5_K: 5.5 bits a value; 8 groups of 32 values, each with a scale and a minimum; `value = d s q - dmin m`.
//!
//! Source: `block_q5_K`, `quantize_row_q5_K_ref` and `dequantize_row_q5_K` of ggml.

use super::layout::{Block, LARGE, decode_each, encode_each, half};
use super::q4_k::{Parts, scale_and_minimum};
use super::search::Steps;
use crate::Level;
use crate::level::per_level;

/// 256 values.
#[repr(C)]
pub struct Q5K {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Scale of the minima, f16.
    pub dmin: [u8; 2],
    /// Scales and minima of the groups, packed as in [`Q4K`](super::Q4K).
    pub scales: [u8; 12],
    /// The fifth bits: bit `i / 32` of byte `i % 32` belongs to value `i`.
    pub qh: [u8; 32],
    /// The lower four bits. 32 bytes hold two groups, one in the lower halves and the next in the upper ones.
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<Q5K>() == 176);

// SAFETY: bytes alone.
unsafe impl Block for Q5K {
    const LEN: usize = LARGE;
}

#[inline(always)]
pub(super) fn decode(src: &[u8], dst: &mut [f32]) {
    decode_each(
        src,
        dst,
        #[inline(always)]
        |block: &Q5K, values: &mut [f32; LARGE]| {
            let (d, dmin) = (half(block.d), half(block.dmin));
            for (group, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                let (scale, minimum) = scale_and_minimum(&block.scales, group);
                let (scale, minimum) = (d * f32::from(scale), dmin * f32::from(minimum));
                let shift = group % 2 * 4;
                let low = &block.qs[group / 2 * 32..][..32];
                for ((value, low), high) in values.iter_mut().zip(low).zip(&block.qh) {
                    let q = low >> shift & 15 | (high >> group & 1) << 4;
                    *value = scale * f32::from(q) - minimum;
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
            let parts = Parts::of(values, Steps { highest: 31.0, first: -0.5, last: 15, by_magnitude: false });
            let (mut qh, mut qs) = ([0; 32], [0; 128]);
            for (i, byte) in qs.iter_mut().enumerate() {
                let (pair, at) = (i / 32, i % 32);
                let (low, high) = (parts.numbers[pair * 64 + at], parts.numbers[pair * 64 + 32 + at]);
                *byte = low & 15 | high << 4;
                qh[at] |= low >> 4 << (pair * 2) | high >> 4 << (pair * 2 + 1);
            }
            Q5K { d: parts.d, dmin: parts.dmin, scales: parts.scales, qh, qs }
        },
    );
}
