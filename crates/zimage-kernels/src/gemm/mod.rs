//! Products of f32 matrices into one tile.
//!
//! Above the naive level the right operand is copied block by block into the order in which it is
//! read ([`block`]), and all rows of the left one are multiplied with a block while it is in the
//! cache ([`kernel`]). An element is the sum of its products in the order of `k`, cut at fixed
//! places: its bits do not depend on the shape of the tile or on its place in it.

mod block;
mod copy;
mod few;
mod kernel;
mod naive;
mod transpose;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests;

use crate::Level;
use crate::tile::{MatrixRef, TileMut};

pub(crate) use block::{Block, DEPTH, gemm_blocks};
pub(crate) use few::{few, gemm_few};
pub(crate) use kernel::Start;
pub(crate) use transpose::{Bf16, F32, Stored};

/// `out[i][j] = sum_k a[i][k] * b[j][k] (+ bias[j])`: a linear layer's product, with `b` the
/// weight as checkpoints store it.
///
/// `out` is `(m, n)`, `a` `(m, k)`, `b` `(n, k)`, `bias` `(n)`; all of them only the tile's part.
///
/// # Panics
/// When the shapes do not fit each other.
pub fn gemm_nt(level: Level, out: &mut TileMut, a: MatrixRef, b: MatrixRef, bias: Option<&[f32]>) {
    assert_eq!(a.rows(), out.rows(), "rows of a");
    assert_eq!(b.rows(), out.cols(), "rows of b");
    assert_eq!(a.cols(), b.cols(), "columns of a and b");
    if let Some(bias) = bias {
        assert_eq!(bias.len(), out.cols(), "length of the bias");
    }
    level.check();
    if level == Level::Naive {
        return naive::gemm_nt(out, a, b, bias);
    }
    if out.rows() <= few(level) {
        return gemm_few::<F32>(level, out, a, (bytes_of(b.data()), 4 * b.stride()), bias);
    }
    gemm_blocks(level, out, a, bias.map_or(Start::Zero, Start::Bias), |block| {
        let (ks, cols) = (block.ks(), block.cols());
        block.transpose_f32(0, b.row_range(cols.start, cols.len()).col_range(ks.start, ks.len()));
    });
}

/// `out[i][j] = sum_k a[i][k] * b[k][j]`, or `out[i][j] += ...` when `accumulate`.
///
/// `out` is `(m, n)`, `a` `(m, k)`, `b` `(k, n)`; all of them only the tile's part.
///
/// # Panics
/// When the shapes do not fit each other.
pub fn gemm_nn(level: Level, out: &mut TileMut, a: MatrixRef, b: MatrixRef, accumulate: bool) {
    assert_eq!(a.rows(), out.rows(), "rows of a");
    assert_eq!(b.cols(), out.cols(), "columns of b");
    assert_eq!(a.cols(), b.rows(), "columns of a, rows of b");
    level.check();
    if level == Level::Naive {
        return naive::gemm_nn(out, a, b, accumulate);
    }
    let start = if accumulate { Start::Out } else { Start::Zero };
    gemm_blocks(level, out, a, start, |block| {
        let (ks, cols) = (block.ks(), block.cols());
        block.copy_rows(0, b.row_range(ks.start, ks.len()).col_range(cols.start, cols.len()));
    });
}

fn bytes_of(values: &[f32]) -> &[u8] {
    // SAFETY: a value is 4 bytes, and bytes may lie anywhere.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}
