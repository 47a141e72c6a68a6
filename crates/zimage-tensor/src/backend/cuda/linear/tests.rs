//! On the emulated device: formats decode to the bits of the CPU, rows are scaled without loss, and where a weight lies
//! changes nothing.

use super::StoredAt;
use crate::backend::cuda::driver::{Address, Element};
use crate::backend::cuda::{Cuda, emulator};
use crate::{Activations, Compute, Device, Format, Layout, Linear, Stored, Tensor, Weight, ops};
use std::ops::Range;
use zimage_kernels::blocks::{self, Group, Matrix, Planes, ScaleType, Scaled};

pub(super) fn emulated(compute: Compute) -> (Device, Cuda) {
    let device = Device::emulated_cuda(1 << 36).expect("a C++ compiler").with_compute(compute);
    let Device::Cuda(cuda) = device.clone() else { panic!("CUDA's device") };
    (device, cuda)
}

/// Bytes that look like nothing.
pub(super) fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as u8
    };
    (0..count).map(next).collect()
}

/// The planes of a matrix.
pub(super) type Bytes = [Vec<u8>; 3];

pub(super) fn matrix<'a>(layout: Layout, rows: usize, cols: usize, [values, scales, biases]: &'a Bytes) -> Matrix<'a> {
    Matrix::new(layout, rows, cols, Planes { values, scales, biases }, FACTOR).expect("planes of these sizes")
}

const FACTOR: f32 = 0.75;

/// The bytes at an address of the device.
fn download(cuda: &Cuda, from: Address, bytes: usize) -> Vec<u8> {
    let mut downloaded = vec![0; bytes];
    cuda.port.attempt(|driver| driver.download(from, &mut downloaded));
    cuda.check().expect("no failure");
    downloaded
}

/// What the kernels make of a matrix, as bytes.
fn made(cuda: &Cuda, matrix: &Matrix, element: Element) -> Vec<u8> {
    let (file, bytes) = StoredAt::file(matrix);
    let memory = cuda.take(Element::I8, bytes);
    cuda.upload_planes(memory.address(), matrix);
    cuda.with_element(&file.located(memory.address()), element, |made| {
        download(cuda, made.matrix(element).address, matrix.rows() * matrix.cols() * element.bytes())
    })
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn decoded(matrix: &Matrix) -> Vec<f32> {
    let mut values = vec![0.0; matrix.rows() * matrix.cols()];
    matrix.decode_rows(0..matrix.rows(), &mut values);
    values
}

/// The same bits; one not-a-number is as good as another.
#[track_caller]
fn assert_same(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}: lengths");
    for (at, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!(f.to_bits() == e.to_bits() || f.is_nan() && e.is_nan(), "{what}: value {at} is {f:e}, expected {e:e}");
    }
}

/// Decodes rows of a matrix of noise on the device and on the CPU.
#[track_caller]
fn check_decoding(cuda: &Cuda, layout: Layout, rows: usize, cols: usize, window: Range<usize>) {
    let sizes = layout.planes(rows, cols).expect("a whole number of blocks");
    let planes = [1, 2, 3].map(|plane| noise(plane + cols as u64, sizes[plane as usize - 1]));
    let matrix = matrix(layout, rows, cols, &planes).window(window);
    let what = format!("{layout} {layout:?} {cols}");
    let expected = decoded(&matrix);
    assert_same(&what, &floats(&made(cuda, &matrix, Element::F32)), &expected);
    let mut rounded = vec![0; 2 * expected.len()];
    Format::BF16.encoder().expect("an encoder").encode(&expected, &mut rounded);
    let widen = |bytes: &[u8]| {
        let mut values = vec![0.0; expected.len()];
        Format::BF16.decode(bytes, &mut values);
        values
    };
    assert_same(&what, &widen(&made(cuda, &matrix, Element::Bf16)), &widen(&rounded));
}

#[test]
fn every_format_decodes_to_the_bits_of_the_cpu() {
    let (_, cuda) = emulated(Compute::Exact);
    for format in Format::ALL {
        let block = format.block_len();
        let cols = if block == 1 { vec![1, 8, 13, 70, 256] } else { vec![block, 3 * block] };
        for cols in cols {
            check_decoding(&cuda, Layout::Rows(format), 5, cols, 0..5);
            check_decoding(&cuda, Layout::Rows(format), 5, cols, 1..4);
        }
    }
}

/// All there are of them but for the widths of groups.
pub(super) fn scaled_layouts() -> impl Iterator<Item = Scaled> {
    let elements = [2, 3, 4, 5, 6, 8].map(blocks::Element::Unsigned).into_iter();
    let others = [blocks::Element::I4, blocks::Element::I8, blocks::Element::E2M1];
    let elements = elements.chain(others).chain([blocks::Element::E4M3, blocks::Element::E5M2]);
    let scales = [ScaleType::F32, ScaleType::F16, ScaleType::BF16, ScaleType::E4M3, ScaleType::E8M0];
    let groups = [Group::Tensor, Group::Row, Group::Columns(16), Group::Columns(64)];
    let parts = elements.flat_map(move |element| scales.into_iter().map(move |scale| (element, scale)));
    let parts = parts.flat_map(move |(element, scale)| groups.into_iter().map(move |group| (element, scale, group)));
    parts.flat_map(|(element, scale, group)| {
        (0..16).map(move |bits| Scaled {
            element,
            high_first: bits & 1 > 0,
            group,
            scale,
            biased: bits & 2 > 0,
            swizzled: bits & 4 > 0,
            rotated: bits & 8 > 0,
        })
    })
}

#[test]
fn every_layout_with_scales_apart_decodes_to_the_bits_of_the_cpu() {
    let (_, cuda) = emulated(Compute::Exact);
    for scaled in scaled_layouts().filter(|scaled| scaled.is_valid()) {
        let cols = if scaled.rotated { 512 } else { 3 * scaled.block_len() };
        check_decoding(&cuda, Layout::Scaled(scaled), 3, cols, 1..3);
    }
    // More rows than a tile has.
    let tiles = Scaled {
        element: blocks::Element::E2M1,
        high_first: true,
        group: Group::Columns(16),
        scale: ScaleType::E4M3,
        biased: false,
        swizzled: true,
        rotated: false,
    };
    check_decoding(&cuda, Layout::Scaled(tiles), 300, 80, 120..290);
}

/// Rows in the element of a product, times their scales.
fn narrowed(cuda: &Cuda, x: &[f32], rows: usize, cols: usize, element: Element) -> (Vec<f32>, Vec<f32>) {
    let bytes: Vec<u8> = x.iter().flat_map(|value| value.to_le_bytes()).collect();
    let matrix = Matrix::rows_of(Format::F32, rows, cols, &bytes).expect("as many values");
    let (file, bytes) = StoredAt::file(&matrix);
    let memory = cuda.take(Element::I8, bytes);
    cuda.upload_planes(memory.address(), &matrix);
    cuda.with_element(&file.located(memory.address()), element, |made| {
        let scales = floats(&download(cuda, made.row_scales().expect("scales"), 4 * rows));
        let values = cuda.with_element(made, Element::F32, |made| {
            floats(&download(cuda, made.matrix(Element::F32).address, 4 * rows * cols))
        });
        (values, scales)
    })
}

#[test]
fn rows_are_scaled_by_powers_of_two_into_the_range_of_halves() {
    let (_, cuda) = emulated(Compute::F16);
    let row = |size: f32| (0..21).map(move |at| (at as f32 / 16.0 - 0.5) * size).collect::<Vec<f32>>();
    let sizes = [1e6, 1e-6, 3e38, 1e-37, 1.0, 0.0, f32::from_bits(3)];
    let x: Vec<f32> = sizes.iter().flat_map(|size| row(*size)).collect();
    let (values, scales) = narrowed(&cuda, &x, sizes.len(), 21, Element::F16);
    assert!(scales.iter().all(|scale| scale.to_bits() & 0x7f_ffff == 0 && scale.is_normal()), "{scales:?}");
    for (at, size) in sizes.iter().enumerate() {
        for (found, expected) in values[at * 21..][..21].iter().zip(row(*size)) {
            assert!(
                (found - expected).abs() <= size / 2048.0 + f32::MIN_POSITIVE,
                "size {size}: {found} for {expected}"
            );
        }
    }
}

#[test]
fn rows_in_8_bits_are_near_their_values_and_defects_reach_them() {
    let (_, cuda) = emulated(Compute::Fp8);
    let x: Vec<f32> = (0..3 * 37).map(|at| ((at * 71) % 113) as f32 - 50.0).collect();
    for (element, steps) in [(Element::F8, 16.0), (Element::I8, 254.0)] {
        let (values, scales) = narrowed(&cuda, &x, 3, 37, element);
        let near = |(found, expected): (&f32, &f32)| (found - expected).abs() <= 62.001 / steps;
        assert!(values.iter().zip(&x).all(near), "{element:?}: {values:?}");
        assert_eq!(
            scales[0],
            x[..37].iter().fold(0.0, |m: f32, v| m.max(v.abs())) / if steps > 16.0 { 127.0 } else { 448.0 }
        );
        for defect in [f32::NAN, f32::INFINITY] {
            let mut x = x.clone();
            x[40] = defect;
            x[2] = 1e-38;
            let (_, scales) = narrowed(&cuda, &x, 3, 37, element);
            assert_eq!(scales.iter().map(|scale| scale.is_nan()).collect::<Vec<_>>(), [false, true, false]);
        }
        let (zeros, _) = narrowed(&cuda, &[0.0; 37], 1, 37, element);
        assert_eq!(zeros, [0.0; 37]);
    }
}

#[test]
fn what_is_in_8_bits_already_is_kept() {
    let (_, cuda) = emulated(Compute::Fp8);
    let plain = |element, scale| Scaled {
        element,
        high_first: false,
        group: Group::Row,
        scale,
        biased: false,
        swizzled: false,
        rotated: false,
    };
    let cases = [
        (Layout::Rows(Format::F8E4M3), Element::F8),
        (Layout::Scaled(plain(blocks::Element::E4M3, ScaleType::F32)), Element::F8),
        (Layout::Scaled(Scaled { group: Group::Tensor, ..plain(blocks::Element::I8, ScaleType::BF16) }), Element::I8),
    ];
    for (layout, element) in cases {
        let sizes = layout.planes(16, 32).expect("planes");
        // Numbers that are neither NaN nor a negative zero, which arithmetic may lose.
        let values: Vec<u8> =
            noise(5, sizes[0]).into_iter().map(|byte| if byte & 0x7f == 0x7f { 1 } else { byte.max(1) }).collect();
        let values = values.into_iter().map(|byte| if byte == 0x80 { 1 } else { byte }).collect();
        let scales = match sizes[1] {
            2 => vec![0x9e, 0x3d],
            bytes => (0..bytes / 4).flat_map(|at| (0.013 * (at + 1) as f32).to_le_bytes()).collect(),
        };
        let planes = [values, scales, Vec::new()];
        let matrix = matrix(layout, 16, 32, &planes);
        assert_eq!(made(&cuda, &matrix, element), planes[0], "{layout}");
    }
}

fn tensor(device: &Device, seed: u64, shape: &[usize], size: f32) -> Tensor {
    let count = shape.iter().product::<usize>();
    let values = noise(seed, count).into_iter().map(|byte| (f32::from(byte) - 127.5) / 128.0 * size).collect();
    Tensor::from_vec(device, shape, values).expect("as many values as the shape takes")
}

fn weight(device: &Device, format: Format, rows: usize, cols: usize, size: f32) -> Weight {
    let values = tensor(&Device::reference(), 9, &[rows, cols], size).to_vec();
    let mut bytes = vec![0; rows * format.row_bytes(cols)];
    format.encoder().expect("a format that can be written").encode(&values, &mut bytes);
    Weight::rows_of(device, format, rows, cols, bytes.into()).expect("bytes of the right size")
}

#[test]
fn halves_never_overflow_however_large_activations_and_weights_are() {
    let (device, _) = emulated(Compute::F16);
    for (x_size, w_size) in [(1e6, 1.0), (1e-6, 1.0), (1e6, 1e6), (1e-6, 1e-6), (1e20, 1e-3), (1e-9, 1e9)] {
        let case = |device: &Device| {
            let layer = Linear::new(weight(device, Format::F32, 24, 300, w_size), None);
            ops::linear(&tensor(device, 1, &[5, 300], x_size), &layer).into_vec()
        };
        let (expected, found) = (case(&Device::reference()), case(&device));
        let scale = expected.iter().fold(0.0f32, |max, value| max.max(value.abs()));
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-3 * scale, "{x_size} {w_size}: {found} for {expected}");
        }
    }
}

#[test]
fn a_weight_that_stays_computes_what_one_that_comes_for_each_use_does() {
    for compute in [Compute::Exact, Compute::Bf16, Compute::F16, Compute::Fp8, Compute::Int8] {
        let (device, _) = emulated(compute);
        for format in [Format::F32, Format::BF16, Format::F16, Format::Q4_0, Format::Q6K] {
            let streamed = weight(&device, format, 19, 256, 1.0);
            let placed = || streamed.clone().resident();
            let x = || tensor(&device, 1, &[3, 256], 1.0);
            let layer = |weight: Weight| Linear::new(weight, Some(tensor(&device, 2, &[19], 1.0)));
            let linear = |weight| ops::linear(&x(), &layer(weight)).into_vec();
            let project = |weight| ops::project(&Activations::of(x()), &layer(weight)).into_vec();
            let what = format!("{format:?} {compute:?}");
            assert_same(&what, &linear(placed()), &linear(streamed.clone()));
            assert_same(&what, &project(placed()), &project(streamed.clone()));
            // Whichever comes first, both read it.
            let both = placed();
            let expected = linear(streamed.clone());
            let near = |found: Vec<f32>| found.iter().zip(&expected).all(|(f, e)| (f - e).abs() < 1.0);
            assert!(near(project(both.clone())) && near(linear(both.clone())) && near(project(both)), "{what}");
            let both = placed();
            assert!(near(linear(both.clone())) && near(project(both.clone())) && near(linear(both)), "{what}");
            device.check().expect("no failure");
        }
    }
}

#[test]
fn a_placed_weight_takes_no_more_than_it_needs() {
    let bytes = |format: Format, compute: Compute| {
        let (device, cuda) = emulated(compute);
        let layer = Linear::new(weight(&device, format, 64, 512, 1.0).resident(), None);
        cuda.release_memory();
        let before = cuda.free_bytes().expect("bytes");
        ops::project(&Activations::of(tensor(&device, 1, &[3, 512], 1.0)), &layer);
        cuda.release_memory();
        before - cuda.free_bytes().expect("bytes")
    };
    let values = 64 * 512;
    assert_eq!(bytes(Format::F32, Compute::Exact), 4 * values);
    assert_eq!(bytes(Format::BF16, Compute::Exact), 2 * values);
    assert_eq!(bytes(Format::F32, Compute::Bf16), 2 * values);
    assert_eq!(bytes(Format::BF16, Compute::Bf16), 2 * values);
    assert_eq!(bytes(Format::F16, Compute::F16), 2 * values + 4 * 64);
    assert_eq!(bytes(Format::Q4_0, Compute::Bf16), values / 32 * 18);
    assert_eq!(bytes(Format::Q8_0, Compute::Fp8), values + 4 * 64);
    assert_eq!(bytes(Format::BF16, Compute::Int8), values + 4 * 64);
}

#[test]
fn a_device_without_bf16_multiplies_bytes_and_halves() {
    let turing = || Cuda::on(emulator::open((7, 5), 1 << 30).expect("a C++ compiler"));
    assert_eq!(turing().compute(), Compute::F16);
    let case = |device: &Device| {
        let layer = Linear::new(weight(device, Format::Q8_0, 40, 96, 1.0), Some(tensor(device, 2, &[40], 1.0)));
        let y = ops::project(&Activations::of(tensor(device, 1, &[5, 96], 1.0)), &layer);
        ops::linear(&y, &Linear::new(weight(device, Format::BF16, 7, 40, 1.0), None)).into_vec()
    };
    let expected = case(&Device::reference());
    for (compute, tolerance) in [(Compute::F16, 1e-3), (Compute::Int8, 0.02), (Compute::Exact, 1e-5)] {
        let device = Device::Cuda(turing()).with_compute(compute);
        let (found, scale) = (case(&device), expected.iter().fold(0.0f32, |max, value| max.max(value.abs())));
        device.check().expect("no failure");
        assert!(found.iter().zip(&expected).all(|(f, e)| (f - e).abs() < tolerance * scale), "{compute:?}");
    }
}

#[test]
fn the_pool_gives_its_free_memory_back_for_a_weight_that_stays() {
    let cuda = Cuda::on(emulator::open((9, 0), 60_000).expect("a C++ compiler")).with_compute(Compute::Exact);
    let device = Device::Cuda(cuda.clone());
    drop(cuda.take(Element::I8, 40_000));
    let layer = Linear::new(weight(&device, Format::F32, 100, 100, 1.0).resident(), None);
    ops::linear(&tensor(&device, 1, &[1, 100], 1.0), &layer);
    device.check().expect("40 kB were free in the pool");
}

#[test]
fn what_had_no_memory_has_it_once_there_is_some() {
    let cuda = Cuda::on(emulator::open((9, 0), 60_000).expect("a C++ compiler")).with_compute(Compute::Exact);
    let device = Device::Cuda(cuda.clone());
    let case = |device: &Device, lay_out: fn(Weight) -> Weight| {
        let layer = Linear::new(lay_out(weight(device, Format::F32, 100, 100, 1.0)), None);
        let x = tensor(device, 1, &[1, 100], 1.0);
        move || ops::linear(&x, &layer).into_vec()
    };
    let expected = case(&Device::reference(), |weight| weight)();
    for lay_out in [Weight::resident as fn(Weight) -> Weight, |weight| weight] {
        let run = case(&device, lay_out);
        let in_the_way = cuda.take(Element::I8, 30_000);
        assert!(run().iter().all(|value| *value == 0.0));
        assert!(device.check().is_err(), "70 kB do not fit");
        drop(in_the_way);
        for _ in 0..2 {
            let found = run();
            device.check().expect("40 kB fit");
            assert!(found.iter().zip(&expected).all(|(f, e)| (f - e).abs() < 1e-4));
        }
        cuda.release_memory();
    }
}

#[test]
fn a_window_of_a_weight_is_placed_alone() {
    let (device, _) = emulated(Compute::Exact);
    let bytes: Vec<u8> =
        tensor(&Device::reference(), 4, &[7, 24], 1.0).to_vec().iter().flat_map(|v| v.to_le_bytes()).collect();
    let stored = |values: &[u8], rows| Stored {
        layout: Layout::Rows(Format::F32),
        rows,
        cols: 24,
        values: values.to_vec().into(),
        scales: Default::default(),
        biases: Default::default(),
        factor: 1.0,
    };
    let x = tensor(&device, 1, &[4, 24], 1.0);
    let window = Weight::new(&device, stored(&bytes, 7), 2..5).expect("a weight").resident();
    let alone = Weight::new(&device, stored(&bytes[2 * 96..5 * 96], 3), 0..3).expect("a weight");
    let [found, expected] = [window, alone].map(|weight| ops::linear(&x, &Linear::new(weight, None)).into_vec());
    assert_same("window", &found, &expected);
}
