//! Rows of the right operand to rows of a block, where they lie in its order already.

use crate::tile::MatrixRef;
use crate::vector::{MOST_LANES, Vector};

/// Values in a cache line.
const LINE: usize = 16;
/// How many rows before their turn rows are asked for: they lie too far apart to be foreseen by the CPU.
const AHEAD: usize = 4;

/// The panels of a block, and the row to start at.
#[derive(Clone, Copy)]
pub(super) struct Panels {
    pub to: *mut f32,
    /// Columns of all panels but the last one, whole vectors.
    pub width: usize,
    /// Rows of a panel.
    pub depth: usize,
    pub first: usize,
}

/// Copies all rows, with zeros up to whole vectors of columns.
///
/// # Safety
/// The caller has the CPU features of `V`; the panels hold the rows.
#[inline(always)]
pub(super) unsafe fn rows<V: Vector>(rows: MatrixRef, panels: Panels) {
    let Panels { to, width, depth, first } = panels;
    let (cols, from) = (rows.cols(), rows.data().as_ptr());
    for r in 0..rows.rows() {
        let row = from.wrapping_add(r * rows.stride());
        // SAFETY: as the caller promises; a view holds its rows.
        unsafe {
            for col in (0..cols).step_by(LINE) {
                V::prefetch(row.wrapping_add(AHEAD * rows.stride() + col).cast());
            }
            for start in (0..cols).step_by(width) {
                let count = width.min(cols - start);
                let place = to.add(start * depth + (first + r) * count.next_multiple_of(V::LANES));
                piece::<V>(row.add(start), count, place);
            }
        }
    }
}

/// # Safety
/// As for [`rows`], for `count` values of a row.
#[inline(always)]
unsafe fn piece<V: Vector>(from: *const f32, count: usize, to: *mut f32) {
    let whole = count - count % V::LANES;
    // SAFETY: as the caller promises.
    unsafe {
        for col in (0..whole).step_by(V::LANES) {
            V::store(V::load(from.add(col)), to.add(col));
        }
        if whole < count {
            let mut rest = [0.0; MOST_LANES];
            std::ptr::copy_nonoverlapping(from.add(whole), rest.as_mut_ptr(), count - whole);
            V::store(V::load(rest.as_ptr()), to.add(whole));
        }
    }
}
