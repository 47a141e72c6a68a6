//! Attention of one head in 16-bit integers: twice the speed of f32, at an error of a thousandth.
//!
//! Both products are sums of 16-bit products in 32 bits, which every x86-64 CPU with AVX2 does at
//! twice the rate of f32. Why not 8 bits: rounding queries and keys to 8 bits moves scores of a spread of 4 by
//! a tenth, and no smoothing or rotation brings the output below 2 to 3 percent of error then;
//! weights of 8 bits cost 1 to 2 percent.
//!
//! What makes 16 bits enough without knowing the other operand:
//! - `|q · k| <= |q| |k|`: with both vectors at most 46,000 long no sum leaves 32 bits, whatever the
//!   number of channels, so queries (each on its own) and keys (192 of a block together) keep 15 bits.
//! - Weights are rounded to 0 ..= 8191 relative to the largest one *of their block of keys*, and values to ±1365 of the
//!   largest one of their channel and block; 192 such products fit.
//!
//! Below AVX2 the f32 kernel is the faster one.
//!
//! Sums of integers have no order, so nothing but the exponentials and the sums over blocks could
//! differ between levels.

mod naive;
mod pack;
mod panels;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests;

use super::visible;
use crate::Level;
use crate::tile::{MatrixRef, TileMut};

/// Keys per block.
const KEYS: usize = 192;
/// The longest vector of a query or key: the square, with half a unit of rounding in each channel, stays in 31 bits.
const LONGEST: f32 = 46_000.0;
/// The largest magnitude of a query or key.
const LARGEST: f32 = 32_767.0;
/// The weight of a block's best key.
const WEIGHT: f32 = 8191.0;
/// The largest magnitude of a value: `KEYS` products with `WEIGHT + 1` stay in 31 bits.
const VALUE: f32 = 1365.0;

/// How the keys and values of one head are packed: once, for all blocks of queries.
///
/// ```text
/// block of 192 keys: keys (192 / rows, pairs of channels, rows) | values (channels / rows, pairs of keys, rows)
///                    | a scale per channel of the values | the keys' scale | zeros up to 16 words
/// ```
/// A word is a pair of 16-bit integers, or the bits of an f32. `rows` is what the level's kernel
/// takes at once, so packing and attending must be done at the same level; this type keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    level: Level,
    tokens: usize,
    key_dim: usize,
    value_dim: usize,
}

impl Head {
    /// A head of `tokens` keys of `key_dim` and values of `value_dim` channels.
    ///
    /// # Panics
    /// When one of the sizes is 0.
    pub fn new(level: Level, tokens: usize, key_dim: usize, value_dim: usize) -> Head {
        assert!(tokens > 0 && key_dim > 0 && value_dim > 0, "head of {tokens} x {key_dim}, {value_dim}");
        Head { level, tokens, key_dim, value_dim }
    }

    /// Words that the packed keys and values take.
    pub fn words(&self) -> usize {
        self.tokens.div_ceil(KEYS) * self.block_words()
    }

    /// Packs keys `(tokens, key_dim)` and values `(tokens, value_dim)` into [`words`](Self::words)
    /// words. A value that is not finite makes the outputs that it reaches NaN.
    ///
    /// # Panics
    /// When the shapes do not fit the head, or `packed` is not as long.
    pub fn pack(&self, packed: &mut [u32], k: MatrixRef, v: MatrixRef) {
        assert_eq!((k.rows(), k.cols()), (self.tokens, self.key_dim), "keys");
        assert_eq!((v.rows(), v.cols()), (self.tokens, self.value_dim), "values");
        assert_eq!(packed.len(), self.words(), "words of the packed head");
        pack::pack(self, packed, k, v);
    }

    /// `out = softmax(scale * q kᵀ) v` for a block of queries against all packed keys.
    ///
    /// `q` is `(queries, key_dim)`, `out` `(queries, value_dim)`. With `causal_from = Some(position)`
    /// query `i` sees the keys `0 ..= position + i` only. `scratch` grows to what a block needs.
    /// A query's bits do not depend on the block it comes in, and AVX2 and AVX-512 give the same ones.
    ///
    /// # Panics
    /// When the shapes do not fit the head, or `scale` is not positive.
    pub fn attend(
        &self,
        out: &mut TileMut,
        q: MatrixRef,
        packed: &[u32],
        scale: f32,
        causal_from: Option<usize>,
        scratch: &mut Vec<f32>,
    ) {
        assert_eq!(q.rows(), out.rows(), "queries");
        assert_eq!(q.cols(), self.key_dim, "head size of queries and keys");
        assert_eq!(out.cols(), self.value_dim, "head size of values and output");
        assert_eq!(packed.len(), self.words(), "words of the packed head");
        assert!(scale > 0.0, "scale {scale}");
        self.level.check();
        match self.level {
            Level::Naive => naive::attend(self, out, q, packed, scale, causal_from),
            Level::Portable => portable::attend(self, out, q, packed, scale, causal_from, scratch),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `check` found that this CPU has the level.
            Level::Avx2 => unsafe { x86::avx2(self, out, q, packed, scale, causal_from, scratch) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `check` found that this CPU has the level, and the instruction is asked for here.
            Level::Avx512 if is_x86_feature_detected!("avx512vnni") => unsafe {
                x86::avx512_vnni(self, out, q, packed, scale, causal_from, scratch)
            },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `check` found that this CPU has the level.
            Level::Avx512 => unsafe { x86::avx512(self, out, q, packed, scale, causal_from, scratch) },
            #[cfg(not(target_arch = "x86_64"))]
            Level::Avx2 | Level::Avx512 => unreachable!("checked above"),
        }
    }

    /// Rows of the left operand that the level's kernel takes at once.
    fn rows(&self) -> usize {
        match self.level {
            Level::Naive => 1,
            Level::Portable => portable::ROWS,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => x86::ROWS_AVX2,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => x86::ROWS_AVX512,
            #[cfg(not(target_arch = "x86_64"))]
            Level::Avx2 | Level::Avx512 => portable::ROWS,
        }
    }

    /// Pairs of channels of a key.
    fn pairs(&self) -> usize {
        self.key_dim.div_ceil(2)
    }

    /// Channels of the values, rounded up to whole rows of the kernel.
    fn value_rows(&self) -> usize {
        self.value_dim.next_multiple_of(self.rows())
    }

    fn block_words(&self) -> usize {
        KEYS * self.pairs() + KEYS / 2 * self.value_rows() + (self.value_rows() + 1).next_multiple_of(16)
    }

    /// The parts of block number `index`.
    fn block<'a>(&self, packed: &'a [u32], index: usize) -> Block<'a> {
        let words = &packed[index * self.block_words()..][..self.block_words()];
        let (keys, words) = words.split_at(KEYS * self.pairs());
        let (values, scales) = words.split_at(KEYS / 2 * self.value_rows());
        let first = index * KEYS;
        Block {
            first,
            count: KEYS.min(self.tokens - first),
            keys,
            values,
            value_scales: &scales[..self.value_rows()],
            key_scale: f32::from_bits(scales[self.value_rows()]),
        }
    }
}

/// One packed block of keys and values.
#[derive(Clone, Copy)]
struct Block<'a> {
    first: usize,
    count: usize,
    keys: &'a [u32],
    values: &'a [u32],
    /// Bits of f32.
    value_scales: &'a [u32],
    key_scale: f32,
}
