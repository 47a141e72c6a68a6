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
