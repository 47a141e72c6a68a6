use super::*;
use crate::testing::{assert_close, random};
use crate::tile::tiles;

const SIZES: [usize; 8] = [1, 2, 3, 7, 16, 17, 33, 65];

/// f32 sums of up to 65 products of values near 1, which may cancel to a tenth of that.
const TOLERANCE: f32 = 4e-6;

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

/// Products whose `k` crosses the ends of blocks, and whose columns do.
const LARGE: [(usize, usize, usize); 6] =
    [(25, 40, 258), (13, 300, 300), (7, 257, 513), (1, 530, 256), (64, 3, 700), (6, 64, 1025)];

#[test]
fn all_levels_agree_across_blocks() {
    for level in Level::supported() {
        for (m, n, k) in LARGE {
            for flag in [false, true] {
                check_nt(level, m, n, k, flag);
                check_nn(level, m, n, k, flag);
            }
        }
    }
}

/// The whole product at once, of `a` `(m, k)` and `b` `(n, k)`, and with `b` transposed.
fn whole(level: Level, a: MatrixRef, b: MatrixRef, bias: Option<&[f32]>) -> [Vec<f32>; 2] {
    let (m, n, k) = (a.rows(), b.rows(), a.cols());
    let [mut nt, mut nn] = [vec![f32::NAN; m * n], vec![f32::NAN; m * n]];
    gemm_nt(level, &mut TileMut::whole(&mut nt, m, n), a, b, bias);
    let mut transposed = vec![0.0; n * k];
    for j in 0..n {
        for (i, value) in b.row(j).iter().enumerate() {
            transposed[i * n + j] = *value;
        }
    }
    if let Some(bias) = bias {
        nn.chunks_mut(n).for_each(|row| row.copy_from_slice(bias));
    }
    gemm_nn(level, &mut TileMut::whole(&mut nn, m, n), a, MatrixRef::contiguous(&transposed, k, n), bias.is_some());
    [nt, nn]
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn the_bits_of_an_element_do_not_depend_on_its_tile() {
    let fast = Level::supported().into_iter().filter(|level| *level != Level::Naive);
    for (level, (m, n, k)) in fast.flat_map(|level| LARGE.map(|shape| (level, shape))) {
        let (a, b, bias) = (random(m * k, 1), random(n * k, 2), random(n, 3));
        let (a, b) = (MatrixRef::contiguous(&a, m, k), MatrixRef::contiguous(&b, n, k));
        for bias in [None, Some(&bias[..])] {
            let [expected, from_columns] = whole(level, a, b, bias);
            assert_eq!(bits(&from_columns), bits(&expected), "{level:?} {m} {n} {k}: nn against nt");
            for (tile_rows, tile_cols) in [(1, n), (m, 1), (2, 5), (5, 16), (m, 100)] {
                let mut found = vec![f32::NAN; m * n];
                for tile in &mut tiles(&mut found, m, n, tile_rows, tile_cols) {
                    let rows = a.row_range(tile.row0(), tile.rows());
                    let cols = b.row_range(tile.col0(), tile.cols());
                    let bias = bias.map(|bias| &bias[tile.col0()..tile.col0() + tile.cols()]);
                    gemm_nt(level, tile, rows, cols, bias);
                }
                assert_eq!(bits(&found), bits(&expected), "{level:?} {m} {n} {k} in tiles of {tile_rows} {tile_cols}");
            }
        }
    }
}

#[test]
fn levels_with_fused_multiply_add_give_the_same_bits() {
    let fused: Vec<Level> = Level::supported().into_iter().filter(|level| *level >= Level::Avx2).collect();
    for (m, n, k) in LARGE {
        let (a, b) = (random(m * k, 1), random(n * k, 2));
        let (a, b) = (MatrixRef::contiguous(&a, m, k), MatrixRef::contiguous(&b, n, k));
        let products: Vec<_> = fused.iter().map(|level| bits(&whole(*level, a, b, None)[0])).collect();
        assert!(products.windows(2).all(|pair| pair[0] == pair[1]), "{m} {n} {k}");
    }
}

#[test]
fn nothing_is_written_where_there_are_no_rows_or_columns() {
    for level in Level::supported() {
        let values = random(300, 1);
        let (some, none) = (MatrixRef::contiguous(&values, 1, 300), MatrixRef::contiguous(&[], 0, 300));
        gemm_nt(level, &mut TileMut::whole(&mut [], 0, 1), none, some, None);
        gemm_nt(level, &mut TileMut::whole(&mut [], 1, 0), some, none, Some(&[]));
        gemm_nn(level, &mut TileMut::whole(&mut [], 1, 0), some, MatrixRef::contiguous(&[], 300, 0), true);
    }
}
