use super::*;
use crate::testing::random;
use crate::{activation, group_norm, layer_norm, rms_norm, rope};

#[test]
fn the_variable_lowers_the_level_and_never_raises_it() {
    assert_eq!(lowered(Level::Avx512, Some("avx2")), Level::Avx2);
    assert_eq!(lowered(Level::Avx2, Some("avx512")), Level::Avx2);
    assert_eq!(lowered(Level::Avx2, Some("naive")), Level::Naive);
    assert_eq!(lowered(Level::Portable, Some("sse9")), Level::Portable);
    assert_eq!(lowered(Level::Avx512, None), Level::Avx512);
}

#[test]
fn names_are_read_back() {
    for level in Level::supported() {
        assert_eq!(Level::from_name(level.name()), Some(level));
    }
}

#[test]
fn supported_levels_rise_from_naive_to_the_best() {
    let levels = Level::supported();
    assert!(levels.is_sorted() && levels[0] == Level::Naive);
    assert_eq!(levels.last(), Some(&Level::best()));
}

/// The row kernels hold no fused multiply-add and add in a fixed order.
#[test]
fn row_kernels_give_the_same_bits_at_all_fast_levels() {
    let (x, y, weight) = (random(4 * 250, 1), random(4 * 250, 2), random(250, 3));
    let run = |level| {
        let mut out = [x.clone(), x.clone(), x.clone(), x.clone(), x.clone()];
        activation::silu_mul(level, &mut out[0], &y);
        rms_norm::add_rms_norm_gated(level, &mut out[1], &y, &weight, &weight, 1e-5);
        layer_norm::layer_norm_scaled(level, &mut out[2], &x, &weight, 1e-6);
        let norm = group_norm::moments(level, &x);
        group_norm::normalize(level, &mut out[3], &x, norm.mean() as f32, norm.inverse(1e-6) as f32, 0.5);
        rope::rope_interleaved(level, &mut out[4], 2, 50, &y[..250], &x[..250]);
        out
    };
    let expected = run(Level::Portable);
    for level in Level::supported().into_iter().skip(1) {
        assert_eq!(run(level), expected, "{level:?}");
    }
}
