//! What adapters add to a linear layer, against the naive backend, and against the weight that they stand for.

use super::cases::{check, tensor, values, weight};
use super::tolerances::{ELEMENTWISE, SUM};
use crate::delta::{Delta, Factor, Gain, Product};
use crate::ops;
use crate::{Device, Format, Linear, Weight};

const ROWS: usize = 12;
const COLS: usize = 32;

/// A dense weight with these values.
fn dense(device: &Device, rows: usize, cols: usize, values: &[f32]) -> Weight {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Weight::rows_of(device, Format::F32, rows, cols, bytes.into()).expect("bytes of the right size")
}

fn low_rank(device: &Device) -> Product {
    let (down, up) = (dense(device, 4, COLS, &values(20, 4 * COLS)), dense(device, ROWS, 4, &values(21, ROWS * 4)));
    Product::LowRank { down, up }
}

/// `(3 * 5, 2 * 16)`, of which the rows from 2 on are used.
fn kronecker(device: &Device, pair: bool) -> Product {
    let w2 = match pair {
        false => Factor::Whole(dense(device, 5, 16, &pair_product())),
        true => {
            let (down, up) = (dense(device, 3, 16, &values(23, 48)), dense(device, 5, 3, &values(24, 15)));
            Factor::Pair { down: down.into(), up: up.into() }
        }
    };
    Product::Kronecker { w1: tensor(device, 22, &[3, 2]), w2, skip: 2 }
}

fn matmul(a: &[f32], b: &[f32], inner: usize, cols: usize) -> Vec<f32> {
    let row = |a: &[f32]| (0..cols).map(|c| (0..inner).map(|k| a[k] * b[k * cols + c]).sum()).collect::<Vec<f32>>();
    a.chunks(inner).flat_map(row).collect()
}

fn pair_product() -> Vec<f32> {
    matmul(&values(24, 15), &values(23, 48), 3, 16)
}

/// The matrices that the two products stand for.
fn low_rank_matrix() -> Vec<f32> {
    matmul(&values(21, ROWS * 4), &values(20, 4 * COLS), 4, COLS)
}

fn kronecker_matrix() -> Vec<f32> {
    let (w1, w2) = (values(22, 6), pair_product());
    let row = |r: usize| (0..COLS).map(|c| w1[r / 5 * 2 + c / 16] * w2[r % 5 * 16 + c % 16]).collect::<Vec<f32>>();
    (2..2 + ROWS).flat_map(row).collect()
}

fn gains() -> [Gain; 3] {
    let positive = |seed, count| values(seed, count).into_iter().map(|value| 1.0 + 0.5 * value).collect();
    [Gain::None, Gain::Rows(positive(30, ROWS)), Gain::Columns(positive(31, COLS))]
}

/// `W + weight (normalised(W + scale D) - W)`.
fn fused(base: &[f32], delta: &[f32], scale: f32, weight: f32, gain: &Gain) -> Vec<f32> {
    let change = |(at, (base, delta)): (usize, (&f32, &f32))| {
        let gain = match gain {
            Gain::None => 1.0,
            Gain::Rows(gain) => gain[at / COLS],
            Gain::Columns(gain) => gain[at % COLS],
        };
        weight * (gain * (base + scale * delta) - base)
    };
    base.iter().zip(delta).enumerate().map(change).collect()
}

fn layer(d: &Device, format: Format) -> Linear {
    Linear::new(weight(d, format, ROWS, COLS), Some(tensor(d, 3, &[ROWS])))
}

#[test]
fn branches_agree_on_dense_and_quantized_weights() {
    for format in [Format::F32, Format::BF16, Format::Q8_0, Format::Q4_0] {
        for tokens in [1, 33, 1030] {
            for at in 0..3 {
                check(&format!("low rank {format:?} {tokens} {at}"), SUM, |d| {
                    let gain = gains().into_iter().nth(at).expect("three gains");
                    let delta = Delta::new(d, ROWS, low_rank(d), 0.5, 0.8, gain).expect("it fits");
                    ops::linear(&tensor(d, 1, &[tokens, COLS]), &layer(d, format).with_delta(delta))
                });
            }
            for pair in [false, true] {
                check(&format!("kronecker {format:?} {tokens} {pair}"), SUM, |d| {
                    let delta = Delta::new(d, ROWS, kronecker(d, pair), 0.5, 0.8, Gain::None).expect("it fits");
                    ops::linear(&tensor(d, 1, &[tokens, COLS]), &layer(d, format).with_delta(delta))
                });
            }
        }
    }
}

#[test]
fn branches_compute_what_the_changed_weight_would() {
    let (scale, weight) = (0.7, -0.6);
    let d = &Device::reference();
    let x = tensor(d, 1, &[9, COLS]);
    let base = values(7, ROWS * COLS);
    for at in 0..3 {
        let products = [(low_rank(d), low_rank_matrix()), (kronecker(d, true), kronecker_matrix())];
        for (product, matrix) in products {
            let gain = || gains().into_iter().nth(at).expect("three gains");
            let change = fused(&base, &matrix, scale, weight, &gain());
            let sum: Vec<f32> = base.iter().zip(&change).map(|(base, change)| base + change).collect();
            let expected = ops::linear(&x, &Linear::new(dense(d, ROWS, COLS, &sum), Some(tensor(d, 3, &[ROWS]))));
            let delta = Delta::new(d, ROWS, product, scale, weight, gain()).expect("it fits");
            let found = ops::linear(&x, &layer(d, Format::F32).with_delta(delta));
            let off = expected.to_vec().iter().zip(found.to_vec()).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(off < 1e-5, "gain {at}: off by {off}");
        }
    }
}

#[test]
fn branches_add_up_in_any_order() {
    let d = &Device::reference();
    let x = tensor(d, 1, &[9, COLS]);
    let delta = |first: bool| {
        let [_, rows, _] = gains();
        let (product, gain) = if first { (low_rank(d), rows) } else { (kronecker(d, false), Gain::None) };
        Delta::new(d, ROWS, product, 0.5, 0.8, gain).expect("it fits")
    };
    let run = |order: [bool; 2]| {
        let layer = order.into_iter().fold(layer(d, Format::F32), |layer, first| layer.with_delta(delta(first)));
        ops::linear(&x, &layer).to_vec()
    };
    let (one, other) = (run([true, false]), run([false, true]));
    assert!(one.iter().zip(&other).all(|(a, b)| (a - b).abs() <= 1e-6 * a.abs().max(1.0)));
}

#[test]
fn the_operations_of_branches_agree() {
    check("add_scaled", ELEMENTWISE, |d| {
        let mut y = tensor(d, 1, &[700, 129]);
        ops::add_scaled(&mut y, &tensor(d, 2, &[700, 140]), 5, &tensor(d, 3, &[129]));
        y
    });
    check("scale_columns", ELEMENTWISE, |d| ops::scale_columns(&tensor(d, 1, &[7, 33]), &tensor(d, 2, &[1, 33])));
    check("mix_rows", SUM, |d| ops::mix_rows(&tensor(d, 1, &[15, 7]), &tensor(d, 2, &[4, 3]), 5));
}

#[test]
fn a_gain_of_another_length_is_refused() {
    let d = &Device::reference();
    assert!(Delta::new(d, ROWS, low_rank(d), 1.0, 1.0, Gain::Rows(vec![1.0; ROWS + 1])).is_err());
}
