use super::golden::Golden;
use super::*;

fn decode_one(format: Format, bits: u16) -> f32 {
    let mut value = [0.0];
    format.decode(&bits.to_le_bytes(), &mut value);
    value[0]
}

fn encode(format: Format, values: &[f32], bytes: &mut [u8]) {
    format.encoder().expect("a format that can be written").encode(values, bytes);
}

fn encode_one(format: Format, value: f32) -> u16 {
    let mut bytes = [0; 2];
    encode(format, &[value], &mut bytes);
    u16::from_le_bytes(bytes)
}

/// f16 by its definition, in f64.
fn f16_by_definition(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from((bits >> 10) & 31);
    let fraction = f64::from(bits & 1023) / 1024.0;
    match exponent {
        0 => sign * fraction * 2f64.powi(-14),
        31 if fraction == 0.0 => sign * f64::INFINITY,
        31 => f64::NAN,
        _ => sign * (1.0 + fraction) * 2f64.powi(exponent - 15),
    }
}

#[test]
fn every_f16_decodes_to_its_definition() {
    for bits in 0..=u16::MAX {
        let (value, expected) = (decode_one(Format::F16, bits), f16_by_definition(bits));
        assert!(value.is_nan() && expected.is_nan() || f64::from(value) == expected, "{bits:#06x}: {value} {expected}");
    }
    assert!(decode_one(Format::F16, 0x8000).is_sign_negative());
}

#[test]
fn every_16_bit_value_survives_a_round_trip() {
    for format in [Format::F16, Format::BF16] {
        for bits in 0..=u16::MAX {
            let value = decode_one(format, bits);
            let again = encode_one(format, value);
            assert!(
                again == bits || value.is_nan() && decode_one(format, again).is_nan(),
                "{} {bits:#06x}",
                format.name()
            );
        }
    }
}

#[test]
fn values_between_two_steps_round_to_the_nearest_and_ties_to_even() {
    for format in [Format::F16, Format::BF16] {
        let last_finite = if format == Format::F16 { 0x7bff } else { 0x7f7f };
        for bits in 0..last_finite {
            let (low, high) = (f64::from(decode_one(format, bits)), f64::from(decode_one(format, bits + 1)));
            let middle = ((low + high) / 2.0) as f32;
            let even = if bits % 2 == 0 { bits } else { bits + 1 };
            assert_eq!(encode_one(format, middle), even, "{} {bits:#06x}", format.name());
            assert_eq!(encode_one(format, middle.next_down()), bits);
            assert_eq!(encode_one(format, middle.next_up()), bits + 1);
            assert_eq!(encode_one(format, -middle), even | 0x8000);
        }
    }
}

#[test]
fn values_beyond_the_range_become_infinite() {
    assert_eq!(encode_one(Format::F16, 65519.996), 0x7bff);
    assert_eq!(encode_one(Format::F16, 65520.0), 0x7c00);
    assert_eq!(encode_one(Format::F16, f32::MAX), 0x7c00);
    assert_eq!(encode_one(Format::F16, f32::NEG_INFINITY), 0xfc00);
    assert_eq!(encode_one(Format::BF16, f32::MAX), 0x7f80);
    assert_eq!(encode_one(Format::F16, f32::from_bits(1)), 0);
    assert!(decode_one(Format::F16, encode_one(Format::F16, f32::from_bits(0x7f80_0001))).is_nan());
    assert!(decode_one(Format::BF16, encode_one(Format::BF16, f32::from_bits(0x7f80_0001))).is_nan());
}

#[test]
fn unaligned_rows_of_any_length_decode_like_single_values() {
    for format in [Format::F32, Format::F16, Format::BF16] {
        for cols in 0..70 {
            let values: Vec<f32> = (0..cols).map(|i| (i as f32 - 30.0) * 0.37).collect();
            let mut bytes = vec![0; format.row_bytes(cols) + 1];
            encode(format, &values, &mut bytes[1..]);
            let mut decoded = vec![0.0; cols];
            format.decode(&bytes[1..], &mut decoded);
            let expected: Vec<f32> = match format {
                Format::F32 => values,
                _ => values.iter().map(|v| decode_one(format, encode_one(format, *v))).collect(),
            };
            assert_eq!(decoded, expected);
        }
    }
}

/// The formats with blocks.
fn quantized() -> impl Iterator<Item = Format> {
    Format::ALL.into_iter().filter(|format| format.block_len() > 1)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn quantized_blocks_decode_to_the_bits_of_the_reference_at_every_level() {
    for format in quantized() {
        let golden = Golden::of(format);
        let (blocks, expected) = (golden.bytes("blocks"), golden.values("values"));
        for level in Level::supported() {
            let mut decoded = vec![f32::NAN; expected.len()];
            format.decode_at(level, blocks, &mut decoded);
            assert_eq!(bits(&decoded), bits(&expected), "{} {level:?}", format.name());
        }
    }
}

#[test]
fn values_encode_to_the_bytes_of_the_python_package_of_llama_cpp() {
    for format in [Format::Q8_0, Format::Q4_0, Format::Q4_1, Format::Q5_0, Format::Q5_1] {
        let golden = Golden::of(format);
        let (source, expected) = (golden.values("source"), golden.bytes("encoded"));
        let mut encoded = vec![0; expected.len()];
        encode(format, &source, &mut encoded);
        let blocks = encoded.chunks(format.block_bytes()).zip(expected.chunks(format.block_bytes()));
        for (at, (found, expected)) in blocks.enumerate() {
            assert_eq!(found, expected, "{} block {at}", format.name());
        }
    }
}

#[test]
fn values_encode_to_the_bytes_of_ggml_in_every_format_with_blocks() {
    let golden = Golden::named("encoded");
    let source = golden.values("source");
    for format in quantized() {
        let mut encoded = vec![0; format.row_bytes(source.len())];
        encode(format, &source, &mut encoded);
        let row_bytes = format.row_bytes(256);
        for (at, expected) in golden.bytes(format.name()).chunks(row_bytes).enumerate() {
            assert_eq!(encoded[at * row_bytes..][..row_bytes], *expected, "{} row {at}", format.name());
        }
    }
}

#[test]
fn the_searches_find_the_same_at_every_level() {
    let golden = Golden::named("encoded");
    let source = golden.values("source");
    type Encode = fn(Level, &[f32], &mut [u8]);
    let searches: [(Format, Encode); 4] = [
        (Format::Q2K, q2_k::encode),
        (Format::Q4K, q4_k::encode),
        (Format::Q5K, q5_k::encode),
        (Format::Q6K, q6_k::encode),
    ];
    for (format, encode) in searches {
        for level in Level::supported() {
            let mut encoded = vec![0; format.row_bytes(source.len())];
            encode(level, &source, &mut encoded);
            let expected = golden.bytes(format.name());
            let differing = encoded.iter().zip(expected).position(|(found, expected)| found != expected);
            let block = differing.map(|at| (at / format.block_bytes(), at % format.block_bytes()));
            assert_eq!(block, None, "block and byte that differ, {} {level:?}", format.name());
        }
    }
}

#[test]
fn a_row_of_many_unaligned_blocks_decodes_like_single_blocks() {
    for format in quantized() {
        let golden = Golden::of(format);
        let expected = golden.values("values");
        let shifted = [&[0], golden.bytes("blocks")].concat();
        let mut decoded = vec![f32::NAN; expected.len()];
        let rows = shifted[1..].chunks(format.block_bytes()).zip(decoded.chunks_mut(format.block_len()));
        rows.for_each(|(block, values)| format.decode(block, values));
        assert_eq!(bits(&decoded), bits(&expected), "{}", format.name());
        format.decode(&[], &mut []);
    }
}

#[test]
fn values_that_no_block_can_hold_do_not_stop_the_encoder() {
    for format in quantized().filter(|format| format.encoder().is_some()) {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::from_bits(1), -0.0] {
            let values: Vec<f32> = (0..256).map(|i| if i == 7 { value } else { i as f32 * 0.1 }).collect();
            let mut bytes = vec![0; format.row_bytes(256)];
            encode(format, &values, &mut bytes);
            encode(format, &[value; 256], &mut bytes);
        }
    }
}

#[test]
fn a_row_is_a_whole_number_of_blocks() {
    assert_eq!(Format::Q4_0.row_bytes(96), 54);
    assert_eq!(Format::Q6K.row_bytes(512), 420);
    assert_eq!((Format::F32.block_len(), Format::F32.row_bytes(3)), (1, 12));
    for format in quantized() {
        assert_eq!(format.row_bytes(0), 0);
        let cut = std::panic::catch_unwind(|| format.row_bytes(format.block_len() + 1));
        assert!(cut.is_err(), "{}", format.name());
    }
}
