//! Attention on transposed scores, with queries in the lanes of vectors.
//!
//! Queries are taken in panels of `VECTORS` vectors, keys in blocks of 192. For a panel and a block
//!
//! ```text
//! S = K Qᵀ                      (keys, queries): a key's scores with the panel are `VECTORS` vectors
//! m' = max(m, S), r = 2^(m - m'), P = 2^(S - m')       lane by lane, nothing horizontal
//! Oᵀ = Oᵀ r + Vᵀ P              (values, queries): P is the right operand as it lies
//! ```
//!
//! Both products are the same loop: `ROWS` broadcasts from the left, `VECTORS` loads from the
//! right, `ROWS * VECTORS` accumulators. A block of keys and values is copied once for all panels of a group,
//! because rows of a head lie pages apart in a tensor of all heads; the group's panels stay in L2.
//! A lane never meets another one, so a query's bits do not depend on its neighbours.

use super::parts::Parts;
use super::visible;
use crate::tile::{MatrixRef, TileMut};

/// Keys per block: their scores with one panel of 48 queries are 36 KB.
const KEYS: usize = 192;
/// Queries and results of a group of panels, in values: 512 KB.
const GROUP_VALUES: usize = 128 * 1024;

/// A vector of f32 lanes.
///
/// # Safety
/// Every method needs the CPU features of the implementing type, and its pointers must be good for
/// `LANES` values. Methods are `#[inline(always)]`, so that they compile into a caller that has
/// the features.
pub(super) trait Vector: Copy {
    const LANES: usize;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(value: Self, to: *mut f32);
    unsafe fn add(a: Self, b: Self) -> Self;
    unsafe fn sub(a: Self, b: Self) -> Self;
    unsafe fn mul(a: Self, b: Self) -> Self;
    /// `a * b + c`, rounded once.
    unsafe fn mul_add(a: Self, b: Self, c: Self) -> Self;
    /// The larger one; `b` when either is NaN.
    unsafe fn max(a: Self, b: Self) -> Self;
    /// 2 to the power of the integer in the low bits of each lane.
    unsafe fn power_of_low_bits(a: Self) -> Self;
    /// 0 where `a < b`, elsewhere (also for a NaN) `value`.
    unsafe fn zero_where_less(a: Self, b: Self, value: Self) -> Self;
}

/// What all panels of a call share.
#[derive(Clone, Copy)]
struct Shape<'a> {
    k: MatrixRef<'a>,
    v: MatrixRef<'a>,
    /// Columns of `v`, rounded up to whole rows of the kernel.
    value_rows: usize,
    /// The scale of the scores times log2 e, as the weights are powers of 2.
    scale: f32,
}

/// The copied block of keys and values, and the scores of one panel with it.
struct Block {
    first: usize,
    count: usize,
    keys: *mut f32,
    values: *mut f32,
    scores: *mut f32,
}

/// One panel of queries and its running sums.
struct Panel {
    queries: usize,
    vectors: usize,
    /// Keys that the panel's first query sees, and its last one.
    seen_by_first: usize,
    seen_by_last: usize,
    /// `(d, width)`: the queries, transposed.
    q: *mut f32,
    /// `(value_rows, width)`: the results, transposed.
    out: *mut f32,
    /// `(width)`: the largest score so far.
    largest: *mut f32,
    /// `(width)`: the sum of the weights so far.
    total: *mut f32,
}

/// [`super::attention`] with panels of `VECTORS` (at most 3) vectors of queries, and `ROWS` (a divisor of
/// 192) broadcasts at a time.
///
/// # Safety
/// The caller has the CPU features of `V`.
#[inline(always)]
pub(super) unsafe fn attention<V: Vector, const ROWS: usize, const VECTORS: usize>(
    out: &mut TileMut,
    q: MatrixRef,
    k: MatrixRef,
    v: MatrixRef,
    scale: f32,
    causal_from: Option<usize>,
    scratch: &mut Vec<f32>,
) {
    const { assert!(KEYS.is_multiple_of(ROWS) && VECTORS <= 3) };
    let shape = Shape { k, v, value_rows: v.cols().next_multiple_of(ROWS), scale: scale * std::f32::consts::LOG2_E };
    let width = VECTORS * V::LANES;
    let panel_values = width * (q.cols() + shape.value_rows + 2);
    let at_once = (GROUP_VALUES / panel_values).max(1).min(q.rows().div_ceil(width));
    let block_values = KEYS * (k.cols() + shape.value_rows + width);
    let mut parts = Parts::of(scratch, block_values + at_once * panel_values, 3 + 4 * at_once);
    let keys = parts.take(KEYS * k.cols());
    let values = parts.take(KEYS * shape.value_rows);
    let scores = parts.take(KEYS * width);
    let group_start = parts;
    for first in (0..q.rows()).step_by(at_once * width) {
        let mut parts = group_start;
        let mut group = Vec::with_capacity(at_once);
        let end = q.rows().min(first + at_once * width);
        for start in (first..end).step_by(width) {
            let queries = width.min(end - start);
            let seen = |i| visible(k.rows(), causal_from, i);
            let panel = Panel {
                queries,
                vectors: queries.div_ceil(V::LANES),
                seen_by_first: seen(start),
                seen_by_last: seen(start + queries - 1),
                q: parts.take(width * q.cols()),
                out: parts.take(width * shape.value_rows),
                largest: parts.take(width),
                total: parts.take(width),
            };
            // SAFETY: the parts have the sizes that `Panel` states.
            unsafe { panel.start(&shape, q.row_range(start, queries), V::LANES) };
            group.push(panel);
        }
        // SAFETY: the caller has the features; the parts have the sizes that `Block` needs.
        unsafe { attend::<V, ROWS>(&shape, &mut group, keys, values, scores) };
        for (i, panel) in group.iter().enumerate() {
            let mut out = out.row_range(first + i * width, panel.queries);
            // SAFETY: `attend` has filled the panel's sums.
            unsafe { panel.finish(&mut out, V::LANES) };
        }
    }
}

/// Runs a group of panels over all keys that its last query sees.
///
/// # Safety
/// The caller has the CPU features of `V`; `keys`, `values` and `scores` hold one block.
#[inline(always)]
unsafe fn attend<V: Vector, const ROWS: usize>(
    shape: &Shape,
    group: &mut [Panel],
    keys: *mut f32,
    values: *mut f32,
    scores: *mut f32,
) {
    let seen = group.iter().map(|panel| panel.seen_by_last).max().unwrap_or(0);
    for first in (0..seen).step_by(KEYS) {
        let block = Block { first, count: KEYS.min(seen - first), keys, values, scores };
        // SAFETY: as the caller promises; a panel has 1 to 3 vectors.
        unsafe {
            block.copy(shape, ROWS);
            for panel in group.iter().filter(|panel| panel.seen_by_last > first) {
                match panel.vectors {
                    1 => panel.step::<V, ROWS, 1>(shape, &block),
                    2 => panel.step::<V, ROWS, 2>(shape, &block),
                    _ => panel.step::<V, ROWS, 3>(shape, &block),
                }
            }
        }
    }
}

impl Block {
    /// Copies the block's keys to `(count, d)`, followed by zeros up to whole rows of the kernel,
    /// and its values to `(value_rows / ROWS, count, ROWS)`.
    ///
    /// # Safety
    /// `keys` and `values` hold a block; `KEYS` is a multiple of `rows`.
    #[inline(always)]
    unsafe fn copy(&self, shape: &Shape, rows: usize) {
        let (d, dv) = (shape.k.cols(), shape.v.cols());
        // SAFETY: the buffers hold KEYS keys and values.
        let (keys, values) = unsafe {
            (
                std::slice::from_raw_parts_mut(self.keys, self.count.next_multiple_of(rows) * d),
                std::slice::from_raw_parts_mut(self.values, self.count * shape.value_rows),
            )
        };
        keys[self.count * d..].fill(0.0);
        for i in 0..self.count {
            keys[i * d..][..d].copy_from_slice(shape.k.row(self.first + i));
            for (group, piece) in shape.v.row(self.first + i).chunks(rows).enumerate() {
                values[(group * self.count + i) * rows..][..piece.len()].copy_from_slice(piece);
            }
            if !dv.is_multiple_of(rows) {
                let last = (dv / rows * self.count + i) * rows;
                values[last + dv % rows..last + rows].fill(0.0);
            }
        }
    }
}

impl Panel {
    fn width(&self, lanes: usize) -> usize {
        self.vectors * lanes
    }

    /// Lays out the scaled queries, with zeros in the lanes beyond them, and empties the sums.
    ///
    /// # Safety
    /// The buffers have the sizes that the fields state.
    #[inline(always)]
    unsafe fn start(&self, shape: &Shape, q: MatrixRef, lanes: usize) {
        let width = self.width(lanes);
        // SAFETY: as the caller promises.
        let (transposed, largest, total) = unsafe {
            (
                std::slice::from_raw_parts_mut(self.q, q.cols() * width),
                std::slice::from_raw_parts_mut(self.largest, width),
                std::slice::from_raw_parts_mut(self.total, width),
            )
        };
        transposed.fill(0.0);
        for lane in 0..self.queries {
            for (c, value) in q.row(lane).iter().enumerate() {
                transposed[c * width + lane] = value * shape.scale;
            }
        }
        largest.fill(f32::NEG_INFINITY);
        total.fill(0.0);
    }

    /// Divides the sums by the total weight and writes them as rows.
    ///
    /// # Safety
    /// The sums are filled, `(out.cols(), width)`.
    #[inline(always)]
    unsafe fn finish(&self, out: &mut TileMut, lanes: usize) {
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

    /// Takes one block of keys into the sums.
    ///
    /// # Safety
    /// The caller has the CPU features of `V`; the panel has `N` vectors.
    #[inline(always)]
    unsafe fn step<V: Vector, const ROWS: usize, const N: usize>(&self, shape: &Shape, block: &Block) {
        let (d, width) = (shape.k.cols(), N * V::LANES);
        let count = block.count.min(self.seen_by_last - block.first);
        // SAFETY: rows up to the next multiple of ROWS exist in all buffers.
        unsafe {
            for i in (0..count).step_by(ROWS) {
                let rows: [*const f32; ROWS] = std::array::from_fn(|r| block.keys.add((i + r) * d).cast_const());
                product::<V, ROWS, N>(d, rows, 1, self.q, block.scores.add(i * width), None);
            }
            self.hide(block, count, width);
            let shrink = self.soften::<V, N>(block.scores, count);
            let shrink = if block.first > 0 { Some(shrink) } else { None };
            for i in (0..shape.value_rows).step_by(ROWS) {
                let values = block.values.add(i * block.count);
                let rows: [*const f32; ROWS] = std::array::from_fn(|r| values.add(r).cast_const());
                product::<V, ROWS, N>(count, rows, ROWS, block.scores, self.out.add(i * width), shrink);
            }
        }
    }

    /// Gives the keys that a query must not see the score -inf.
    ///
    /// # Safety
    /// `scores` holds `(count, width)`.
    #[inline(always)]
    unsafe fn hide(&self, block: &Block, count: usize, width: usize) {
        for key in self.seen_by_first.max(block.first)..block.first + count {
            let hidden = (key + 1 - self.seen_by_first).min(width);
            // SAFETY: as the caller promises.
            let row = unsafe { std::slice::from_raw_parts_mut(block.scores.add((key - block.first) * width), width) };
            row[..hidden].fill(f32::NEG_INFINITY);
        }
    }

    /// Turns scores into weights relative to the largest one so far; returns by how much the
    /// earlier sums shrink.
    ///
    /// # Safety
    /// The caller has the CPU features of `V`; `scores` holds `(count, N * LANES)`.
    #[inline(always)]
    unsafe fn soften<V: Vector, const N: usize>(&self, scores: *mut f32, count: usize) -> [V; N] {
        // SAFETY: as the caller promises.
        unsafe {
            let lowest = V::splat(f32::MIN);
            let mut shrinks = [lowest; N];
            for (n, shrink) in shrinks.iter_mut().enumerate() {
                let lane = n * V::LANES;
                let column = scores.add(lane);
                let before = V::load(self.largest.add(lane));
                let mut largest = V::splat(f32::NEG_INFINITY);
                for i in 0..count {
                    largest = V::max(V::load(column.add(i * N * V::LANES)), largest);
                }
                let largest = V::max(largest, before);
                // With nothing but -inf so far, -inf minus the lowest finite value gives weight 0;
                // minus itself it would give NaN.
                let offset = V::max(largest, lowest);
                *shrink = exp2(V::sub(before, offset));
                let mut total = V::mul(V::load(self.total.add(lane)), *shrink);
                for i in 0..count {
                    let place = column.add(i * N * V::LANES);
                    let weight = exp2(V::sub(V::load(place), offset));
                    total = V::add(total, weight);
                    V::store(weight, place);
                }
                V::store(largest, self.largest.add(lane));
                V::store(total, self.total.add(lane));
            }
            shrinks
        }
    }
}

/// `c = c * shrink + a b`: `c` is `(ROWS, N)` vectors, `b` `(count, N)` vectors, and `a` one pointer
/// per row that moves `step` values at a time. Without `shrink`, `c` starts at 0.
///
/// # Safety
/// The caller has the CPU features of `V`, and all pointers are good for what is said above.
#[inline(always)]
unsafe fn product<V: Vector, const ROWS: usize, const N: usize>(
    count: usize,
    a: [*const f32; ROWS],
    step: usize,
    b: *const f32,
    c: *mut f32,
    shrink: Option<[V; N]>,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut sums = [[V::splat(0.0); N]; ROWS];
        if let Some(shrink) = shrink {
            for (r, row) in sums.iter_mut().enumerate() {
                for (n, sum) in row.iter_mut().enumerate() {
                    *sum = V::mul(V::load(c.add((r * N + n) * V::LANES)), shrink[n]);
                }
            }
        }
        for i in 0..count {
            let mut right = [V::splat(0.0); N];
            for (n, vector) in right.iter_mut().enumerate() {
                *vector = V::load(b.add((i * N + n) * V::LANES));
            }
            for (r, row) in sums.iter_mut().enumerate() {
                let left = V::splat(*a[r].add(i * step));
                for (n, sum) in row.iter_mut().enumerate() {
                    *sum = V::mul_add(left, right[n], *sum);
                }
            }
        }
        for (r, row) in sums.iter().enumerate() {
            for (n, sum) in row.iter().enumerate() {
                V::store(*sum, c.add((r * N + n) * V::LANES));
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
unsafe fn exp2<V: Vector>(x: V) -> V {
    // SAFETY: as the caller promises.
    unsafe {
        let limit = V::splat(-100.0);
        let clamped = V::max(limit, x);
        // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
        let round = V::splat(12_582_912.0);
        let shifted = V::add(clamped, round);
        let f = V::sub(clamped, V::sub(shifted, round));
        let mut p = V::splat(EXP2[5]);
        for coefficient in [EXP2[4], EXP2[3], EXP2[2], EXP2[1], EXP2[0], 1.0] {
            p = V::mul_add(p, f, V::splat(coefficient));
        }
        V::zero_where_less(x, limit, V::mul(p, V::power_of_low_bits(shifted)))
    }
}

/// 2^f = 1 + f * (this polynomial) on |f| <= 1/2: a fit at Chebyshev points, off by 9e-9.
const EXP2: [f32; 6] =
    [std::f32::consts::LN_2, 0.240_226_5, 0.055_503_57, 0.009_618_057, 0.001_339_086_7, 0.000_154_614_48];
