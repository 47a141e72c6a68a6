use super::*;
use crate::testing::{assert_close, random};

fn check(gate: &[f32], up: &[f32]) {
    let mut expected = [gate.to_vec(), gate.to_vec()];
    silu_mul(Level::Naive, &mut expected[0], up);
    silu(Level::Naive, &mut expected[1]);
    for level in Level::supported() {
        let mut found = [gate.to_vec(), gate.to_vec()];
        silu_mul(level, &mut found[0], up);
        silu(level, &mut found[1]);
        for (found, expected) in found.iter().zip(&expected) {
            assert_close(&format!("{level:?} {}", gate.len()), found, expected, 4e-7);
        }
    }
}

#[test]
fn all_levels_agree_at_all_small_sizes() {
    for n in 0..100 {
        check(&random(n, 1), &random(n, 2));
    }
}

#[test]
fn all_levels_agree_at_the_extremes() {
    for value in [0.0, 1e-20, 20.0, -20.0, 88.0, -88.0, -89.0, -104.0, 1e30, -1e30, f32::NAN] {
        check(&[value; 19], &[2.0; 19]);
    }
    let spread: Vec<f32> = (-2000..2000).map(|i| i as f32 * 0.05).collect();
    for value in spread {
        check(&[value; 3], &[1.0; 3]);
    }
}
