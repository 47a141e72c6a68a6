//! Products of f32 matrices into one tile.
//!
//! Above the naive level the work is done by the `gemm-f32` crate on the calling thread. The bits of
//! an element may depend on the shape of its tile, so a caller that wants the same picture for
//! any number of threads uses tiles of a fixed shape.

mod naive;

#[cfg(test)]
mod tests;

use crate::Level;
use crate::tile::{MatrixRef, TileMut};

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
    if let Some(bias) = bias {
        for r in 0..out.rows() {
            out.row_mut(r).copy_from_slice(bias);
        }
    }
    let strides = Strides { b_row: 1, b_col: b.stride() };
    product(out, a, b, strides, bias.is_some());
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
    let strides = Strides { b_row: b.stride(), b_col: 1 };
    product(out, a, b, strides, accumulate);
}

/// How the product walks `b`, seen as a `(k, n)` matrix.
struct Strides {
    b_row: usize,
    b_col: usize,
}

/// Calls the `gemm-f32` crate; the callers above have compared all shapes.
///
/// Its kernels write columns, so the transposed product is asked for: `out^T = b^T a^T`.
fn product(out: &mut TileMut, a: MatrixRef, b: MatrixRef, strides: Strides, accumulate: bool) {
    let (m, n, k) = (out.rows(), out.cols(), a.cols());
    if k == 0 && !accumulate {
        for r in 0..m {
            out.row_mut(r).fill(0.0);
        }
    }
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    // SAFETY: `a` and `b` are views whose constructors checked their data; `out` is a tile of m
    // rows of n values that nobody else reaches, and it cannot overlap the shared views.
    unsafe {
        gemm_f32::gemm::f32::get_gemm_fn()(
            n,
            m,
            k,
            out.as_mut_ptr(),
            out.stride() as isize,
            1,
            accumulate,
            b.data().as_ptr(),
            strides.b_row as isize,
            strides.b_col as isize,
            a.data().as_ptr(),
            a.stride() as isize,
            1,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm_common::Parallelism::None,
        );
    }
}
