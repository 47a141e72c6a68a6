use super::*;
use crate::testing::{assert_close, random};

/// A handful of f32 roundings per value.
const TOLERANCE: f32 = 5e-7;
const EPS: f32 = 1e-5;

/// Runs all functions on the same inputs.
fn run(level: Level, x: &[f32], y: &[f32], weight: &[f32], scale: &[f32]) -> [Vec<f32>; 5] {
    let mut plain = vec![f32::NAN; x.len()];
    rms_norm(level, &mut plain, x, weight, EPS);
    let mut scaled = vec![f32::NAN; x.len()];
    rms_norm_scaled(level, &mut scaled, x, weight, scale, EPS);
    let mut gated = x.to_vec();
    add_rms_norm_gated(level, &mut gated, y, weight, scale, EPS);
    let mut added = x.to_vec();
    add_rms_norm(level, &mut added, y, weight, EPS);
    let mut in_place = x.to_vec();
    rms_norm_in_place(level, &mut in_place, weight, EPS);
    [plain, in_place, scaled, gated, added]
}

fn check(x: &[f32], y: &[f32], cols: usize) {
    let (weight, scale) = (random(cols, 3), random(cols, 4));
    let expected = run(Level::Naive, x, y, &weight, &scale);
    for level in Level::supported() {
        for (found, expected) in run(level, x, y, &weight, &scale).iter().zip(&expected) {
            assert_close(&format!("{level:?} {cols}"), found, expected, TOLERANCE);
        }
    }
}

#[test]
fn all_levels_agree_at_all_small_sizes() {
    for cols in (1..=70).chain([128, 255, 256, 257, 3840]) {
        check(&random(3 * cols, 1), &random(3 * cols, 2), cols);
    }
}

#[test]
fn all_levels_agree_at_the_extremes() {
    for cols in [5, 128, 1000] {
        check(&vec![0.0; cols], &vec![0.0; cols], cols);
        check(&vec![1e4; cols], &vec![-3e4; cols], cols);
        check(&vec![1e-12; cols], &vec![1e-6; cols], cols);
        let mut one_large = random(cols, 5);
        one_large[cols / 2] = 1e6;
        check(&random(cols, 6), &one_large, cols);
    }
}

#[test]
fn a_row_of_equal_values_becomes_the_weight() {
    for level in Level::supported() {
        let mut out = [0.0; 3];
        rms_norm(level, &mut out, &[-7.0; 3], &[1.0, 2.0, 3.0], 0.0);
        assert_close("ones", &out, &[-1.0, -2.0, -3.0], 1e-7);
    }
}

#[test]
fn rows_do_not_depend_on_each_other() {
    let (x, weight) = (random(4 * 37, 1), random(37, 2));
    for level in Level::supported() {
        let (mut whole, mut row) = (vec![0.0; x.len()], vec![0.0; 37]);
        rms_norm(level, &mut whole, &x, &weight, EPS);
        rms_norm(level, &mut row, &x[2 * 37..3 * 37], &weight, EPS);
        assert_eq!(whole[2 * 37..3 * 37], row);
    }
}
