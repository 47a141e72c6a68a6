//! Weights whose scales lie apart from their values: the quantizations of MLX and of ComfyUI.
//!
//! One description covers them all: small numbers packed along the rows, a scale for each group of them, in some formats
//! also a bias. Source: `mx.quantize` of MLX; the quantized tensors of ComfyUI (`comfy_quant`).

use std::fmt;

use super::{f8, f16};

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

/// Values of the codes of [`Element::E2M1`].
const E2M1: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

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

    /// Values that a row must have a multiple of.
    pub fn block_len(self) -> usize {
        let group = if let Group::Columns(n) = self.group { n } else { 1 };
        let packed = match self.element {
            Element::Unsigned(8) | Element::I8 | Element::E4M3 | Element::E5M2 => 1,
            Element::I4 | Element::E2M1 => 2,
            Element::Unsigned(_) => 32, // whole words of 32 bits
        };
        let rotated = if self.rotated { ROTATED } else { 1 };
        // All of them are powers of two, or multiples of each other.
        group.max(packed).max(rotated)
    }

    /// Bytes of the packed values of a row.
    pub fn row_bytes(self, cols: usize) -> usize {
        cols * self.element.bits() / 8
    }

    /// Scales of a row; 0 where one serves the whole matrix.
    pub fn row_scales(self, cols: usize) -> usize {
        match self.group {
            Group::Tensor => 0,
            Group::Row => 1,
            Group::Columns(n) => cols / n,
        }
    }

    /// Bytes of the scales of a matrix.
    pub fn scale_bytes(self, rows: usize, cols: usize) -> usize {
        let scales = match self.group {
            Group::Tensor => 1,
            _ if self.swizzled => rows.next_multiple_of(128) * self.row_scales(cols).next_multiple_of(4),
            _ => rows * self.row_scales(cols),
        };
        scales * self.scale.bytes()
    }

    /// Decodes one row; `cols` is `dst.len()`.
    #[inline(always)]
    pub(super) fn decode_row(self, planes: Planes, row: usize, factor: f32, dst: &mut [f32]) {
        let cols = dst.len();
        let bytes = self.row_bytes(cols);
        self.unpack(&planes.values[row * bytes..(row + 1) * bytes], dst);
        let group = if let Group::Columns(n) = self.group { n } else { cols.max(1) };
        for (at, values) in dst.chunks_mut(group).enumerate() {
            let place = self.place(row, at, cols) * self.scale.bytes();
            let scale = self.scale.read(&planes.scales[place..]) * factor;
            if self.biased {
                let bias = self.scale.read(&planes.biases[place..]);
                values.iter_mut().for_each(|value| *value = *value * scale + bias);
            } else {
                values.iter_mut().for_each(|value| *value *= scale);
            }
        }
        if self.rotated {
            dst.as_chunks_mut::<ROTATED>().0.iter_mut().for_each(rotate);
        }
    }

    /// Which scale belongs to a group.
    fn place(self, row: usize, group: usize, cols: usize) -> usize {
        let per_row = self.row_scales(cols);
        match self.group {
            Group::Tensor => 0,
            _ if self.swizzled => {
                let tile = row / 128 * per_row.div_ceil(4) + group / 4;
                tile * 512 + row % 32 * 16 + row % 128 / 32 * 4 + group % 4
            }
            _ => row * per_row + group,
        }
    }

    /// The numbers themselves, without scales.
    #[inline(always)]
    fn unpack(self, src: &[u8], dst: &mut [f32]) {
        match self.element {
            Element::Unsigned(8) => src.iter().zip(dst).for_each(|(byte, value)| *value = f32::from(*byte)),
            Element::I8 => src.iter().zip(dst).for_each(|(byte, value)| *value = f32::from(*byte as i8)),
            Element::E4M3 => f8::decode_e4m3(src, dst),
            Element::E5M2 => f8::decode_e5m2(src, dst),
            Element::Unsigned(4) => self.halves(src, dst, f32::from),
            Element::I4 => self.halves(src, dst, |code| f32::from((code << 4) as i8 >> 4)),
            Element::E2M1 => self.halves(src, dst, |code| E2M1[usize::from(code)]),
            Element::Unsigned(bits) => stream(src, usize::from(bits), dst),
        }
    }

    /// Two values in a byte.
    #[inline(always)]
    fn halves(self, src: &[u8], dst: &mut [f32], value: impl Fn(u8) -> f32) {
        let shifts = if self.high_first { [4, 0] } else { [0, 4] };
        for (byte, pair) in src.iter().zip(dst.as_chunks_mut::<2>().0) {
            *pair = shifts.map(|shift| value(byte >> shift & 15));
        }
    }
}

/// Unsigned numbers of `bits` each, one after the other, lowest bit first; some lie across two bytes.
#[inline(always)]
fn stream(src: &[u8], bits: usize, dst: &mut [f32]) {
    for (at, value) in dst.iter_mut().enumerate() {
        let (byte, shift) = (at * bits / 8, at * bits % 8);
        let next = src.get(byte + 1).copied().unwrap_or(0);
        let window = u16::from_le_bytes([src[byte], next]);
        *value = f32::from(window >> shift & ((1 << bits) - 1));
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

/// Multiplies a block by the regular Hadamard matrix `H4 x H4 x H4 x H4 / 16`, which is its own inverse.
///
/// `H4` has the rows (1,1,1,-1), (1,1,-1,1), (1,-1,1,1), (-1,1,1,1): every output is half the sum of four less one of
/// them, `H4 x = sum(x) - 2 reversed(x)`, and a product over one axis of the 4 x 4 x 4 x 4 block follows the other.
fn rotate(block: &mut [f32; ROTATED]) {
    for stride in [1, 4, 16, 64] {
        for start in (0..ROTATED).filter(|at| at / stride % 4 == 0) {
            let places = [0, 1, 2, 3].map(|step| start + step * stride);
            let x = places.map(|place| block[place]);
            let half = 0.5 * (x[0] + x[1] + x[2] + x[3]);
            for (place, opposite) in places.into_iter().zip([x[3], x[2], x[1], x[0]]) {
                block[place] = half - opposite;
            }
        }
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
mod tests;
