use super::*;
use crate::testing::{assert_close, random};

/// f32 scores of size 10 carry an error of 1e-6, and so do the weights.
const TOLERANCE: f32 = 3e-6;

struct Case {
    queries: usize,
    keys: usize,
    d: usize,
    causal_from: Option<usize>,
    size: f32,
}

/// Inputs as heads of a wider tensor: the second of three heads.
fn check(case: Case) {
    let Case { queries, keys, d, causal_from, size } = case;
    let sized = |n, seed| random(n, seed).iter().map(|v| v * size).collect::<Vec<_>>();
    let (q, k, v) = (sized(queries * 3 * d, 1), sized(keys * 3 * d, 2), random(keys * 3 * d, 3));
    let q = MatrixRef::new(&q[d..], queries, d, 3 * d);
    let k = MatrixRef::new(&k[d..], keys, d, 3 * d);
    let v = MatrixRef::new(&v[d..], keys, d, 3 * d);
    let scale = 1.0 / (d as f32).sqrt();
    let run = |level| {
        let mut out = vec![f32::NAN; queries * d];
        let mut tile = TileMut::whole(&mut out, queries, d);
        attention(level, &mut tile, q, k, v, scale, causal_from, &mut vec![f32::NAN; 3]);
        out
    };
    let expected = run(Level::Naive);
    for level in Level::supported() {
        let what = format!("{level:?} {queries} {keys} {d} {causal_from:?} {size}");
        assert_close(&what, &run(level), &expected, TOLERANCE * size.max(1.0).powi(2));
    }
}

#[test]
fn all_levels_agree_at_all_small_sizes() {
    for queries in [1, 2, 15, 16, 17, 48, 49] {
        for keys in [1, 2, 7, 8, 9, 33] {
            for d in [1, 8, 17, 32] {
                check(Case { queries, keys, d, causal_from: None, size: 1.0 });
            }
        }
    }
}

#[test]
fn all_levels_agree_over_several_blocks() {
    for (queries, keys, d) in [(130, 700, 128), (65, 257, 64), (3, 512, 512), (97, 1000, 32)] {
        check(Case { queries, keys, d, causal_from: None, size: 1.0 });
        check(Case { queries, keys, d, causal_from: None, size: 3.0 });
    }
}

#[test]
fn a_causal_query_sees_no_later_key() {
    for (queries, keys, from) in [(1, 1, 0), (20, 20, 0), (300, 300, 0), (70, 400, 330), (5, 300, 250), (64, 64, 30)] {
        check(Case { queries, keys, d: 16, causal_from: Some(from), size: 1.0 });
    }
}

#[test]
fn equal_scores_give_the_mean_of_the_values() {
    let (keys, d) = (601, 4);
    let (q, k, v) = (vec![30.0; d], vec![30.0; keys * d], random(keys * d, 1));
    let mut mean = vec![0.0; d];
    for row in v.chunks(d) {
        for (mean, value) in mean.iter_mut().zip(row) {
            *mean += value / keys as f32;
        }
    }
    for level in Level::supported() {
        let mut out = vec![0.0; d];
        let (q, k) = (MatrixRef::contiguous(&q, 1, d), MatrixRef::contiguous(&k, keys, d));
        let v = MatrixRef::contiguous(&v, keys, d);
        attention(level, &mut TileMut::whole(&mut out, 1, d), q, k, v, 1.0, None, &mut Vec::new());
        assert_close("mean", &out, &mean, 2e-5);
    }
}

#[test]
fn scores_of_minus_infinity_and_huge_scores_have_their_limits() {
    let keys = 600;
    // One key holds all the weight; before it come scores of -inf, or of -1e30.
    for low in [f32::NEG_INFINITY, -1e30] {
        let mut k = vec![low; keys];
        k[550] = 2.0;
        let v: Vec<f32> = (0..keys).map(|i| i as f32).collect();
        for level in Level::supported() {
            let mut out = vec![0.0; 3];
            let q = MatrixRef::contiguous(&[1.0, 1.0, 1e4], 3, 1);
            let (k, v) = (MatrixRef::contiguous(&k, keys, 1), MatrixRef::contiguous(&v, keys, 1));
            attention(level, &mut TileMut::whole(&mut out, 3, 1), q, k, v, 1.0, None, &mut Vec::new());
            assert_eq!(out, [550.0; 3], "{level:?} {low}");
        }
    }
}

#[test]
fn a_nan_in_a_query_reaches_its_output_only() {
    let d = 8;
    let (mut q, k, v) = (random(3 * d, 1), random(300 * d, 2), random(300 * d, 3));
    q[d + 1] = f32::NAN;
    for level in Level::supported() {
        let mut out = vec![0.0; 3 * d];
        let (q, k) = (MatrixRef::contiguous(&q, 3, d), MatrixRef::contiguous(&k, 300, d));
        let v = MatrixRef::contiguous(&v, 300, d);
        attention(level, &mut TileMut::whole(&mut out, 3, d), q, k, v, 1.0, None, &mut Vec::new());
        assert!(out[d..2 * d].iter().all(|value| value.is_nan()), "{level:?}");
        assert!(out[..d].iter().chain(&out[2 * d..]).all(|value| value.is_finite()), "{level:?}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_query_has_the_same_bits_whatever_block_it_comes_in() {
    let (queries, keys, d) = (70, 300, 24);
    let (q, kv) = (random(queries * d, 1), random(keys * d, 2));
    let (q, kv) = (MatrixRef::contiguous(&q, queries, d), MatrixRef::contiguous(&kv, keys, d));
    for level in Level::supported().into_iter().filter(|level| *level >= Level::Avx2) {
        for causal_from in [None, Some(210)] {
            let run = |rows: usize| {
                let mut out = vec![f32::NAN; queries * d];
                for tile in &mut crate::tile::tiles(&mut out, queries, d, rows, d) {
                    let (first, q) = (tile.row0(), q.row_range(tile.row0(), tile.rows()));
                    let from = causal_from.map(|from| from + first);
                    attention(level, tile, q, kv, kv, 0.2, from, &mut Vec::new());
                }
                out
            };
            let expected = run(queries);
            for rows in [1, 16, 29, 48] {
                assert_eq!(run(rows), expected, "{level:?} {rows}");
            }
        }
    }
}
