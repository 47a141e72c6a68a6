//! Rounding to 16-bit integers, and the layout of packed keys and values.

use super::super::prefetch;
use super::{Head, KEYS, LARGEST, LONGEST, VALUE};
use crate::level::per_level;
use crate::reduce;
use crate::tile::MatrixRef;

/// No scale is below this: the product of two such scales is no subnormal number.
const LEAST: f32 = 1e-15;

pub(super) fn pack(head: &Head, packed: &mut [u32], k: MatrixRef, v: MatrixRef) {
    let level = head.level;
    per_level!(level, pack_rows, pack_rows, (head: &Head, packed: &mut [u32], k: MatrixRef, v: MatrixRef));
}

/// Packs for a kernel that takes one of these numbers of rows at once.
#[inline(always)]
fn pack_rows(head: &Head, packed: &mut [u32], k: MatrixRef, v: MatrixRef) {
    match head.rows() {
        1 => pack_blocks::<1>(head, packed, k, v),
        4 => pack_blocks::<4>(head, packed, k, v),
        6 => pack_blocks::<6>(head, packed, k, v),
        8 => pack_blocks::<8>(head, packed, k, v),
        rows => unreachable!("a kernel of {rows} rows"),
    }
}

#[inline(always)]
fn pack_blocks<const ROWS: usize>(head: &Head, packed: &mut [u32], k: MatrixRef, v: MatrixRef) {
    let mut key_rows = vec![0; ROWS * head.pairs()];
    let (mut largest, mut pairs) = (vec![0; head.value_rows()], vec![0; head.value_rows()]);
    for (index, words) in packed.chunks_exact_mut(head.block_words()).enumerate() {
        let first = index * KEYS;
        let count = KEYS.min(head.tokens - first);
        let (keys, words) = words.split_at_mut(KEYS * head.pairs());
        let (values, scales) = words.split_at_mut(KEYS / 2 * head.value_rows());
        let (value_scales, rest) = scales.split_at_mut(head.value_rows());
        rest.fill(0);
        rest[0] = pack_keys::<ROWS>(keys, k.row_range(first, count), &mut key_rows).to_bits();
        pack_values::<ROWS>(values, value_scales, v.row_range(first, count), &mut largest, &mut pairs);
    }
}

/// Lays out keys as `(KEYS / ROWS, pairs, ROWS)`, zeros behind the last one; returns their scale.
/// `rows` holds `(ROWS, pairs)`.
#[inline(always)]
fn pack_keys<const ROWS: usize>(keys: &mut [u32], k: MatrixRef, rows: &mut [u32]) -> f32 {
    let pairs = rows.len() / ROWS;
    let mut scale = 0.0;
    for i in 0..k.rows() {
        prefetch::ahead(k, i);
        scale = larger_or_nan(scale, scale_of(k.row(i)));
    }
    for (tile, keys) in keys.chunks_exact_mut(ROWS * pairs).enumerate() {
        for (r, row) in rows.chunks_exact_mut(pairs).enumerate() {
            match tile * ROWS + r {
                i if i < k.rows() => round_pairs(k.row(i), 1.0 / scale, row),
                _ => row.fill(0),
            }
        }
        for (pair, places) in keys.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
            for (r, place) in places.iter_mut().enumerate() {
                *place = rows[r * pairs + pair];
            }
        }
    }
    scale
}

/// Lays out values as `(value_rows / ROWS, KEYS / 2, ROWS)`, zeros behind the last channel and key.
/// `largest` and `pairs` hold a word per channel.
#[inline(always)]
fn pack_values<const ROWS: usize>(
    values: &mut [u32],
    scales: &mut [u32],
    v: MatrixRef,
    largest: &mut [u32],
    pairs: &mut [u32],
) {
    largest.fill(0);
    for i in 0..v.rows() {
        prefetch::ahead(v, i);
        for (largest, value) in largest.iter_mut().zip(v.row(i)) {
            // Magnitudes as integers: unlike a comparison they keep a NaN.
            *largest = (*largest).max(value.abs().to_bits());
        }
    }
    for (scale, factor) in scales.iter_mut().zip(largest.iter_mut()) {
        let largest = f32::from_bits(*factor);
        let value = finite_or_nan((largest / VALUE).max(LEAST), largest);
        // From here on `largest` holds the factors.
        (*scale, *factor) = (value.to_bits(), (1.0 / value).to_bits());
    }
    let (values, _) = values.as_chunks_mut::<ROWS>();
    for pair in 0..KEYS / 2 {
        let twos = pairs.iter_mut().zip(largest.iter());
        if 2 * pair + 1 < v.rows() {
            for (((word, factor), low), high) in twos.zip(v.row(2 * pair)).zip(v.row(2 * pair + 1)) {
                let factor = f32::from_bits(*factor);
                *word = round(low * factor) & 0xffff | round(high * factor) << 16;
            }
        } else if 2 * pair < v.rows() {
            for ((word, factor), low) in twos.zip(v.row(2 * pair)) {
                *word = round(low * f32::from_bits(*factor)) & 0xffff;
            }
        } else {
            pairs.fill(0);
        }
        for (group, words) in pairs.as_chunks::<ROWS>().0.iter().enumerate() {
            values[group * (KEYS / 2) + pair] = *words;
        }
    }
}

/// The scale at which a query or key is rounded; NaN when one of its values is not finite.
#[inline(always)]
pub(super) fn scale_of(row: &[f32]) -> f32 {
    let mut largest = 0;
    for value in row {
        largest = value.abs().to_bits().max(largest);
    }
    let largest = f32::from_bits(largest);
    let length = reduce::sum_of(row, |value| value * value).sqrt() as f32;
    finite_or_nan((largest / LARGEST).max(length / LONGEST).max(LEAST), largest)
}

/// Rounds a query or key to pairs of integers; the partner of a last odd channel is 0.
#[inline(always)]
pub(super) fn round_pairs(row: &[f32], factor: f32, pairs: &mut [u32]) {
    let (twos, last) = row.as_chunks::<2>();
    for (pair, [low, high]) in pairs.iter_mut().zip(twos) {
        *pair = round(low * factor) & 0xffff | round(high * factor) << 16;
    }
    if let [last] = last {
        pairs[twos.len()] = round(last * factor) & 0xffff;
    }
}

/// The nearest integer, in the low bits: those above 22 are wrong. Anything for a NaN.
#[inline(always)]
fn round(value: f32) -> u32 {
    (value + 12_582_912.0).to_bits()
}

fn larger_or_nan(a: f32, b: f32) -> f32 {
    if a.is_nan() || a > b { a } else { b }
}

fn finite_or_nan(value: f32, largest: f32) -> f32 {
    if largest.is_finite() { value } else { f32::NAN }
}
