use super::*;
use crate::testing::{assert_close, random};

fn check(x: &[f32], cols: usize, tolerance: f32) {
    let scale = random(cols, 3);
    let mut expected = vec![f32::NAN; x.len()];
    layer_norm_scaled(Level::Naive, &mut expected, x, &scale, 1e-6);
    for level in Level::supported() {
        let mut found = vec![f32::NAN; x.len()];
        layer_norm_scaled(level, &mut found, x, &scale, 1e-6);
        assert_close(&format!("{level:?} {cols}"), &found, &expected, tolerance);
    }
}

#[test]
fn all_levels_agree_at_all_small_sizes() {
    for cols in (2..=70).chain([128, 255, 256, 257, 3840]) {
        check(&random(3 * cols, 1), cols, 1e-6);
    }
}

#[test]
fn all_levels_agree_at_the_extremes() {
    for cols in [8, 128, 1000] {
        check(&vec![0.0; cols], cols, 1e-6);
        check(&random(cols, 1).iter().map(|v| v * 1e15).collect::<Vec<_>>(), cols, 1e-6);
        // The mean is 100 times the deviation: the f32 mean costs two digits of the last places.
        check(&random(cols, 1).iter().map(|v| v + 100.0).collect::<Vec<_>>(), cols, 2e-5);
    }
}
