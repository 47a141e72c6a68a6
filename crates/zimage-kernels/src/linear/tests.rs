use super::*;
use crate::blocks::golden::Golden;
use crate::blocks::{Element, Format, Group, Layout, Planes, ScaleType, Scaled};
use crate::testing::{assert_close, random};
use crate::tile::tiles;

/// The bytes of a weight and its rows and columns: random where the format has an encoder, else those of its golden.
fn weight(format: Format) -> (Vec<u8>, usize, usize) {
    match format.encoder() {
        Some(encoder) => {
            let (n, k) = (29, if format.block_len() == 1 { 37 } else { 3 * format.block_len() });
            let mut bytes = vec![0; n * format.row_bytes(k)];
            encoder.encode(&random(n * k, 2), &mut bytes);
            (bytes, n, k)
        }
        None if format.block_len() == 1 => {
            // All bytes but those that are not finite.
            let (n, k) = (29, 37);
            ((0..n * k).map(|at| (at * 37 % 0x78) as u8).collect(), n, k)
        }
        None => {
            let bytes = Golden::of(format).bytes("blocks").to_vec();
            let (row_blocks, row_bytes) = (2, 2 * format.block_bytes());
            let n = bytes.len() / row_bytes;
            (bytes, n, row_blocks * format.block_len())
        }
    }
}

fn check(level: Level, format: Format, unaligned: bool, m: usize) {
    let (stored, n, k) = weight(format);
    let (a, bias) = (random(m * k, 1), random(n, 3));
    let a = MatrixRef::contiguous(&a, m, k);
    let offset = usize::from(unaligned);
    let bytes = [&vec![0; offset], &*stored].concat();
    let mut stored = vec![0.0; n * k];
    format.decode(&bytes[offset..], &mut stored);

    let (mut found, mut expected) = (vec![f32::NAN; m * n], vec![f32::NAN; m * n]);
    let stored = MatrixRef::contiguous(&stored, n, k);
    gemm_nt(Level::Naive, &mut TileMut::whole(&mut expected, m, n), a, stored, Some(&bias));
    let mut scratch = Vec::new();
    for tile in &mut tiles(&mut found, m, n, m.div_ceil(2), 19) {
        let rows = a.row_range(tile.row0(), tile.rows());
        let weight = Matrix::rows_of(format, n, k, &bytes[offset..]).expect("a weight of these sizes");
        linear_tile(level, tile, rows, weight, Some(&bias), &mut scratch);
    }
    // Sums of up to 768 products in f32 against sums in f64.
    assert_close(&format!("{level:?} {} {m}", format.name()), &found, &expected, 2e-6);
}

#[test]
fn tiles_of_all_formats_agree_with_the_decoded_product() {
    for level in Level::supported() {
        for format in Format::ALL {
            for m in [1, 2, 7, 31, 64, 65, 80] {
                check(level, format, false, m);
                check(level, format, true, m);
            }
        }
    }
}

/// Formats with scales apart: every element and every way that scales lie.
fn scaled_formats() -> Vec<Scaled> {
    let plain = |element, group, scale| Scaled {
        element,
        high_first: false,
        group,
        scale,
        biased: false,
        swizzled: false,
        rotated: false,
    };
    let mut formats: Vec<Scaled> = [(2, 32), (3, 64), (4, 32), (4, 64), (5, 128), (6, 32), (8, 64), (8, 32)]
        .map(|(bits, group)| Scaled::affine(bits, group, ScaleType::BF16))
        .into();
    formats.push(Scaled::affine(8, 64, ScaleType::F16));
    formats.push(plain(Element::E4M3, Group::Tensor, ScaleType::F32));
    formats.push(plain(Element::E5M2, Group::Tensor, ScaleType::F32));
    formats.push(plain(Element::I8, Group::Row, ScaleType::F32));
    formats.push(Scaled { rotated: true, ..plain(Element::I8, Group::Row, ScaleType::F32) });
    formats.push(Scaled { rotated: true, ..plain(Element::I4, Group::Row, ScaleType::F32) });
    for (element, group, scale) in [
        (Element::E2M1, 32, ScaleType::E8M0),
        (Element::E4M3, 32, ScaleType::E8M0),
        (Element::E2M1, 16, ScaleType::E4M3),
    ] {
        formats.push(plain(element, Group::Columns(group), scale));
        let tiles = plain(element, Group::Columns(group), scale);
        formats.push(Scaled { swizzled: true, high_first: true, ..tiles });
    }
    formats
}

fn check_scaled(level: Level, scaled: Scaled, m: usize) {
    let layout = Layout::Scaled(scaled);
    let (n, k) = (29, 3 * scaled.block_len());
    // Values of any bits that are finite as floats; scales about 1 in every type.
    let [values, scales, biases] = layout.plane_bytes(n, k);
    let values: Vec<u8> = (0..values).map(|at| (at * 37 % 0x78) as u8).collect();
    let one: &[u8] = match scaled.scale {
        ScaleType::F32 => &[0, 0, 0x80, 0x3f],
        ScaleType::F16 => &[0, 0x3c],
        ScaleType::BF16 => &[0x80, 0x3f],
        ScaleType::E4M3 => &[0x38],
        ScaleType::E8M0 => &[0x7f],
    };
    // No two neighbours are equal.
    let varied = |bytes: usize| -> Vec<u8> {
        (0..bytes).map(|at| one[at % one.len()] + u8::from(at % one.len() == 0) * (at / one.len() % 5) as u8).collect()
    };
    let (scales, biases) = (varied(scales), varied(biases));
    let planes = Planes { values: &values, scales: &scales, biases: &biases };
    let weight = Matrix::new(layout, n, k, planes, 0.75).expect("planes of these sizes");
    let mut decoded = vec![f32::NAN; n * k];
    weight.decode_rows(0..n, &mut decoded);
    assert!(decoded.iter().all(|value| value.is_finite()), "{scaled}");

    let (a, bias) = (random(m * k, 1), random(n, 3));
    let a = MatrixRef::contiguous(&a, m, k);
    // A window, as a fused projection takes one; its tiles start at its own first row.
    for rows in [0..n, 3..n - 2] {
        let (window, width) = (weight.window(rows.clone()), rows.len());
        let decoded = MatrixRef::contiguous(&decoded[rows.start * k..rows.end * k], width, k);
        let (mut found, mut expected) = (vec![f32::NAN; m * width], vec![f32::NAN; m * width]);
        let bias = Some(&bias[..width]);
        gemm_nt(Level::Naive, &mut TileMut::whole(&mut expected, m, width), a, decoded, bias);
        for tile in &mut tiles(&mut found, m, width, m.div_ceil(2), 19) {
            let a = a.row_range(tile.row0(), tile.rows());
            linear_tile(level, tile, a, window, bias, &mut Vec::new());
        }
        assert_close(&format!("{level:?} {scaled} {m}"), &found, &expected, 2e-6);
    }
}

#[test]
fn tiles_of_all_formats_with_scales_apart_agree_with_the_decoded_product() {
    for level in Level::supported() {
        for scaled in scaled_formats() {
            for m in [1, 7, 65] {
                check_scaled(level, scaled, m);
            }
        }
    }
}

/// Rows of several blocks of the product, at the formats that reach them by different ways.
#[test]
fn the_bits_of_an_element_do_not_depend_on_its_tile() {
    let (m, n, k) = (14, 270, 768);
    let (values, a, bias) = (random(n * k, 2), random(m * k, 1), random(n, 3));
    let a = MatrixRef::contiguous(&a, m, k);
    let scaled = Scaled::affine(8, 64, ScaleType::BF16);
    for level in Level::supported() {
        for format in [Some(Format::F32), Some(Format::BF16), Some(Format::F16), Some(Format::Q4K), None] {
            let layout = format.map_or(Layout::Scaled(scaled), Layout::Rows);
            let [mut stored, mut scales, mut biases] = layout.plane_bytes(n, k).map(|bytes| vec![0; bytes]);
            match format {
                Some(format) => format.encoder().expect("it can be written").encode(&values, &mut stored),
                None => {
                    let encoder = scaled.encoder().expect("it can be written");
                    encoder.encode(&values, &mut stored, &mut scales, &mut biases);
                }
            }
            let planes = Planes { values: &stored, scales: &scales, biases: &biases };
            let weight = Matrix::new(layout, n, k, planes, 1.0).expect("a weight of these sizes");
            let mut decoded = vec![f32::NAN; n * k];
            weight.decode_rows_at(level, 0..n, &mut decoded);
            let mut expected = vec![f32::NAN; m * n];
            let decoded = MatrixRef::contiguous(&decoded, n, k);
            gemm_nt(level, &mut TileMut::whole(&mut expected, m, n), a, decoded, Some(&bias));
            for (tile_rows, tile_cols) in [(m, n), (1, 7), (5, 64), (9, 100)] {
                let mut found = vec![f32::NAN; m * n];
                for tile in &mut tiles(&mut found, m, n, tile_rows, tile_cols) {
                    let rows = a.row_range(tile.row0(), tile.rows());
                    linear_tile(level, tile, rows, weight, Some(&bias), &mut Vec::new());
                }
                assert!(found == expected, "{level:?} {layout} in tiles of {tile_rows} x {tile_cols}");
            }
        }
    }
}
