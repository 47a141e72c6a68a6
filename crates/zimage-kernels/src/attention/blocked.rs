//! Blocks of keys with a running softmax, on top of the matrix products.
//!
//! For a block of scores S = Q Kᵀ and the largest score m so far:
//! `m' = max(m, S)`, `r = exp(m - m')`, `P = exp(S - m')`, `l = l r + sum P`, `O = O r + P V`;
//! in the end `O / l`. Only one block of scores exists at a time.

use super::visible;
use crate::Level;
use crate::exp::exp;
use crate::gemm::{gemm_nn, gemm_nt};
use crate::level::per_level;
use crate::reduce;
use crate::tile::{MatrixRef, TileMut};

/// Keys per block: 64 queries x 256 keys of scores are 64 KB.
const KEYS: usize = 256;
/// Queries at a time, counted from the tile's first one.
const ROWS: usize = 64;

pub(super) fn attention(
    level: Level,
    out: &mut TileMut,
    q: MatrixRef,
    k: MatrixRef,
    v: MatrixRef,
    scale: f32,
    causal_from: Option<usize>,
    scratch: &mut Vec<f32>,
) {
    for first in (0..q.rows()).step_by(ROWS) {
        let queries = ROWS.min(q.rows() - first);
        let mut out = out.row_range(first, queries);
        let q = q.row_range(first, queries);
        query_block(level, &mut out, q, k, v, scale, causal_from.map(|position| position + first), scratch);
    }
}

fn query_block(
    level: Level,
    out: &mut TileMut,
    q: MatrixRef,
    k: MatrixRef,
    v: MatrixRef,
    scale: f32,
    causal_from: Option<usize>,
    scratch: &mut Vec<f32>,
) {
    let queries = q.rows();
    let needed = queries * (KEYS + 2);
    if scratch.len() < needed {
        scratch.resize(needed, 0.0);
    }
    let (largest, rest) = scratch.split_at_mut(queries);
    let (total, scores) = rest.split_at_mut(queries);
    largest.fill(f32::NEG_INFINITY);
    total.fill(0.0);
    let keys = visible(k.rows(), causal_from, queries - 1);
    for first in (0..keys).step_by(KEYS) {
        let count = KEYS.min(keys - first);
        let scores = &mut scores[..queries * count];
        gemm_nt(level, &mut TileMut::whole(scores, queries, count), q, k.row_range(first, count), None);
        for (i, row) in scores.chunks_exact_mut(count).enumerate() {
            let seen = visible(keys, causal_from, i).saturating_sub(first).min(count);
            let shrink = soften(level, row, seen, scale, &mut largest[i], &mut total[i]);
            if first > 0 && shrink != 1.0 {
                multiply(level, out.row_mut(i), shrink);
            }
        }
        let weights = MatrixRef::contiguous(scores, queries, count);
        gemm_nn(level, out, weights, v.row_range(first, count), first > 0);
    }
    for (i, total) in total.iter().enumerate() {
        multiply(level, out.row_mut(i), 1.0 / total);
    }
}

/// Turns one row of scores into weights relative to the new largest score, 0 for the keys from
/// `seen` on; returns by how much the sums so far shrink.
fn soften(level: Level, row: &mut [f32], seen: usize, scale: f32, largest: &mut f32, total: &mut f32) -> f32 {
    per_level!(level, soften_row, soften_row,
        (row: &mut [f32], seen: usize, scale: f32, largest: &mut f32, total: &mut f32) -> f32)
}

#[inline(always)]
fn soften_row(row: &mut [f32], seen: usize, scale: f32, largest: &mut f32, total: &mut f32) -> f32 {
    let (row, hidden) = row.split_at_mut(seen);
    hidden.fill(0.0);
    for score in row.iter_mut() {
        *score *= scale;
    }
    let before = *largest;
    let now = before.max(reduce::max(row));
    // With nothing but -inf so far every weight is 0; subtracting -inf would give NaN.
    let offset = if now == f32::NEG_INFINITY { 0.0 } else { now };
    for score in row.iter_mut() {
        *score = exp(*score - offset);
    }
    let shrink = exp(before - offset);
    *largest = now;
    *total = *total * shrink + reduce::sum_of(row, |weight| weight) as f32;
    shrink
}

fn multiply(level: Level, row: &mut [f32], factor: f32) {
    per_level!(level, multiply_row, multiply_row, (row: &mut [f32], factor: f32))
}

#[inline(always)]
fn multiply_row(row: &mut [f32], factor: f32) {
    for value in row {
        *value *= factor;
    }
}
