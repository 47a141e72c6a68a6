//! A linear layer's tile from weights in their storage format.

#[cfg(test)]
mod tests;

use crate::Level;
use crate::blocks::Format;
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
/// input; `w` the whole `(n, k)` weight in `format`, of which rows
/// `out.col0() .. out.col0() + out.cols()` are decoded into `scratch` (aligned f32 rows are used
/// where they lie); `bias` `(n)` the whole bias.
///
/// # Panics
/// When the shapes do not fit each other.
pub fn linear_tile(
    level: Level,
    out: &mut TileMut,
    a: MatrixRef,
    w: &[u8],
    format: Format,
    bias: Option<&[f32]>,
    scratch: &mut Vec<f32>,
) {
    let k = a.cols();
    let row_bytes = format.row_bytes(k);
    let (first, rows) = (out.col0(), out.cols());
    assert!(
        w.len() >= (first + rows) * row_bytes,
        "rows {first} + {rows} of a weight of {} bytes, {row_bytes} each",
        w.len()
    );
    let bias = bias.map(|bias| &bias[first..first + rows]);
    let bytes = &w[first * row_bytes..(first + rows) * row_bytes];
    if let (Format::F32, Some(values)) = (format, as_f32(bytes)) {
        return gemm_nt(level, out, a, MatrixRef::contiguous(values, rows, k), bias);
    }
    let at_once = if a.rows() <= FEW_TOKENS { ROWS_FOR_FEW } else { rows.max(1) };
    for start in (0..rows).step_by(at_once) {
        let count = at_once.min(rows - start);
        let bytes = &bytes[start * row_bytes..(start + count) * row_bytes];
        let decoded = decode(bytes, format, count * k, scratch);
        let bias = bias.map(|bias| &bias[start..start + count]);
        gemm_nt(level, &mut out.col_range(start, count), a, MatrixRef::contiguous(decoded, count, k), bias);
    }
}

fn decode<'a>(bytes: &[u8], format: Format, values: usize, scratch: &'a mut Vec<f32>) -> &'a [f32] {
    if scratch.len() < values {
        scratch.resize(values, 0.0);
    }
    let decoded = &mut scratch[..values];
    format.decode(bytes, decoded);
    decoded
}

/// The bytes as f32 values where they lie, when they are aligned and the machine is little-endian.
fn as_f32(bytes: &[u8]) -> Option<&[f32]> {
    if cfg!(target_endian = "big") {
        return None;
    }
    // SAFETY: every pattern of 4 bytes is an f32.
    let (before, values, after) = unsafe { bytes.align_to::<f32>() };
    (before.is_empty() && after.is_empty()).then_some(values)
}
