//! A linear layer's tile from weights in their storage format.

#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::Level;
use crate::blocks::Matrix;
use crate::gemm::gemm_nt;
use crate::tile::{MatrixRef, TileMut};

/// Up to this many tokens the weights are decoded [`ROWS_FOR_FEW`] rows at a time and used while they
/// are in the nearest cache, without being packed: 20 to 84 GFLOP/s at 4 tokens, 65 to 117 at 16, 102
/// to 127 at 32 (an EPYC core of the fifth generation); from 33 on the product would fall to 44.
const FEW_TOKENS: usize = 32;
const ROWS_FOR_FEW: usize = 8;

/// `out = a wᵀ (+ bias)` for one tile of the output.
///
/// `out` is a tile of the `(tokens, n)` output; `a` `(out.rows(), k)` are the tile's rows of the
/// input; `w` the whole `(n, k)` weight as it is stored, of which rows
/// `out.col0() .. out.col0() + out.cols()` are decoded into `scratch` (aligned f32 rows are used
/// where they lie); `bias` `(n)` the whole bias.
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
    let bias = bias.map(|bias| &bias[first..first + rows]);
    if let Some(values) = w.as_f32(first..first + rows) {
        return gemm_nt(level, out, a, MatrixRef::contiguous(values, rows, k), bias);
    }
    let at_once = if a.rows() <= FEW_TOKENS { ROWS_FOR_FEW } else { rows.max(1) };
    for start in (0..rows).step_by(at_once) {
        let count = at_once.min(rows - start);
        let decoded = decode(level, w, first + start..first + start + count, scratch);
        let bias = bias.map(|bias| &bias[start..start + count]);
        gemm_nt(level, &mut out.col_range(start, count), a, MatrixRef::contiguous(decoded, count, k), bias);
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
