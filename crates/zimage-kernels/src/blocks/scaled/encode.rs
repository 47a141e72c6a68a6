//! MLX's affine quantization: numbers from 0 up, a scale and a bias for each group.

use super::{Element, Group, ScaleType, Scaled};
use crate::Level;
use crate::level::per_level;

/// Turns values into a [`Scaled`] format; had from [`Scaled::encoder`].
#[derive(Clone, Copy, Debug)]
pub struct ScaledEncoder {
    scaled: Scaled,
    bits: usize,
    group: usize,
}

impl Scaled {
    /// What turns values into this format: there is one for [`Scaled::affine`] with scales in F32, F16 or BF16.
    pub fn encoder(self) -> Option<ScaledEncoder> {
        let (Element::Unsigned(bits), Group::Columns(group)) = (self.element, self.group) else { return None };
        let writable = matches!(self.scale, ScaleType::F32 | ScaleType::F16 | ScaleType::BF16);
        (self == Scaled::affine(bits, group, self.scale) && writable && self.is_valid() && group >= 32)
            .then_some(ScaledEncoder { scaled: self, bits: usize::from(bits), group })
    }
}

impl ScaledEncoder {
    /// What it encodes to.
    pub fn format(self) -> Scaled {
        self.scaled
    }

    /// Encodes one row, or several that follow each other.
    ///
    /// Of values that the type of the scales can hold, the bytes are those of `mx.quantize`. Other values are not
    /// rounded to it before. A group with a value that is not finite cannot be stored and decodes to anything.
    ///
    /// # Panics
    /// When `src` is no whole number of groups, or a plane does not hold exactly the bytes of so many values.
    pub fn encode(self, src: &[f32], values: &mut [u8], scales: &mut [u8], biases: &mut [u8]) {
        self.encode_at(Level::detect(), src, values, scales, biases);
    }

    pub(super) fn encode_at(self, level: Level, src: &[f32], values: &mut [u8], scales: &mut [u8], biases: &mut [u8]) {
        assert!(src.len().is_multiple_of(self.group), "{} values in groups of {}", src.len(), self.group);
        let scale_bytes = src.len() / self.group * self.scaled.scale.bytes();
        let expected = [self.scaled.row_bytes(src.len()), scale_bytes, scale_bytes];
        assert_eq!([values.len(), scales.len(), biases.len()], expected, "bytes of {} values", src.len());
        let encoder = self;
        per_level!(
            level,
            encode,
            encode,
            (encoder: ScaledEncoder, src: &[f32], values: &mut [u8], scales: &mut [u8], biases: &mut [u8])
        );
    }
}

#[inline(always)]
fn encode(encoder: ScaledEncoder, src: &[f32], values: &mut [u8], scales: &mut [u8], biases: &mut [u8]) {
    match encoder.bits {
        2 => groups::<2>(encoder, src, values, scales, biases),
        3 => groups::<3>(encoder, src, values, scales, biases),
        4 => groups::<4>(encoder, src, values, scales, biases),
        5 => groups::<5>(encoder, src, values, scales, biases),
        6 => groups::<6>(encoder, src, values, scales, biases),
        _ => groups::<8>(encoder, src, values, scales, biases),
    }
}

#[inline(always)]
fn groups<const BITS: usize>(
    ScaledEncoder { scaled, group, .. }: ScaledEncoder,
    src: &[f32],
    values: &mut [u8],
    scales: &mut [u8],
    biases: &mut [u8],
) {
    let highest = ((1 << BITS) - 1) as f32;
    let (width, packed_len) = (scaled.scale.bytes(), group / 8 * BITS);
    let planes = scales.chunks_exact_mut(width).zip(biases.chunks_exact_mut(width));
    for ((src, values), (scale_bytes, bias_bytes)) in
        src.chunks_exact(group).zip(values.chunks_exact_mut(packed_len)).zip(planes)
    {
        let src = src.as_chunks::<8>().0;
        let (scale, bias) = scale_and_bias(src, highest);
        for (src, bytes) in src.iter().zip(values.as_chunks_mut::<BITS>().0) {
            // Numbers come from the scale and bias before these are rounded to their type.
            let numbers = src.map(|value| ((value - bias) / scale).round_ties_even().clamp(0.0, highest));
            let word = numbers.into_iter().rev().fold(0_u64, |word, number| word << BITS | number as u64);
            bytes.copy_from_slice(&word.to_le_bytes()[..BITS]);
        }
        scaled.scale.write(scale, scale_bytes);
        scaled.scale.write(bias, bias_bytes);
    }
}

/// The value of the largest magnitude becomes exact, as the number 0 or, with a negative scale, as `highest`; zero
/// becomes exact too.
#[inline(always)]
fn scale_and_bias(src: &[[f32; 8]], highest: f32) -> (f32, f32) {
    let (mut low, mut high) = ([f32::INFINITY; 8], [f32::NEG_INFINITY; 8]);
    for values in src {
        for k in 0..8 {
            low[k] = if values[k] < low[k] { values[k] } else { low[k] };
            high[k] = if values[k] > high[k] { values[k] } else { high[k] };
        }
    }
    let low = low.into_iter().fold(f32::INFINITY, f32::min);
    let high = high.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let step = ((high - low) / highest).max(1e-7);
    let (scale, edge) = if low.abs() > high.abs() { (step, low) } else { (-step, high) };
    let number = (edge / scale).round_ties_even();
    if number == 0.0 { (scale, 0.0) } else { (edge / number, edge) }
}
