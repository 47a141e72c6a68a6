use super::rotation::rotate;
use super::*;

fn scaled(element: Element, group: Group, scale: ScaleType) -> Scaled {
    Scaled { element, high_first: false, group, scale, biased: false, swizzled: false, rotated: false }
}

fn decode(scaled: Scaled, planes: Planes, row: usize, cols: usize) -> Vec<f32> {
    let mut row_values = vec![f32::NAN; cols];
    scaled.decode_row(planes, row, 1.0, &mut row_values);
    row_values
}

#[test]
fn numbers_of_any_width_lie_one_after_the_other_from_the_lowest_bit() {
    for bits in [2, 3, 4, 5, 6, 8] {
        let expected: Vec<u64> = (0..32).map(|at| (at * 7 + 3) % (1 << bits)).collect();
        let mut values = vec![0_u8; 4 * usize::from(bits)];
        for (at, number) in expected.iter().enumerate() {
            for bit in 0..usize::from(bits) {
                let place = at * usize::from(bits) + bit;
                values[place / 8] |= (((number >> bit) & 1) as u8) << (place % 8);
            }
        }
        let format = Scaled::affine(bits, 32, ScaleType::F32);
        let (scales, biases) = (2_f32.to_le_bytes(), (-1_f32).to_le_bytes());
        let planes = Planes { values: &values, scales: &scales, biases: &biases };
        let found = decode(format, planes, 0, 32);
        assert_eq!(found, expected.iter().map(|n| *n as f32 * 2.0 - 1.0).collect::<Vec<_>>(), "{bits} bits");
    }
}

#[test]
fn the_rotation_is_its_own_inverse_and_the_product_with_the_matrix() {
    let h4 = [[1., 1., 1., -1.], [1., 1., -1., 1.], [1., -1., 1., 1.], [-1., 1., 1., 1.]];
    let digit = |n: usize, axis: u32| n / 4_usize.pow(axis) % 4;
    let h = |i: usize, j: usize| (0..4).map(|axis| h4[digit(i, axis)][digit(j, axis)]).product::<f32>() / 16.0;
    let start: [f32; ROTATED] = std::array::from_fn(|at| ((at * 37) % 101) as f32 - 50.0);
    let mut found = start;
    rotate(&mut found);
    for (j, value) in found.iter().enumerate() {
        let expected: f32 = (0..ROTATED).map(|i| start[i] * h(i, j)).sum();
        assert!((value - expected).abs() < 1e-3, "{j}: {value} and {expected}");
    }
    rotate(&mut found);
    assert!(found.iter().zip(&start).all(|(a, b)| (a - b).abs() < 1e-4));
}

#[test]
fn swizzled_scales_are_found_in_their_tiles() {
    let format = Scaled { swizzled: true, ..scaled(Element::E4M3, Group::Columns(32), ScaleType::E8M0) };
    // 160 rows of 5 scales fill two by two tiles.
    let (rows, cols) = (160, 160);
    assert_eq!(format.scale_bytes(rows, cols), Some(256 * 8));
    let mut places: Vec<usize> = (0..rows).flat_map(|row| (0..5).map(move |g| format.place(row, g, 5))).collect();
    assert_eq!((format.place(1, 0, 5), format.place(32, 0, 5), format.place(0, 1, 5)), (16, 4, 1));
    assert_eq!((format.place(0, 4, 5), format.place(128, 0, 5)), (512, 1024));
    places.sort_unstable();
    places.dedup();
    assert_eq!((places.len(), places.last().is_some_and(|last| *last < 2048)), (rows * 5, true));
}

#[test]
fn halves_of_a_byte_come_in_either_order() {
    let bytes = [0x2f_u8];
    let scale = 1_f32.to_le_bytes();
    let planes = Planes { values: &bytes, scales: &scale, biases: &[] };
    let low = scaled(Element::E2M1, Group::Tensor, ScaleType::F32);
    assert_eq!(decode(low, planes, 0, 2), [-6.0, 1.0]);
    assert_eq!(decode(Scaled { high_first: true, ..low }, planes, 0, 2), [1.0, -6.0]);
    assert_eq!(decode(Scaled { element: Element::I4, ..low }, planes, 0, 2), [-1.0, 2.0]);
}

#[test]
fn planes_of_other_lengths_are_refused() {
    use crate::blocks::{Format, Layout, Matrix};
    let affine = Layout::Scaled(Scaled::affine(4, 32, ScaleType::BF16));
    assert_eq!(affine.planes(3, 64), Some([96, 12, 12]));
    let bytes = [0; 96];
    let matrix = |values: usize, scales: usize, biases: usize| {
        let planes = Planes { values: &bytes[..values], scales: &bytes[..scales], biases: &bytes[..biases] };
        Matrix::new(affine, 3, 64, planes, 1.0)
    };
    assert!(matrix(96, 12, 12).is_some());
    assert!([matrix(95, 12, 12), matrix(96, 11, 12), matrix(96, 12, 0), matrix(0, 0, 0)].iter().all(Option::is_none));
    assert!(Matrix::rows_of(Format::Q4_0, 1, 33, &bytes[..18]).is_none());
    assert!(Matrix::rows_of(Format::F32, usize::MAX / 2, 4, &[]).is_none());
}

#[test]
fn the_bytes_of_a_window_are_its_rows_alone() {
    use crate::blocks::{Format, Layout, Matrix};
    let bytes: Vec<u8> = (0..=255).cycle().take(8192).collect();
    let fp8 = scaled(Element::E4M3, Group::Columns(32), ScaleType::E8M0);
    let layouts = [
        Layout::Rows(Format::Q4_0),
        Layout::Scaled(Scaled::affine(4, 32, ScaleType::BF16)),
        Layout::Scaled(scaled(Element::I8, Group::Row, ScaleType::F16)),
        Layout::Scaled(scaled(Element::I8, Group::Tensor, ScaleType::F16)),
        Layout::Scaled(fp8),
    ];
    for layout in layouts {
        let [values, scales, biases] = layout.planes(5, 64).expect("planes");
        let planes = Planes { values: &bytes[..values], scales: &bytes[..scales], biases: &bytes[..biases] };
        let window = Matrix::new(layout, 5, 64, planes, 2.0).expect("a matrix").window(1..4).window(1..3);
        let (planes, first) = window.bytes();
        let alone = Matrix::new(layout, 2, 64, planes, window.factor()).expect("the bytes of two rows");
        let (mut expected, mut found) = ([0.0; 128], [0.0; 128]);
        window.decode_rows(0..2, &mut expected);
        alone.decode_rows(0..2, &mut found);
        let bits = |values: [f32; 128]| values.map(f32::to_bits);
        assert_eq!((bits(found), first), (bits(expected), 0), "{layout}");
    }
    let tiles = Layout::Scaled(Scaled { swizzled: true, ..fp8 });
    let planes = Planes { values: &bytes[..320], scales: &bytes[..512], biases: &[] };
    let (planes, first) = Matrix::new(tiles, 5, 64, planes, 1.0).expect("a matrix").window(2..4).bytes();
    assert_eq!((planes.values, planes.scales.len(), first), (&bytes[128..256], 512, 2));
}

#[test]
fn sizes_beyond_counting_and_impossible_formats_have_no_planes() {
    use crate::blocks::Layout;
    let fp8 = scaled(Element::E4M3, Group::Columns(32), ScaleType::E8M0);
    let huge = usize::MAX - 31;
    for format in [fp8, Scaled { swizzled: true, ..fp8 }, scaled(Element::I4, Group::Row, ScaleType::F32)] {
        assert!(format.is_valid());
        assert_eq!(Layout::Scaled(format).planes(huge, huge), None, "{format}");
        assert_eq!(Layout::Scaled(format).planes(huge, 32), None, "{format}");
        assert!(Layout::Scaled(format).planes(0, huge).is_some(), "{format}");
    }
    let affine = |bits, group| Scaled::affine(bits, group, ScaleType::F16);
    let swizzled_rows = Scaled { swizzled: true, ..scaled(Element::I8, Group::Row, ScaleType::F32) };
    for format in [affine(0, 64), affine(7, 64), affine(255, 64), affine(4, 0), affine(4, 48), affine(4, 8)] {
        assert!(!format.is_valid());
        assert_eq!(Layout::Scaled(format).planes(0, 0), None);
        assert!(format.encoder().is_none());
    }
    assert_eq!(Layout::Scaled(swizzled_rows).planes(1, 32), None);
}

#[test]
fn rows_of_any_length_decode_like_their_single_values() {
    use crate::Level;
    use crate::blocks::{Layout, Matrix};
    let scale = 0.5_f32.to_le_bytes();
    for element in [Element::I8, Element::E5M2, Element::Unsigned(8), Element::I4, Element::E2M1] {
        let format = scaled(element, Group::Tensor, ScaleType::F32);
        let step = format.block_len();
        for cols in (0..100).step_by(step) {
            let values: Vec<u8> = (0..3 * format.row_bytes(cols)).map(|at| (at * 41 % 120) as u8).collect();
            let planes = Planes { values: &values, scales: &scale, biases: &[] };
            let matrix = Matrix::new(Layout::Scaled(format), 3, cols, planes, 3.0).expect("planes of these sizes");
            let singles: Vec<f32> = values
                .chunks(step * element.bits() / 8)
                .flat_map(|values| {
                    let planes = Planes { values, scales: &scale, biases: &[] };
                    decode(format, planes, 0, step).into_iter().map(|value| value * 3.0)
                })
                .collect();
            for level in Level::supported() {
                let mut found = vec![f32::NAN; 3 * cols];
                matrix.decode_rows_at(level, 0..3, &mut found);
                assert_eq!(found, singles, "{format}, {cols} columns, {level:?}");
            }
        }
    }
}

#[test]
fn values_that_no_group_can_hold_do_not_stop_the_encoder() {
    for bits in [2, 3, 4, 5, 6, 8] {
        let encoder = Scaled::affine(bits, 32, ScaleType::F16).encoder().expect("an encoder");
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, f32::from_bits(1)] {
            let values: Vec<f32> = (0..64).map(|at| if at % 7 == 0 { value } else { at as f32 }).collect();
            let mut planes = [vec![0; 8 * usize::from(bits)], vec![0; 4], vec![0; 4]];
            let [packed, scales, biases] = &mut planes;
            encoder.encode(&values, packed, scales, biases);
            encoder.encode(&[value; 64], packed, scales, biases);
        }
    }
}
