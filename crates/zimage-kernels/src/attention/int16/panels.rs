//! The kernel: transposed scores with queries in lanes, as `attention/panels.rs` does it in f32.
//!
//! ```text
//! S = K Qᵀ                  integers; a block's scores times one scale per query are the true ones
//! m_b = max S, P = round(8191 * 2^(S - m_b))
//! m' = max(m, m_b), r = 2^(m - m'), g = 2^(m_b - m')
//! Oᵀ = Oᵀ r + (Vᵀ P) g * the values' scale per channel
//! ```
//! The weights are rounded relative to the block's own best key, which keeps four bits more than
//! rounding them relative to the best one so far would.

use super::super::panel::{GROUP_VALUES, Panel, exp2};
use super::super::parts::Parts;
use super::pack::{round_pairs, scale_of};
use super::{Block, Head, KEYS, visible};
use crate::tile::{MatrixRef, TileMut};
use crate::vector::Vector;

/// Vectors of 32-bit integers beside those of f32.
///
/// # Safety
/// As [`Vector`].
pub(super) trait Integers {
    type Floats: Vector;
    type Ints: Copy;
    unsafe fn splat(word: u32) -> Self::Ints;
    unsafe fn load(from: *const u32) -> Self::Ints;
    unsafe fn store(value: Self::Ints, to: *mut u32);
    /// `sum` plus both products of each lane's pairs of signed 16-bit integers.
    unsafe fn dot(sum: Self::Ints, a: Self::Ints, b: Self::Ints) -> Self::Ints;
    unsafe fn to_floats(value: Self::Ints) -> Self::Floats;
    /// `round(8191 * 2^x)` by [`WEIGHTS`], for x <= 0; anything for a NaN.
    unsafe fn weights(x: Self::Floats) -> Self::Ints;
    /// Pairs of two vectors of integers below 2^15.
    unsafe fn pairs(low: Self::Ints, high: Self::Ints) -> Self::Ints;
}

/// 8191 * 2^f on 0 <= f < 1, exact at 0, elsewhere within 8e-6: a fit of (2^f - 1) / f at Chebyshev points.
pub(super) const WEIGHTS: [f32; 5] = [super::WEIGHT, 5_677.460_5, 1_971.14, 437.735_47, 104.542_67];

/// A panel of queries for products of integers.
struct IntPanel {
    panel: Panel,
    /// `(pairs of channels, width)`: the queries, transposed.
    q: *mut u32,
    /// `(width)`: what a query's integers stand for, times the scale of the scores and log2 e.
    scales: *mut f32,
}

/// Scores and weights of one panel with a block of keys.
#[derive(Clone, Copy)]
struct Buffers {
    /// `(KEYS, width)`
    scores: *mut f32,
    /// `(KEYS / 2, width)`
    weights: *mut u32,
}

/// [`Head::attend`] with panels of `VECTORS` (at most 3) vectors of queries, and `ROWS` (a divisor of 192)
/// broadcasts at a time.
///
/// # Safety
/// The caller has the CPU features of `I`; `packed` is of `head`, whose kernel takes `ROWS`.
#[inline(always)]
pub(super) unsafe fn attend<I: Integers, const ROWS: usize, const VECTORS: usize>(
    head: &Head,
    out: &mut TileMut,
    q: MatrixRef,
    packed: &[u32],
    scale: f32,
    causal_from: Option<usize>,
    scratch: &mut Vec<f32>,
) {
    const { assert!(KEYS.is_multiple_of(ROWS) && VECTORS <= 3) };
    assert_eq!(head.rows(), ROWS, "rows of the kernel: this is a bug");
    let lanes = I::Floats::LANES;
    let width = VECTORS * lanes;
    let panel_words = width * (head.pairs() + head.value_rows() + 3);
    let at_once = (GROUP_VALUES / panel_words).max(1).min(q.rows().div_ceil(width));
    let block_words = width * (KEYS + KEYS / 2) + head.pairs();
    let mut parts = Parts::of(scratch, block_words + at_once * panel_words, 3 + 5 * at_once);
    let buffers = Buffers { scores: parts.take(KEYS * width), weights: parts.take(KEYS / 2 * width).cast() };
    let row = parts.take(head.pairs()).cast::<u32>();
    // SAFETY: the part is that long, and nothing else uses it.
    let row = unsafe { std::slice::from_raw_parts_mut(row, head.pairs()) };
    let group_start = parts;
    for first in (0..q.rows()).step_by(at_once * width) {
        let mut parts = group_start;
        let mut group = Vec::with_capacity(at_once);
        let end = q.rows().min(first + at_once * width);
        for start in (first..end).step_by(width) {
            let queries = width.min(end - start);
            let seen = |i| visible(head.tokens, causal_from, i);
            let panel = Panel {
                queries,
                vectors: queries.div_ceil(lanes),
                seen_by_first: seen(start),
                seen_by_last: seen(start + queries - 1),
                out: parts.take(width * head.value_rows()),
                largest: parts.take(width),
                total: parts.take(width),
            };
            let q_words = parts.take(width * head.pairs()).cast();
            let panel = IntPanel { panel, q: q_words, scales: parts.take(width) };
            // SAFETY: the parts have the sizes that the panels state.
            unsafe { panel.start(q.row_range(start, queries), scale, lanes, row) };
            group.push(panel);
        }
        // SAFETY: the caller has the features; the buffers are as large as stated.
        unsafe { attend_group::<I, ROWS>(head, &group, packed, buffers) };
        for (i, IntPanel { panel, .. }) in group.iter().enumerate() {
            let mut out = out.row_range(first + i * width, panel.queries);
            // SAFETY: `attend_group` has filled the panel's sums.
            unsafe { panel.finish(&mut out, lanes) };
        }
    }
}

/// Runs a group of panels over all blocks that its last query sees.
///
/// # Safety
/// As [`attend`].
#[inline(always)]
unsafe fn attend_group<I: Integers, const ROWS: usize>(
    head: &Head,
    group: &[IntPanel],
    packed: &[u32],
    buffers: Buffers,
) {
    let seen = group.iter().map(|panel| panel.panel.seen_by_last).max().unwrap_or(0);
    for index in 0..seen.div_ceil(KEYS) {
        let block = head.block(packed, index);
        for panel in group.iter().filter(|panel| panel.panel.seen_by_last > block.first) {
            // SAFETY: as the caller promises; a panel has 1 to 3 vectors.
            unsafe {
                match panel.panel.vectors {
                    1 => panel.step::<I, ROWS, 1>(head, &block, buffers),
                    2 => panel.step::<I, ROWS, 2>(head, &block, buffers),
                    _ => panel.step::<I, ROWS, 3>(head, &block, buffers),
                }
            }
        }
    }
}

impl IntPanel {
    /// Rounds the queries, with zeros in the lanes beyond them, and empties the sums.
    ///
    /// # Safety
    /// The buffers have the sizes that the fields state.
    #[inline(always)]
    unsafe fn start(&self, q: MatrixRef, scale: f32, lanes: usize, row: &mut [u32]) {
        let width = self.panel.width(lanes);
        // SAFETY: as the caller promises.
        let (transposed, scales) = unsafe {
            self.panel.clear(lanes);
            (
                std::slice::from_raw_parts_mut(self.q, row.len() * width),
                std::slice::from_raw_parts_mut(self.scales, width),
            )
        };
        transposed.fill(0);
        scales.fill(1.0);
        for lane in 0..self.panel.queries {
            let step = scale_of(q.row(lane));
            scales[lane] = step * (scale * std::f32::consts::LOG2_E);
            round_pairs(q.row(lane), 1.0 / step, row);
            for (place, pair) in transposed[lane..].iter_mut().step_by(width).zip(row.iter()) {
                *place = *pair;
            }
        }
    }

    /// Takes one block of keys into the sums.
    ///
    /// # Safety
    /// The caller has the CPU features of `I`; the panel has `N` vectors.
    #[inline(always)]
    unsafe fn step<I: Integers, const ROWS: usize, const N: usize>(
        &self,
        head: &Head,
        block: &Block,
        buffers: Buffers,
    ) {
        let width = N * I::Floats::LANES;
        let count = block.count.min(self.panel.seen_by_last - block.first);
        let pairs = count.div_ceil(2);
        // SAFETY: rows up to the next multiple of ROWS exist in all buffers.
        unsafe {
            for i in (0..count).step_by(ROWS) {
                let keys = block.keys.as_ptr().add(i * head.pairs());
                let sums = product::<I, ROWS, N>(head.pairs(), keys, self.q);
                for (r, row) in sums.iter().enumerate() {
                    for (n, sum) in row.iter().enumerate() {
                        let place = buffers.scores.add((i + r) * width + n * I::Floats::LANES);
                        I::Floats::store(I::to_floats(*sum), place);
                    }
                }
            }
            self.panel.hide(buffers.scores, block.first, count, width);
            // The partner of a last odd key.
            std::slice::from_raw_parts_mut(buffers.scores.add(count * width), (2 * pairs - count) * width)
                .fill(f32::NEG_INFINITY);
            let (shrink, grow) = self.soften::<I, N>(block.key_scale, buffers, pairs);
            for i in (0..head.value_rows()).step_by(ROWS) {
                let values = block.values.as_ptr().add(i * (KEYS / 2));
                let sums = product::<I, ROWS, N>(pairs, values, buffers.weights);
                for (r, row) in sums.iter().enumerate() {
                    let scale = I::Floats::splat(f32::from_bits(block.value_scales[i + r]));
                    for (n, sum) in row.iter().enumerate() {
                        let place = self.panel.out.add((i + r) * width + n * I::Floats::LANES);
                        let mut value = I::Floats::mul(I::Floats::mul(I::to_floats(*sum), grow[n]), scale);
                        if block.first > 0 {
                            value = I::Floats::mul_add(I::Floats::load(place), shrink[n], value);
                        }
                        I::Floats::store(value, place);
                    }
                }
            }
        }
    }

    /// Turns scores into weights relative to the block's largest one; returns by how much the
    /// earlier sums shrink, and those of this block grow.
    ///
    /// # Safety
    /// The caller has the CPU features of `I`; `scores` holds `(2 * pairs, N * LANES)`.
    #[inline(always)]
    unsafe fn soften<I: Integers, const N: usize>(
        &self,
        key_scale: f32,
        buffers: Buffers,
        pairs: usize,
    ) -> ([I::Floats; N], [I::Floats; N]) {
        let (lanes, width) = (I::Floats::LANES, N * I::Floats::LANES);
        // SAFETY: as the caller promises.
        unsafe {
            let lowest = I::Floats::splat(f32::MIN);
            let ones = I::splat(0x0001_0001);
            let (mut shrinks, mut grows) = ([lowest; N], [lowest; N]);
            for n in 0..N {
                let lane = n * lanes;
                let (scores, weights) = (buffers.scores.add(lane), buffers.weights.add(lane));
                let mut top = I::Floats::splat(f32::NEG_INFINITY);
                for i in 0..2 * pairs {
                    top = I::Floats::max(I::Floats::load(scores.add(i * width)), top);
                }
                // With nothing but -inf, -inf minus the lowest finite value gives weight 0; minus itself it
                // would give NaN.
                let top = I::Floats::max(top, lowest);
                let scale = I::Floats::mul(I::Floats::load(self.scales.add(lane)), I::Floats::splat(key_scale));
                let mut sum = I::splat(0);
                for i in 0..pairs {
                    let low = I::Floats::sub(I::Floats::load(scores.add(2 * i * width)), top);
                    let high = I::Floats::sub(I::Floats::load(scores.add((2 * i + 1) * width)), top);
                    let low = I::weights(I::Floats::mul(low, scale));
                    let pair = I::pairs(low, I::weights(I::Floats::mul(high, scale)));
                    sum = I::dot(sum, pair, ones);
                    I::store(pair, weights.add(i * width));
                }
                let (largest, total) = (self.panel.largest.add(lane), self.panel.total.add(lane));
                let (before, here) = (I::Floats::load(largest), I::Floats::mul(top, scale));
                let now = I::Floats::max(here, before);
                let offset = I::Floats::max(now, lowest);
                shrinks[n] = exp2(I::Floats::sub(before, offset));
                grows[n] = exp2(I::Floats::sub(here, offset));
                let sum = I::Floats::mul(I::to_floats(sum), grows[n]);
                I::Floats::store(I::Floats::mul_add(I::Floats::load(total), shrinks[n], sum), total);
                I::Floats::store(now, largest);
            }
            (shrinks, grows)
        }
    }
}

/// `a b` in integers: `a` is `(count, ROWS)` words, `b` `(count, N)` vectors.
///
/// # Safety
/// The caller has the CPU features of `I`, and both pointers are good for what is said above.
#[inline(always)]
unsafe fn product<I: Integers, const ROWS: usize, const N: usize>(
    count: usize,
    a: *const u32,
    b: *const u32,
) -> [[I::Ints; N]; ROWS] {
    // SAFETY: as the caller promises.
    unsafe {
        let mut sums = [[I::splat(0); N]; ROWS];
        for i in 0..count {
            let mut right = [I::splat(0); N];
            for (n, vector) in right.iter_mut().enumerate() {
                *vector = I::load(b.add((i * N + n) * I::Floats::LANES));
            }
            for (r, row) in sums.iter_mut().enumerate() {
                let left = I::splat(*a.add(i * ROWS + r));
                for (n, sum) in row.iter_mut().enumerate() {
                    *sum = I::dot(*sum, left, right[n]);
                }
            }
        }
        sums
    }
}
