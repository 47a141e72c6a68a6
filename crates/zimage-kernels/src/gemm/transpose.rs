//! Rows as they are stored to columns of a block: widened and transposed in registers.

use crate::vector::Vector;

/// A vector that can transpose squares of numbers.
///
/// # Safety
/// As for [`Vector`]. `from` is good for `LANES` rows, `stride` bytes apart, of `LANES` f32 or
/// `2 * LANES` bf16 numbers; `to` for as many vectors as a row has numbers, `step` values apart.
pub(crate) trait Transpose: Vector {
    unsafe fn transpose_f32(from: *const u8, stride: usize, to: *mut f32, step: usize);
    unsafe fn transpose_bf16(from: *const u8, stride: usize, to: *mut f32, step: usize);
}

/// How a row's numbers are stored.
pub(crate) trait Stored {
    /// Bytes of a number.
    const BYTES: usize;
    /// Numbers of a row that are transposed at once, for every lane.
    const AT_ONCE: usize;

    /// # Safety
    /// As for [`Transpose`].
    unsafe fn transpose<V: Transpose>(from: *const u8, stride: usize, to: *mut f32, step: usize);

    /// # Safety
    /// `at` is good for one number.
    unsafe fn read(at: *const u8) -> f32;
}

/// The machine's own f32, at any address.
pub(crate) struct F32;

/// Little-endian bf16, at any address.
pub(crate) struct Bf16;

impl Stored for F32 {
    const BYTES: usize = 4;
    const AT_ONCE: usize = 1;

    #[inline(always)]
    unsafe fn transpose<V: Transpose>(from: *const u8, stride: usize, to: *mut f32, step: usize) {
        // SAFETY: as the caller promises.
        unsafe { V::transpose_f32(from, stride, to, step) }
    }

    #[inline(always)]
    unsafe fn read(at: *const u8) -> f32 {
        // SAFETY: as the caller promises.
        unsafe { at.cast::<f32>().read_unaligned() }
    }
}

impl Stored for Bf16 {
    const BYTES: usize = 2;
    const AT_ONCE: usize = 2;

    #[inline(always)]
    unsafe fn transpose<V: Transpose>(from: *const u8, stride: usize, to: *mut f32, step: usize) {
        // SAFETY: as the caller promises.
        unsafe { V::transpose_bf16(from, stride, to, step) }
    }

    #[inline(always)]
    unsafe fn read(at: *const u8) -> f32 {
        // SAFETY: as the caller promises.
        let bytes = unsafe { at.cast::<[u8; 2]>().read() };
        f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
    }
}

/// Where up to a vector of columns goes: `depth` vectors, `step` values apart.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub to: *mut f32,
    pub step: usize,
    pub depth: usize,
    /// Rows that there are; the other lanes become 0.
    pub rows: usize,
}

/// Transposes up to `V::LANES` rows, `stride` bytes apart.
///
/// # Safety
/// The caller has the CPU features of `V`; `from` is good for the rows, and the place for the vectors.
#[inline(always)]
pub(super) unsafe fn rows<V: Transpose, S: Stored>(from: *const u8, stride: usize, place: Place) {
    let Place { to, step, depth, rows } = place;
    let at_once = S::AT_ONCE * V::LANES;
    let whole = if rows == V::LANES { depth - depth % at_once } else { 0 };
    // SAFETY: as the caller promises.
    unsafe {
        for k in (0..whole).step_by(at_once) {
            // The same place of the rows that follow: they lie too far apart to be foreseen by the CPU.
            for lane in 0..V::LANES {
                V::prefetch(from.wrapping_add((lane + V::LANES) * stride + k * S::BYTES));
            }
            S::transpose::<V>(from.add(k * S::BYTES), stride, to.add(k * step), step);
        }
        for k in whole..depth {
            for lane in 0..V::LANES {
                let value = if lane < rows { S::read(from.add(lane * stride + k * S::BYTES)) } else { 0.0 };
                *to.add(k * step + lane) = value;
            }
        }
    }
}

impl<const N: usize> Transpose for [f32; N] {
    #[inline(always)]
    unsafe fn transpose_f32(from: *const u8, stride: usize, to: *mut f32, step: usize) {
        // SAFETY: as the caller promises.
        unsafe { one_by_one::<F32, N>(N, from, stride, to, step) }
    }

    #[inline(always)]
    unsafe fn transpose_bf16(from: *const u8, stride: usize, to: *mut f32, step: usize) {
        // SAFETY: as the caller promises.
        unsafe { one_by_one::<Bf16, N>(2 * N, from, stride, to, step) }
    }
}

/// # Safety
/// As for [`Transpose`].
#[inline(always)]
unsafe fn one_by_one<S: Stored, const N: usize>(
    count: usize,
    from: *const u8,
    stride: usize,
    to: *mut f32,
    step: usize,
) {
    for k in 0..count {
        for lane in 0..N {
            // SAFETY: as the caller promises.
            unsafe { *to.add(k * step + lane) = S::read(from.add(lane * stride + k * S::BYTES)) };
        }
    }
}
