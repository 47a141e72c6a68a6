//! Attention: heads by blocks of queries.

use super::Cpu;
use crate::backend::Attention;
use crate::buffer::Buffer;
use crate::meter::Kind;
use crate::{Compute, Mask};
use zimage_kernels::attention::int16::Head;
use zimage_kernels::attention::{QUERIES, attention};
use zimage_kernels::tile::{MatrixRef, TileMut, tiles};
use zimage_kernels::{Level, bytes};

/// The operands of a call.
struct Operands<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    shape: Attention,
}

impl<'a> Operands<'a> {
    /// The queries of a tile of the output.
    fn queries(&self, tile: &TileMut) -> MatrixRef<'a> {
        let (head_dim, stride) = (self.shape.head_dim, self.shape.heads * self.shape.head_dim);
        MatrixRef::new(&self.q[tile.row0() * stride + tile.col0()..], tile.rows(), head_dim, stride)
    }

    /// Which head of keys and values a tile of the output reads.
    fn kv_head(&self, tile: &TileMut) -> usize {
        tile.col0() / self.shape.head_dim / (self.shape.heads / self.shape.kv_heads)
    }

    /// A head of keys and values.
    fn keys_and_values(&self, kv_head: usize) -> (MatrixRef<'a>, MatrixRef<'a>) {
        let Attention { keys, head_dim, kv_heads, .. } = self.shape;
        let (k, v) = (&self.k[kv_head * head_dim..], &self.v[kv_head * head_dim..]);
        (MatrixRef::new(k, keys, head_dim, kv_heads * head_dim), MatrixRef::new(v, keys, head_dim, kv_heads * head_dim))
    }

    /// The position of a tile's first query, where queries see only what stands before them.
    fn causal_from(&self, tile: &TileMut) -> Option<usize> {
        (self.shape.mask == Mask::Causal).then_some(tile.row0())
    }
}

impl Cpu {
    /// [`crate::ops::attention`]. Where linear layers multiply bytes, attention multiplies 16-bit integers, which is twice
    /// as fast as f32 and adds an error of a thousandth, far less than theirs.
    pub(super) fn attend(&self, q: &[f32], k: &[f32], v: &[f32], shape: Attention) -> Buffer {
        let mut out = self.take(q.len());
        let pieces = tiles(&mut out, shape.queries, shape.heads * shape.head_dim, QUERIES, shape.head_dim);
        let operands = Operands { q, k, v, shape };
        self.meter.measure(Kind::Attention, shape.flop(), || {
            if self.compute == Compute::Int8 && self.level >= Level::Avx2 {
                self.in_integers(pieces, &operands);
            } else {
                self.in_floats(pieces, &operands);
            }
        });
        out
    }

    fn in_floats(&self, pieces: Vec<TileMut<'_>>, operands: &Operands) {
        self.threads.for_each(pieces, |mut tile, scratch| {
            let (k, v) = operands.keys_and_values(operands.kv_head(&tile));
            let (q, causal_from) = (operands.queries(&tile), operands.causal_from(&tile));
            attention(self.level, &mut tile, q, k, v, operands.shape.scale(), causal_from, scratch);
        });
    }

    /// Keys and values are packed once for all blocks of queries.
    fn in_integers(&self, pieces: Vec<TileMut<'_>>, operands: &Operands) {
        let shape = operands.shape;
        let head = Head::new(self.level, shape.keys, shape.head_dim, shape.head_dim);
        let mut memory = self.take(shape.kv_heads * head.words());
        let packed = bytes::words_mut(&mut memory);
        self.threads.for_each(packed.chunks_exact_mut(head.words()).enumerate().collect(), |(kv_head, packed), _| {
            let (k, v) = operands.keys_and_values(kv_head);
            head.pack(packed, k, v);
        });
        let packed = &*packed;
        self.threads.for_each(pieces, |mut tile, scratch| {
            let packed = &packed[operands.kv_head(&tile) * head.words()..][..head.words()];
            let (q, causal_from) = (operands.queries(&tile), operands.causal_from(&tile));
            head.attend(&mut tile, q, packed, shape.scale(), causal_from, scratch);
        });
    }
}
