//! The panels compiled for AVX2 and AVX-512.

use std::arch::x86_64::*;

use super::panels;
use crate::tile::{MatrixRef, TileMut};

/// The panels with 8 lanes and 6 x 2 accumulators: with 2 vectors of queries and a broadcast 15 of the
/// 16 registers. (4 x 3 need all of them, and the compiler then moves registers around: half the speed.)
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn avx2(
    out: &mut TileMut,
    q: MatrixRef,
    k: MatrixRef,
    v: MatrixRef,
    scale: f32,
    causal_from: Option<usize>,
    scratch: &mut Vec<f32>,
) {
    // SAFETY: this function has the features of `__m256` as a `Vector`.
    unsafe { panels::attention::<__m256, 6, 2>(out, q, k, v, scale, causal_from, scratch) }
}

/// The panels with 16 lanes and 8 x 3 accumulators of the 32 registers.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn avx512(
    out: &mut TileMut,
    q: MatrixRef,
    k: MatrixRef,
    v: MatrixRef,
    scale: f32,
    causal_from: Option<usize>,
    scratch: &mut Vec<f32>,
) {
    // SAFETY: this function has the features of `__m512` as a `Vector`.
    unsafe { panels::attention::<__m512, 8, 3>(out, q, k, v, scale, causal_from, scratch) }
}
