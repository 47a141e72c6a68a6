//! The right operand in blocks, laid out as the kernel reads it.
//!
//! ```text
//! for every COLS columns of the output:
//!     for every DEPTH values of k:
//!         fill a block: (DEPTH, COLS) of the right operand, in panels as wide as the kernel
//!         out += a block: all rows of the tile, some at a time, with one panel after the other
//! ```
//! A block stays in the second cache while all rows pass it, and what fills it runs once per
//! tile: a weight is widened, transposed and laid out in one go, and never exists as f32 as a whole.

use std::cell::Cell;
use std::ops::Range;

use super::copy::{self, Panels};
use super::kernel::{self, Product, Start};
use super::transpose::{self, F32, Place, Stored};
#[cfg(target_arch = "x86_64")]
use super::x86;
use crate::Level;
use crate::tile::{MatrixRef, TileMut};

/// Values of `k` in a block: sums are cut there. A multiple of all block lengths of stored rows.
pub(crate) const DEPTH: usize = 256;
/// Columns of a block, which is 256 KB: no more than the second cache of any CPU with AVX2.
const COLS: usize = 256;

/// Values in a cache line.
const LINE: usize = 16;

/// What makes a block start at a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

thread_local! {
    /// The block of this thread: too large for the stack, too costly to have anew for every tile.
    static LINES: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// A part of the right operand, seen as a `(k, n)` matrix, to be filled.
///
/// Columns lie in panels of the kernel's width, the last one as wide as it needs to be in whole vectors; a
/// panel holds one row after the other. Columns beyond the last one are 0.
pub(crate) struct Block<'a> {
    level: Level,
    ks: Range<usize>,
    cols: Range<usize>,
    values: &'a mut [f32],
}

/// Lanes of a vector, and columns of the kernel.
fn lanes_and_width(level: Level) -> (usize, usize) {
    match level {
        Level::Avx512 => (16, 64),
        Level::Avx2 => (8, 16),
        Level::Naive | Level::Portable => (PORTABLE_LANES, 2 * PORTABLE_LANES),
    }
}

/// The vectors that x86-64 and 64-bit ARM have at least.
pub(super) const PORTABLE_LANES: usize = 4;

impl Block<'_> {
    /// The values of `k` to fill in.
    pub(crate) fn ks(&self) -> Range<usize> {
        self.ks.clone()
    }

    /// The columns to fill in, counted from the tile's first one.
    pub(crate) fn cols(&self) -> Range<usize> {
        self.cols.clone()
    }

    /// Columns that [`Block::transpose_f32`] takes without waste: lanes of a vector.
    pub(crate) fn lanes(&self) -> usize {
        lanes_and_width(self.level).0
    }

    /// Fills rows of the block from `first` on, with all of its columns.
    pub(crate) fn copy_rows(&mut self, first: usize, rows: MatrixRef) {
        assert!(first + rows.rows() <= self.ks.len(), "rows {first} + {} of {}", rows.rows(), self.ks.len());
        assert_eq!(rows.cols(), self.cols.len(), "columns of the rows");
        let depth = self.ks.len();
        let to = Panels { to: self.values.as_mut_ptr(), width: lanes_and_width(self.level).1, depth, first };
        // SAFETY: the block holds such rows, and the CPU has the level, as `gemm_blocks` has checked.
        unsafe {
            match self.level {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => x86::copy_avx512(rows, to),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => x86::copy_avx2(rows, to),
                _ => copy::rows::<[f32; PORTABLE_LANES]>(rows, to),
            }
        }
    }

    /// Fills columns from `first` on, whole vectors, with rows of `ks().len()` values.
    pub(crate) fn transpose_f32(&mut self, first: usize, rows: MatrixRef) {
        assert_eq!(rows.cols(), self.ks.len(), "values of a row");
        // SAFETY: the view's constructor checked its data.
        unsafe { self.transpose::<F32>(first, rows.data().as_ptr().cast(), 4 * rows.stride(), rows.rows()) };
    }

    /// Fills all columns with rows of stored numbers, which start `stride` bytes after each other.
    pub(crate) fn transpose_stored<S: Stored>(&mut self, bytes: &[u8], stride: usize) {
        let (count, row) = (self.cols.len(), S::BYTES * self.ks.len());
        assert!(bytes.len() >= (count - 1) * stride + row, "{count} rows in {} bytes", bytes.len());
        // SAFETY: the rows lie in `bytes`.
        unsafe { self.transpose::<S>(0, bytes.as_ptr(), stride, count) };
    }

    /// # Safety
    /// `from` is good for `count` rows of `ks().len()` numbers, `stride` bytes apart.
    unsafe fn transpose<S: Stored>(&mut self, first: usize, from: *const u8, stride: usize, count: usize) {
        let (lanes, width) = lanes_and_width(self.level);
        assert!(first.is_multiple_of(lanes) && first + count <= self.cols.len(), "columns {first} + {count}");
        assert!((first + count).is_multiple_of(lanes) || first + count == self.cols.len(), "whole vectors");
        let depth = self.ks.len();
        for group in (0..count).step_by(lanes) {
            let (panel, within) = ((first + group) / width, (first + group) % width);
            let panel_width = width.min((self.cols.len() - panel * width).next_multiple_of(lanes));
            let start = panel * width * depth + within;
            let values = &mut self.values[start..panel * width * depth + panel_width * depth];
            let place = Place { to: values.as_mut_ptr(), step: panel_width, depth, rows: lanes.min(count - group) };
            // SAFETY: the rows are the caller's, the place holds a vector per value of a row, and the
            // CPU has the level, as `gemm_blocks` has checked.
            unsafe {
                let from = from.add(group * stride);
                match self.level {
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 => x86::transpose_avx512::<S>(from, stride, place),
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => x86::transpose_avx2::<S>(from, stride, place),
                    _ => transpose::rows::<[f32; PORTABLE_LANES], S>(from, stride, place),
                }
            }
        }
    }
}

/// `out = start + a b`, with `b` as `fill` lays it into one block after the other.
///
/// `fill` is called once for every block and must fill all of it.
///
/// # Panics
/// When `a` has another number of rows than `out`, or at the naive level, which has no blocks.
pub(crate) fn gemm_blocks(
    level: Level,
    out: &mut TileMut,
    a: MatrixRef,
    start: Start,
    mut fill: impl FnMut(&mut Block),
) {
    assert_eq!(a.rows(), out.rows(), "rows of a");
    assert!(level > Level::Naive, "blocks at the naive level: this is a bug");
    level.check();
    if a.cols() == 0 {
        return start.fill(out);
    }
    if out.rows() == 0 {
        return;
    }
    let mut lines = LINES.take();
    lines.resize(DEPTH * COLS / LINE, Line([0.0; LINE]));
    for first in (0..out.cols()).step_by(COLS) {
        let cols = first..out.cols().min(first + COLS);
        let mut out = out.col_range(first, cols.len());
        for k in (0..a.cols()).step_by(DEPTH) {
            let ks = k..a.cols().min(k + DEPTH);
            let (lanes, _) = lanes_and_width(level);
            let values = &mut values_of(&mut lines)[..ks.len() * cols.len().next_multiple_of(lanes)];
            let mut block = Block { level, ks: ks.clone(), cols: cols.clone(), values };
            fill(&mut block);
            let start = if k == 0 { start.cols(&cols) } else { Start::Out };
            multiply(&mut out, a.col_range(k, ks.len()), &block, start);
        }
    }
    LINES.set(lines);
}

fn values_of(lines: &mut [Line]) -> &mut [f32] {
    // SAFETY: a line is `LINE` values and nothing else.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * LINE) }
}

/// `out = start + a block`.
fn multiply(out: &mut TileMut, a: MatrixRef, block: &Block, start: Start) {
    let (base, base_stride) = match start {
        Start::Zero => (std::ptr::null(), 0),
        Start::Bias(bias) => (bias.as_ptr(), 0),
        Start::Out => (out.as_mut_ptr().cast_const(), out.stride()),
    };
    let product = Product {
        rows: out.rows(),
        cols: out.cols(),
        depth: a.cols(),
        a: a.data().as_ptr(),
        a_stride: a.stride(),
        block: block.values.as_ptr(),
        out: out.as_mut_ptr(),
        out_stride: out.stride(),
        base,
        base_stride,
    };
    // SAFETY: `a` is a view whose constructor checked its data, the block has as many rows and columns,
    // `out` is a tile that nobody else reaches, and the CPU has the level, as `gemm_blocks` has checked.
    unsafe {
        match block.level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => x86::multiply_avx512(&product),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => x86::multiply_avx2(&product),
            _ => kernel::multiply::<[f32; PORTABLE_LANES], 6, 2>(&product),
        }
    }
}
