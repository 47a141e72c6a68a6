//! One panel of queries: its running sums, and what both kernels do with them.

use crate::tile::TileMut;
use crate::vector::{self, Vector};

/// Queries and results of a group of panels, in values: 2 MB. A block of keys and values is brought in once per
/// group, so it should hold all queries of a call; panels stream through the caches without harm, since each of
/// their values meets 192 keys. (Groups of 512 KB, 2 panels of a head of 512, cost that head a fifth of its speed.)
pub(super) const GROUP_VALUES: usize = 512 * 1024;

/// A panel of queries in the lanes of vectors, and its running sums.
pub(super) struct Panel {
    pub queries: usize,
    pub vectors: usize,
    /// Keys that the panel's first query sees, and its last one.
    pub seen_by_first: usize,
    pub seen_by_last: usize,
    /// `(value_rows, width)`: the results, transposed.
    pub out: *mut f32,
    /// `(width)`: the largest score so far.
    pub largest: *mut f32,
    /// `(width)`: the sum of the weights so far.
    pub total: *mut f32,
}

impl Panel {
    pub fn width(&self, lanes: usize) -> usize {
        self.vectors * lanes
    }

    /// Empties the sums.
    ///
    /// # Safety
    /// `largest` and `total` hold the panel's width.
    #[inline(always)]
    pub unsafe fn clear(&self, lanes: usize) {
        let width = self.width(lanes);
        // SAFETY: as the caller promises.
        unsafe {
            std::slice::from_raw_parts_mut(self.largest, width).fill(f32::NEG_INFINITY);
            std::slice::from_raw_parts_mut(self.total, width).fill(0.0);
        }
    }

    /// Gives the keys that a query must not see the score -inf.
    ///
    /// # Safety
    /// `scores` holds `(count, width)`: those of the keys from `first` on.
    #[inline(always)]
    pub unsafe fn hide(&self, scores: *mut f32, first: usize, count: usize, width: usize) {
        for key in self.seen_by_first.max(first)..first + count {
            let hidden = (key + 1 - self.seen_by_first).min(width);
            // SAFETY: as the caller promises.
            let row = unsafe { std::slice::from_raw_parts_mut(scores.add((key - first) * width), width) };
            row[..hidden].fill(f32::NEG_INFINITY);
        }
    }

    /// Divides the sums by the total weight and writes them as rows.
    ///
    /// # Safety
    /// The sums are filled, `(out.cols(), width)`.
    #[inline(always)]
    pub unsafe fn finish(&self, out: &mut TileMut, lanes: usize) {
        let (width, cols) = (self.width(lanes), out.cols());
        // SAFETY: as the caller promises.
        let (sums, total) = unsafe {
            (std::slice::from_raw_parts(self.out, cols * width), std::slice::from_raw_parts(self.total, width))
        };
        for lane in 0..self.queries {
            let inverse = 1.0 / total[lane];
            for (c, value) in out.row_mut(lane).iter_mut().enumerate() {
                *value = sums[c * width + lane] * inverse;
            }
        }
    }
}

/// 2^x for x <= 0 within a unit in the last place; 0 below -100, so that no weight is subnormal
/// (multiplying with such costs a hundred cycles on many processors) and none that matters is lost:
/// the largest weight of a query is 1.
///
/// # Safety
/// The caller has the CPU features of `V`.
#[inline(always)]
pub(super) unsafe fn exp2<V: Vector>(x: V) -> V {
    // SAFETY: as the caller promises.
    unsafe {
        let limit = V::splat(-100.0);
        let clamped = V::max(limit, x);
        V::zero_where_less(x, limit, vector::exp2(clamped))
    }
}
