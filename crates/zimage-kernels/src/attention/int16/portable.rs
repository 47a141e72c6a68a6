//! The kernel on arrays, for the compiler to vectorize as it can.

use super::Head;
use super::panels::{self, Integers, WEIGHTS};
use crate::tile::{MatrixRef, TileMut};

const LANES: usize = 8;
/// Keys at a time.
pub(super) const ROWS: usize = 4;

pub(super) fn attend(
    head: &Head,
    out: &mut TileMut,
    q: MatrixRef,
    packed: &[u32],
    scale: f32,
    causal_from: Option<usize>,
    scratch: &mut Vec<f32>,
) {
    // SAFETY: arrays need no feature of the CPU.
    unsafe { panels::attend::<Arrays, ROWS, 1>(head, out, q, packed, scale, causal_from, scratch) }
}

struct Arrays;

impl Integers for Arrays {
    type Floats = [f32; LANES];
    type Ints = [u32; LANES];
    #[inline(always)]
    unsafe fn splat(word: u32) -> Self::Ints {
        [word; LANES]
    }
    #[inline(always)]
    unsafe fn load(from: *const u32) -> Self::Ints {
        // SAFETY: the pointer is good for `LANES` words.
        unsafe { from.cast::<Self::Ints>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(value: Self::Ints, to: *mut u32) {
        // SAFETY: the pointer is good for `LANES` words.
        unsafe { to.cast::<Self::Ints>().write_unaligned(value) }
    }
    #[inline(always)]
    unsafe fn dot(sum: Self::Ints, a: Self::Ints, b: Self::Ints) -> Self::Ints {
        std::array::from_fn(|i| {
            let low = i32::from(a[i] as i16) * i32::from(b[i] as i16);
            let high = i32::from((a[i] >> 16) as i16) * i32::from((b[i] >> 16) as i16);
            sum[i].wrapping_add(low.wrapping_add(high) as u32)
        })
    }
    #[inline(always)]
    unsafe fn to_floats(value: Self::Ints) -> Self::Floats {
        value.map(|word| word as i32 as f32)
    }
    #[inline(always)]
    unsafe fn weights(x: Self::Floats) -> Self::Ints {
        x.map(|x| {
            let x = if x > -100.0 { x } else { -100.0 };
            // `floor` would be a call here; truncation is toward 0.
            let truncated = x as i32;
            let n = truncated - i32::from(truncated as f32 > x);
            let f = x - n as f32;
            let p = WEIGHTS[..4].iter().rev().fold(WEIGHTS[4], |p, coefficient| p * f + coefficient);
            let power = f32::from_bits(((n + 127) << 23) as u32);
            // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
            (p * power + 12_582_912.0).to_bits() & 0xffff
        })
    }
    #[inline(always)]
    unsafe fn pairs(low: Self::Ints, high: Self::Ints) -> Self::Ints {
        std::array::from_fn(|i| low[i] | high[i] << 16)
    }
}
