//! Activations: rows of f32 to bytes `q + 128`, with a scale for each chunk.

use super::{Chunks, Quantized};
use crate::Level;
use crate::level::per_level;

/// The largest magnitude of a quantized value.
const LIMIT: f32 = 127.0;
/// Adding 1.5 * 2^23 rounds to an integer, ties to even, and leaves it in the low bits.
const ROUND: f32 = 12_582_912.0;
/// Below this, `LIMIT / largest` might overflow: such values count as zeros.
const SMALLEST: f32 = 1e-30;

/// Bytes of a row of `cols` values: whole cache lines, and an odd number of them, so that the rows that a kernel reads
/// side by side do not fall into the same sets of the cache.
pub fn row_stride(cols: usize) -> usize {
    let lines = cols.div_ceil(64);
    (lines + usize::from(lines.is_multiple_of(2))) * 64
}

/// Quantizes rows of `cols` values: `values` are `(rows, row_stride(cols))`, `scales` `(rows, chunks)`.
///
/// A chunk's scale is its largest magnitude over 127. A chunk with a value that is infinite or not a number gets a scale
/// that is not a number, so that the defect reaches the result.
///
/// # Panics
/// When the lengths do not fit each other.
pub fn quantize_rows(level: Level, values: &mut [u8], scales: &mut [f32], x: &[f32], cols: usize) {
    assert!(cols > 0 && x.len().is_multiple_of(cols), "{} values in rows of {cols}", x.len());
    let rows = x.len() / cols;
    assert_eq!(values.len(), rows * row_stride(cols), "bytes of {rows} rows of {cols}");
    assert_eq!(scales.len(), rows * Chunks::of(cols).count(), "scales of {rows} rows of {cols}");
    #[cfg(target_arch = "x86_64")]
    if level == Level::Avx512 {
        level.check();
        // SAFETY: `check` found that this CPU has the level, and the lengths were compared.
        return unsafe { super::x86_bytes::quantize_each(values, scales, x, cols) };
    }
    per_level!(level, quantize_each, quantize_each, (values: &mut [u8], scales: &mut [f32], x: &[f32], cols: usize))
}

#[inline(always)]
fn quantize_each(values: &mut [u8], scales: &mut [f32], x: &[f32], cols: usize) {
    let chunks = Chunks::of(cols);
    let rows = values.chunks_exact_mut(row_stride(cols)).zip(scales.chunks_exact_mut(chunks.count()));
    for ((values, scales), x) in rows.zip(x.chunks_exact(cols)) {
        for (chunk, scale) in scales.iter_mut().enumerate() {
            let range = chunks.range(chunk);
            let x = &x[range.clone()];
            let (step, inverse) = step_of(largest(x));
            *scale = step;
            for (value, x) in values[range].iter_mut().zip(x) {
                *value = rounded(*x, inverse) ^ 0x80;
            }
        }
        // Padding meets weights of zero, and only has to be something.
        values[cols..].fill(0x80);
    }
}

/// The f32 values that quantized rows stand for, `(rows, cols)`.
///
/// # Panics
/// When `out` has another length.
pub fn dequantize_rows(out: &mut [f32], x: Quantized) {
    let (cols, count) = (x.chunks.cols, x.chunks.count());
    assert_eq!(out.len(), x.rows * cols, "values of {} rows of {cols}", x.rows);
    let rows = x.values.chunks_exact(row_stride(cols)).zip(x.scales.chunks_exact(count));
    for (out, (values, scales)) in out.chunks_exact_mut(cols).zip(rows) {
        for (chunk, scale) in scales.iter().enumerate() {
            let range = x.chunks.range(chunk);
            for (out, value) in out[range.clone()].iter_mut().zip(&values[range]) {
                *out = (f32::from(*value) - 128.0) * scale;
            }
        }
    }
}

/// The largest magnitude; not a number where there is a value that is infinite or not a number.
#[inline(always)]
pub(super) fn largest(x: &[f32]) -> f32 {
    // Bits of magnitudes are ordered as the magnitudes are, and those of a NaN lie above all.
    let mut lanes = [0u32; 16];
    let (blocks, rest) = x.as_chunks::<16>();
    for block in blocks {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *lane = (*lane).max(value.to_bits() & 0x7fff_ffff);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane = (*lane).max(value.to_bits() & 0x7fff_ffff);
    }
    let largest = f32::from_bits(lanes.into_iter().fold(0, u32::max));
    if largest.is_finite() { largest } else { f32::NAN }
}

/// The scale of a chunk, and what its values are multiplied with.
#[inline(always)]
pub(super) fn step_of(largest: f32) -> (f32, f32) {
    if largest < SMALLEST { (0.0, 0.0) } else { (largest / LIMIT, LIMIT / largest) }
}

/// `value * inverse` as the nearest integer, in the low byte of two's complement.
#[inline(always)]
pub(super) fn rounded(value: f32, inverse: f32) -> u8 {
    (value * inverse + ROUND).to_bits() as u8
}
