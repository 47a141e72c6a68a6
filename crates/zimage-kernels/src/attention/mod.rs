//! Attention of one head without a matrix of scores.

pub mod int16;

mod blocked;
mod naive;
mod panel;
#[cfg(target_arch = "x86_64")]
mod panels;
mod parts;
mod prefetch;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests;

use crate::Level;
use crate::tile::{MatrixRef, TileMut};

/// Queries in a block that the kernels at all levels can fill, and enough of them to pay for copying the keys.
pub const QUERIES: usize = 384;

/// `out = softmax(scale * q kᵀ) v` for a block of queries of one head against all keys.
///
/// `q` is `(queries, d)`, `k` `(keys, d)`, `v` `(keys, dv)`, `out` `(queries, dv)`; all of them
/// strided, so that a head of a `(tokens, heads * d)` tensor needs no copy. With
/// `causal_from = Some(position)` query `i` sees the keys `0 ..= position + i` only. `scratch`
/// grows to what one block of keys needs.
///
/// A caller that splits the queries among threads should take blocks of [`QUERIES`], or a multiple
/// of it: a fixed number, because at the portable level the bits may depend on the block.
///
/// # Panics
/// When the shapes do not fit each other, there is no key, or `scale` is not positive.
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
    assert!(scale > 0.0, "scale {scale}");
    level.check();
    match level {
        Level::Naive => naive::attention(out, q, k, v, scale, causal_from),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `check` found that this CPU has the level.
        Level::Avx2 => unsafe { x86::avx2(out, q, k, v, scale, causal_from, scratch) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `check` found that this CPU has the level.
        Level::Avx512 => unsafe { x86::avx512(out, q, k, v, scale, causal_from, scratch) },
        _ => blocked::attention(level, out, q, k, v, scale, causal_from, scratch),
    }
}

/// How many of `keys` query `i` sees.
fn visible(keys: usize, causal_from: Option<usize>, i: usize) -> usize {
    causal_from.map_or(keys, |position| keys.min(position + i + 1))
}
