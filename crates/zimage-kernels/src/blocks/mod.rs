//! Storage formats of weights: how many bytes a row takes, how to decode it, and for some how to encode it.
//!
//! A [`Format`] stores a row as one run of bytes. The quantized ones are those of ggml, bit for bit: their values come
//! in blocks along a row, so a row is a whole number of blocks. Where the scales lie apart from the values, as in the
//! files of MLX and ComfyUI, the storage is described by [`Scaled`]. A [`Matrix`] is the bytes of either.

#[cfg(target_arch = "x86_64")]
mod affine;
mod bf16;
mod f16;
mod f32;
mod f8;
mod layout;
mod matrix;
mod scaled;
mod search;

mod iq4_nl;
mod q2_k;
mod q3_k;
mod q4;
mod q4_k;
mod q5;
mod q5_k;
mod q6_k;
mod q8_0;

#[cfg(test)]
pub(crate) mod golden;
#[cfg(test)]
mod tests;

use crate::Level;
use crate::level::per_level;

#[cfg(target_arch = "x86_64")]
pub(crate) use affine::AffineBytes;
pub use iq4_nl::Iq4Nl;
pub use layout::Block;
pub use matrix::{Layout, Matrix};
pub use q2_k::Q2K;
pub use q3_k::Q3K;
pub use q4::{Q4_0, Q4_1};
pub use q4_k::Q4K;
pub use q5::{Q5_0, Q5_1};
pub use q5_k::Q5K;
pub use q6_k::Q6K;
pub use q8_0::Q8_0;
pub use scaled::{Element, Group, Planes, ROTATED, ScaleType, Scaled, ScaledEncoder};

/// How the values of a weight are stored. All formats are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// IEEE single precision, 4 bytes.
    F32,
    /// The upper half of an IEEE single, 2 bytes.
    BF16,
    /// IEEE half precision, 2 bytes.
    F16,
    /// An 8-bit float with 4 exponent bits and no infinities.
    F8E4M3,
    /// An 8-bit float with 5 exponent bits.
    F8E5M2,
    /// ggml's Q8_0: 8-bit numbers, 32 to a scale; 34 bytes for 32 values.
    Q8_0,
    /// ggml's Q4_0: 4-bit numbers, 32 to a scale; 18 bytes for 32 values.
    Q4_0,
    /// ggml's Q4_1: 4-bit numbers, 32 to a scale and a minimum; 20 bytes for 32 values.
    Q4_1,
    /// ggml's Q5_0: 5-bit numbers, 32 to a scale; 22 bytes for 32 values.
    Q5_0,
    /// ggml's Q5_1: 5-bit numbers, 32 to a scale and a minimum; 24 bytes for 32 values.
    Q5_1,
    /// ggml's Q2_K: 2-bit numbers with 4-bit scales and minima; 84 bytes for 256 values.
    Q2K,
    /// ggml's Q3_K: 3-bit numbers with 6-bit scales; 110 bytes for 256 values.
    Q3K,
    /// ggml's Q4_K: 4-bit numbers with 6-bit scales and minima; 144 bytes for 256 values.
    Q4K,
    /// ggml's Q5_K: 5-bit numbers with 6-bit scales and minima; 176 bytes for 256 values.
    Q5K,
    /// ggml's Q6_K: 6-bit numbers with 8-bit scales; 210 bytes for 256 values.
    Q6K,
    /// ggml's IQ4_NL: 4-bit places in a table, 32 to a scale; 18 bytes for 32 values.
    Iq4Nl,
}

impl Format {
    /// Every format, in order of declaration.
    pub const ALL: [Format; 16] = [
        Format::F32,
        Format::BF16,
        Format::F16,
        Format::F8E4M3,
        Format::F8E5M2,
        Format::Q8_0,
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Q2K,
        Format::Q3K,
        Format::Q4K,
        Format::Q5K,
        Format::Q6K,
        Format::Iq4Nl,
    ];

    /// Values in a block: a row has a multiple of it. 1 for the formats without blocks.
    pub fn block_len(self) -> usize {
        self.block().0
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        self.block().1
    }

    /// Values and bytes of a block.
    fn block(self) -> (usize, usize) {
        fn of<B: Block>() -> (usize, usize) {
            (B::LEN, size_of::<B>())
        }
        match self {
            Format::F32 => (1, 4),
            Format::BF16 | Format::F16 => (1, 2),
            Format::F8E4M3 | Format::F8E5M2 => (1, 1),
            Format::Q8_0 => of::<Q8_0>(),
            Format::Q4_0 => of::<Q4_0>(),
            Format::Q4_1 => of::<Q4_1>(),
            Format::Q5_0 => of::<Q5_0>(),
            Format::Q5_1 => of::<Q5_1>(),
            Format::Q2K => of::<Q2K>(),
            Format::Q3K => of::<Q3K>(),
            Format::Q4K => of::<Q4K>(),
            Format::Q5K => of::<Q5K>(),
            Format::Q6K => of::<Q6K>(),
            Format::Iq4Nl => of::<Iq4Nl>(),
        }
    }

    /// Bytes of one row of `cols` values.
    ///
    /// # Panics
    /// When `cols` is no multiple of [`Format::block_len`]; what reads files asks before.
    pub fn row_bytes(self, cols: usize) -> usize {
        let (len, bytes) = self.block();
        assert!(
            cols.is_multiple_of(len),
            "a row of {cols} {} values is no whole number of blocks of {len}",
            self.name()
        );
        cols / len * bytes
    }

    /// The name in messages and files: `f32`, `bf16`, `q4_k`.
    pub fn name(self) -> &'static str {
        match self {
            Format::F32 => "f32",
            Format::BF16 => "bf16",
            Format::F16 => "f16",
            Format::F8E4M3 => "f8_e4m3",
            Format::F8E5M2 => "f8_e5m2",
            Format::Q8_0 => "q8_0",
            Format::Q4_0 => "q4_0",
            Format::Q4_1 => "q4_1",
            Format::Q5_0 => "q5_0",
            Format::Q5_1 => "q5_1",
            Format::Q2K => "q2_k",
            Format::Q3K => "q3_k",
            Format::Q4K => "q4_k",
            Format::Q5K => "q5_k",
            Format::Q6K => "q6_k",
            Format::Iq4Nl => "iq4_nl",
        }
    }

    /// Decodes `dst.len()` values, exactly; `src` may be unaligned.
    ///
    /// # Panics
    /// When `src` does not hold exactly `row_bytes(dst.len())` bytes.
    pub fn decode(self, src: &[u8], dst: &mut [f32]) {
        self.decode_at(Level::detect(), src, dst);
    }

    pub(crate) fn decode_at(self, level: Level, src: &[u8], dst: &mut [f32]) {
        assert_eq!(src.len(), self.row_bytes(dst.len()), "bytes of {} {} values", dst.len(), self.name());
        macro_rules! at_level {
            ($decode:path) => {
                per_level!(level, $decode, $decode, (src: &[u8], dst: &mut [f32]))
            };
        }
        match self {
            Format::F32 => f32::decode(src, dst),
            Format::BF16 => at_level!(bf16::decode),
            Format::F16 => at_level!(f16::decode),
            Format::F8E4M3 => at_level!(f8::decode_e4m3),
            Format::F8E5M2 => at_level!(f8::decode_e5m2),
            Format::Q8_0 => at_level!(q8_0::decode),
            Format::Q4_0 => at_level!(q4::decode_0),
            Format::Q4_1 => at_level!(q4::decode_1),
            Format::Q5_0 => at_level!(q5::decode_0),
            Format::Q5_1 => at_level!(q5::decode_1),
            Format::Q2K => at_level!(q2_k::decode),
            Format::Q3K => at_level!(q3_k::decode),
            Format::Q4K => at_level!(q4_k::decode),
            Format::Q5K => at_level!(q5_k::decode),
            Format::Q6K => at_level!(q6_k::decode),
            Format::Iq4Nl => at_level!(iq4_nl::decode),
        }
    }

    /// What turns values into this format; none for the formats that are only read.
    pub fn encoder(self) -> Option<Encoder> {
        let encode = match self {
            Format::F32 => f32::encode,
            Format::BF16 => bf16::encode,
            Format::F16 => f16::encode,
            Format::Q8_0 => q8_0::encode,
            Format::Q4_0 => q4::encode_0,
            Format::Q4_1 => q4::encode_1,
            Format::Q5_0 => q5::encode_0,
            Format::Q5_1 => q5::encode_1,
            Format::F8E4M3 | Format::F8E5M2 => return None,
            Format::Q2K => |src: &[f32], dst: &mut [u8]| q2_k::encode(Level::detect(), src, dst),
            Format::Q3K => q3_k::encode,
            Format::Q4K => |src: &[f32], dst: &mut [u8]| q4_k::encode(Level::detect(), src, dst),
            Format::Q5K => |src: &[f32], dst: &mut [u8]| q5_k::encode(Level::detect(), src, dst),
            Format::Q6K => |src: &[f32], dst: &mut [u8]| q6_k::encode(Level::detect(), src, dst),
            Format::Iq4Nl => iq4_nl::encode,
        };
        Some(Encoder { format: self, encode })
    }
}

/// Turns values into a [`Format`]; had from [`Format::encoder`].
#[derive(Clone, Copy, Debug)]
pub struct Encoder {
    format: Format,
    encode: fn(&[f32], &mut [u8]),
}

impl Encoder {
    /// IEEE single precision.
    pub const F32: Encoder = Encoder { format: Format::F32, encode: f32::encode };
    /// The upper half of an IEEE single.
    pub const BF16: Encoder = Encoder { format: Format::BF16, encode: bf16::encode };
    /// IEEE half precision.
    pub const F16: Encoder = Encoder { format: Format::F16, encode: f16::encode };

    /// What it encodes to.
    pub fn format(self) -> Format {
        self.format
    }

    /// Encodes `src.len()` values.
    ///
    /// Floats round to the nearest, ties to even; a value beyond the format's range becomes infinite, a NaN stays a
    /// NaN. The quantized formats give the bits of ggml's reference quantizers; a block with a value that is not
    /// finite cannot be stored and decodes to anything.
    ///
    /// # Panics
    /// When `dst` does not hold exactly `row_bytes(src.len())` bytes.
    pub fn encode(self, src: &[f32], dst: &mut [u8]) {
        let format = self.format;
        assert_eq!(dst.len(), format.row_bytes(src.len()), "bytes of {} {} values", src.len(), format.name());
        (self.encode)(src, dst);
    }
}
