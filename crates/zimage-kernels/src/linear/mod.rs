//! A linear layer's tile from weights in their storage format.

#[cfg(test)]
mod tests;

use crate::Level;
use crate::blocks::Format;
use crate::gemm::gemm_nt;
use crate::tile::{MatrixRef, TileMut};

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
    let decoded = match (format, as_f32(bytes)) {
        (Format::F32, Some(values)) => values,
        _ => decode(bytes, format, rows * k, scratch),
    };
    gemm_nt(level, out, a, MatrixRef::contiguous(decoded, rows, k), bias);
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
