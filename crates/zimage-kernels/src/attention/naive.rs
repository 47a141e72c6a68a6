//! Two passes over all scores of a query, in f64.

use super::visible;
use crate::tile::{MatrixRef, TileMut};

pub(super) fn attention(
    out: &mut TileMut,
    q: MatrixRef,
    k: MatrixRef,
    v: MatrixRef,
    scale: f32,
    causal_from: Option<usize>,
) {
    for i in 0..q.rows() {
        let keys = visible(k.rows(), causal_from, i);
        let scores: Vec<f64> = (0..keys).map(|j| f64::from(scale) * dot(q.row(i), k.row(j))).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut sums = vec![0.0; v.cols()];
        for (j, weight) in weights.iter().enumerate() {
            for (sum, value) in sums.iter_mut().zip(v.row(j)) {
                *sum += weight * f64::from(*value);
            }
        }
        for (out, sum) in out.row_mut(i).iter_mut().zip(sums) {
            *out = (sum / total) as f32;
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}
