use super::*;
use crate::conv2d::conv2d_band;
use crate::testing::{assert_close, random};
use crate::tile::tiles;

/// Relative to the largest output: what F(4x4, 3x3) loses at any number of channels is below half of it.
const TOLERANCE: f32 = 5e-6;

fn packed(level: Level, conv: &Conv3x3, weight: &[f32]) -> Vec<f32> {
    let (rows, cols) = (Conv3x3::packed_rows(level), conv.packed_cols(level));
    let mut packed = vec![f32::NAN; rows * cols];
    for mut tile in tiles(&mut packed, rows, cols, rows, conv.packed_block_cols(level)) {
        pack(level, conv, &mut tile, weight);
    }
    packed
}

fn run(level: Level, conv: &Conv3x3, input: Input, output: Output, band_rows: usize) -> Vec<f32> {
    let weight = random(conv.cout * conv.cin * 9, 2);
    let (packed, bias) = (packed(level, conv, &weight), random(conv.cout, 3));
    let pixels = conv.height * conv.width;
    let mut out = random(conv.cout * pixels, 4);
    let mut scratch = vec![f32::NAN; 7];
    for mut tile in tiles(&mut out, conv.cout, pixels, conv.cout, band_rows * conv.width) {
        conv3x3_band(level, conv, &mut tile, input, &packed, &bias, output, &mut scratch);
    }
    out
}

fn check(conv: &Conv3x3, input: Input, output: Output) {
    let expected = run(Level::Naive, conv, input, output, conv.height.next_multiple_of(4));
    for level in Level::supported() {
        for band_rows in [conv.band_rows(), 4, 8] {
            let found = run(level, conv, input, output, band_rows);
            assert_close(&format!("{level:?} {conv:?} {output:?} {band_rows}"), &found, &expected, TOLERANCE);
        }
    }
}

#[test]
fn all_levels_agree_at_all_small_sizes() {
    for (cin, cout) in [(1, 1), (3, 5), (16, 9)] {
        for (height, width) in [(1, 1), (1, 5), (4, 3), (7, 9), (8, 16), (9, 64), (5, 65), (3, 131), (33, 12)] {
            let conv = Conv3x3 { cin, cout, height, width };
            check(&conv, Input::Plain(&random(cin * height * width, 1)), Output::Replace);
        }
    }
}

#[test]
fn the_sum_is_added_to_what_is_there() {
    for (height, width) in [(5, 7), (8, 128), (4, 140)] {
        let conv = Conv3x3 { cin: 5, cout: 10, height, width };
        check(&conv, Input::Plain(&random(5 * height * width, 1)), Output::Add);
    }
}

#[test]
fn the_input_is_normalized_and_activated_but_not_its_border() {
    for (height, width) in [(1, 1), (5, 7), (8, 128), (4, 140)] {
        let conv = Conv3x3 { cin: 6, cout: 4, height, width };
        let (mean, factor, bias) = (random(6, 5), random(6, 6), random(6, 7));
        let norm = ChannelNorm { mean: &mean, factor: &factor, bias: &bias };
        check(&conv, Input::NormSilu(&random(6 * height * width, 1), norm), Output::Replace);
    }
}

#[test]
fn the_input_is_doubled() {
    for (height, width) in [(2, 2), (6, 10), (10, 130), (8, 128), (4, 62)] {
        let conv = Conv3x3 { cin: 3, cout: 5, height, width };
        check(&conv, Input::Doubled(&random(3 * height * width / 4, 1)), Output::Replace);
    }
}

#[test]
fn many_channels_lose_no_digits() {
    let conv = Conv3x3 { cin: 512, cout: 24, height: 16, width: 32 };
    let x = random(conv.cin * conv.height * conv.width, 1);
    check(&conv, Input::Plain(&x), Output::Replace);
}

#[test]
fn the_naive_level_is_the_general_convolution() {
    let conv = Conv3x3 { cin: 4, cout: 3, height: 6, width: 5 };
    let x = random(4 * 30, 1);
    let mut expected = vec![f32::NAN; 90];
    let mut tile = TileMut::whole(&mut expected, 3, 30);
    conv2d_band(Level::Naive, &conv.general(), &mut tile, &x, &random(3 * 4 * 9, 2), &random(3, 3), &mut Vec::new());
    assert_eq!(Conv3x3::of(&conv.general()), Some(conv));
    assert_eq!(Conv3x3::of(&Conv2d { pad_left: 0, ..conv.general() }), None);
    assert_close("naive", &run(Level::Naive, &conv, Input::Plain(&x), Output::Replace, 4), &expected, 1e-7);
}

#[test]
fn bands_depend_on_the_shape_alone_and_cover_whole_tiles() {
    let rows = |height, width| Conv3x3 { cin: 1, cout: 1, height, width }.band_rows();
    assert_eq!([rows(1024, 1024), rows(128, 128), rows(64, 64), rows(20, 20), rows(1, 1)], [12, 12, 8, 4, 4]);
}

#[test]
fn the_activation_holds_far_from_zero() {
    let conv = Conv3x3 { cin: 1, cout: 1, height: 8, width: 70 };
    for factor in [0.0, 1e-3, 30.0, 200.0, 1e10] {
        let norm = ChannelNorm { mean: &[0.0], factor: &[factor], bias: &[0.0] };
        check(&conv, Input::NormSilu(&random(8 * 70, 1), norm), Output::Replace);
    }
}

#[test]
fn values_that_are_not_finite_stay_visible() {
    let conv = Conv3x3 { cin: 2, cout: 2, height: 9, width: 9 };
    let norm = ChannelNorm { mean: &[0.0; 2], factor: &[1.0; 2], bias: &[0.0; 2] };
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = random(2 * 81, 1);
        x[40] = wrong;
        for level in Level::supported().into_iter().skip(1) {
            for input in [Input::Plain(&x), Input::NormSilu(&x, norm)] {
                let found = run(level, &conv, input, Output::Replace, 4);
                assert!(found.iter().any(|value| !value.is_finite()), "{level:?} {wrong}");
            }
        }
    }
}
