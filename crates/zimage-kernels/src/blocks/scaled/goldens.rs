//! Against what MLX, torch and ComfyUI's package write and read.

use super::*;
use crate::Level;
use crate::blocks::golden::Golden;
use crate::blocks::{Format, Layout, Matrix};
use crate::testing::assert_close;

const TYPES: [(&str, ScaleType, Format); 3] = [
    ("f32", ScaleType::F32, Format::F32),
    ("f16", ScaleType::F16, Format::F16),
    ("bf16", ScaleType::BF16, Format::BF16),
];

fn plain(element: Element, group: Group, scale: ScaleType) -> Scaled {
    Scaled { element, high_first: false, group, scale, biased: false, swizzled: false, rotated: false }
}

/// All values at a level, rows of `cols`.
fn decode(level: Level, scaled: Scaled, planes: Planes, cols: usize, factor: f32) -> Vec<f32> {
    let rows = planes.values.len() / scaled.row_bytes(cols);
    let matrix = Matrix::new(Layout::Scaled(scaled), rows, cols, planes, factor).expect("planes of these sizes");
    let mut values = vec![f32::NAN; rows * cols];
    matrix.decode_rows_at(level, 0..rows, &mut values);
    // Rows alone, as embeddings look them up, are the same.
    let mut row = vec![f32::NAN; cols];
    for at in [0, rows / 2, rows - 1] {
        matrix.window(at..rows).decode_rows_at(level, 0..1, &mut row);
        assert_same(&format!("{scaled} row {at}"), &row, &values[at * cols..(at + 1) * cols]);
    }
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

/// The values that a type holds, in f32.
fn stored_as(format: Format, values: &[f32]) -> Vec<f32> {
    let mut bytes = vec![0; format.row_bytes(values.len())];
    format.encoder().expect("a plain type").encode(values, &mut bytes);
    widened(format, &bytes)
}

fn widened(format: Format, bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; bytes.len() / format.block_bytes()];
    format.decode(bytes, &mut values);
    values
}

/// Every bits and group of MLX's affine quantization in every type, with the prefix of its names in the golden.
fn affine() -> impl Iterator<Item = (String, Scaled, Format)> {
    TYPES.into_iter().flat_map(|(name, scale, format)| {
        [2, 3, 4, 5, 6, 8].into_iter().flat_map(move |bits| {
            [32, 64, 128].map(|group| (format!("{name}.{bits}.{group}"), Scaled::affine(bits, group, scale), format))
        })
    })
}

#[test]
fn affine_encodes_to_the_bytes_of_mlx_at_every_level() {
    let golden = Golden::named("mlx_affine");
    for (key, scaled, format) in affine() {
        let source = stored_as(format, &golden.values("source"));
        let [values, scales, biases] =
            ["values", "scales", "biases"].map(|part| golden.bytes(&format!("{key}.{part}")));
        let encoder = scaled.encoder().expect("an encoder");
        for level in Level::supported() {
            let mut found = [vec![0; values.len()], vec![0; scales.len()], vec![0; biases.len()]];
            let [found_values, found_scales, found_biases] = &mut found;
            encoder.encode_at(level, &source, found_values, found_scales, found_biases);
            assert!(found[1] == scales, "{key} {level:?}: scales");
            assert!(found[2] == biases, "{key} {level:?}: biases");
            assert!(found[0] == values, "{key} {level:?}: values");
        }
    }
}

#[test]
fn affine_decodes_to_the_values_of_mlx() {
    let golden = Golden::named("mlx_affine");
    for (key, scaled, format) in affine().filter(|(key, ..)| key.ends_with(".64")) {
        let [values, scales, biases] =
            ["values", "scales", "biases"].map(|part| golden.bytes(&format!("{key}.{part}")));
        let expected = widened(format, golden.bytes(&format!("{key}.decoded")));
        for level in Level::supported() {
            let found = decode(level, scaled, Planes { values, scales, biases }, 128, 1.0);
            // MLX computes in the type of the scales: it rounds the product, which is up to twice the largest value of
            // the row, and the sum, each by half a unit of the last bit. In f32 nothing is left to differ.
            let tolerance = match format {
                Format::F32 => 0.0,
                Format::F16 => 3.0 / 2048.0,
                _ => 3.0 / 256.0,
            };
            for (row, (found, expected)) in found.chunks(128).zip(expected.chunks(128)).enumerate() {
                assert_close(&format!("{key} {level:?} row {row}"), found, expected, tolerance);
            }
        }
    }
}

#[test]
fn mlx_floats_decode_to_the_bits_of_mlx() {
    let golden = Golden::named("mlx_floats");
    let formats = [
        ("mxfp4", plain(Element::E2M1, Group::Columns(32), ScaleType::E8M0)),
        ("mxfp8", plain(Element::E4M3, Group::Columns(32), ScaleType::E8M0)),
        ("nvfp4", plain(Element::E2M1, Group::Columns(16), ScaleType::E4M3)),
    ];
    for (name, scaled) in formats {
        let [values, scales] = ["values", "scales"].map(|part| golden.bytes(&format!("{name}.{part}")));
        for level in Level::supported() {
            let found = decode(level, scaled, Planes { values, scales, biases: &[] }, 128, 1.0);
            assert_same(&format!("{name} {level:?}"), &found, &golden.values(&format!("{name}.decoded")));
        }
    }
}

#[test]
fn every_scale_of_a_byte_is_that_of_mlx() {
    let golden = Golden::named("mlx_floats");
    let scales: Vec<u8> = (0..=255).collect();
    for (name, group, scale) in [("mxfp4", 32, ScaleType::E8M0), ("nvfp4", 16, ScaleType::E4M3)] {
        let values = golden.bytes(&format!("{name}.all_scales.values"));
        let expected = golden.values(&format!("{name}.all_scales.decoded"));
        let scaled = plain(Element::E2M1, Group::Columns(group), scale);
        for level in Level::supported() {
            let planes = Planes { values, scales: &scales, biases: &[] };
            let found = decode(level, scaled, planes, 256 * group, 1.0);
            // The power of two 255 is infinite there; by the standard of these formats it is no number.
            let known = if scale == ScaleType::E8M0 { 255 } else { 256 };
            for (at, (found, expected)) in found.chunks(group).zip(expected.chunks(8)).enumerate().take(known) {
                assert_same(&format!("{name} {level:?} scale {at}"), &found[..8], expected);
            }
        }
    }
}

#[test]
fn every_float_of_a_byte_is_that_of_torch() {
    let golden = Golden::named("float8");
    let codes: Vec<u8> = (0..=255).collect();
    let one = 1_f32.to_le_bytes();
    for (format, element) in [(Format::F8E4M3, Element::E4M3), (Format::F8E5M2, Element::E5M2)] {
        let name = if element == Element::E4M3 { "e4m3" } else { "e5m2" };
        let expected = golden.values(name);
        assert_same(name, &widened(format, &codes), &expected);
        for level in Level::supported() {
            let planes = Planes { values: &codes, scales: &one, biases: &[] };
            let found = decode(level, plain(element, Group::Tensor, ScaleType::F32), planes, 256, 1.0);
            assert_same(name, &found, &expected);
        }
    }
}

#[test]
fn swizzled_formats_decode_to_the_bits_of_comfyui() {
    let golden = Golden::named("comfyui");
    let rows: Vec<usize> = golden.bytes("rows").chunks(8).map(|bytes| usize::from(bytes[0])).collect();
    let swizzled = |scaled| Scaled { swizzled: true, high_first: true, ..scaled };
    let factor = golden.values("nvfp4.factor")[0];
    let formats = [
        ("nvfp4", 80, factor, swizzled(plain(Element::E2M1, Group::Columns(16), ScaleType::E4M3))),
        ("mxfp8", 160, 1.0, swizzled(plain(Element::E4M3, Group::Columns(32), ScaleType::E8M0))),
    ];
    for (name, cols, factor, scaled) in formats {
        let [values, scales] = ["values", "scales"].map(|part| golden.bytes(&format!("{name}.{part}")));
        for level in Level::supported() {
            let all = decode(level, scaled, Planes { values, scales, biases: &[] }, cols, factor);
            let found: Vec<f32> = rows.iter().flat_map(|row| &all[row * cols..(row + 1) * cols]).copied().collect();
            assert_same(&format!("{name} {level:?}"), &found, &golden.values(&format!("{name}.decoded")));
        }
    }
}

#[test]
fn one_scale_for_a_matrix_or_a_row_decodes_to_the_bits_of_comfyui() {
    let golden = Golden::named("comfyui");
    let one = 1_f32.to_le_bytes();
    for (name, element) in [("int8", Element::I8), ("e4m3", Element::E4M3), ("e5m2", Element::E5M2)] {
        let (values, scale) = (golden.bytes(&format!("{name}.values")), golden.bytes(&format!("{name}.factor")));
        let expected = golden.values(&format!("{name}.decoded"));
        let factor = golden.values(&format!("{name}.factor"))[0];
        let scaled = plain(element, Group::Tensor, ScaleType::F32);
        for level in Level::supported() {
            let planes = Planes { values, scales: scale, biases: &[] };
            assert_same(name, &decode(level, scaled, planes, 512, 1.0), &expected);
            let planes = Planes { values, scales: &one, biases: &[] };
            assert_same(name, &decode(level, scaled, planes, 512, factor), &expected);
        }
    }
    let [values, scales] = ["values", "scales"].map(|part| golden.bytes(&format!("int8_rows.{part}")));
    for level in Level::supported() {
        let planes = Planes { values, scales, biases: &[] };
        let found = decode(level, plain(Element::I8, Group::Row, ScaleType::F32), planes, 512, 1.0);
        assert_same("int8_rows", &found, &golden.values("int8_rows.decoded"));
    }
}

#[test]
fn rotated_rows_decode_to_the_values_of_comfyui() {
    let golden = Golden::named("comfyui");
    for (name, element) in [("int8_rotated", Element::I8), ("int4_rotated", Element::I4)] {
        let [values, scales] = ["values", "scales"].map(|part| golden.bytes(&format!("{name}.{part}")));
        let expected = golden.values(&format!("{name}.decoded"));
        let scaled = Scaled { rotated: true, ..plain(element, Group::Row, ScaleType::F32) };
        for level in Level::supported() {
            let found = decode(level, scaled, Planes { values, scales, biases: &[] }, 512, 1.0);
            // A product with a matrix of 256 x 256 there, four sums of four here.
            for (found, expected) in found.chunks(512).zip(expected.chunks(512)) {
                assert_close(&format!("{name} {level:?}"), found, expected, 1e-6);
            }
        }
    }
}
