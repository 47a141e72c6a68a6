//! The same integers one query after the other, with exact sums and exponentials in f64.

use super::pack::{round_pairs, scale_of};
use super::{Head, KEYS, WEIGHT, visible};
use crate::tile::{MatrixRef, TileMut};

pub(super) fn attend(
    head: &Head,
    out: &mut TileMut,
    q: MatrixRef,
    packed: &[u32],
    scale: f32,
    causal_from: Option<usize>,
) {
    let mut row = vec![0; head.pairs()];
    for i in 0..q.rows() {
        let step = scale_of(q.row(i));
        round_pairs(q.row(i), 1.0 / step, &mut row);
        let seen = visible(head.tokens, causal_from, i);
        let (mut sums, mut total, mut largest) = (vec![0.0; head.value_dim], 0.0, f64::NEG_INFINITY);
        for index in 0..seen.div_ceil(KEYS) {
            let block = head.block(packed, index);
            let count = block.count.min(seen - block.first);
            let scale = f64::from(step) * f64::from(scale) * f64::from(block.key_scale);
            // At this level the layout is (keys, pairs) and (channels, pairs of keys).
            let scores: Vec<f64> =
                block.keys.chunks(head.pairs()).take(count).map(|key| dot(key, &row) * scale).collect();
            let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> =
                scores.iter().map(|score| (f64::from(WEIGHT) * (score - best).exp()).round()).collect();
            let now = if best.is_nan() { best } else { largest.max(best) };
            let (shrink, grow) = ((largest - now).exp(), (best - now).exp());
            largest = now;
            total = total * shrink + weights.iter().sum::<f64>() * grow;
            for (c, (sum, values)) in sums.iter_mut().zip(block.values.chunks(KEYS / 2)).enumerate() {
                let scale = f64::from(f32::from_bits(block.value_scales[c]));
                let here: f64 = weights.iter().enumerate().map(|(j, weight)| weight * integer(values, j)).sum();
                *sum = *sum * shrink + here * grow * scale;
            }
        }
        for (out, sum) in out.row_mut(i).iter_mut().zip(sums) {
            *out = (sum / total) as f32;
        }
    }
}

fn dot(a: &[u32], b: &[u32]) -> f64 {
    (0..2 * a.len()).map(|c| integer(a, c) * integer(b, c)).sum()
}

/// Number `i` of a row of pairs.
fn integer(pairs: &[u32], i: usize) -> f64 {
    f64::from((pairs[i / 2] >> (16 * (i % 2))) as i16)
}
