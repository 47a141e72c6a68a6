//! Storage formats of weights: how many bytes a row takes, and how to decode and encode it.

mod bf16;
mod f16;

#[cfg(test)]
mod tests;

use crate::Level;
use crate::level::per_level;

/// How the values of a weight are stored. All formats are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// IEEE single precision, 4 bytes.
    F32,
    /// The upper half of an IEEE single, 2 bytes.
    BF16,
    /// IEEE half precision, 2 bytes.
    F16,
}

impl Format {
    /// Bytes of one row of `cols` values.
    pub fn row_bytes(self, cols: usize) -> usize {
        match self {
            Format::F32 => cols * 4,
            Format::BF16 | Format::F16 => cols * 2,
        }
    }

    /// The name in messages and files: `f32`, `bf16`, `f16`.
    pub fn name(self) -> &'static str {
        match self {
            Format::F32 => "f32",
            Format::BF16 => "bf16",
            Format::F16 => "f16",
        }
    }

    /// Decodes `dst.len()` values, exactly; `src` may be unaligned.
    ///
    /// # Panics
    /// When `src` does not hold exactly `row_bytes(dst.len())` bytes.
    pub fn decode(self, src: &[u8], dst: &mut [f32]) {
        assert_eq!(src.len(), self.row_bytes(dst.len()), "bytes of {} {} values", dst.len(), self.name());
        let level = Level::detect();
        match self {
            Format::F32 => decode_f32(src, dst),
            Format::BF16 => per_level!(level, bf16::decode, bf16::decode, (src: &[u8], dst: &mut [f32])),
            Format::F16 => per_level!(level, f16::decode, f16::decode, (src: &[u8], dst: &mut [f32])),
        }
    }

    /// Encodes `src.len()` values, rounding to the nearest, ties to even; a value beyond the
    /// format's range becomes infinite, a NaN stays a NaN.
    ///
    /// # Panics
    /// When `dst` does not hold exactly `row_bytes(src.len())` bytes.
    pub fn encode(self, src: &[f32], dst: &mut [u8]) {
        assert_eq!(dst.len(), self.row_bytes(src.len()), "bytes of {} {} values", src.len(), self.name());
        match self {
            Format::F32 => encode_f32(src, dst),
            Format::BF16 => bf16::encode(src, dst),
            Format::F16 => f16::encode(src, dst),
        }
    }
}

fn decode_f32(src: &[u8], dst: &mut [f32]) {
    for (bytes, value) in src.as_chunks::<4>().0.iter().zip(dst) {
        *value = f32::from_le_bytes(*bytes);
    }
}

fn encode_f32(src: &[f32], dst: &mut [u8]) {
    for (value, bytes) in src.iter().zip(dst.as_chunks_mut::<4>().0) {
        *bytes = value.to_le_bytes();
    }
}
