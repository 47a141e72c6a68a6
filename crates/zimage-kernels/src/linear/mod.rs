//! A linear layer's tile from weights in their storage format.
//!
//! The weight's rows are the right operand of a product, and go into its blocks straight from where
//! they lie: f32 and bf16 in one pass, other formats by way of a few decoded rows in the nearest cache.

#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::Level;
use crate::blocks::{Format, Matrix};
use crate::gemm::{Bf16, Block, DEPTH, F32, Start, Stored, few, gemm_blocks, gemm_few, gemm_nt};
use crate::tile::{MatrixRef, TileMut};

/// `out = a wᵀ (+ bias)` for one tile of the output.
///
/// `out` is a tile of the `(tokens, n)` output; `a` `(out.rows(), k)` are the tile's rows of the
/// input; `w` the whole `(n, k)` weight as it is stored, of which rows
/// `out.col0() .. out.col0() + out.cols()` are used; `bias` `(n)` the whole bias. `scratch` grows to
/// what is decoded at a time. The bits of an element do not depend on the tile.
///
/// # Panics
/// When the shapes do not fit each other.
pub fn linear_tile(
    level: Level,
    out: &mut TileMut,
    a: MatrixRef,
    w: Matrix,
    bias: Option<&[f32]>,
    scratch: &mut Vec<f32>,
) {
    let k = a.cols();
    assert_eq!(k, w.cols(), "columns of the input and of the weight");
    let (first, rows) = (out.col0(), out.cols());
    let w = w.window(first..first + rows);
    let bias = bias.map(|bias| &bias[first..first + rows]);
    if level == Level::Naive {
        let decoded = MatrixRef::contiguous(decode(level, w, 0..rows, scratch), rows, k);
        return gemm_nt(level, out, a, decoded, bias);
    }
    let start = bias.map_or(Start::Zero, Start::Bias);
    let few = out.rows() <= few(level);
    match w.bytes_of(0..rows) {
        Some((Format::BF16, bytes)) if few => gemm_few::<Bf16>(level, out, a, (bytes, 2 * k), bias),
        Some((Format::F32, bytes)) if few && cfg!(target_endian = "little") => {
            gemm_few::<F32>(level, out, a, (bytes, 4 * k), bias);
        }
        Some((Format::BF16, bytes)) => gemm_blocks(level, out, a, start, |block| fill_at_once::<Bf16>(block, bytes, k)),
        Some((Format::F32, bytes)) if cfg!(target_endian = "little") => {
            gemm_blocks(level, out, a, start, |block| fill_at_once::<F32>(block, bytes, k));
        }
        Some((format, bytes)) => {
            gemm_blocks(level, out, a, start, |block| fill_from_rows(block, level, format, bytes, k, scratch));
        }
        None => gemm_blocks(level, out, a, start, |block| {
            // All of the rows at once for the blocks that take parts of them, one after the other.
            let (ks, cols) = (block.ks(), block.cols());
            if ks.start == 0 {
                decode(level, w, cols.clone(), scratch);
            }
            let rows = MatrixRef::contiguous(&scratch[..cols.len() * k], cols.len(), k);
            block.transpose_f32(0, rows.col_range(ks.start, ks.len()));
        }),
    }
}

/// Widens and transposes the parts of rows that a block holds.
fn fill_at_once<S: Stored>(block: &mut Block, bytes: &[u8], k: usize) {
    let (ks, cols) = (block.ks(), block.cols());
    let (start, end) = (cols.start * k + ks.start, cols.end * k);
    block.transpose_stored::<S>(&bytes[S::BYTES * start..S::BYTES * end], S::BYTES * k);
}

/// Decodes the parts of rows that a block holds, as many rows at a time as a vector has lanes.
fn fill_from_rows(block: &mut Block, level: Level, format: Format, bytes: &[u8], k: usize, scratch: &mut Vec<f32>) {
    // Rows are whole numbers of blocks, and so are their parts up to the last one.
    debug_assert!(DEPTH.is_multiple_of(format.block_len()), "{} blocks within a row", format.name());
    let (ks, cols, lanes) = (block.ks(), block.cols(), block.lanes());
    let depth = ks.len();
    if scratch.len() < lanes * depth {
        scratch.resize(lanes * depth, 0.0);
    }
    for first in (0..cols.len()).step_by(lanes) {
        let count = lanes.min(cols.len() - first);
        let decoded = &mut scratch[..count * depth];
        for (row, values) in decoded.chunks_exact_mut(depth).enumerate() {
            let start = (cols.start + first + row) * format.row_bytes(k) + format.row_bytes(ks.start);
            format.decode_at(level, &bytes[start..start + format.row_bytes(depth)], values);
        }
        block.transpose_f32(first, MatrixRef::contiguous(decoded, count, depth));
    }
}

fn decode<'a>(level: Level, w: Matrix, rows: Range<usize>, scratch: &'a mut Vec<f32>) -> &'a [f32] {
    let values = rows.len() * w.cols();
    if scratch.len() < values {
        scratch.resize(values, 0.0);
    }
    let decoded = &mut scratch[..values];
    w.decode_rows_at(level, rows, decoded);
    decoded
}
