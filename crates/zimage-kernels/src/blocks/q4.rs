//! Q4_0 and Q4_1: 4.5 and 5 bits a value; `value = d (q - 8)` and `value = d q + m`.
//!
//! Source: `block_q4_0`, `block_q4_1` of ggml with their `quantize_row_*_ref` and `dequantize_row_*`.

use super::layout::{Block, SMALL, decode_each, encode_each, extreme, half, inverse, range, to_half};

/// 32 values around zero.
#[repr(C)]
pub struct Q4_0 {
    /// Scale, f16; negative where the value of the largest magnitude is positive.
    pub d: [u8; 2],
    /// The numbers 0 to 15: values 0 to 15 in the lower halves of the bytes, 16 to 31 in the upper ones.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<Q4_0>() == 18);

// SAFETY: bytes alone.
unsafe impl Block for Q4_0 {
    const LEN: usize = SMALL;
}

/// 32 values above a minimum.
#[repr(C)]
pub struct Q4_1 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// The smallest value, f16.
    pub m: [u8; 2],
    /// The numbers 0 to 15: values 0 to 15 in the lower halves of the bytes, 16 to 31 in the upper ones.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<Q4_1>() == 20);

// SAFETY: bytes alone.
unsafe impl Block for Q4_1 {
    const LEN: usize = SMALL;
}

#[inline(always)]
pub(super) fn decode_0(src: &[u8], dst: &mut [f32]) {
    decode_each(
        src,
        dst,
        #[inline(always)]
        |block: &Q4_0, values: &mut [f32; SMALL]| {
            let d = half(block.d);
            for (i, q) in block.qs.iter().enumerate() {
                values[i] = f32::from((q & 15) as i8 - 8) * d;
                values[i + 16] = f32::from((q >> 4) as i8 - 8) * d;
            }
        },
    );
}

#[inline(always)]
pub(super) fn decode_1(src: &[u8], dst: &mut [f32]) {
    decode_each(
        src,
        dst,
        #[inline(always)]
        |block: &Q4_1, values: &mut [f32; SMALL]| {
            let (d, m) = (half(block.d), half(block.m));
            for (i, q) in block.qs.iter().enumerate() {
                values[i] = f32::from(q & 15) * d + m;
                values[i + 16] = f32::from(q >> 4) * d + m;
            }
        },
    );
}

pub(super) fn encode_0(src: &[f32], dst: &mut [u8]) {
    encode_each(src, dst, |values: &[f32; SMALL]| {
        // The extreme value becomes -8, the one end of -8 to 7 that has no counterpart.
        let d = extreme(values) / -8.0;
        let inverse = inverse(d);
        Q4_0 { d: to_half(d), qs: pack(values.map(|value| (value * inverse + 8.5) as u8)) }
    });
}

pub(super) fn encode_1(src: &[f32], dst: &mut [u8]) {
    encode_each(src, dst, |values: &[f32; SMALL]| {
        let (low, high) = range(values);
        let d = (high - low) / 15.0;
        let inverse = inverse(d);
        let qs = pack(values.map(|value| ((value - low) * inverse + 0.5) as u8));
        Q4_1 { d: to_half(d), m: to_half(low), qs }
    });
}

fn pack(numbers: [u8; SMALL]) -> [u8; 16] {
    std::array::from_fn(|i| numbers[i].min(15) | numbers[i + 16].min(15) << 4)
}
