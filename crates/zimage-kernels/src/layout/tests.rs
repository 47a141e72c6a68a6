use super::*;
use crate::testing::random;

#[test]
fn transposition_moves_every_value() {
    for rows in [0, 1, 2, 15, 16, 17, 40] {
        for cols in [1, 3, 16, 33] {
            let x = random(rows * cols, 1);
            let mut out = vec![f32::NAN; x.len()];
            transpose(&mut out, &x, rows, cols);
            for r in 0..rows {
                for c in 0..cols {
                    assert_eq!(out[c * rows + r], x[r * cols + c]);
                }
            }
        }
    }
}

#[test]
fn the_channel_is_the_fastest_feature_of_a_patch() {
    // Two channels of 2 x 4: channel 0 holds 0..8, channel 1 holds 8..16.
    let x: Vec<f32> = (0..16).map(|i| i as f32).collect();
    let mut out = [f32::NAN; 16];
    patchify(&mut out, &x, 2, 2, 4);
    assert_eq!(out[..8], [0.0, 8.0, 1.0, 9.0, 4.0, 12.0, 5.0, 13.0]);
    assert_eq!(out[8..], [2.0, 10.0, 3.0, 11.0, 6.0, 14.0, 7.0, 15.0]);
}

#[test]
fn unpatchify_undoes_patchify() {
    for (channels, height, width) in [(1, 2, 2), (16, 4, 6), (3, 10, 2)] {
        let x = random(channels * height * width, 1);
        let (mut patches, mut again) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
        patchify(&mut patches, &x, channels, height, width);
        unpatchify(&mut again, &patches, channels, height, width);
        assert_eq!(again, x);
    }
}

#[test]
#[should_panic(expected = "patches of 2 x 2 in 3 x 4")]
fn an_odd_height_is_refused() {
    patchify(&mut [0.0; 12], &[0.0; 12], 1, 3, 4);
}
