use super::*;
use crate::blocks::{Element, Encoder, Format, Group, Layout, Matrix, Planes, ScaleType, Scaled};
use crate::testing::{assert_close, random};
use crate::tile::tiles;

/// The panels of a weight, one after the other.
fn packed(level: Level, w: Matrix) -> Vec<Line> {
    let lines = panel_lines(w.cols());
    let mut panels = vec![Line([0xaa; 64]); w.rows().div_ceil(PANEL) * lines];
    for (i, panel) in panels.chunks_exact_mut(lines).enumerate() {
        pack_panel(level, panel, w, i * PANEL, &mut vec![f32::NAN; pack_scratch(w.cols())]);
    }
    panels
}

/// Bytes and scales of rows.
fn quantized(level: Level, x: &[f32], cols: usize) -> (Vec<u8>, Vec<f32>) {
    let rows = x.len() / cols;
    let (mut values, mut scales) = (vec![0; rows * row_stride(cols)], vec![f32::NAN; rows * Chunks::of(cols).count()]);
    quantize_rows(level, &mut values, &mut scales, x, cols);
    (values, scales)
}

/// The whole product, in tiles of so many rows, with one kernel.
fn product(isa: Option<Isa>, x: &[f32], w: Matrix, bias: Option<&[f32]>, tile_rows: usize) -> Vec<f32> {
    let (k, n) = (w.cols(), w.rows());
    let m = x.len() / k;
    let (values, scales) = quantized(Level::Portable, x, k);
    let a = Quantized::new(&values, &scales, m, k);
    let panels = packed(Level::Portable, w);
    let mut out = vec![f32::NAN; m * n];
    for tile in &mut tiles(&mut out, m, n, tile_rows, PANEL) {
        let panel = &panels[tile.col0() / PANEL * panel_lines(k)..][..panel_lines(k)];
        let a = a.row_range(tile.row0(), tile.rows());
        let bias = bias.map(|bias| &bias[tile.col0()..][..tile.cols()]);
        match isa {
            None => gemm_i8(Level::Naive, tile, a, panel, bias),
            Some(isa) => {
                let start = bias.unwrap_or(&[]);
                (0..tile.rows()).filter(|_| bias.is_some()).for_each(|r| tile.row_mut(r).copy_from_slice(start));
                by_blocks(isa, tile, a, panel, bias.is_some());
            }
        }
    }
    out
}

fn f32_weight(values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; 4 * values.len()];
    Encoder::F32.encode(values, &mut bytes);
    bytes
}

fn check(m: usize, k: usize, n: usize) {
    let (x, bias, bytes) = (random(m * k, 1), random(n, 3), f32_weight(&random(n * k, 2)));
    let w = Matrix::rows_of(Format::F32, n, k, &bytes).expect("a weight of these sizes");
    for bias in [None, Some(&bias[..])] {
        let expected = product(None, &x, w, bias, m);
        for isa in Isa::supported() {
            for tile_rows in [m, 7, 1] {
                // Integers are exact, and scales are applied in one order: the bits are the same.
                let found = product(Some(isa), &x, w, bias, tile_rows);
                assert_eq!(found, expected, "{} {m} x {k} x {n}", isa.name());
            }
        }
    }
}

#[test]
fn all_versions_give_the_same_bits_at_small_and_odd_sizes() {
    for k in [1, 3, 4, 63, 64, 65, 640, 641, 1300] {
        for (m, n) in [(1, 1), (2, 63), (3, 64), (5, 65), (6, 130), (7, 64), (13, 15)] {
            check(m, k, n);
        }
    }
}

#[test]
fn products_are_near_those_of_the_values() {
    for (m, k, n) in [(9, 3840, 70), (3, 10240, 65), (4, 128, 64)] {
        let (x, w) = (random(m * k, 1), random(n * k, 2));
        let bytes = f32_weight(&w);
        let found =
            product(Some(Isa::Portable), &x, Matrix::rows_of(Format::F32, n, k, &bytes).expect("sizes"), None, m);
        let dot =
            |t: usize, j: usize| -> f64 { (0..k).map(|i| f64::from(x[t * k + i]) * f64::from(w[j * k + i])).sum() };
        let (mut error, mut size) = (0.0, 0.0);
        for (at, value) in found.iter().enumerate() {
            let exact = dot(at / n, at % n);
            error += (f64::from(*value) - exact).powi(2);
            size += exact * exact;
        }
        // Both sides are rounded to 127 steps of about 3.5 standard deviations: 0.8 % each.
        assert!((error / size).sqrt() < 0.013, "relative error {} at {k}", (error / size).sqrt());
    }
}

#[test]
fn activations_are_the_nearest_of_their_steps() {
    for level in Level::supported() {
        for cols in [1, 5, 64, 640, 700, 3840] {
            let x = random(3 * cols, 9);
            let (values, scales) = quantized(level, &x, cols);
            assert_eq!((&values, &scales), (&quantized(Level::Portable, &x, cols).0, &scales), "{level:?}");
            let mut back = vec![f32::NAN; x.len()];
            dequantize_rows(&mut back, Quantized::new(&values, &scales, 3, cols));
            let chunks = Chunks::of(cols);
            for (row, (x, back)) in x.chunks_exact(cols).zip(back.chunks_exact(cols)).enumerate() {
                for chunk in 0..chunks.count() {
                    let half = scales[row * chunks.count() + chunk] * 0.50001;
                    let pairs = x[chunks.range(chunk)].iter().zip(&back[chunks.range(chunk)]);
                    assert!(pairs.into_iter().all(|(x, back)| (x - back).abs() <= half), "{level:?} {cols}");
                }
            }
        }
    }
}

#[test]
fn chunks_cover_a_row() {
    for cols in [1, 64, 640, 641, 2560, 3840, 4096, 9728, 10240] {
        let chunks = Chunks::of(cols);
        let mut end = 0;
        for chunk in 0..chunks.count() {
            let range = chunks.range(chunk);
            assert_eq!(range.start, end);
            assert!(range.len() <= CHUNK && !range.is_empty());
            end = range.end;
        }
        assert_eq!(end, cols);
    }
    assert_eq!((Chunks::of(3840).count(), Chunks::of(10240).count(), Chunks::of(2560).count()), (6, 16, 4));
}

#[test]
fn integers_with_a_scale_per_row_are_kept() {
    let (n, k) = (70, 1300);
    let values: Vec<u8> = (0..n * k).map(|at| (at * 37 % 251) as u8).collect();
    let scales: Vec<u8> = (0..n).flat_map(|row| (0.01f32 + row as f32 * 0.003).to_le_bytes()).collect();
    let scaled = Scaled {
        element: Element::I8,
        high_first: false,
        group: Group::Row,
        scale: ScaleType::F32,
        biased: false,
        swizzled: false,
        rotated: false,
    };
    let planes = Planes { values: &values, scales: &scales, biases: &[] };
    let w = Matrix::new(Layout::Scaled(scaled), n, k, planes, 1.0).expect("planes of these sizes");
    for level in Level::supported() {
        let panels = packed(level, w);
        let chunks = Chunks::of(k);
        for (row, values) in values.chunks_exact(k).enumerate() {
            for chunk in 0..chunks.count() {
                let panel = &panels[row / PANEL * panel_lines(k)..][..panel_lines(k)];
                let panel = pack::PanelRef::new(panel, chunks, chunk);
                for (at, value) in values[chunks.range(chunk)].iter().enumerate() {
                    assert_eq!(panel.value(row % PANEL, at), *value as i8, "{level:?} row {row}");
                }
            }
        }
    }
}

#[test]
fn levels_pack_the_same_bytes() {
    for (n, k) in [(1, 1), (17, 70), (64, 640), (65, 1000)] {
        let bytes = f32_weight(&random(n * k, 5));
        let w = Matrix::rows_of(Format::F32, n, k, &bytes).expect("a weight of these sizes");
        let expected = packed(Level::Portable, w);
        Level::supported().into_iter().for_each(|level| assert_eq!(packed(level, w), expected, "{level:?} {n} x {k}"));
    }
}

/// A number that looks drawn, from its place.
fn drawn(at: usize) -> u32 {
    (at as u32).wrapping_mul(2_654_435_761).rotate_left(11).wrapping_mul(2_246_822_519) >> 8
}

/// Scales and biases: most of them usual, some negative, zero, tiny or huge, and some not finite where `broken`.
fn drawn_lines(count: usize, seed: usize, scale: ScaleType, broken: bool) -> Vec<u8> {
    let line = |at: usize| {
        let usual = (drawn(at + seed) as f32 / (1 << 23) as f32 - 1.0) * 0.02;
        match drawn(7 * at + seed) % 40 {
            0 => 0.0,
            1 => usual * 1e-5,
            2 => usual * 1e6,
            3 if broken => f32::NAN,
            4 if broken => f32::INFINITY,
            _ => usual,
        }
    };
    let mut bytes = Vec::with_capacity(count * scale.bytes());
    for at in 0..count {
        let (format, value) = match scale {
            ScaleType::F16 => (Encoder::F16, line(at)),
            ScaleType::BF16 => (Encoder::BF16, line(at)),
            _ => (Encoder::F32, line(at)),
        };
        let mut stored = vec![0; scale.bytes()];
        format.encode(&[value], &mut stored);
        bytes.extend(stored);
    }
    bytes
}

/// Packs such bytes, and the values that they stand for.
fn check_affine(n: usize, k: usize, scaled: Scaled, factor: f32, broken: bool) {
    let Group::Columns(group) = scaled.group else { panic!("{scaled} has groups") };
    let values: Vec<u8> = (0..n * k).map(|at| drawn(at) as u8).collect();
    let [scales, biases] = [1, 1000].map(|seed| drawn_lines(n * k / group, seed, scaled.scale, broken));
    let planes = Planes { values: &values, scales: &scales, biases: &biases };
    let w = Matrix::new(Layout::Scaled(scaled), n, k, planes, factor).expect("planes of these sizes");
    let mut rows = vec![f32::NAN; n * k];
    w.decode_rows_at(Level::Portable, 0..n, &mut rows);
    let bytes = f32_weight(&rows);
    let decoded = Matrix::rows_of(Format::F32, n, k, &bytes).expect("a weight of these sizes");
    for level in Level::supported() {
        // The bytes of what is not a number differ from level to level.
        let one = if broken { level } else { Level::Portable };
        assert!(packed(level, w) == packed(one, decoded), "{level:?} {n} x {k}, {scaled}, {factor}, {broken}");
        let (part, decoded) = (w.window(n / 3..n), decoded.window(n / 3..n));
        assert!(packed(level, part) == packed(one, decoded), "{level:?} a window of {n} x {k}, {scaled}");
    }
}

#[test]
fn bytes_with_scales_and_biases_are_packed_as_their_values() {
    for (n, k) in [(1, 128), (17, 640), (64, 1920), (83, 3840), (33, 2304)] {
        for (group, scale) in
            [(32, ScaleType::BF16), (64, ScaleType::BF16), (64, ScaleType::F16), (128, ScaleType::F32)]
        {
            for (factor, broken) in [(1.0, false), (0.37, false), (1.0, true)] {
                check_affine(n, k, Scaled::affine(8, group, scale), factor, broken);
            }
        }
    }
}

#[test]
fn windows_are_packed_as_weights_of_their_own() {
    let (n, k) = (90, 130);
    let bytes = f32_weight(&random(n * k, 5));
    let w = Matrix::rows_of(Format::F32, n, k, &bytes).expect("a weight of these sizes");
    let part = Matrix::rows_of(Format::F32, 60, k, &bytes[20 * k * 4..80 * k * 4]).expect("a weight of these sizes");
    assert_eq!(packed(Level::best(), w.window(20..80)), packed(Level::best(), part));
}

#[test]
fn extremes_stay_what_they_are() {
    let k = 700;
    for isa in Isa::supported() {
        // The largest sums: every product is 127 * 127, or -127 * 127.
        let bytes = f32_weight(&[vec![1.0; k], vec![-1.0; k]].concat());
        let w = Matrix::rows_of(Format::F32, 2, k, &bytes).expect("a weight of these sizes");
        let found = product(Some(isa), &vec![3.0; 2 * k], w, None, 2);
        assert_close(isa.name(), &found, &[2100.0, -2100.0, 2100.0, -2100.0], 1e-6);
        // Zeros, values too small to be scaled, one large value.
        for x in [vec![0.0; k], vec![1e-35; k]] {
            assert_eq!(product(Some(isa), &x, w, None, 1), [0.0, 0.0], "{}", isa.name());
        }
        let mut x = vec![0.0; k];
        x[600] = -1e30;
        assert_close(isa.name(), &product(Some(isa), &x, w, None, 1), &[-1e30, 1e30], 1e-6);
    }
}

#[test]
fn what_is_not_finite_reaches_the_result() {
    let k = 70;
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for isa in Isa::supported() {
            let mut values = vec![0.5; 2 * k];
            let (x, w) = (values[..k].to_vec(), f32_weight(&values));
            values[66] = bad;
            let (bad_x, bad_w) = (values[..k].to_vec(), f32_weight(&values));
            let matrix = |bytes| Matrix::rows_of(Format::F32, 2, k, bytes).expect("a weight of these sizes");
            assert!(product(Some(isa), &bad_x, matrix(&w), None, 1).iter().all(|v| v.is_nan()), "{}", isa.name());
            let found = product(Some(isa), &x, matrix(&bad_w), None, 1);
            assert!(found[0].is_nan() && found[1].is_finite(), "{} {found:?}", isa.name());
        }
    }
}

#[test]
fn a_row_of_no_columns_gives_the_bias() {
    let w = Matrix::rows_of(Format::F32, 3, 0, &[]).expect("an empty weight");
    assert_eq!(w.cols(), 0);
    assert_eq!((panel_lines(0), Chunks::of(0).count()), (0, 0));
    let mut out = [f32::NAN; 6];
    let empty = vec![0x80; 2 * row_stride(0)];
    let a = Quantized::new(&empty, &[], 2, 0);
    for level in Level::supported() {
        gemm_i8(level, &mut TileMut::whole(&mut out, 2, 3), a, &[], Some(&[1.0, 2.0, 3.0]));
        assert_eq!(out, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
        gemm_i8(level, &mut TileMut::whole(&mut out, 2, 3), a, &[], None);
        assert_eq!(out, [0.0; 6], "{level:?}");
    }
}
