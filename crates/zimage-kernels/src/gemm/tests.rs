use super::*;
use crate::testing::{assert_close, random};
use crate::tile::tiles;

const SIZES: [usize; 8] = [1, 2, 3, 7, 16, 17, 33, 65];

/// f32 sums of up to 65 products of values near 1.
const TOLERANCE: f32 = 1e-6;

fn check_nt(level: Level, m: usize, n: usize, k: usize, bias: bool) {
    let (a, b, bias_values) = (random(m * k, 1), random(n * (k + 3), 2), random(n, 3));
    let a = MatrixRef::contiguous(&a, m, k);
    let b = MatrixRef::new(&b, n, k, k + 3);
    let bias = bias.then_some(&bias_values[..]);
    let (mut found, mut expected) = (vec![f32::NAN; m * n], vec![f32::NAN; m * n]);
    gemm_nt(level, &mut TileMut::whole(&mut found, m, n), a, b, bias);
    gemm_nt(Level::Naive, &mut TileMut::whole(&mut expected, m, n), a, b, bias);
    assert_close(&format!("{level:?} nt {m} {n} {k}"), &found, &expected, TOLERANCE);
}

fn check_nn(level: Level, m: usize, n: usize, k: usize, accumulate: bool) {
    let (a, b, start) = (random(m * (k + 1), 1), random(k * (n + 2), 2), random(m * n, 3));
    let a = MatrixRef::new(&a, m, k, k + 1);
    let b = MatrixRef::new(&b, k, n, n + 2);
    let (mut found, mut expected) = (start.clone(), start);
    gemm_nn(level, &mut TileMut::whole(&mut found, m, n), a, b, accumulate);
    gemm_nn(Level::Naive, &mut TileMut::whole(&mut expected, m, n), a, b, accumulate);
    assert_close(&format!("{level:?} nn {m} {n} {k}"), &found, &expected, TOLERANCE);
}

#[test]
fn all_levels_agree_at_all_small_sizes() {
    for level in Level::supported() {
        for m in SIZES {
            for n in SIZES {
                for k in SIZES {
                    check_nt(level, m, n, k, (m + n + k) % 2 == 0);
                    check_nn(level, m, n, k, (m + n + k) % 2 == 0);
                }
            }
        }
    }
}

#[test]
fn a_product_over_nothing_is_zero_or_the_bias() {
    for level in Level::supported() {
        let mut out = [f32::NAN; 6];
        let (a, b) = (MatrixRef::contiguous(&[], 2, 0), MatrixRef::contiguous(&[], 3, 0));
        gemm_nt(level, &mut TileMut::whole(&mut out, 2, 3), a, b, None);
        assert_eq!(out, [0.0; 6]);
        gemm_nt(level, &mut TileMut::whole(&mut out, 2, 3), a, b, Some(&[1.0, 2.0, 3.0]));
        assert_eq!(out, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
        gemm_nn(level, &mut TileMut::whole(&mut out, 2, 3), a, MatrixRef::contiguous(&[], 0, 3), true);
        assert_eq!(out, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
    }
}

#[test]
fn tiles_write_only_their_own_values() {
    let (m, n, k) = (9, 11, 5);
    let (a, b) = (random(m * k, 1), random(n * k, 2));
    let (a, b) = (MatrixRef::contiguous(&a, m, k), MatrixRef::contiguous(&b, n, k));
    let mut expected = vec![0.0; m * n];
    gemm_nt(Level::Naive, &mut TileMut::whole(&mut expected, m, n), a, b, None);
    for level in Level::supported() {
        let mut found = vec![f32::NAN; m * n];
        for tile in tiles(&mut found, m, n, 4, 3).iter_mut().rev() {
            let (rows, cols) = (a.row_range(tile.row0(), tile.rows()), b.row_range(tile.col0(), tile.cols()));
            gemm_nt(level, tile, rows, cols, None);
        }
        assert_close("tiles", &found, &expected, TOLERANCE);
    }
}

#[test]
fn a_nan_in_the_output_does_not_survive() {
    for level in Level::supported() {
        for k in [1, 300] {
            let (a, b) = (random(k, 1), random(k, 2));
            let mut out = [f32::NAN];
            let (a, b) = (MatrixRef::contiguous(&a, 1, k), MatrixRef::contiguous(&b, 1, k));
            gemm_nt(level, &mut TileMut::whole(&mut out, 1, 1), a, b, None);
            assert!(out[0].is_finite());
        }
    }
}

#[test]
fn all_levels_agree_at_the_extremes() {
    let (m, n, k) = (9, 20, 50);
    for (size_a, size_b) in [(1e18, 1e18), (1e-15, 1e-15), (1e30, 1e-30), (0.0, 1.0)] {
        let sized = |n, seed, size| random(n, seed).iter().map(|v| v * size).collect::<Vec<f32>>();
        let (a, b) = (sized(m * k, 1, size_a), sized(n * k, 2, size_b));
        let (a, b) = (MatrixRef::contiguous(&a, m, k), MatrixRef::contiguous(&b, n, k));
        let mut expected = vec![0.0; m * n];
        gemm_nt(Level::Naive, &mut TileMut::whole(&mut expected, m, n), a, b, None);
        for level in Level::supported() {
            let mut found = vec![f32::NAN; m * n];
            gemm_nt(level, &mut TileMut::whole(&mut found, m, n), a, b, None);
            assert_close(&format!("{level:?} {size_a} {size_b}"), &found, &expected, TOLERANCE);
        }
    }
}

#[test]
fn infinities_and_nans_reach_the_output() {
    for level in Level::supported() {
        for (bad, expected) in [(f32::INFINITY, f32::INFINITY), (f32::NEG_INFINITY, f32::NEG_INFINITY)] {
            let (a, b) = ([1.0, bad, 2.0], [1.0, 1.0, 1.0]);
            let (a, b) = (MatrixRef::contiguous(&a, 1, 3), MatrixRef::contiguous(&b, 1, 3));
            let mut out = [0.0];
            gemm_nt(level, &mut TileMut::whole(&mut out, 1, 1), a, b, None);
            assert_eq!(out, [expected]);
        }
        let (a, b) = ([1.0, f32::NAN], [1.0, 1.0]);
        let (a, b) = (MatrixRef::contiguous(&a, 1, 2), MatrixRef::contiguous(&b, 1, 2));
        let mut out = [0.0];
        gemm_nt(level, &mut TileMut::whole(&mut out, 1, 1), a, b, None);
        assert!(out[0].is_nan());
    }
}
