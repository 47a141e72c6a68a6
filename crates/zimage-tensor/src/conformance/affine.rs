//! Layers in MLX's own formats, whole and in part, brought to the device once and for each use.

use super::cases::{check, tensor, values};
use super::tolerances::SUM;
use crate::{Device, Layout, Linear, Stored, Weight, ops};
use zimage_kernels::blocks::{ScaleType, Scaled};

const ROWS: usize = 21;
const COLS: usize = 128;

fn stored(scaled: Scaled, factor: f32) -> Stored {
    let layout = Layout::Scaled(scaled);
    let mut planes = layout.plane_bytes(ROWS, COLS).map(|bytes| vec![0; bytes]);
    let [packed, scales, biases] = &mut planes;
    scaled.encoder().expect("a format that can be written").encode(&values(7, ROWS * COLS), packed, scales, biases);
    let [values, scales, biases] = planes.map(Into::into);
    Stored { layout, rows: ROWS, cols: COLS, values, scales, biases, factor }
}

fn check_layer(scaled: Scaled, factor: f32, tokens: usize) {
    for lay_out in [|weight| weight, Weight::resident as fn(Weight) -> Weight] {
        check(&format!("{scaled} by {factor} of {tokens}"), SUM, |d: &Device| {
            let weight = Weight::new(d, stored(scaled, factor), 2..ROWS - 1).expect("bytes of the right size");
            let layer = Linear::new(lay_out(weight), Some(tensor(d, 3, &[ROWS - 3])));
            let x = tensor(d, 1, &[tokens, COLS]);
            // The second time a weight that stays is there already.
            ops::concat_rows(&ops::linear(&x, &layer), &ops::linear(&x, &layer))
        });
    }
}

#[test]
fn layers_agree_in_every_width_group_and_scale() {
    for bits in [2, 3, 4, 5, 6, 8] {
        for group in [32, 64, 128] {
            for scale in [ScaleType::F32, ScaleType::F16, ScaleType::BF16] {
                check_layer(Scaled::affine(bits, group, scale), 1.0, 5);
            }
        }
    }
}

#[test]
fn layers_agree_where_a_device_has_to_decode() {
    check_layer(Scaled::affine(4, 64, ScaleType::F16), 0.5, 5);
}
