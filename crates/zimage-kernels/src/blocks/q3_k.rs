//! Q3_K: 3.4375 bits a value; 16 groups of 16 values, each with a scale; `value = d (s - 32) q`, q from -4 to 3.
//!
//! Source: `block_q3_K`, `make_q3_quants`, `quantize_row_q3_K_ref` and `dequantize_row_q3_K` of ggml.

use super::layout::{Block, LARGE, decode_each, encode_each, half, to_half};
use super::q2_k;
use super::search::{LEAST, nearest_int};

/// 256 values.
#[repr(C)]
pub struct Q3K {
    /// The third bits: bit `i / 32` of byte `i % 32` belongs to value `i`. Where it is 0, 4 is subtracted.
    pub hmask: [u8; 32],
    /// The lower two bits. 32 bytes hold 128 values: the lowest two bits values 0 to 31, the next two 32 to 63, ...
    pub qs: [u8; 64],
    /// The scales of the groups, 6 bits each: bytes 0 to 7 hold the lower four bits, groups 0 to 7 in the lower
    /// halves and 8 to 15 in the upper ones; bits `2 (j / 4)` of byte `8 + j % 4` are the upper two of group `j`.
    pub scales: [u8; 12],
    /// Scale of the scales, f16.
    pub d: [u8; 2],
}

const _: () = assert!(size_of::<Q3K>() == 110);

// SAFETY: bytes alone.
unsafe impl Block for Q3K {
    const LEN: usize = LARGE;
}

#[inline(always)]
pub(super) fn decode(src: &[u8], dst: &mut [f32]) {
    decode_each(
        src,
        dst,
        #[inline(always)]
        |block: &Q3K, values: &mut [f32; LARGE]| {
            let d = half(block.d);
            for (group, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let scale = d * f32::from(scale(&block.scales, group));
                let (shift, bit, side) = (group / 2 % 4 * 2, group / 2, group % 2 * 16);
                let low = &block.qs[group / 8 * 32 + side..][..16];
                let high = &block.hmask[side..][..16];
                for ((value, low), high) in values.iter_mut().zip(low).zip(high) {
                    let q = (low >> shift & 3) as i8 - 4 + ((high >> bit & 1) << 2) as i8;
                    *value = scale * f32::from(q);
                }
            }
        },
    );
}

/// The scale of a group, -32 to 31.
#[inline(always)]
fn scale(scales: &[u8; 12], group: usize) -> i8 {
    let low = scales[group % 8] >> (group / 8 * 4) & 15;
    let high = scales[8 + group % 4] >> (group / 4 * 2) & 3;
    (low | high << 4) as i8 - 32
}

pub(super) fn encode(src: &[f32], dst: &mut [u8]) {
    encode_each(src, dst, |values: &[f32; LARGE]| {
        let groups = values.as_chunks::<16>().0;
        let fits: [(f32, [i32; 16]); 16] = std::array::from_fn(|group| fit(&groups[group]));
        let extreme = fits.iter().fold(0.0, |max: f32, fit| if fit.0.abs() > max.abs() { fit.0 } else { max });
        if extreme == 0.0 {
            return Q3K { hmask: [0; 32], qs: q2_k::pack(&lower_bits(&fits)), scales: [0; 12], d: to_half(0.0) };
        }
        let inverse = -32.0 / extreme;
        let packed = pack_scales(fits.map(|fit| (nearest_int(inverse * fit.0).clamp(-32, 31) + 32) as u8));
        let d = to_half(1.0 / inverse);
        let mut fits = fits;
        for (group, (_, numbers)) in fits.iter_mut().enumerate() {
            let scale = half(d) * f32::from(scale(&packed, group));
            if scale != 0.0 {
                *numbers = groups[group].map(|value| nearest_int(value / scale).clamp(-4, 3) + 4);
            }
        }
        let mut hmask = [0; 32];
        for (at, number) in fits.iter().flat_map(|fit| fit.1).enumerate() {
            hmask[at % 32] |= u8::from(number > 3) << (at / 32);
        }
        Q3K { hmask, qs: q2_k::pack(&lower_bits(&fits)), scales: packed, d }
    });
}

fn lower_bits(fits: &[(f32, [i32; 16]); 16]) -> [u8; LARGE] {
    std::array::from_fn(|at| fits[at / 16].1[at % 16] as u8 & 3)
}

/// Scale and numbers, 0 to 7, of a group: rounds to the extreme value, then changes one number after the other as long
/// as the squared error, weighted with the squares of the values, shrinks; at most five times around.
fn fit(values: &[f32; 16]) -> (f32, [i32; 16]) {
    let extreme = values.iter().fold(0.0, |max: f32, value| if value.abs() > max.abs() { *value } else { max });
    if extreme.abs() < LEAST {
        return (0.0, [0; 16]);
    }
    let step = -4.0 / extreme;
    let mut numbers = values.map(|value| nearest_int(step * value).clamp(-4, 3));
    let (mut products, mut squares) = (0.0, 0.0);
    for (value, number) in values.iter().zip(numbers) {
        let (weight, number) = (value * value, number as f32);
        products += weight * value * number;
        squares += weight * number * number;
    }
    for _ in 0..5 {
        let mut changed = false;
        for (value, number) in values.iter().zip(&mut numbers) {
            let (weight, old) = (value * value, *number as f32);
            let mut product = products - weight * value * old;
            if product > 0.0 {
                let mut square = squares - weight * old * old;
                let other = nearest_int(value * square / product).clamp(-4, 3);
                if other != *number {
                    let new = other as f32;
                    product += weight * value * new;
                    square += weight * new * new;
                    if square > 0.0 && product * product * squares > products * products * square {
                        (*number, products, squares, changed) = (other, product, square, true);
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    (if squares > 0.0 { products / squares } else { 0.0 }, numbers.map(|number| number + 4))
}

/// The inverse of [`scale`], for numbers from 0 to 63.
fn pack_scales(scales: [u8; 16]) -> [u8; 12] {
    let mut packed = [0; 12];
    for (group, scale) in scales.into_iter().enumerate() {
        packed[group % 8] |= (scale & 15) << (group / 8 * 4);
        packed[8 + group % 4] |= scale >> 4 << (group / 4 * 2);
    }
    packed
}
