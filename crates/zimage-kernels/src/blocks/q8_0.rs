//! Q8_0: 8.5 bits a value; `value = d q`.
//!
//! Source: `block_q8_0`, `quantize_row_q8_0_ref` and `dequantize_row_q8_0` of ggml.

use super::layout::{Block, SMALL, decode_each, encode_each, half, inverse, to_half};

/// 32 values.
#[repr(C)]
pub struct Q8_0 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// The numbers, -127 to 127.
    pub qs: [i8; 32],
}

const _: () = assert!(size_of::<Q8_0>() == 34);

// SAFETY: bytes alone.
unsafe impl Block for Q8_0 {
    const LEN: usize = SMALL;
}

#[inline(always)]
pub(super) fn decode(src: &[u8], dst: &mut [f32]) {
    decode_each(
        src,
        dst,
        #[inline(always)]
        |block: &Q8_0, values: &mut [f32; SMALL]| {
            let d = half(block.d);
            for (value, q) in values.iter_mut().zip(&block.qs) {
                *value = f32::from(*q) * d;
            }
        },
    );
}

pub(super) fn encode(src: &[f32], dst: &mut [u8]) {
    encode_each(src, dst, |values: &[f32; SMALL]| {
        let largest = values.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
        let d = largest / 127.0;
        let inverse = inverse(d);
        // Halves go away from zero.
        Q8_0 { d: to_half(d), qs: values.map(|value| (value * inverse).round() as i8) }
    });
}
