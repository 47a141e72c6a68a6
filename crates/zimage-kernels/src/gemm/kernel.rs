//! The inner loop: some rows of the left operand with one panel of a block.
//!
//! `ROWS` broadcasts from the left, `VECTORS` loads from the right, `ROWS * VECTORS` accumulators.
//! The rows are read where they lie; the next ones are asked for in the meantime, as are the outputs.

use std::ops::Range;

use crate::tile::TileMut;
use crate::vector::Vector;

/// What the sums are added to.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    /// Nothing.
    Zero,
    /// One value per column.
    Bias(&'a [f32]),
    /// What the output holds.
    Out,
}

impl<'a> Start<'a> {
    /// That of some columns.
    pub(super) fn cols(self, cols: &Range<usize>) -> Start<'a> {
        match self {
            Start::Bias(bias) => Start::Bias(&bias[cols.clone()]),
            other => other,
        }
    }

    /// The sum of no products.
    pub(super) fn fill(self, out: &mut TileMut) {
        for r in 0..out.rows() {
            match self {
                Start::Zero => out.row_mut(r).fill(0.0),
                Start::Bias(bias) => out.row_mut(r).copy_from_slice(bias),
                Start::Out => {}
            }
        }
    }
}

/// `out = base + a block`, with `out` `(rows, cols)` and `a` `(rows, depth)`.
pub(super) struct Product {
    pub rows: usize,
    pub cols: usize,
    pub depth: usize,
    pub a: *const f32,
    pub a_stride: usize,
    pub block: *const f32,
    pub out: *mut f32,
    pub out_stride: usize,
    /// Null for 0.
    pub base: *const f32,
    pub base_stride: usize,
}

/// The part of a [`Product`] that the accumulators hold.
struct Piece {
    depth: usize,
    a: *const f32,
    a_stride: usize,
    panel: *const f32,
    out: *mut f32,
    out_stride: usize,
    base: *const f32,
    base_stride: usize,
    /// Rows of `a` that will be read next, as many of them as this piece asks for.
    next: *const f32,
    next_rows: usize,
}

/// Accumulators of the largest kernel, in values.
const LARGEST: usize = 6 * 64;
/// Values of `k` between two requests for cache lines: those of one line.
const LINE: usize = 16;

/// All rows with all panels.
///
/// # Safety
/// The caller has the CPU features of `V`; the pointers are good for the sizes, and the block for whole
/// vectors of columns.
#[inline(always)]
pub(super) unsafe fn multiply<V: Vector, const ROWS: usize, const VECTORS: usize>(p: &Product) {
    const { assert!(ROWS <= 6 && VECTORS <= 4 && ROWS * VECTORS * V::LANES <= LARGEST) };
    let width = VECTORS * V::LANES;
    let panels = p.cols.div_ceil(width);
    for row in (0..p.rows).step_by(ROWS) {
        let rows = ROWS.min(p.rows - row);
        let share = ROWS.div_ceil(panels);
        for panel in 0..panels {
            let col = panel * width;
            let cols = width.min(p.cols - col);
            // SAFETY: row and column lie inside the product; the rows to come may not, but nothing is
            // read from them.
            unsafe {
                let piece = Piece {
                    depth: p.depth,
                    a: p.a.add(row * p.a_stride),
                    a_stride: p.a_stride,
                    panel: p.block.add(col * p.depth),
                    out: p.out.add(row * p.out_stride + col),
                    out_stride: p.out_stride,
                    base: p.base.wrapping_add(row * p.base_stride + col),
                    base_stride: p.base_stride,
                    next: p.a.wrapping_add((row + ROWS + panel * share) * p.a_stride),
                    next_rows: if panel * share < ROWS { share } else { 0 },
                };
                let piece = if p.base.is_null() { Piece { base: p.base, ..piece } } else { piece };
                if cols.is_multiple_of(V::LANES) {
                    piece.by_vectors::<V, VECTORS>(rows, cols / V::LANES);
                } else {
                    piece.with_rest::<V, VECTORS>(rows, cols);
                }
            }
        }
    }
}

impl Piece {
    /// A piece whose last vector is wider than the output: by way of a buffer.
    ///
    /// # Safety
    /// As for [`multiply`].
    #[inline(always)]
    unsafe fn with_rest<V: Vector, const VECTORS: usize>(&self, rows: usize, cols: usize) {
        let mut sums = [0.0; LARGEST];
        let width = cols.next_multiple_of(V::LANES);
        let whole = Piece { out: sums.as_mut_ptr(), out_stride: width, base: std::ptr::null(), ..*self };
        // SAFETY: as the caller promises; the buffer holds the largest piece.
        unsafe {
            whole.by_vectors::<V, VECTORS>(rows, width / V::LANES);
            for r in 0..rows {
                for c in 0..cols {
                    let sum = sums[r * width + c];
                    let base = self.base.wrapping_add(r * self.base_stride + c);
                    *self.out.add(r * self.out_stride + c) = if self.base.is_null() { sum } else { *base + sum };
                }
            }
        }
    }

    /// # Safety
    /// As for [`multiply`].
    #[inline(always)]
    unsafe fn by_vectors<V: Vector, const VECTORS: usize>(&self, rows: usize, vectors: usize) {
        // SAFETY: as the caller promises.
        unsafe {
            match vectors {
                1 => self.by_rows::<V, 1>(rows),
                2 if VECTORS >= 2 => self.by_rows::<V, 2>(rows),
                3 if VECTORS >= 3 => self.by_rows::<V, 3>(rows),
                4 if VECTORS >= 4 => self.by_rows::<V, 4>(rows),
                _ => unreachable!("{vectors} vectors: this is a bug"),
            }
        }
    }

    /// # Safety
    /// As for [`multiply`].
    #[inline(always)]
    unsafe fn by_rows<V: Vector, const N: usize>(&self, rows: usize) {
        // SAFETY: as the caller promises.
        unsafe {
            match rows {
                1 => self.product::<V, 1, N>(),
                2 => self.product::<V, 2, N>(),
                3 => self.product::<V, 3, N>(),
                4 => self.product::<V, 4, N>(),
                5 => self.product::<V, 5, N>(),
                6 => self.product::<V, 6, N>(),
                _ => unreachable!("{rows} rows: this is a bug"),
            }
        }
    }

    /// # Safety
    /// As for [`multiply`]; the piece has `R` rows and `N` vectors of columns.
    #[inline(always)]
    unsafe fn product<V: Vector, const R: usize, const N: usize>(&self) {
        // SAFETY: as the caller promises.
        unsafe {
            let mut sums = [[V::splat(0.0); N]; R];
            for (chunk, first) in (0..self.depth).step_by(LINE).enumerate() {
                for r in 0..self.next_rows {
                    V::prefetch(self.next.wrapping_add(r * self.a_stride + first).cast());
                }
                if chunk < R {
                    for n in 0..N {
                        V::prefetch(self.out.wrapping_add(chunk * self.out_stride + n * V::LANES).cast());
                    }
                }
                for k in first..self.depth.min(first + LINE) {
                    let mut right = [V::splat(0.0); N];
                    for (n, vector) in right.iter_mut().enumerate() {
                        *vector = V::load(self.panel.add((k * N + n) * V::LANES));
                    }
                    for (r, row) in sums.iter_mut().enumerate() {
                        let left = V::splat(*self.a.add(r * self.a_stride + k));
                        for (n, sum) in row.iter_mut().enumerate() {
                            *sum = V::mul_add(left, right[n], *sum);
                        }
                    }
                }
            }
            for (r, row) in sums.iter().enumerate() {
                for (n, sum) in row.iter().enumerate() {
                    let base = self.base.wrapping_add(r * self.base_stride + n * V::LANES);
                    let sum = if self.base.is_null() { *sum } else { V::add(V::load(base), *sum) };
                    V::store(sum, self.out.add(r * self.out_stride + n * V::LANES));
                }
            }
        }
    }
}
