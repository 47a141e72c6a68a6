//! The expected values were made with torch 2.15 on a processor with AVX-512.

use zimage_weights::digest::sha256_bytes;

use super::TorchGenerator;

fn digest(values: &[f32]) -> String {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    sha256_bytes(&bytes)[..16].to_string()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn raw_outputs_are_those_of_the_mersenne_twister() {
    let mut generator = TorchGenerator::new(42);
    let raw: Vec<u32> = (0..4).map(|_| generator.raw()).collect();
    assert_eq!(raw, [1_608_637_542, 3_421_126_067, 4_083_286_876, 787_846_414]);
}

#[test]
fn one_block_of_normals_is_exact_to_the_bit() {
    let expected = [
        0x3ff6a529, 0x3fbe5f53, 0x3f669567, 0xc006c0db, 0x3f2dacd5, 0xbf9e0591, 0xbd306786, 0xbfcd65ba, 0xbf408bf0,
        0x3fd3095b, 0xbec8f2f6, 0xbfb3a966, 0xbf3a566e, 0xbf0f36d1, 0xbf44d2a0, 0x3f432f9f,
    ];
    assert_eq!(bits(&TorchGenerator::new(42).randn(16)), expected);
}

#[test]
fn fewer_than_sixteen_values_take_the_double_precision_path() {
    let expected = [0x3eac62ae, 0x3e03e69d, 0x3e7016e7, 0x3e6bdc6c, 0xbf8fb9c2, 0xbe3eccd8, 0x400d532c];
    assert_eq!(bits(&TorchGenerator::new(42).randn(7)), expected);
}

#[test]
fn whole_tensors_hash_like_those_of_torch() {
    for (seed, numel, expected) in [
        (0x0, 7, "da8ac258a6deee78"),
        (0x0, 17, "6d2169852e19b6d1"),
        (0x0, 1000, "43678415636bbad8"),
        (0x0, 65536, "33e5e1492edd7110"),
        (0x2a, 7, "ac1fcc494490b91f"),
        (0x2a, 17, "2ae700cddb7c7bef"),
        (0x2a, 1000, "13b35fb427f5f8d7"),
        (0x2a, 65536, "23c72e908d9e3fbe"),
        (0x4d2, 7, "f9d0e8ffffa7e672"),
        (0x4d2, 17, "d2c5d0c65b5945ba"),
        (0x4d2, 1000, "0c6635e0cf925d75"),
        (0x4d2, 65536, "d347e1a605b8d6fe"),
        (0xffff_ffff, 7, "a2875d0a98672e3f"),
        (0xffff_ffff, 17, "65d795b9ee9e999e"),
        (0xffff_ffff, 1000, "bd567f33f1ae5735"),
        (0xffff_ffff, 65536, "50fc171a2e2a930b"),
        (0x8000_0000_0000_0005, 7, "af4e5bb5533f1193"),
        (0x8000_0000_0000_0005, 17, "50c18b9535a932ce"),
        (0x8000_0000_0000_0005, 1000, "3c9134555a6f73c1"),
        (0x8000_0000_0000_0005, 65536, "aea6271e73cb74a2"),
        (7, 1 << 20, "048e6a85a0ced2cc"),
    ] {
        assert_eq!(digest(&TorchGenerator::new(seed).randn(numel)), expected, "seed {seed}, {numel} values");
    }
}

#[test]
fn the_second_normal_of_a_pair_survives_a_larger_draw() {
    let mut generator = TorchGenerator::new(42);
    let values: Vec<f32> = [3, 16, 5, 33, 1].into_iter().flat_map(|numel| generator.randn(numel)).collect();
    assert_eq!(digest(&values), "989d60cf2a508bba");
}

#[test]
fn only_the_low_32_bits_of_the_seed_count() {
    assert_eq!(TorchGenerator::new(1 << 32 | 9).randn(32), TorchGenerator::new(9).randn(32));
}

#[test]
fn no_values_draw_nothing() {
    let mut generator = TorchGenerator::new(1);
    assert!(generator.randn(0).is_empty());
    assert_eq!(generator.raw(), TorchGenerator::new(1).raw());
}

fn golden() -> serde_json::Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../goldens/noise/noise.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn bit_patterns(value: &serde_json::Value) -> Vec<u32> {
    let word = |text: &serde_json::Value| u32::from_str_radix(text.as_str().unwrap(), 16).unwrap();
    value.as_array().unwrap().iter().map(word).collect()
}

#[test]
fn the_goldens_are_met_bit_for_bit() {
    let golden = golden();
    for case in golden["randn"].as_array().unwrap().iter().chain(golden["latents"].as_array().unwrap()) {
        let expected = bit_patterns(&case["values"]);
        let values = TorchGenerator::new(case["seed"].as_u64().unwrap()).randn(expected.len());
        assert_eq!(bits(&values), expected, "seed {}", case["seed"]);
    }
    for case in golden["successive"].as_array().unwrap() {
        let mut generator = TorchGenerator::new(case["seed"].as_u64().unwrap());
        for draw in case["draws"].as_array().unwrap() {
            let expected = bit_patterns(draw);
            assert_eq!(bits(&generator.randn(expected.len())), expected, "successive, seed {}", case["seed"]);
        }
    }
}
