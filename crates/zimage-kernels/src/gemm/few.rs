//! Products with few rows on the left: the right operand is read once and never written out.
//!
//! ```text
//! for every vector of columns:
//!     for every DEPTH values of k, some at a time:
//!         widen and transpose them in registers: a vector per value of k
//!         multiply each with the value that every row has there
//! ```
//! What a block costs to fill would be most of the work here. The sums are those of the blocks, bit for bit.

use super::block::{DEPTH, PORTABLE_LANES};
use super::kernel::Start;
use super::transpose::{Rows, Stored, Transpose};
#[cfg(target_arch = "x86_64")]
use super::x86;
use crate::Level;
use crate::tile::{MatrixRef, TileMut};
use crate::vector::MOST_LANES;

/// Rows of one pass over the columns: with 8 it is the multiplications that take the time, not the transposition,
/// and 8 sums with the 16 vectors of a square fit into the 32 registers of AVX-512; the others have 16.
pub(super) const ROWS_OF_32: usize = 8;
pub(super) const ROWS_OF_16: usize = 4;

/// Up to how many rows several passes are faster than blocks.
pub(crate) fn few(level: Level) -> usize {
    match level {
        Level::Avx512 => 3 * ROWS_OF_32,
        Level::Naive | Level::Portable | Level::Avx2 => ROWS_OF_16,
    }
}

/// The operands: `out` `(rows, cols)`, `a` `(rows, depth)`, the right one `(cols, depth)` as stored.
pub(super) struct Few {
    rows: usize,
    cols: usize,
    depth: usize,
    a: *const f32,
    a_stride: usize,
    from: *const u8,
    stride: usize,
    out: *mut f32,
    out_stride: usize,
    /// Null for 0.
    bias: *const f32,
}

/// `out = a bᵀ (+ bias)` for any number of rows, best at most [`few`] of them, with the rows of `b` `stride` bytes apart from the start of `bytes`.
///
/// # Panics
/// When the shapes do not fit each other, or at the naive level.
pub(crate) fn gemm_few<S: Stored>(
    level: Level,
    out: &mut TileMut,
    a: MatrixRef,
    (bytes, stride): (&[u8], usize),
    bias: Option<&[f32]>,
) {
    assert_eq!(a.rows(), out.rows(), "rows of a");
    assert!(level > Level::Naive, "few rows at the naive level: this is a bug");
    assert!(bias.is_none_or(|bias| bias.len() == out.cols()), "length of the bias");
    level.check();
    if a.cols() == 0 {
        return bias.map_or(Start::Zero, Start::Bias).fill(out);
    }
    if out.rows() == 0 || out.cols() == 0 {
        return;
    }
    assert!(bytes.len() >= (out.cols() - 1) * stride + S::BYTES * a.cols(), "{} rows of b", out.cols());
    let few = Few {
        rows: out.rows(),
        cols: out.cols(),
        depth: a.cols(),
        a: a.data().as_ptr(),
        a_stride: a.stride(),
        from: bytes.as_ptr(),
        stride,
        out: out.as_mut_ptr(),
        out_stride: out.stride(),
        bias: bias.map_or(std::ptr::null(), |bias| bias.as_ptr()),
    };
    // SAFETY: `a` is a view whose constructor checked its data, `bytes` holds the rows, `out` is a tile that
    // nobody else reaches, and the CPU has the level.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => x86::few_avx512::<S>(&few),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => x86::few_avx2::<S>(&few),
            _ => multiply::<[f32; PORTABLE_LANES], S, ROWS_OF_16>(&few),
        }
    }
}

/// # Safety
/// The caller has the CPU features of `V`; the pointers are good for the sizes.
#[inline(always)]
pub(super) unsafe fn multiply<V: Transpose, S: Stored, const ROWS: usize>(few: &Few) {
    const { assert!(ROWS <= 8) };
    // Passes of about the same number of rows.
    let passes = few.rows.div_ceil(ROWS);
    let at_once = few.rows.div_ceil(passes);
    for col in (0..few.cols).step_by(V::LANES) {
        for row in (0..few.rows).step_by(at_once) {
            // SAFETY: as the caller promises.
            unsafe {
                match at_once.min(few.rows - row) {
                    1 => few.piece::<V, S, 1>(row, col),
                    2 => few.piece::<V, S, 2>(row, col),
                    3 => few.piece::<V, S, 3>(row, col),
                    4 => few.piece::<V, S, 4>(row, col),
                    5 if ROWS >= 5 => few.piece::<V, S, 5>(row, col),
                    6 if ROWS >= 6 => few.piece::<V, S, 6>(row, col),
                    7 if ROWS >= 7 => few.piece::<V, S, 7>(row, col),
                    8 if ROWS >= 8 => few.piece::<V, S, 8>(row, col),
                    rows => unreachable!("{rows} rows: this is a bug"),
                }
            }
        }
    }
}

impl Few {
    /// A vector of columns, from `col` on, of `R` rows, from `row` on.
    ///
    /// # Safety
    /// As for [`multiply`].
    #[inline(always)]
    unsafe fn piece<V: Transpose, S: Stored, const R: usize>(&self, row: usize, col: usize) {
        let count = V::LANES.min(self.cols - col);
        // SAFETY: as the caller promises; a buffer has room for the widest vector.
        unsafe {
            let mut totals = [V::splat(0.0); R];
            let mut any = !self.bias.is_null();
            if any {
                let mut bias = [0.0; MOST_LANES];
                std::ptr::copy_nonoverlapping(self.bias.add(col), bias.as_mut_ptr(), count);
                totals = [V::load(bias.as_ptr()); R];
            }
            for first in (0..self.depth).step_by(DEPTH) {
                let stored = Rows {
                    from: self.from.add(col * self.stride + first * S::BYTES),
                    stride: self.stride,
                    rows: count,
                    depth: DEPTH.min(self.depth - first),
                };
                let mut sums = [V::splat(0.0); R];
                let a = self.a.add(row * self.a_stride + first);
                stored.each_column::<V, S>(
                    #[inline(always)]
                    |k, column| {
                        for (r, sum) in sums.iter_mut().enumerate() {
                            *sum = V::mul_add(V::splat(*a.add(r * self.a_stride + k)), column, *sum);
                        }
                    },
                );
                for (total, sum) in totals.iter_mut().zip(sums) {
                    *total = if any { V::add(*total, sum) } else { sum };
                }
                any = true;
            }
            for (r, total) in totals.into_iter().enumerate() {
                let mut lanes = [0.0; MOST_LANES];
                V::store(total, lanes.as_mut_ptr());
                std::ptr::copy_nonoverlapping(lanes.as_ptr(), self.out.add((row + r) * self.out_stride + col), count);
            }
        }
    }
}
