//! Operations on pictures: convolutions and what they are fused with.

use super::cases::{check, tensor};
use super::tolerances::{NORM, SUM};
use crate::ops::{self, ConvGeometry, GroupNorm};
use crate::{Device, Tensor};

/// Channels, groups, output channels, height and width: sizes below, at and above a band, a block and a vector.
const SHAPES: [[usize; 5]; 8] = [
    [4, 2, 1, 1, 1],
    [24, 8, 5, 5, 7],
    [64, 32, 64, 33, 40],
    [6, 3, 7, 9, 131],
    [3, 1, 10, 64, 64],
    [70, 7, 20, 40, 150],
    [32, 32, 9, 130, 18],
    [6, 3, 130, 9, 18],
];

fn norm(d: &Device, channels: usize, groups: usize) -> GroupNorm {
    GroupNorm { weight: tensor(d, 2, &[channels]), bias: tensor(d, 3, &[channels]), groups, eps: 1e-6 }
}

fn kernel(d: &Device, cin: usize, cout: usize, size: usize) -> (Tensor, Tensor) {
    (tensor(d, 4, &[cout, cin, size, size]), tensor(d, 5, &[cout]))
}

#[test]
fn convolutions_agree() {
    let down = ConvGeometry { stride: 2, left: 0, right: 1, top: 0, bottom: 1 };
    for (cin, cout, kernel, height, width, geometry) in [
        (1, 1, 1, 1, 1, ConvGeometry::padded(0)),
        (3, 8, 3, 5, 7, ConvGeometry::padded(1)),
        (16, 4, 3, 64, 33, ConvGeometry::padded(1)),
        (5, 7, 1, 9, 4, ConvGeometry::padded(0)),
        (4, 6, 3, 8, 10, down),
        (70, 20, 3, 40, 150, ConvGeometry::padded(1)),
    ] {
        check(&format!("conv {cin} {cout} {kernel} {height}x{width}"), SUM, |d| {
            let (w, b) = self::kernel(d, cin, cout, kernel);
            ops::conv2d(&tensor(d, 1, &[cin, height, width]), &w, &b, geometry)
        });
    }
}

#[test]
fn convolutions_after_a_norm_agree() {
    for [cin, groups, cout, height, width] in SHAPES {
        let name = format!("{cin} in {groups} to {cout} at {height}x{width}");
        check(&format!("norm_silu_conv2d {name}"), SUM, |d| {
            let (w, b) = kernel(d, cin, cout, 3);
            ops::norm_silu_conv2d(&tensor(d, 1, &[cin, height, width]), &norm(d, cin, groups), &w, &b)
        });
        check(&format!("add_norm_silu_conv2d {name}"), SUM, |d| {
            let (w, b) = kernel(d, cin, cout, 3);
            let mut x = tensor(d, 6, &[cout, height, width]);
            ops::add_norm_silu_conv2d(&mut x, &tensor(d, 1, &[cin, height, width]), &norm(d, cin, groups), &w, &b);
            x
        });
    }
}

#[test]
fn convolutions_of_a_doubled_picture_agree() {
    for [cin, _, cout, height, width] in SHAPES {
        check(&format!("upsample_conv2d {cin} to {cout} at {height}x{width}"), SUM, |d| {
            let (w, b) = kernel(d, cin, cout, 3);
            ops::upsample_conv2d(&tensor(d, 1, &[cin, height, width]), &w, &b)
        });
    }
}

#[test]
fn pointwise_convolutions_agree_in_place_and_not() {
    for (cin, cout) in [(5, 7), (7, 5), (64, 32), (3, 3)] {
        for (height, width) in [(1, 1), (9, 4), (33, 70)] {
            check(&format!("conv1x1 {cin} to {cout} at {height}x{width}"), SUM, |d| {
                let (w, b) = kernel(d, cin, cout, 1);
                // A sum lies in memory of the pool, a given tensor in its own.
                let (mut x, own) = (tensor(d, 1, &[cin, height, width]), tensor(d, 6, &[cin, height, width]));
                x = ops::slice_rows(&x, 0, cin);
                let mut out = ops::conv1x1(x, &w, &b);
                ops::add(&mut out, &ops::conv1x1(own, &w, &b));
                out
            });
        }
    }
}

#[test]
fn group_norms_agree() {
    for [channels, groups, _, height, width] in SHAPES.into_iter().chain([[4, 2, 0, 300, 301]]) {
        check(&format!("group_norm {channels} in {groups} at {height}x{width}"), NORM, |d| {
            ops::group_norm(&tensor(d, 1, &[channels, height, width]), &norm(d, channels, groups))
        });
    }
}
