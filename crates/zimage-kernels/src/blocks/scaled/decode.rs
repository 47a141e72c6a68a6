//! Packed numbers times their scales.
//!
//! ```text
//! for every 64 groups of a row:
//!     widen their scales and biases
//!     for every 32 numbers: unpack them, multiply each by the scale of its group, add the bias
//! ```
//! Short loops of known length are unrolled into single operations before they can be vectorized. Loops over bytes are
//! therefore over whole groups. Numbers that share bytes are unpacked eight at a time, as one vector, into an array of
//! 32 that is multiplied afterwards: of several ways the one that the compiler made vectors of.

use super::rotation::rotate;
use super::{Element, Group, Planes, ROTATED, Scaled};
use crate::blocks::f8;

/// Values that are unpacked at once.
const LEN: usize = 32;
/// Groups whose scales are widened at once.
const GROUPS: usize = 64;

impl Scaled {
    /// Decodes row `row`, which has `dst.len()` values.
    ///
    /// `value * (scale * factor) + bias` in f32, with a rounding after each operation.
    #[inline(always)]
    pub(in crate::blocks) fn decode_row(self, planes: Planes, row: usize, factor: f32, dst: &mut [f32]) {
        let bytes = self.row_bytes(dst.len());
        let src = &planes.values[row * bytes..(row + 1) * bytes];
        let row = Row { scaled: self, planes, row, factor };
        match (self.element, self.high_first) {
            (Element::Unsigned(2), _) => row.decode(src, dst, stream::<2, 8>),
            (Element::Unsigned(3), _) => row.decode(src, dst, stream::<3, 12>),
            (Element::Unsigned(4), false) => row.decode(src, dst, halves::<0>(unsigned)),
            (Element::Unsigned(4), true) => row.decode(src, dst, halves::<1>(unsigned)),
            (Element::Unsigned(5), _) => row.decode(src, dst, stream::<5, 20>),
            (Element::Unsigned(6), _) => row.decode(src, dst, stream::<6, 24>),
            (Element::Unsigned(_), _) => row.decode_bytes(src, dst, f32::from),
            (Element::I4, false) => row.decode(src, dst, halves::<0>(signed)),
            (Element::I4, true) => row.decode(src, dst, halves::<1>(signed)),
            (Element::E2M1, false) => row.decode(src, dst, halves::<0>(e2m1)),
            (Element::E2M1, true) => row.decode(src, dst, halves::<1>(e2m1)),
            (Element::I8, _) => row.decode_bytes(src, dst, |byte| f32::from(byte as i8)),
            (Element::E4M3, _) => row.decode_bytes(src, dst, f8::e4m3),
            (Element::E5M2, _) => row.decode_bytes(src, dst, f8::e5m2),
        }
        if self.rotated {
            dst.as_chunks_mut::<ROTATED>().0.iter_mut().for_each(rotate);
        }
    }
}

/// A row to decode.
struct Row<'a> {
    scaled: Scaled,
    planes: Planes<'a>,
    row: usize,
    factor: f32,
}

/// A scale and a bias. A negative zero as bias changes no number, not even the sign of a zero.
type Line = (f32, f32);

impl Row<'_> {
    /// `BYTES` bytes hold 32 numbers, which `unpack` writes out.
    #[inline(always)]
    fn decode<const BYTES: usize>(self, src: &[u8], dst: &mut [f32], unpack: impl Fn(&[u8; BYTES], &mut [f32; LEN])) {
        let Group::Columns(group) = self.scaled.group else {
            return one_group(src, dst, self.line(0, 1), unpack);
        };
        self.by_groups(
            src,
            dst,
            #[inline(always)]
            |src, dst, lines| {
                if group == LEN / 2 {
                    return halves_of_chunks(src, dst, lines, &unpack);
                }
                let groups = src.chunks_exact(group * BYTES / LEN).zip(dst.chunks_exact_mut(group));
                for ((src, dst), line) in groups.zip(lines) {
                    whole_chunks(src.as_chunks().0, dst.as_chunks_mut().0, *line, &unpack);
                }
            },
        );
    }

    /// Every byte is a number.
    #[inline(always)]
    fn decode_bytes(self, src: &[u8], dst: &mut [f32], number: impl Fn(u8) -> f32) {
        let Group::Columns(group) = self.scaled.group else {
            return bytes(src, dst, self.line(0, 1), number);
        };
        self.by_groups(
            src,
            dst,
            #[inline(always)]
            |src, dst, lines| {
                for ((src, dst), line) in src.chunks_exact(group).zip(dst.chunks_exact_mut(group)).zip(lines) {
                    bytes(src, dst, *line, &number);
                }
            },
        );
    }

    /// Calls `decode` with the bytes, the place and the scales of [`GROUPS`] groups after the other.
    #[inline(always)]
    fn by_groups(self, src: &[u8], dst: &mut [f32], decode: impl Fn(&[u8], &mut [f32], &[Line])) {
        let per_row = self.scaled.row_scales(dst.len());
        if per_row == 0 {
            return;
        }
        let group = dst.len() / per_row;
        let packed = group / 8 * self.scaled.element.bits();
        let mut lines = [(0.0, 0.0); GROUPS];
        for (part, (src, dst)) in src.chunks(GROUPS * packed).zip(dst.chunks_mut(GROUPS * group)).enumerate() {
            let lines = &mut lines[..dst.len() / group];
            for (at, line) in lines.iter_mut().enumerate() {
                *line = self.line(part * GROUPS + at, per_row);
            }
            decode(src, dst, lines);
        }
    }

    #[inline(always)]
    fn line(&self, group: usize, per_row: usize) -> Line {
        let Row { scaled, planes, .. } = self;
        let place = scaled.place(self.row, group, per_row) * scaled.scale.bytes();
        let bias = if scaled.biased { scaled.scale.read(&planes.biases[place..]) } else { -0.0 };
        (scaled.scale.read(&planes.scales[place..]) * self.factor, bias)
    }
}

/// Bytes with one scale.
#[inline(always)]
fn bytes(src: &[u8], dst: &mut [f32], (scale, bias): Line, number: impl Fn(u8) -> f32) {
    for (byte, value) in src.iter().zip(dst) {
        *value = number(*byte) * scale + bias;
    }
}

/// Any number of values with one scale.
#[inline(always)]
fn one_group<const BYTES: usize>(
    src: &[u8],
    dst: &mut [f32],
    scale: Line,
    unpack: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    let ((packed, packed_rest), (values, rest)) = (src.as_chunks::<BYTES>(), dst.as_chunks_mut::<LEN>());
    whole_chunks(packed, values, scale, &unpack);
    if !rest.is_empty() {
        let (mut padded, mut numbers) = ([0; BYTES], [[0.0; LEN]]);
        padded[..packed_rest.len()].copy_from_slice(packed_rest);
        whole_chunks(&[padded], &mut numbers, scale, &unpack);
        rest.copy_from_slice(&numbers[0][..rest.len()]);
    }
}

#[inline(always)]
fn whole_chunks<const BYTES: usize>(
    src: &[[u8; BYTES]],
    dst: &mut [[f32; LEN]],
    (scale, bias): Line,
    unpack: &impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    for (packed, values) in src.iter().zip(dst) {
        let mut numbers = [0.0; LEN];
        unpack(packed, &mut numbers);
        for (value, number) in values.iter_mut().zip(numbers) {
            *value = number * scale + bias;
        }
    }
}

/// Chunks of two groups.
#[inline(always)]
fn halves_of_chunks<const BYTES: usize>(
    src: &[u8],
    dst: &mut [f32],
    lines: &[Line],
    unpack: &impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    for ((packed, values), lines) in src.chunks(BYTES).zip(dst.chunks_mut(LEN)).zip(lines.chunks(2)) {
        // The last group may be alone.
        let (mut padded, mut numbers) = ([0; BYTES], [0.0; LEN]);
        padded[..packed.len()].copy_from_slice(packed);
        unpack(&padded, &mut numbers);
        for ((values, numbers), (scale, bias)) in
            values.chunks_exact_mut(LEN / 2).zip(numbers.chunks_exact(LEN / 2)).zip(lines)
        {
            for (value, number) in values.iter_mut().zip(numbers) {
                *value = number * scale + bias;
            }
        }
    }
}

/// Numbers of `BITS` bits, at most 6, one after the other from the lowest bit on: eight are `BITS` bytes.
#[inline(always)]
fn stream<const BITS: usize, const BYTES: usize>(packed: &[u8; BYTES], values: &mut [f32; LEN]) {
    for (packed, values) in packed.as_chunks::<BITS>().0.iter().zip(values.as_chunks_mut::<8>().0) {
        let mut bytes = [0; 8];
        bytes[..BITS].copy_from_slice(packed);
        let word = u64::from_le_bytes(bytes);
        // A word of 32 bits holds four of them; every lane shifts its own to the end.
        let sides = [word as u32, (word >> (4 * BITS)) as u32];
        *values = std::array::from_fn(|k| unsigned(sides[k / 4] >> (k % 4 * BITS) & ((1 << BITS) - 1)));
    }
}

/// Numbers of 4 bits; `FLIP` is 1 where the first one of a byte lies in its upper half.
#[inline(always)]
fn halves<const FLIP: usize>(number: impl Fn(u32) -> f32) -> impl Fn(&[u8; LEN / 2], &mut [f32; LEN]) {
    #[inline(always)]
    move |packed, values| {
        for (packed, values) in packed.as_chunks::<4>().0.iter().zip(values.as_chunks_mut::<8>().0) {
            let word = u32::from_le_bytes(*packed);
            *values = std::array::from_fn(|k| number(word >> ((k ^ FLIP) * 4) & 15));
        }
    }
}

#[inline(always)]
fn unsigned(code: u32) -> f32 {
    code as i32 as f32
}

#[inline(always)]
fn signed(code: u32) -> f32 {
    ((code << 28) as i32 >> 28) as f32
}

/// 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives.
#[inline(always)]
fn e2m1(code: u32) -> f32 {
    // Twice the magnitudes, 4 bits each: a table that fits into a word is a shift.
    let doubled = 0xc864_3210_u32 >> ((code & 7) * 4) & 15;
    let magnitude = 0.5 * doubled as i32 as f32;
    f32::from_bits(magnitude.to_bits() | (code & 8) << 28)
}
