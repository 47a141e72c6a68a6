use super::*;
use crate::testing::{assert_close, random};
use crate::tile::tiles;

fn shape(cin: usize, cout: usize, kernel: usize, height: usize, width: usize) -> Conv2d {
    let pad = kernel / 2;
    Conv2d {
        cin,
        cout,
        kh: kernel,
        kw: kernel,
        stride: 1,
        pad_left: pad,
        pad_right: pad,
        pad_top: pad,
        pad_bottom: pad,
        height,
        width,
    }
}

fn run(level: Level, conv: &Conv2d, tile_channels: usize, band_rows: usize) -> Vec<f32> {
    let x = random(conv.cin * conv.height * conv.width, 1);
    let weight = random(conv.cout * conv.cin * conv.kh * conv.kw, 2);
    let bias = random(conv.cout, 3);
    let columns = conv.out_height() * conv.out_width();
    let mut out = vec![f32::NAN; conv.cout * columns];
    let mut scratch = vec![f32::NAN; 7];
    for tile in &mut tiles(&mut out, conv.cout, columns, tile_channels, band_rows * conv.out_width()) {
        conv2d_band(level, conv, tile, &x, &weight, &bias, &mut scratch);
    }
    out
}

fn check(conv: &Conv2d) {
    let expected = run(Level::Naive, conv, conv.cout, conv.out_height());
    for level in Level::supported() {
        for (tile_channels, band_rows) in [(conv.cout, conv.band_rows()), (conv.cout, 2), (3, 1)] {
            let found = run(level, conv, tile_channels, band_rows);
            assert_close(&format!("{level:?} {conv:?}"), &found, &expected, 1e-6);
        }
    }
}

#[test]
fn all_levels_agree_at_all_small_sizes() {
    for kernel in [1, 3] {
        for (cin, cout) in [(1, 1), (3, 5), (16, 4)] {
            for (height, width) in [(1, 1), (1, 5), (4, 3), (7, 9), (8, 16)] {
                check(&shape(cin, cout, kernel, height, width));
            }
        }
    }
}

#[test]
fn the_encoder_halves_with_padding_on_the_right_and_below_only() {
    for (height, width) in [(2, 2), (6, 8), (7, 9), (8, 5)] {
        let conv = Conv2d { stride: 2, pad_left: 0, pad_top: 0, ..shape(4, 6, 3, height, width) };
        assert_eq!(
            (conv.out_height(), conv.out_width()),
            (height.div_ceil(2).min((height - 2) / 2 + 1), (width - 2) / 2 + 1)
        );
        check(&conv);
    }
}

#[test]
fn uneven_padding_and_kernels_agree() {
    check(&Conv2d { pad_left: 3, pad_right: 0, pad_top: 2, pad_bottom: 4, ..shape(2, 3, 3, 5, 6) });
    check(&Conv2d { kh: 1, kw: 5, stride: 3, ..shape(2, 3, 3, 5, 9) });
    check(&Conv2d { kh: 2, kw: 2, pad_left: 0, pad_top: 0, ..shape(2, 3, 2, 4, 4) });
}

#[test]
fn many_input_channels_are_summed_in_several_parts() {
    // 520 channels x 9 taps x 256 columns are 1.2 million values, more than one part holds.
    let conv = shape(520, 2, 3, 16, 16);
    let expected = run(Level::Naive, &conv, 2, 16);
    for level in Level::supported() {
        let found = run(level, &conv, 2, 16);
        assert_close(&format!("{level:?}"), &found, &expected, 2e-6);
    }
}

#[test]
fn a_kernel_of_ones_counts_its_neighbours() {
    let conv = shape(1, 1, 3, 3, 3);
    for level in Level::supported() {
        let mut out = [0.0; 9];
        let mut tile = TileMut::whole(&mut out, 1, 9);
        conv2d_band(level, &conv, &mut tile, &[1.0; 9], &[1.0; 9], &[0.0], &mut Vec::new());
        assert_eq!(out, [4.0, 6.0, 4.0, 6.0, 9.0, 6.0, 4.0, 6.0, 4.0]);
    }
}
