//! Rows as they are stored to columns of a block: widened and transposed in registers.

use crate::vector::{MOST_LANES, Vector};

/// A vector that can transpose squares of numbers.
///
/// # Safety
/// As for [`Vector`]. `from` is good for `LANES` rows, `stride` bytes apart, of `LANES` f32 or
/// `2 * LANES` bf16 numbers.
pub(crate) trait Transpose: Vector {
    /// Calls `take(k, column)` for one column after the other.
    unsafe fn columns_f32(from: *const u8, stride: usize, take: impl FnMut(usize, Self));
    /// Calls `take(k, column)` for one column after the other.
    unsafe fn columns_bf16(from: *const u8, stride: usize, take: impl FnMut(usize, Self));
}

/// How a row's numbers are stored.
pub(crate) trait Stored {
    /// Bytes of a number.
    const BYTES: usize;
    /// Numbers of a row that are transposed at once, for every lane.
    const AT_ONCE: usize;

    /// # Safety
    /// As for [`Transpose`].
    unsafe fn columns<V: Transpose>(from: *const u8, stride: usize, take: impl FnMut(usize, V));

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
    unsafe fn columns<V: Transpose>(from: *const u8, stride: usize, take: impl FnMut(usize, V)) {
        // SAFETY: as the caller promises.
        unsafe { V::columns_f32(from, stride, take) }
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
    unsafe fn columns<V: Transpose>(from: *const u8, stride: usize, take: impl FnMut(usize, V)) {
        // SAFETY: as the caller promises.
        unsafe { V::columns_bf16(from, stride, take) }
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
    let stored = Rows { from, stride, rows, depth };
    // SAFETY: as the caller promises.
    unsafe {
        stored.each_column::<V, S>(
            #[inline(always)]
            |k, column| V::store(column, to.add(k * step)),
        );
    }
}

/// Some of the rows of a matrix, at most as many as a vector has lanes.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub from: *const u8,
    /// Bytes from one to the next.
    pub stride: usize,
    pub rows: usize,
    /// Numbers of a row.
    pub depth: usize,
}

impl Rows {
    /// Calls `take(k, column)` for one column after the other; lanes without a row are 0.
    ///
    /// # Safety
    /// The caller has the CPU features of `V`; there are such rows, at most `V::LANES`.
    #[inline(always)]
    pub(super) unsafe fn each_column<V: Transpose, S: Stored>(&self, mut take: impl FnMut(usize, V)) {
        let Rows { from, stride, rows, depth } = *self;
        let at_once = S::AT_ONCE * V::LANES;
        let whole = if rows == V::LANES { depth - depth % at_once } else { 0 };
        // SAFETY: as the caller promises.
        unsafe {
            for k in (0..whole).step_by(at_once) {
                // The same place of the rows that follow: they lie too far apart to be foreseen by the CPU.
                for lane in 0..V::LANES {
                    V::prefetch(from.wrapping_add((lane + V::LANES) * stride + k * S::BYTES));
                }
                S::columns::<V>(
                    from.add(k * S::BYTES),
                    stride,
                    #[inline(always)]
                    |i, column| take(k + i, column),
                );
            }
            for k in whole..depth {
                let mut column = [0.0; MOST_LANES];
                for (lane, value) in column.iter_mut().enumerate().take(rows) {
                    *value = S::read(from.add(lane * stride + k * S::BYTES));
                }
                take(k, V::load(column.as_ptr()));
            }
        }
    }
}

impl<const N: usize> Transpose for [f32; N] {
    #[inline(always)]
    unsafe fn columns_f32(from: *const u8, stride: usize, take: impl FnMut(usize, Self)) {
        // SAFETY: as the caller promises.
        unsafe { one_by_one::<F32, N>(N, from, stride, take) }
    }

    #[inline(always)]
    unsafe fn columns_bf16(from: *const u8, stride: usize, take: impl FnMut(usize, Self)) {
        // SAFETY: as the caller promises.
        unsafe { one_by_one::<Bf16, N>(2 * N, from, stride, take) }
    }
}

/// # Safety
/// As for [`Transpose`].
#[inline(always)]
unsafe fn one_by_one<S: Stored, const N: usize>(
    count: usize,
    from: *const u8,
    stride: usize,
    mut take: impl FnMut(usize, [f32; N]),
) {
    for k in 0..count {
        // SAFETY: as the caller promises.
        take(k, std::array::from_fn(|lane| unsafe { S::read(from.add(lane * stride + k * S::BYTES)) }));
    }
}
