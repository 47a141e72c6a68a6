//! What the loops of this folder ask of a vector, and a vector for any CPU.

/// A vector of f32 lanes.
///
/// # Safety
/// Every method needs the CPU features of the implementing type. Pointers must be good for `LANES` values, or
/// for `4 * LANES` where the method's name has a 4. Methods are `#[inline(always)]`, so that they compile into a
/// caller that has the features.
pub(super) trait Vector: Copy {
    const LANES: usize;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(value: Self, to: *mut f32);
    unsafe fn add(a: Self, b: Self) -> Self;
    unsafe fn sub(a: Self, b: Self) -> Self;
    unsafe fn mul(a: Self, b: Self) -> Self;
    /// `a * b + c`.
    unsafe fn mul_add(a: Self, b: Self, c: Self) -> Self;
    /// Lane `i` of vector `c` is `from[4 i + c]`.
    unsafe fn load_4(from: *const f32) -> [Self; 4];
    /// The inverse of `load_4`.
    unsafe fn store_4(values: [Self; 4], to: *mut f32);
}

/// Eight lanes without any instruction set beyond the target's own.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; 8]);

impl Portable {
    #[inline(always)]
    fn each(value: impl Fn(usize) -> f32) -> Portable {
        let mut lanes = [0.0; 8];
        for (i, lane) in lanes.iter_mut().enumerate() {
            *lane = value(i);
        }
        Portable(lanes)
    }
}

impl Vector for Portable {
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Portable([value; 8])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the pointer is good for 8 values; an array of f32 may be read unaligned.
        Portable(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(value: Self, to: *mut f32) {
        // SAFETY: the pointer is good for 8 values.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(value.0) }
    }

    #[inline(always)]
    unsafe fn add(a: Self, b: Self) -> Self {
        Portable::each(|i| a.0[i] + b.0[i])
    }

    #[inline(always)]
    unsafe fn sub(a: Self, b: Self) -> Self {
        Portable::each(|i| a.0[i] - b.0[i])
    }

    #[inline(always)]
    unsafe fn mul(a: Self, b: Self) -> Self {
        Portable::each(|i| a.0[i] * b.0[i])
    }

    #[inline(always)]
    unsafe fn mul_add(a: Self, b: Self, c: Self) -> Self {
        // `f32::mul_add` would be a call where there is no instruction for it.
        Portable::each(|i| a.0[i] * b.0[i] + c.0[i])
    }

    #[inline(always)]
    unsafe fn load_4(from: *const f32) -> [Self; 4] {
        // SAFETY: the pointer is good for 32 values.
        let values = unsafe { from.cast::<[f32; 32]>().read_unaligned() };
        std::array::from_fn(|c| Portable::each(|i| values[4 * i + c]))
    }

    #[inline(always)]
    unsafe fn store_4(values: [Self; 4], to: *mut f32) {
        let mut all = [0.0; 32];
        for (i, value) in all.iter_mut().enumerate() {
            *value = values[i % 4].0[i / 4];
        }
        // SAFETY: the pointer is good for 32 values.
        unsafe { to.cast::<[f32; 32]>().write_unaligned(all) }
    }
}
