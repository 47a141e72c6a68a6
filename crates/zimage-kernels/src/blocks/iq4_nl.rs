//! IQ4_NL: 4.5 bits a value that choose from a table whose steps grow away from zero; `value = d table[q]`.
//!
//! Source: `block_iq4_nl`, `kvalues_iq4nl`, `best_index_int8`, `quantize_row_iq4_nl_impl` (7 tries, no importance) and
//! `dequantize_row_iq4_nl` of ggml.

use super::layout::{Block, SMALL, decode_each, encode_each, half, inverse, to_half};
use super::search::LEAST;

/// What the 16 numbers stand for.
const TABLE: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// 32 values.
#[repr(C)]
pub struct Iq4Nl {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Places in the table: values 0 to 15 in the lower halves of the bytes, 16 to 31 in the upper ones.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<Iq4Nl>() == 18);

// SAFETY: bytes alone.
unsafe impl Block for Iq4Nl {
    const LEN: usize = SMALL;
}

#[inline(always)]
pub(super) fn decode(src: &[u8], dst: &mut [f32]) {
    decode_each(
        src,
        dst,
        #[inline(always)]
        |block: &Iq4Nl, values: &mut [f32; SMALL]| {
            let d = half(block.d);
            for (side, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                for (value, q) in values.iter_mut().zip(&block.qs) {
                    *value = f32::from(TABLE[usize::from(q >> (side * 4) & 15)]) * d;
                }
            }
        },
    );
}

pub(super) fn encode(src: &[f32], dst: &mut [u8]) {
    encode_each(src, dst, |values: &[f32; SMALL]| {
        let d = fit(values);
        let inverse = inverse(d);
        let places = values.map(|value| nearest(inverse * value));
        Iq4Nl { d: to_half(d), qs: std::array::from_fn(|i| places[i] | places[i + 16] << 4) }
    });
}

/// The scale with the least squared error, weighted with the squares of the values, of 16 that map the extreme value
/// to -120, ..., -134 or 127.
fn fit(values: &[f32; SMALL]) -> f32 {
    let extreme = values.iter().fold(0.0, |max: f32, value| if value.abs() > max.abs() { *value } else { max });
    if extreme.abs() < LEAST {
        return 0.0;
    }
    let sums = |step: f32| {
        // All places before any sum, which must keep its order: this way they are found as vectors.
        let places = values.map(|value| nearest(step * value));
        values.iter().zip(places).fold((0.0, 0.0), |(products, squares), (value, place)| {
            let (weight, q) = (value * value, f32::from(TABLE[usize::from(place)]));
            (products + weight * q * value, squares + weight * q * q)
        })
    };
    let (products, squares) = sums(1.0 / (-extreme / f32::from(TABLE[0])));
    let mut scale = if squares > 0.0 { products / squares } else { 0.0 };
    let mut best = scale * products;
    for k in -7..=7i8 {
        let (products, squares) = sums((f32::from(k) + f32::from(TABLE[0])) / extreme);
        if squares > 0.0 && products * products > best * squares {
            scale = products / squares;
            best = scale * products;
        }
    }
    scale
}

/// Half way between two neighbours in the table; all of them are exact.
const MIDDLES: [f32; 15] = {
    let mut middles = [0.0; 15];
    let mut at = 0;
    while at < 15 {
        middles[at] = (TABLE[at] as f32 + TABLE[at + 1] as f32) / 2.0;
        at += 1;
    }
    middles
};

/// The place of the number in the table that is nearest to `value`; of two equally near ones the higher.
#[inline(always)]
fn nearest(value: f32) -> u8 {
    MIDDLES.iter().map(|middle| u8::from(value >= *middle)).sum()
}
