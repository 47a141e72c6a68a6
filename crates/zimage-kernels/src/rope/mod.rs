//! Rotary position embedding, in place, with tables of the angles.

mod lanes;
mod naive;

#[cfg(test)]
mod tests;

use crate::Level;
use crate::level::per_level;

/// Rotates the pairs `(2k, 2k + 1)` of every head: the transformer's layout.
///
/// `x` is `(tokens, heads * head_dim)`; `cos` and `sin` are `(tokens, head_dim / 2)`.
///
/// # Panics
/// When `head_dim` is odd or the lengths do not fit each other.
pub fn rope_interleaved(level: Level, x: &mut [f32], heads: usize, head_dim: usize, cos: &[f32], sin: &[f32]) {
    check(x.len(), heads, head_dim, cos, sin);
    per_level!(level, naive::rope_interleaved, lanes::rope_interleaved,
        (x: &mut [f32], heads: usize, head_dim: usize, cos: &[f32], sin: &[f32]))
}

/// Rotates the pairs `(i, i + head_dim / 2)` of every head: the text encoder's layout.
///
/// `x` is `(tokens, heads * head_dim)`; `cos` and `sin` are `(tokens, head_dim / 2)`.
///
/// # Panics
/// When `head_dim` is odd or the lengths do not fit each other.
pub fn rope_halves(level: Level, x: &mut [f32], heads: usize, head_dim: usize, cos: &[f32], sin: &[f32]) {
    check(x.len(), heads, head_dim, cos, sin);
    per_level!(level, naive::rope_halves, lanes::rope_halves,
        (x: &mut [f32], heads: usize, head_dim: usize, cos: &[f32], sin: &[f32]))
}

fn check(values: usize, heads: usize, head_dim: usize, cos: &[f32], sin: &[f32]) {
    assert!(heads > 0 && head_dim > 0 && head_dim.is_multiple_of(2), "{heads} heads of {head_dim}");
    assert_eq!(cos.len(), sin.len(), "lengths of the tables");
    assert_eq!(values, cos.len() * 2 * heads, "values of {heads} heads with {} angles", cos.len());
    assert!(cos.len().is_multiple_of(head_dim / 2), "{} angles in rows of {}", cos.len(), head_dim / 2);
}
