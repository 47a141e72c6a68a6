use super::*;
use crate::testing::random;

#[test]
fn sums_and_differences_are_exact_at_all_small_sizes() {
    for level in Level::supported() {
        for n in 0..100 {
            let (x, y) = (random(n, 1), random(n, 2));
            let mut found = x.clone();
            add(level, &mut found, &y);
            let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
            assert_eq!(found, expected);
            let mut found = x.clone();
            subtract_from(level, &mut found, &y);
            let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| y - x).collect();
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn the_first_bad_value_is_found_at_every_place() {
    for level in Level::supported() {
        for n in [1, 5, 64, 255, 256, 257, 700] {
            let mut x = random(n, 1);
            x[n / 2] = f32::MAX;
            assert_eq!(first_non_finite(level, &x), None);
            for place in [0, n / 3, n - 1] {
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let mut x = x.clone();
                    x[n - 1] = f32::NAN;
                    x[place] = bad;
                    assert_eq!(first_non_finite(level, &x), Some(place));
                }
            }
        }
        assert_eq!(first_non_finite(level, &[]), None);
    }
}
