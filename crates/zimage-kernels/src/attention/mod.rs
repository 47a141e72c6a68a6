//! Attention of one head without a matrix of scores.

mod blocked;
mod naive;

#[cfg(test)]
mod tests;

use crate::Level;
use crate::tile::{MatrixRef, TileMut};

/// `out = softmax(scale * q kᵀ) v` for a block of queries of one head against all keys.
///
/// `q` is `(queries, d)`, `k` `(keys, d)`, `v` `(keys, dv)`, `out` `(queries, dv)`; all of them
/// strided, so that a head of a `(tokens, heads * d)` tensor needs no copy. With
/// `causal_from = Some(position)` query `i` sees the keys `0 ..= position + i` only. `scratch`
/// grows to what one block of keys needs.
///
/// A query's result does not depend on which other queries share its block.
///
/// # Panics
/// When the shapes do not fit each other, or there is no key.
pub fn attention(
    level: Level,
    out: &mut TileMut,
    q: MatrixRef,
    k: MatrixRef,
    v: MatrixRef,
    scale: f32,
    causal_from: Option<usize>,
    scratch: &mut Vec<f32>,
) {
    assert_eq!(q.rows(), out.rows(), "queries");
    assert_eq!(q.cols(), k.cols(), "head sizes of queries and keys");
    assert_eq!(k.rows(), v.rows(), "keys and values");
    assert_eq!(v.cols(), out.cols(), "head sizes of values and output");
    assert!(k.rows() > 0, "no key to attend to");
    level.check();
    match level {
        Level::Naive => naive::attention(out, q, k, v, scale, causal_from),
        _ => blocked::attention(level, out, q, k, v, scale, causal_from, scratch),
    }
}

/// How many of `keys` query `i` sees.
fn visible(keys: usize, causal_from: Option<usize>, i: usize) -> usize {
    causal_from.map_or(keys, |position| keys.min(position + i + 1))
}
