//! Q5_0 and Q5_1: 5.5 and 6 bits a value; `value = d (q - 16)` and `value = d q + m`.
//!
//! Source: `block_q5_0`, `block_q5_1` of ggml with their `quantize_row_*_ref` and `dequantize_row_*`.

use super::layout::{Block, SMALL, decode_each, encode_each, extreme, half, inverse, range, to_half};

/// 32 values around zero.
#[repr(C)]
pub struct Q5_0 {
    /// Scale, f16; negative where the value of the largest magnitude is positive.
    pub d: [u8; 2],
    /// The fifth bit of every number; bit `i` of the little-endian word belongs to value `i`.
    pub qh: [u8; 4],
    /// The lower four bits: values 0 to 15 in the lower halves of the bytes, 16 to 31 in the upper ones.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<Q5_0>() == 22);

// SAFETY: bytes alone.
unsafe impl Block for Q5_0 {
    const LEN: usize = SMALL;
}

/// 32 values above a minimum.
#[repr(C)]
pub struct Q5_1 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// The smallest value, f16.
    pub m: [u8; 2],
    /// The fifth bit of every number; bit `i` of the little-endian word belongs to value `i`.
    pub qh: [u8; 4],
    /// The lower four bits: values 0 to 15 in the lower halves of the bytes, 16 to 31 in the upper ones.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<Q5_1>() == 24);

// SAFETY: bytes alone.
unsafe impl Block for Q5_1 {
    const LEN: usize = SMALL;
}

#[inline(always)]
pub(super) fn decode_0(src: &[u8], dst: &mut [f32]) {
    decode_each(
        src,
        dst,
        #[inline(always)]
        |block: &Q5_0, values: &mut [f32; SMALL]| {
            let d = half(block.d);
            let numbers = unpack(block.qh, &block.qs);
            for (value, q) in values.iter_mut().zip(numbers) {
                *value = (q - 16) as f32 * d;
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
        |block: &Q5_1, values: &mut [f32; SMALL]| {
            let (d, m) = (half(block.d), half(block.m));
            let numbers = unpack(block.qh, &block.qs);
            for (value, q) in values.iter_mut().zip(numbers) {
                *value = q as f32 * d + m;
            }
        },
    );
}

pub(super) fn encode_0(src: &[f32], dst: &mut [u8]) {
    encode_each(src, dst, |values: &[f32; SMALL]| {
        // The extreme value becomes -16, the one end of -16 to 15 that has no counterpart.
        let d = extreme(values) / -16.0;
        let inverse = inverse(d);
        let (qh, qs) = pack(values.map(|value| (value * inverse + 16.5) as u8));
        Q5_0 { d: to_half(d), qh, qs }
    });
}

pub(super) fn encode_1(src: &[f32], dst: &mut [u8]) {
    encode_each(src, dst, |values: &[f32; SMALL]| {
        let (low, high) = range(values);
        let d = (high - low) / 31.0;
        let inverse = inverse(d);
        let (qh, qs) = pack(values.map(|value| ((value - low) * inverse + 0.5) as u8));
        Q5_1 { d: to_half(d), m: to_half(low), qh, qs }
    });
}

/// Every byte without its upper half.
const LOWER_HALVES: u128 = u128::from_le_bytes([15; 16]);

#[inline(always)]
fn unpack(qh: [u8; 4], qs: &[u8; 16]) -> [i32; SMALL] {
    // Words of 32 bits, so that every lane shifts out its own fifth bit.
    let high = u32::from_le_bytes(qh);
    let word = u128::from_le_bytes(*qs);
    let mut low = [0; SMALL];
    low[..16].copy_from_slice(&(word & LOWER_HALVES).to_le_bytes());
    low[16..].copy_from_slice(&(word >> 4 & LOWER_HALVES).to_le_bytes());
    let mut numbers = [0; SMALL];
    for (i, (number, low)) in numbers.iter_mut().zip(low).enumerate() {
        *number = (u32::from(low) | (high >> i & 1) << 4) as i32;
    }
    numbers
}

fn pack(numbers: [u8; SMALL]) -> ([u8; 4], [u8; 16]) {
    let numbers = numbers.map(|number| number.min(31));
    let high = (0..SMALL).fold(0, |high, i| high | u32::from(numbers[i] >> 4) << i);
    (high.to_le_bytes(), std::array::from_fn(|i| numbers[i] & 15 | numbers[i + 16] << 4))
}
