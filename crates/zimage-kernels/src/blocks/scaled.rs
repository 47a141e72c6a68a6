//! Weights whose scales lie apart from their values: the quantizations of MLX and of ComfyUI.
//!
//! One description covers them all: small numbers packed along the rows, a scale for each group of them, in some formats
//! also a bias. Source: `mx.quantize` of MLX; the quantized tensors of ComfyUI (`comfy_quant`).

mod decode;
mod encode;
mod rotation;

use std::fmt;

use super::{bf16, f8, f16};

pub use encode::ScaledEncoder;

/// Values in a block of [`Scaled::rotated`].
pub const ROTATED: usize = 256;

/// How the values of a weight are packed, and where their scales are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scaled {
    /// What the values are.
    pub element: Element,
    /// Two values of 4 bits: whether the first one is in the upper half of the byte.
    pub high_first: bool,
    /// Which values share a scale.
    pub group: Group,
    /// How a scale is stored.
    pub scale: ScaleType,
    /// Whether every scale has a bias beside it, which is added after the product.
    pub biased: bool,
    /// Whether the scales lie in tiles of 128 x 4, as tensor cores read them, and not row by row.
    pub swizzled: bool,
    /// Whether rows were rotated in blocks of [`ROTATED`] values before they were quantized.
    pub rotated: bool,
}

/// What a packed value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// Unsigned numbers of so many bits (2 to 6, or 8), a stream of bits, lowest first.
    Unsigned(u8),
    /// Signed numbers of 4 bits.
    I4,
    /// Signed numbers of 8 bits.
    I8,
    /// Floats of 4 bits: 2 exponent bits, 1 fraction bit.
    E2M1,
    /// Floats of 8 bits: 4 exponent bits.
    E4M3,
    /// Floats of 8 bits: 5 exponent bits.
    E5M2,
}

/// Which values share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// All of the matrix.
    Tensor,
    /// Those of a row.
    Row,
    /// So many neighbours in a row.
    Columns(usize),
}

/// How a scale is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScaleType {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of a single.
    BF16,
    /// An 8-bit float with 4 exponent bits.
    E4M3,
    /// A power of two, `2^(b - 127)`.
    E8M0,
}

/// The bytes of a [`Scaled`] matrix.
#[derive(Clone, Copy, Debug, Default)]
pub struct Planes<'a> {
    /// The packed values, row by row.
    pub values: &'a [u8],
    /// The scales.
    pub scales: &'a [u8],
    /// The biases; empty where there are none.
    pub biases: &'a [u8],
}

impl Element {
    /// Bits of a value.
    pub fn bits(self) -> usize {
        match self {
            Element::Unsigned(bits) => usize::from(bits),
            Element::I4 | Element::E2M1 => 4,
            Element::I8 | Element::E4M3 | Element::E5M2 => 8,
        }
    }
}

impl ScaleType {
    /// Bytes of a scale.
    pub fn bytes(self) -> usize {
        match self {
            ScaleType::F32 => 4,
            ScaleType::F16 | ScaleType::BF16 => 2,
            ScaleType::E4M3 | ScaleType::E8M0 => 1,
        }
    }

    /// Writes a scale to the first bytes of `bytes`, for those types that take any number.
    #[inline(always)]
    fn write(self, scale: f32, bytes: &mut [u8]) {
        match self {
            ScaleType::F32 => bytes[..4].copy_from_slice(&scale.to_le_bytes()),
            ScaleType::F16 => bytes[..2].copy_from_slice(&f16::round(scale).to_le_bytes()),
            ScaleType::BF16 => bytes[..2].copy_from_slice(&bf16::round(scale).to_le_bytes()),
            ScaleType::E4M3 | ScaleType::E8M0 => unreachable!("no encoder writes such scales: this is a bug"),
        }
    }

    /// The scale at the start of `bytes`.
    #[inline(always)]
    fn read(self, bytes: &[u8]) -> f32 {
        match (self, bytes) {
            (ScaleType::F32, &[a, b, c, d, ..]) => f32::from_le_bytes([a, b, c, d]),
            (ScaleType::F16, &[a, b, ..]) => f16::widen(u16::from_le_bytes([a, b])),
            (ScaleType::BF16, &[a, b, ..]) => f32::from_bits(u32::from(u16::from_le_bytes([a, b])) << 16),
            (ScaleType::E4M3, &[byte, ..]) => f8::E4M3[usize::from(byte)],
            (ScaleType::E8M0, &[byte, ..]) => e8m0(byte),
            _ => unreachable!("the lengths of all planes were checked: this is a bug"),
        }
    }
}

impl Scaled {
    /// MLX's affine quantization: `bits` of 2 to 6 or 8, `group` of 32, 64 or 128.
    pub fn affine(bits: u8, group: usize, scale: ScaleType) -> Scaled {
        Scaled {
            element: Element::Unsigned(bits),
            high_first: false,
            group: Group::Columns(group),
            scale,
            biased: true,
            swizzled: false,
            rotated: false,
        }
    }

    /// Whether this describes weights at all: `bits` of 2 to 6 or 8, groups of a power of two from 16 on, no swizzled
    /// scales without groups.
    pub fn is_valid(self) -> bool {
        let bits = !matches!(self.element, Element::Unsigned(bits) if !matches!(bits, 2..=6 | 8));
        let group = !matches!(self.group, Group::Columns(n) if n < 16 || !n.is_power_of_two());
        bits && group && (!self.swizzled || matches!(self.group, Group::Columns(_)))
    }

    /// Values that a row must have a multiple of.
    pub fn block_len(self) -> usize {
        let group = if let Group::Columns(n) = self.group { n } else { 1 };
        let packed = match self.element {
            Element::Unsigned(8) | Element::I8 | Element::E4M3 | Element::E5M2 => 1,
            Element::I4 | Element::E2M1 => 2,
            Element::Unsigned(_) => 32, // whole words of 32 bits
        };
        let rotated = if self.rotated { ROTATED } else { 1 };
        // All of them are powers of two, where this is valid.
        group.max(packed).max(rotated)
    }

    /// Bytes of the packed values of a row.
    pub fn row_bytes(self, cols: usize) -> usize {
        // No value takes more than a byte, and eight are a whole number of bytes: this cannot overflow.
        cols / 8 * self.element.bits() + cols % 8 * self.element.bits() / 8
    }

    /// Scales of a row; 0 where one serves the whole matrix.
    pub fn row_scales(self, cols: usize) -> usize {
        match self.group {
            Group::Tensor => 0,
            Group::Row => 1,
            Group::Columns(n) => cols / n.max(1),
        }
    }

    /// Bytes of the scales of a matrix; `None` where there are more than can be counted.
    pub fn scale_bytes(self, rows: usize, cols: usize) -> Option<usize> {
        let per_row = self.row_scales(cols);
        let scales = match self.group {
            Group::Tensor => 1,
            _ if self.swizzled => {
                rows.checked_next_multiple_of(128)?.checked_mul(per_row.checked_next_multiple_of(4)?)?
            }
            _ => rows.checked_mul(per_row)?,
        };
        scales.checked_mul(self.scale.bytes())
    }

    /// The scale of a row of 8-bit integers that is stored with no other one; `factor` multiplies it.
    pub(super) fn integer_step(self, planes: Planes, row: usize, factor: f32) -> Option<f32> {
        let whole = matches!(self.group, Group::Row | Group::Tensor);
        let plain = self.element == Element::I8 && whole && !self.biased && !self.rotated;
        plain.then(|| self.scale.read(&planes.scales[self.place(row, 0, 1) * self.scale.bytes()..]) * factor)
    }

    /// Which scale belongs to a group of a row that has `per_row` of them.
    #[inline(always)]
    fn place(self, row: usize, group: usize, per_row: usize) -> usize {
        match self.group {
            Group::Tensor => 0,
            _ if self.swizzled => {
                let tile = row / 128 * per_row.div_ceil(4) + group / 4;
                tile * 512 + row % 32 * 16 + row % 128 / 32 * 4 + group % 4
            }
            _ => row * per_row + group,
        }
    }
}

/// A power of two; 255 is not a number.
fn e8m0(byte: u8) -> f32 {
    match byte {
        0 => f32::from_bits(0x0040_0000), // 2^-127, a subnormal
        255 => f32::NAN,
        _ => f32::from_bits(u32::from(byte) << 23),
    }
}

impl fmt::Display for Scaled {
    /// "affine 8-bit, group 64", "nvfp4", "int8 per row, rotated".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match (self.element, self.scale, self.swizzled) {
            (Element::Unsigned(bits), ..) => return write!(f, "affine {bits}-bit, {}", self.group),
            (Element::E2M1, ScaleType::E4M3, _) => return f.write_str("nvfp4"),
            (Element::E2M1, ..) => return f.write_str("mxfp4"),
            (Element::E4M3, ScaleType::E8M0, _) => return f.write_str("mxfp8"),
            (Element::I4, ..) => "int4",
            (Element::I8, ..) => "int8",
            (Element::E4M3, ..) => "fp8 e4m3",
            (Element::E5M2, ..) => "fp8 e5m2",
        };
        write!(f, "{name}, {}{}", self.group, if self.rotated { ", rotated" } else { "" })
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Group::Tensor => f.write_str("one scale"),
            Group::Row => f.write_str("a scale per row"),
            Group::Columns(n) => write!(f, "group {n}"),
        }
    }
}

#[cfg(test)]
mod goldens;
#[cfg(test)]
mod tests;
