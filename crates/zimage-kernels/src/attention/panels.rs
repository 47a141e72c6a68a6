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
//! because rows of a head lie pages apart in a tensor of all heads; it is the block that stays in L2.
//! A lane never meets another one, so a query's bits do not depend on its neighbours.

use super::panel::{GROUP_VALUES, Panel, exp2};
use super::parts::Parts;
use super::prefetch;
use super::visible;
use crate::tile::{MatrixRef, TileMut};
use crate::vector::Vector;

/// Keys per block: their scores with one panel of 48 queries are 36 KB.
const KEYS: usize = 192;

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

/// A panel of queries for products in f32.
struct FloatPanel {
    panel: Panel,
    /// `(d, width)`: the queries, transposed.
    q: *mut f32,
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
                out: parts.take(width * shape.value_rows),
                largest: parts.take(width),
                total: parts.take(width),
            };
            let panel = FloatPanel { panel, q: parts.take(width * q.cols()) };
            // SAFETY: the parts have the sizes that the panels state.
            unsafe { panel.start(&shape, q.row_range(start, queries), V::LANES) };
            group.push(panel);
        }
        // SAFETY: the caller has the features; the parts have the sizes that `Block` needs.
        unsafe { attend::<V, ROWS>(&shape, &mut group, keys, values, scores) };
        for (i, FloatPanel { panel, .. }) in group.iter().enumerate() {
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
    group: &mut [FloatPanel],
    keys: *mut f32,
    values: *mut f32,
    scores: *mut f32,
) {
    let seen = group.iter().map(|panel| panel.panel.seen_by_last).max().unwrap_or(0);
    for first in (0..seen).step_by(KEYS) {
        let block = Block { first, count: KEYS.min(seen - first), keys, values, scores };
        // SAFETY: as the caller promises; a panel has 1 to 3 vectors.
        unsafe {
            block.copy::<ROWS>(shape);
            for panel in group.iter().filter(|panel| panel.panel.seen_by_last > first) {
                match panel.panel.vectors {
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
    /// `keys` and `values` hold a block of a number of keys that is a multiple of `ROWS`.
    #[inline(always)]
    unsafe fn copy<const ROWS: usize>(&self, shape: &Shape) {
        let d = shape.k.cols();
        // SAFETY: the buffers hold a block of keys and values.
        let (keys, values) = unsafe {
            (
                std::slice::from_raw_parts_mut(self.keys, self.count.next_multiple_of(ROWS) * d),
                std::slice::from_raw_parts_mut(self.values, self.count * shape.value_rows),
            )
        };
        keys[self.count * d..].fill(0.0);
        let (values, _) = values.as_chunks_mut::<ROWS>();
        for i in 0..self.count {
            prefetch::ahead(shape.k, self.first + i);
            prefetch::ahead(shape.v, self.first + i);
            keys[i * d..][..d].copy_from_slice(shape.k.row(self.first + i));
            let (pieces, last) = shape.v.row(self.first + i).as_chunks::<ROWS>();
            for (group, piece) in pieces.iter().enumerate() {
                values[group * self.count + i] = *piece;
            }
            if !last.is_empty() {
                let place = &mut values[pieces.len() * self.count + i];
                *place = [0.0; ROWS];
                place[..last.len()].copy_from_slice(last);
            }
        }
    }
}

impl FloatPanel {
    /// Lays out the scaled queries, with zeros in the lanes beyond them, and empties the sums.
    ///
    /// # Safety
    /// The buffers have the sizes that the fields state.
    #[inline(always)]
    unsafe fn start(&self, shape: &Shape, q: MatrixRef, lanes: usize) {
        let width = self.panel.width(lanes);
        // SAFETY: as the caller promises.
        let transposed = unsafe {
            self.panel.clear(lanes);
            std::slice::from_raw_parts_mut(self.q, q.cols() * width)
        };
        transposed.fill(0.0);
        for lane in 0..self.panel.queries {
            for (c, value) in q.row(lane).iter().enumerate() {
                transposed[c * width + lane] = value * shape.scale;
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
        let count = block.count.min(self.panel.seen_by_last - block.first);
        // SAFETY: rows up to the next multiple of ROWS exist in all buffers.
        unsafe {
            for i in (0..count).step_by(ROWS) {
                let rows: [*const f32; ROWS] = std::array::from_fn(|r| block.keys.add((i + r) * d).cast_const());
                product::<V, ROWS, N>(d, rows, 1, self.q, block.scores.add(i * width), None);
            }
            self.panel.hide(block.scores, block.first, count, width);
            let shrink = self.soften::<V, N>(block.scores, count);
            let shrink = if block.first > 0 { Some(shrink) } else { None };
            for i in (0..shape.value_rows).step_by(ROWS) {
                let values = block.values.add(i * block.count);
                let rows: [*const f32; ROWS] = std::array::from_fn(|r| values.add(r).cast_const());
                product::<V, ROWS, N>(count, rows, ROWS, block.scores, self.panel.out.add(i * width), shrink);
            }
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
                let before = V::load(self.panel.largest.add(lane));
                let mut largest = V::splat(f32::NEG_INFINITY);
                for i in 0..count {
                    largest = V::max(V::load(column.add(i * N * V::LANES)), largest);
                }
                let largest = V::max(largest, before);
                // With nothing but -inf so far, -inf minus the lowest finite value gives weight 0;
                // minus itself it would give NaN.
                let offset = V::max(largest, lowest);
                *shrink = exp2(V::sub(before, offset));
                let mut total = V::mul(V::load(self.panel.total.add(lane)), *shrink);
                for i in 0..count {
                    let place = column.add(i * N * V::LANES);
                    let weight = exp2(V::sub(V::load(place), offset));
                    total = V::add(total, weight);
                    V::store(weight, place);
                }
                V::store(largest, self.panel.largest.add(lane));
                V::store(total, self.panel.total.add(lane));
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
