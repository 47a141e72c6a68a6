//! Vectors of f32 lanes: kernels are written once over them and compiled for every level.

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests;

/// Lanes of the widest vector.
pub(crate) const MOST_LANES: usize = 16;

/// A vector of f32 lanes.
///
/// # Safety
/// Every method needs the CPU features of the implementing type, and its pointers must be good for
/// `LANES` values, at any address. Methods are `#[inline(always)]`, so that they compile into a caller
/// that has the features.
pub(crate) trait Vector: Copy {
    const LANES: usize;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(value: Self, to: *mut f32);
    unsafe fn add(a: Self, b: Self) -> Self;
    unsafe fn sub(a: Self, b: Self) -> Self;
    unsafe fn mul(a: Self, b: Self) -> Self;
    /// `a * b + c`, rounded once where the CPU can do that.
    unsafe fn mul_add(a: Self, b: Self, c: Self) -> Self;
    /// The larger one; `b` when either is NaN.
    unsafe fn max(a: Self, b: Self) -> Self;
    /// 2 to the power of the integer in the low bits of each lane.
    unsafe fn power_of_low_bits(a: Self) -> Self;
    /// 0 where `a < b`, elsewhere (also for a NaN) `value`.
    unsafe fn zero_where_less(a: Self, b: Self, value: Self) -> Self;
    /// Asks for the cache line at any address, even one of no memory.
    unsafe fn prefetch(at: *const u8);
}

/// 2^x within a unit in the last place, for x from -126 to 127; NaN for NaN.
///
/// # Safety
/// The caller has the CPU features of `V`.
#[inline(always)]
pub(crate) unsafe fn exp2<V: Vector>(x: V) -> V {
    // SAFETY: as the caller promises.
    unsafe {
        // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
        let round = V::splat(12_582_912.0);
        let shifted = V::add(x, round);
        let f = V::sub(x, V::sub(shifted, round));
        let mut p = V::splat(EXP2[5]);
        for coefficient in [EXP2[4], EXP2[3], EXP2[2], EXP2[1], EXP2[0], 1.0] {
            p = V::mul_add(p, f, V::splat(coefficient));
        }
        V::mul(p, V::power_of_low_bits(shifted))
    }
}

/// 2^f = 1 + f * (this polynomial) on |f| <= 1/2: a fit at Chebyshev points, off by 9e-9.
const EXP2: [f32; 6] =
    [std::f32::consts::LN_2, 0.240_226_5, 0.055_503_57, 0.009_618_057, 0.001_339_086_7, 0.000_154_614_48];
