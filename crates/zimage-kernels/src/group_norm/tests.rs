use super::*;
use crate::testing::{assert_close, random};

/// Mean and inverse deviation of all pieces together.
fn statistics(level: Level, x: &[f32], piece: usize) -> [f32; 2] {
    let merged = x.chunks(piece).fold(Moments::default(), |all, piece| all.merged(moments(level, piece)));
    [merged.mean() as f32, merged.inverse(1e-6) as f32]
}

fn check(x: &[f32], tolerance: f32) {
    let [mean, inverse] = statistics(Level::Naive, x, x.len());
    let mut expected = vec![f32::NAN; x.len()];
    normalize(Level::Naive, &mut expected, x, mean, inverse * 1.5, 0.25);
    for level in Level::supported() {
        for piece in [x.len(), 1, 7, 64] {
            let [mean, inverse] = statistics(level, x, piece);
            let mut found = vec![f32::NAN; x.len()];
            normalize(level, &mut found, x, mean, inverse * 1.5, 0.25);
            assert_close(&format!("{level:?} {} in pieces of {piece}", x.len()), &found, &expected, tolerance);
        }
    }
}

#[test]
fn all_levels_agree_at_all_small_sizes() {
    for values in (2..40).chain([255, 256, 1000, 4096, 10_000]) {
        check(&random(values, 1), 1e-6);
    }
}

#[test]
fn all_levels_agree_at_the_extremes() {
    check(&[0.0; 64], 1e-6);
    check(&[3.0; 5000], 1e-6);
    check(&random(640, 1).iter().map(|v| v * 1e15).collect::<Vec<_>>(), 1e-6);
    // The mean is 100 times the deviation: the f32 mean costs two digits of the last places.
    check(&random(9000, 1).iter().map(|v| v + 100.0).collect::<Vec<_>>(), 2e-5);
}

#[test]
fn a_known_norm() {
    let [mean, inverse] = statistics(Level::Naive, &[1.0, 3.0, 5.0, 7.0], 4);
    assert_eq!((mean, inverse), (4.0, (1.0 / (5.0f64 + f64::from(1e-6f32)).sqrt()) as f32));
}
