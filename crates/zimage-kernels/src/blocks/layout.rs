//! Blocks of quantized weights, laid over the bytes of a file where they lie.

use super::f16;

/// Values in a block of the formats with one scale per block.
pub const SMALL: usize = 32;
/// Values in a block of the formats with scales of scales (`QK_K` of ggml).
pub const LARGE: usize = 256;

/// A block of a quantized weight as files hold it.
///
/// # Safety
/// The type is `#[repr(C)]` and made of `u8`, `i8` and arrays of them alone. It then has an alignment of 1 and no
/// padding, and every pattern of bytes is a block.
pub unsafe trait Block: Sized {
    /// Values in a block.
    const LEN: usize;
}

/// The blocks in `bytes`; what is left at the end, less than a block, is not among them.
#[inline(always)]
pub(super) fn blocks<B: Block>(bytes: &[u8]) -> &[B] {
    const { assert!(align_of::<B>() == 1) };
    // SAFETY: every pattern of bytes is a block, at any address, and the quotient rounds down.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<B>()) }
}

/// The blocks in `bytes`, to be written.
pub(super) fn blocks_mut<B: Block>(bytes: &mut [u8]) -> &mut [B] {
    const { assert!(align_of::<B>() == 1) };
    // SAFETY: as in `blocks`; a block has no padding, so that writing one leaves no byte undefined.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len() / size_of::<B>()) }
}

/// Decodes block after block. `decode` must be `#[inline(always)]`, so that it is compiled for the level.
#[inline(always)]
pub(super) fn decode_each<B: Block, const LEN: usize>(
    src: &[u8],
    dst: &mut [f32],
    decode: impl Fn(&B, &mut [f32; LEN]),
) {
    const { assert!(B::LEN == LEN) };
    for (block, values) in blocks::<B>(src).iter().zip(dst.as_chunks_mut::<LEN>().0) {
        decode(block, values);
    }
}

/// Encodes block after block. Where `encode` is `#[inline(always)]`, it is compiled for the level.
#[inline(always)]
pub(super) fn encode_each<B: Block, const LEN: usize>(src: &[f32], dst: &mut [u8], encode: impl Fn(&[f32; LEN]) -> B) {
    const { assert!(B::LEN == LEN) };
    for (values, block) in src.as_chunks::<LEN>().0.iter().zip(blocks_mut::<B>(dst)) {
        *block = encode(values);
    }
}

/// The f16 number in two bytes of a block.
#[inline(always)]
pub(super) fn half(bytes: [u8; 2]) -> f32 {
    f16::widen(u16::from_le_bytes(bytes))
}

/// A number as the two bytes of an f16.
#[inline(always)]
pub(super) fn to_half(value: f32) -> [u8; 2] {
    f16::round(value).to_le_bytes()
}

/// `1 / d`, and 0 where `d` is 0: a block of zeros.
pub(super) fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// The value of the largest magnitude, with its sign; the first one of several.
pub(super) fn extreme(values: &[f32; SMALL]) -> f32 {
    values.iter().fold(0.0, |largest: f32, value| if largest.abs() < value.abs() { *value } else { largest })
}

/// The smallest and the largest value.
pub(super) fn range(values: &[f32; SMALL]) -> (f32, f32) {
    let pick = |(low, high): (f32, f32), value: &f32| {
        (if *value < low { *value } else { low }, if *value > high { *value } else { high })
    };
    values.iter().fold((f32::MAX, f32::MIN), pick)
}
