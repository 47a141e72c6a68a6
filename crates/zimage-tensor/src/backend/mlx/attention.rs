//! Attention.

use super::port::Array;
use super::{Buffer, Element, Mlx};
use crate::Mask;
use crate::backend::Attention;

/// Lengths of heads for which MLX has a kernel that makes no matrix of scores on Apple's GPUs.
const FUSED: [usize; 3] = [64, 80, 128];

/// How many scores may be in memory at once where it makes one. Few in tests, which so see more than one part.
const SCORES: usize = if cfg!(test) { 1 << 16 } else { 1 << 26 };

/// Which values of a head are pairs.
pub(super) struct Turn {
    /// Values per head.
    pub head_dim: usize,
    /// Those at the same place of both halves, and not neighbours.
    pub halves: bool,
}

impl Mlx {
    pub(super) fn attention_of(&self, q: &Buffer, k: &Buffer, v: &Buffer, g: Attention) -> Buffer {
        let fused = self.port.is_gpu() && FUSED.contains(&g.head_dim);
        // A matrix of scores would have the element of its operands, and large scores in bf16 are far from each other.
        let element = if fused { self.element() } else { Element::F32 };
        let heads =
            |x: &Buffer, tokens, heads| self.heads(&self.port.cast(&x.array, element), [tokens, heads, g.head_dim]);
        let (queries, keys, values) =
            (heads(q, g.queries, g.heads), heads(k, g.keys, g.kv_heads), heads(v, g.keys, g.kv_heads));
        let (scale, causal) = (g.scale(), g.mask == Mask::Causal);
        let step = if fused || causal { g.queries } else { (SCORES / (g.heads * g.keys)).max(1) };
        let parts: Vec<Array> = (0..g.queries)
            .step_by(step.max(1))
            .map(|from| {
                let to = (from + step).min(g.queries);
                let part = self.port.slice(&queries, &[0, 0, from, 0], &[1, g.heads, to, g.head_dim]);
                self.port.attend([&part, &keys, &values], scale, causal)
            })
            .collect();
        let out = self.port.concatenate(&parts.iter().collect::<Vec<&Array>>(), 2);
        let out = self.port.reshape(&self.port.transpose(&out, &[0, 2, 1, 3]), &[q.len]);
        self.output(out, q.len)
    }

    /// `(tokens, heads * head_dim)` as `(1, heads, tokens, head_dim)`.
    fn heads(&self, x: &Array, [tokens, heads, head_dim]: [usize; 3]) -> Array {
        self.port.transpose(&self.port.reshape(x, &[1, tokens, heads, head_dim]), &[0, 2, 1, 3])
    }

    /// Rotates pairs of values. The arithmetic is in f32, like the tables.
    pub(super) fn rotate(&self, x: &Array, heads: usize, cos: &Buffer, sin: &Buffer, turn: Turn) -> Array {
        let pairs = turn.head_dim / 2;
        let tokens = cos.len / pairs;
        let [cos, sin] =
            [cos, sin].map(|table| self.port.reshape(&self.port.cast(&table.array, Element::F32), &[tokens, 1, pairs]));
        let (split, axis) = if turn.halves { ([tokens, heads, 2, pairs], 2) } else { ([tokens, heads, pairs, 2], 3) };
        let x = self.port.reshape(x, &split);
        let part = |at: usize| {
            let (mut start, mut stop) = ([0; 4], split);
            (start[axis], stop[axis]) = (at, at + 1);
            self.port.reshape(&self.port.slice(&x, &start, &stop), &[tokens, heads, pairs])
        };
        let (a, b) = (part(0), part(1));
        let first = self.port.subtract(&self.port.multiply(&a, &cos), &self.port.multiply(&b, &sin));
        let second = self.port.add(&self.port.multiply(&a, &sin), &self.port.multiply(&b, &cos));
        let mut one = split;
        one[axis] = 1;
        self.port.concatenate(&[&self.port.reshape(&first, &one), &self.port.reshape(&second, &one)], axis)
    }
}
