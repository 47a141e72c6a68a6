use super::*;
use crate::testing::{assert_close, random};

type GroupNorm = fn(Level, &mut [f32], &[f32], &[f32], &[f32], f32);
const BOTH: [(&str, GroupNorm); 2] = [("group_norm", group_norm), ("group_norm_silu", group_norm_silu)];

fn check(x: &[f32], channels: usize, tolerance: f32) {
    let (weight, bias) = (random(channels, 3), random(channels, 4));
    for (name, norm) in BOTH {
        let mut expected = vec![f32::NAN; x.len()];
        norm(Level::Naive, &mut expected, x, &weight, &bias, 1e-6);
        for level in Level::supported() {
            let mut found = vec![f32::NAN; x.len()];
            norm(level, &mut found, x, &weight, &bias, 1e-6);
            assert_close(&format!("{level:?} {name} {channels} {}", x.len()), &found, &expected, tolerance);
        }
    }
}

#[test]
fn all_levels_agree_at_all_small_sizes() {
    for channels in [1, 2, 3, 16] {
        for pixels in (2..40).chain([255, 256, 1000]) {
            check(&random(channels * pixels, 1), channels, 1e-6);
        }
    }
}

#[test]
fn all_levels_agree_at_the_extremes() {
    check(&[0.0; 64], 4, 1e-6);
    check(&random(640, 1).iter().map(|v| v * 1e15).collect::<Vec<_>>(), 4, 1e-6);
    // The mean is 100 times the deviation: the f32 mean costs two digits of the last places.
    check(&random(640, 1).iter().map(|v| v + 100.0).collect::<Vec<_>>(), 4, 2e-5);
}
