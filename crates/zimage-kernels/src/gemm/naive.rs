//! Triple loops with f64 sums.

use crate::tile::{MatrixRef, TileMut};

pub(super) fn gemm_nt(out: &mut TileMut, a: MatrixRef, b: MatrixRef, bias: Option<&[f32]>) {
    for i in 0..out.rows() {
        for j in 0..out.cols() {
            let mut sum = bias.map_or(0.0, |bias| f64::from(bias[j]));
            for (x, y) in a.row(i).iter().zip(b.row(j)) {
                sum += f64::from(*x) * f64::from(*y);
            }
            out.row_mut(i)[j] = sum as f32;
        }
    }
}

pub(super) fn gemm_nn(out: &mut TileMut, a: MatrixRef, b: MatrixRef, accumulate: bool) {
    for i in 0..out.rows() {
        let mut sums: Vec<f64> = match accumulate {
            true => out.row(i).iter().map(|value| f64::from(*value)).collect(),
            false => vec![0.0; out.cols()],
        };
        for (k, x) in a.row(i).iter().enumerate() {
            for (sum, y) in sums.iter_mut().zip(b.row(k)) {
                *sum += f64::from(*x) * f64::from(*y);
            }
        }
        for (value, sum) in out.row_mut(i).iter_mut().zip(sums) {
            *value = sum as f32;
        }
    }
}
