//! What the loops of this folder ask of a vector beyond [`Vector`]: every fourth value, and what SiLU needs.

use crate::vector::Vector;

/// A vector that can be loaded from, and stored to, every fourth place.
///
/// # Safety
/// As for [`Vector`]; pointers must be good for `4 * LANES` values.
pub(super) trait Quads: Vector {
    /// Lane `i` of vector `c` is `from[4 i + c]`.
    unsafe fn load_4(from: *const f32) -> [Self; 4];
    /// The inverse of `load_4`.
    unsafe fn store_4(values: [Self; 4], to: *mut f32);
    /// The smaller one; `b` when either is NaN.
    unsafe fn min(a: Self, b: Self) -> Self;
    /// `1 / a` within two units in the last place, for `a` from 1 to 2^101.
    unsafe fn reciprocal(a: Self) -> Self;
}

impl Quads for [f32; 8] {
    #[inline(always)]
    unsafe fn load_4(from: *const f32) -> [Self; 4] {
        // SAFETY: the pointer is good for 32 values.
        let values = unsafe { from.cast::<[f32; 32]>().read_unaligned() };
        std::array::from_fn(|c| std::array::from_fn(|i| values[4 * i + c]))
    }

    #[inline(always)]
    unsafe fn store_4(values: [Self; 4], to: *mut f32) {
        let all: [f32; 32] = std::array::from_fn(|i| values[i % 4][i / 4]);
        // SAFETY: the pointer is good for 32 values.
        unsafe { to.cast::<[f32; 32]>().write_unaligned(all) }
    }

    #[inline(always)]
    unsafe fn min(a: Self, b: Self) -> Self {
        std::array::from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    unsafe fn reciprocal(a: Self) -> Self {
        a.map(|a| 1.0 / a)
    }
}
