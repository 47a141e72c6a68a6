//! On the emulated device: every format gives what it does when it is widened first, and the rule says when it is not.

use super::super::tests::{Bytes, emulated, matrix, noise, scaled_layouts};
use super::*;
use crate::backend::cuda::emulator;
use crate::{Compute, Format, Layout};
use std::collections::HashSet;
use zimage_kernels::blocks::{self, ScaleType, Scaled};

/// Numbers around 0.01 as scales of this type.
fn scales(scale: ScaleType, bytes: usize) -> Vec<u8> {
    let number = |at: usize| 0.01 + (at * 7 % 5) as f32 / 512.0;
    match scale {
        ScaleType::F32 => (0..bytes / 4).flat_map(|at| number(at).to_le_bytes()).collect(),
        ScaleType::F16 => (0..bytes / 2).flat_map(|at| (0x2100 + (at * 37 % 512) as u16).to_le_bytes()).collect(),
        ScaleType::BF16 => (0..bytes / 2).flat_map(|at| [(number(at).to_bits() >> 16) as u8, 0x3c]).collect(),
        ScaleType::E4M3 => (0..bytes).map(|at| 1 + (at * 5 % 7) as u8).collect(),
        ScaleType::E8M0 => (0..bytes).map(|at| 119 + (at * 5 % 3) as u8).collect(),
    }
}

/// A weight whose values are not far from 1.
fn planes(layout: Layout, rows: usize, cols: usize) -> Bytes {
    let sizes = layout.planes(rows, cols).expect("a layout for these sizes");
    let small = |bytes: Vec<u8>| bytes.into_iter().map(|byte| byte & 0xbf).collect();
    match layout {
        Layout::Rows(format) => match format.encoder() {
            None => [small(noise(3, sizes[0])), Vec::new(), Vec::new()],
            Some(encoder) => {
                let values: Vec<f32> =
                    noise(3, rows * cols).iter().map(|byte| f32::from(*byte) / 128.0 - 1.0).collect();
                let mut bytes = vec![0; sizes[0]];
                encoder.encode(&values, &mut bytes);
                [bytes, Vec::new(), Vec::new()]
            }
        },
        Layout::Scaled(scaled) => {
            let values = noise(5, sizes[0]);
            let values = match scaled.element {
                blocks::Element::E4M3 | blocks::Element::E5M2 => small(values),
                _ => values,
            };
            [values, scales(scaled.scale, sizes[1]), scales(scaled.scale, sizes[2])]
        }
    }
}

/// Some rows times a weight, both ways.
#[track_caller]
fn check(cuda: &Cuda, layout: Layout, m: usize, (n, k): (usize, usize), biased: bool) {
    let planes = planes(layout, n, k);
    let matrix = matrix(layout, n, k, &planes);
    let (file, bytes) = StoredAt::file(&matrix);
    let memory = cuda.take(Element::I8, bytes);
    cuda.upload_planes(memory.address(), &matrix);
    let w = file.located(memory.address());
    let values =
        |seed, count| noise(seed, count).iter().map(|byte| f32::from(*byte) / 128.0 - 1.0).collect::<Vec<f32>>();
    let x = cuda.upload(&values(1, m * k));
    let x = StoredAt::plain(Element::F32, m, k, x.address());
    let bias = biased.then(|| cuda.upload(&values(2, n)));
    let element = cuda.product_element();
    let kernel = Fused::of(m, &w, element).expect("a kernel for few rows");
    let found = cuda.download(&cuda.multiply_stored(kernel, &x, &w, bias.as_ref()));
    let expected = cuda.download(&cuda.multiply_widened(&x, &w, element, bias.as_ref()));
    cuda.check().expect("no failure");
    let scale = expected.iter().fold(0.0f32, |max, value| max.max(value.abs()));
    // bf16: a rounding of the result, and where sums are of f32 values also one of each weight.
    let tolerance = scale * if element == Element::Bf16 { 1.0 / 128.0 } else { 1e-3 };
    let what = format!("{layout} {layout:?}, {m} x {k} by {n}");
    assert!(scale.is_finite() && scale > 0.0, "{what}: {expected:?}");
    assert_eq!(found.len(), m * n, "{what}");
    for (at, (f, e)) in found.iter().zip(&expected).enumerate() {
        assert!((f - e).abs() <= tolerance, "{what}: row {}, column {}: {f} for {e}", at / n, at % n);
    }
}

/// All formats that are quantized, and of those with scales apart two or three for each element, which differ in all else;
/// each with a number of columns that is none of tiles.
fn layouts() -> impl Iterator<Item = (Layout, usize)> {
    let is_narrow = |format: &Format| !matches!(format, Format::F32 | Format::BF16 | Format::F16);
    let formats = Format::ALL.into_iter().filter(is_narrow).map(Layout::Rows);
    // 107 and the 240 layouts of an element have no common divisor.
    let scaled = scaled_layouts().filter(|scaled| scaled.is_valid()).step_by(107).map(Layout::Scaled);
    formats.chain(scaled).map(|layout| {
        let block = match layout {
            Layout::Scaled(Scaled { rotated: true, .. }) => 256,
            Layout::Scaled(scaled) => scaled.block_len(),
            Layout::Rows(format) => format.block_len(),
        };
        (layout, (2 * DEPTH + 8).next_multiple_of(block.max(8)))
    })
}

#[test]
fn every_format_is_multiplied_as_it_is_stored() {
    let devices = [Compute::Bf16, Compute::Exact].map(|compute| emulated(compute).1);
    let turing = Cuda::on(emulator::open((7, 5), 1 << 30).expect("a C++ compiler"));
    for (at, (layout, cols)) in layouts().enumerate() {
        for (m, n) in [(1, 5), (3, 9), (7, 37), (17, 130), (65, 37)] {
            check(&devices[0], layout, m, (n, cols), (at + m) % 2 == 0);
        }
        check(&devices[1], layout, 7, (5, cols), at % 2 == 0);
        check(&turing, layout, 2, (5, cols), at % 2 == 1);
    }
}

#[test]
fn the_layouts_that_are_tried_differ_in_all() {
    let chosen: Vec<Scaled> = layouts()
        .filter_map(|(layout, _)| match layout {
            Layout::Scaled(scaled) => Some(scaled),
            Layout::Rows(_) => None,
        })
        .collect();
    let kernels: HashSet<&str> = layouts()
        .map(|(layout, cols)| {
            let planes = planes(layout, 1, cols);
            let file = StoredAt::file(&matrix(layout, 1, cols, &planes)).0;
            file.multipliers().expect("a format that is quantized").tiles
        })
        .collect();
    assert_eq!(kernels.len(), 21, "all kernels");
    for at in 0..4 {
        let is_so = |scaled: &Scaled| [scaled.high_first, scaled.biased, scaled.swizzled, scaled.rotated][at];
        assert!(chosen.iter().any(is_so) && !chosen.iter().all(is_so), "{at}");
    }
    assert_eq!(chosen.iter().map(|scaled| scaled.scale).collect::<HashSet<_>>().len(), 5);
    assert_eq!(chosen.iter().map(|scaled| scaled.group).collect::<HashSet<_>>().len(), 4);
}

#[test]
fn rows_of_any_length_in_multiples_of_8_are_multiplied_as_they_are_stored() {
    let (_, cuda) = emulated(Compute::Bf16);
    for cols in [8, 24, 248, 256, 264, 1000] {
        for m in [1, 4, 5, 16, 33, 128] {
            check(&cuda, Layout::Rows(Format::F8E4M3), m, (3, cols), m % 2 == 0);
        }
    }
}

#[test]
fn many_rows_and_plain_weights_are_multiplied_by_the_library() {
    let weight = |format: Format, cols| {
        let layout = Layout::Rows(format);
        let bytes = planes(layout, 2, cols);
        StoredAt::file(&matrix(layout, 2, cols, &bytes)).0
    };
    let kernel = |rows, format, cols, element| match Fused::of(rows, &weight(format, cols), element) {
        None => "",
        Some(Fused::Rows(kernels)) => kernels.rows,
        Some(Fused::Tiles(kernels)) => kernels.tiles,
    };
    let q4 = |rows, element| kernel(rows, Format::Q4_0, 64, element);
    let (rows, tiles) = ("multiply_rows_q4_0", "multiply_tiles_q4_0");
    assert_eq!([1, 4, 5, 128, 129].map(|m| q4(m, Element::Bf16)), [rows, rows, tiles, tiles, ""]);
    assert_eq!([1, 16, 17].map(|m| q4(m, Element::F32)), [rows, rows, ""]);
    assert_eq!([1, 16, 17].map(|m| q4(m, Element::F16)), [rows, rows, ""]);
    assert_eq!([Element::F8, Element::I8].map(|element| q4(1, element)), ["", ""]);
    assert_eq!([Format::F32, Format::BF16, Format::F16].map(|plain| kernel(1, plain, 64, Element::Bf16)), ["", "", ""]);
    assert_eq!(kernel(1, Format::F8E5M2, 13, Element::Bf16), "", "rows that begin anywhere");
}

#[test]
fn the_depth_is_split_where_there_are_too_few_blocks() {
    // 9728 columns of the text encoder on an H100, 2560 of them, and 1024; then where nothing is to be gained.
    assert_eq!(splits(2560, 76, 264), (3, 4 * DEPTH));
    assert_eq!(splits(9728, 20, 264), (13, 3 * DEPTH));
    assert_eq!(splits(2560, 8, 264), (10, DEPTH));
    assert_eq!(splits(256, 120, 264), (1, DEPTH));
    assert_eq!(splits(300, 1, 264), (1, 2 * DEPTH));
    assert_eq!(splits(2560, 264, 264), (1, 10 * DEPTH));
    for (cols, blocks) in [(8, 1), (520, 3), (3840, 30), (10240, 30), (10248, 160)] {
        let (splits, depth) = splits(cols, blocks, 264);
        assert!((splits - 1) * depth < cols && splits * depth >= cols, "no part is empty, and all is summed");
        assert!(splits <= (cols / DEPTH).max(1), "the sums have room");
    }
}
