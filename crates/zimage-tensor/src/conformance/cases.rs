//! The cases. `check` runs one on every built-in device and prints the worst value when a device is off.

use super::accelerators::{accelerators, tolerance_on};
use super::tolerances::{ELEMENTWISE, MOVE, SUM};
use crate::ops;
use crate::{Device, Format, Linear, Mask, Tensor, Weight};

/// Devices under test: one thread, and more threads than there are pieces.
fn devices() -> Vec<Device> {
    [1, 2, 5].map(|threads| Device::cpu(threads).expect("a pool of threads")).into()
}

/// A small generator, so that cases need no file and no crate.
pub(super) fn values(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// A tensor whose values depend on seed and shape alone.
pub(crate) fn tensor(device: &Device, seed: u64, shape: &[usize]) -> Tensor {
    Tensor::from_vec(device, shape, values(seed, shape.iter().product())).expect("as many values as the shape takes")
}

pub(super) fn check(name: &str, tolerance: f32, case: impl Fn(&Device) -> Tensor) {
    let expected = case(&Device::reference());
    let mut first: Option<Vec<f32>> = None;
    for device in devices() {
        let found = case(&device);
        assert_eq!(found.shape(), expected.shape(), "{name} on {device:?}");
        let found = found.into_vec();
        compare(name, tolerance, &expected.to_vec(), &found);
        let bits = first.get_or_insert_with(|| found.clone());
        assert!(bits.iter().zip(&found).all(|(a, b)| a.to_bits() == b.to_bits()), "{name}: bits depend on threads");
    }
    for device in accelerators() {
        let found = case(&device);
        let name = format!("{name} on {}", device.describe());
        assert_eq!(found.shape(), expected.shape(), "{name}");
        let found = found.into_vec();
        device.check().unwrap_or_else(|error| panic!("{name}: {error}"));
        compare(&name, tolerance_on(&device, tolerance), &expected.to_vec(), &found);
    }
}

fn compare(name: &str, tolerance: f32, expected: &[f32], found: &[f32]) {
    let scale = expected.iter().fold(1.0f32, |m, v| m.max(v.abs()));
    let off = |(_, (e, f)): &(usize, (&f32, &f32))| (*e - *f).abs() > tolerance * scale || f.is_nan() != e.is_nan();
    if let Some((index, (e, f))) = expected.iter().zip(found).enumerate().find(off) {
        let last = (index + 8).min(expected.len());
        panic!(
            "{name}: first off at {index}: expected {e}, found {f}\nexpected {:?}\nfound    {:?}",
            &expected[index..last],
            &found[index..last]
        );
    }
}

pub(crate) fn weight(device: &Device, format: Format, rows: usize, cols: usize) -> Weight {
    let mut bytes = vec![0; rows * format.row_bytes(cols)];
    format.encoder().expect("a format that can be written").encode(&values(7, rows * cols), &mut bytes);
    Weight::rows_of(device, format, rows, cols, bytes.into()).expect("bytes of the right size")
}

#[test]
fn linear_agrees_in_every_format_and_shape() {
    for format in [Format::F32, Format::BF16, Format::F16] {
        for (tokens, cin, cout) in [(1, 1, 1), (3, 17, 5), (33, 64, 300), (1030, 20, 259), (2, 513, 31)] {
            check(&format!("linear {format:?} {tokens} {cin} {cout}"), SUM, |d| {
                let bias = tensor(d, 3, &[cout]);
                ops::linear(&tensor(d, 1, &[tokens, cin]), &Linear::new(weight(d, format, cout, cin), Some(bias)))
            });
        }
        check("linear without a bias", SUM, |d| {
            ops::linear(&tensor(d, 1, &[5, 40]), &Linear::new(weight(d, format, 9, 40), None))
        });
        check("embedding", MOVE, |d| ops::embedding(&weight(d, format, 11, 6), &[10, 0, 3, 3]));
    }
}

#[test]
fn linear_and_embedding_agree_in_quantized_formats() {
    for format in Format::ALL.into_iter().filter(|format| format.block_len() > 1 && format.encoder().is_some()) {
        let block = format.block_len();
        for (tokens, blocks, cout) in [(1, 1, 1), (3, 3, 300), (70, 2, 31)] {
            let cin = blocks * block;
            check(&format!("linear {format:?} {tokens} {cin} {cout}"), SUM, |d| {
                ops::linear(&tensor(d, 1, &[tokens, cin]), &Linear::new(weight(d, format, cout, cin), None))
            });
        }
        check("embedding", MOVE, |d| ops::embedding(&weight(d, format, 11, 2 * block), &[10, 0, 3, 3]));
    }
}

#[test]
fn a_weight_whose_rows_end_within_a_block_is_refused() {
    let error = Weight::rows_of(&devices()[0], Format::Q4K, 2, 300, vec![0; 288].into()).expect_err("300 is not 256");
    assert_eq!(error.to_string(), "a row of 300 values cannot be stored as q4_k, which has blocks of 256");
}

#[test]
fn norms_agree() {
    for (rows, cols) in [(1, 1), (3, 7), (65, 96), (2, 3840), (40, 128)] {
        let shape = [rows, cols];
        let row = |d: &Device, seed| tensor(d, seed, &[cols]);
        check("rms_norm", SUM, |d| ops::rms_norm(&tensor(d, 1, &shape), &row(d, 2), 1e-5));
        check("rms_norm_scaled", SUM, |d| ops::rms_norm_scaled(&tensor(d, 1, &shape), &row(d, 2), &row(d, 3), 1e-5));
        check("layer_norm_scaled", 1e-4, |d| ops::layer_norm_scaled(&tensor(d, 1, &shape), &row(d, 3), 1e-6));
        check("add_rms_norm", SUM, |d| {
            let mut x = tensor(d, 1, &shape);
            ops::add_rms_norm(&mut x, &tensor(d, 4, &shape), &row(d, 2), 1e-5);
            x
        });
        check("add_rms_norm_gated", SUM, |d| {
            let mut x = tensor(d, 1, &shape);
            ops::add_rms_norm_gated(&mut x, &tensor(d, 4, &shape), &row(d, 2), &row(d, 3), 1e-5);
            x
        });
    }
    check("rms_norm per head", SUM, |d| ops::rms_norm(&tensor(d, 1, &[6, 96]), &tensor(d, 2, &[32]), 1e-6));
}

#[test]
fn elementwise_operations_agree() {
    for shape in [vec![1, 1], vec![3, 5], vec![4, 40_001]] {
        let in_place = |name: &str, op: fn(&mut Tensor)| {
            check(name, ELEMENTWISE, |d| {
                let mut x = tensor(d, 1, &shape);
                op(&mut x);
                x
            });
        };
        in_place("silu", ops::silu);
        in_place("tanh", ops::tanh);
        in_place("one_plus", ops::one_plus);
        let with_other = |name: &str, op: fn(&mut Tensor, &Tensor)| {
            check(name, ELEMENTWISE, |d| {
                let mut x = tensor(d, 1, &shape);
                op(&mut x, &tensor(d, 2, &shape));
                x
            });
        };
        with_other("add", ops::add);
        with_other("subtract_from", ops::subtract_from);
        with_other("silu_mul", ops::silu_mul);
    }
}

#[test]
fn rotations_agree() {
    for (tokens, heads, head_dim) in [(1, 1, 2), (5, 3, 40), (700, 2, 128)] {
        type Rope = fn(&mut Tensor, &Tensor, &Tensor);
        check("rms_norm_rope", ELEMENTWISE, |d| {
            let mut x = tensor(d, 1, &[tokens, heads * head_dim]);
            let (cos, sin) = (tensor(d, 2, &[tokens, head_dim / 2]), tensor(d, 3, &[tokens, head_dim / 2]));
            ops::rms_norm_rope(&mut x, &tensor(d, 4, &[head_dim]), 1e-5, &cos, &sin);
            x
        });
        for (name, rope) in [("interleaved", ops::rope_interleaved as Rope), ("halves", ops::rope_halves)] {
            check(name, ELEMENTWISE, |d| {
                let mut x = tensor(d, 1, &[tokens, heads * head_dim]);
                rope(&mut x, &tensor(d, 2, &[tokens, head_dim / 2]), &tensor(d, 3, &[tokens, head_dim / 2]));
                x
            });
        }
    }
}

/// Queries, keys, heads, heads of keys and values, and values per head.
fn check_attention([queries, keys, heads, kv_heads, head_dim]: [usize; 5], mask: Mask) {
    check(&format!("attention {queries} {keys} {heads} {kv_heads} {head_dim} {mask:?}"), SUM, |d| {
        let (q, k) = (tensor(d, 1, &[queries, heads * head_dim]), tensor(d, 2, &[keys, kv_heads * head_dim]));
        ops::attention(&q, &k, &tensor(d, 3, &[keys, kv_heads * head_dim]), heads, mask)
    });
}

#[test]
fn attention_agrees() {
    for shape in [[1, 1, 1, 1, 1], [5, 7, 2, 2, 16], [130, 300, 3, 1, 40], [33, 33, 4, 2, 64], [140, 1025, 1, 1, 512]] {
        check_attention(shape, Mask::None);
        if shape[0] == shape[1] {
            check_attention(shape, Mask::Causal);
        }
    }
    check_attention([70, 70, 2, 1, 256], Mask::Causal);
    check_attention([3, 5, 1, 1, 257], Mask::None);
}

#[test]
fn attention_of_heads_of_128_agrees() {
    for tokens in [1, 5, 64, 65, 130, 300] {
        check_attention([tokens, tokens, 2, 2, 128], Mask::None);
        check_attention([tokens, tokens, 4, 2, 128], Mask::Causal);
    }
    check_attention([5, 300, 3, 1, 128], Mask::None);
    check_attention([300, 5, 6, 2, 128], Mask::None);
}

/// Multiples of 1/64 times a power of 2: exact in all elements, so that what is large is as exact as what is small.
fn steps(device: &Device, seed: u64, shape: [usize; 2], scale: f32) -> Tensor {
    let steps = values(seed, shape[0] * shape[1]).into_iter().map(|value| (64.0 * value).round() / 64.0 * scale);
    Tensor::from_vec(device, &shape, steps.collect()).expect("as many values as the shape takes")
}

#[test]
fn attention_of_large_scores_agrees() {
    // Scores up to 50: nearly one key for each query, and the largest scores come late as often as early.
    for (head_dim, mask) in
        [(128, Mask::None), (128, Mask::Causal), (64, Mask::None), (40, Mask::None), (256, Mask::None)]
    {
        check(&format!("attention of large scores {head_dim} {mask:?}"), SUM, |d| {
            let (q, k) = (steps(d, 1, [200, 2 * head_dim], 32.0), steps(d, 2, [200, head_dim], 1.0));
            ops::attention(&q, &k, &steps(d, 3, [200, head_dim], 1.0), 2, mask)
        });
    }
}

#[test]
fn attention_agrees_on_values_beyond_those_of_f16() {
    for head_dim in [64, 128] {
        check(&format!("attention of large values {head_dim}"), SUM, |d| {
            let (q, k) = (tensor(d, 1, &[10, head_dim]), tensor(d, 2, &[70, head_dim]));
            ops::attention(&q, &k, &steps(d, 3, [70, head_dim], 1_048_576.0), 1, Mask::None)
        });
    }
}

#[test]
fn layout_changes_move_every_value() {
    check("concat_rows", MOVE, |d| ops::concat_rows(&tensor(d, 1, &[3, 5]), &tensor(d, 2, &[2, 5])));
    check("slice_rows", MOVE, |d| ops::slice_rows(&tensor(d, 1, &[5, 2, 3]), 1, 4));
    check("append_token", MOVE, |d| ops::append_token(&tensor(d, 1, &[3, 5]), &tensor(d, 2, &[1, 5]), 4));
    check("patchify", MOVE, |d| ops::patchify(&tensor(d, 1, &[3, 4, 10])));
    check("unpatchify", MOVE, |d| ops::unpatchify(&ops::patchify(&tensor(d, 1, &[3, 4, 10])), 4, 10));
    check("to tokens", MOVE, |d| ops::channels_to_tokens(&tensor(d, 1, &[33, 4, 17])));
    check("to channels", MOVE, |d| ops::tokens_to_channels(&tensor(d, 1, &[68, 33]), 4, 17));
    let device = Device::reference();
    let x = tensor(&device, 1, &[3, 4, 10]);
    assert_eq!(ops::unpatchify(&ops::patchify(&x), 4, 10).to_vec(), x.to_vec());
    assert_eq!(ops::chunk(&tensor(&device, 1, &[1, 6]), 3)[1].to_vec(), values(1, 6)[2..4]);
}

#[test]
fn the_first_value_that_is_not_finite_is_found() {
    for device in devices().into_iter().chain(accelerators()).chain([Device::reference()]) {
        let mut data = vec![0.0; 1000];
        let find = |data: &[f32]| {
            let x = Tensor::from_vec(&device, &[10, 100], data.to_vec()).expect("as many values as the shape takes");
            ops::find_non_finite(&x).wait()
        };
        assert_eq!(find(&data), None);
        data[999] = f32::NAN;
        assert_eq!(find(&data), Some(999));
        data[37] = f32::NEG_INFINITY;
        assert_eq!(find(&data), Some(37));
    }
}
