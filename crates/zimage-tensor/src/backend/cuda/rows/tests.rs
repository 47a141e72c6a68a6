//! Operations on bf16 values, which conformance cannot give them, and on rows that are too long to be held.

use super::super::driver::Element;
use crate::tensor::Storage;
use crate::{Compute, Device, Tensor, ops};

fn emulated(compute: Compute) -> Device {
    Device::emulated_cuda(1 << 36).expect("a C++ compiler").with_compute(compute)
}

/// Values that are the same in bf16; on a GPU that computes in bf16 they lie so.
fn tensor(device: &Device, seed: usize, shape: &[usize]) -> Tensor {
    let value = |i: usize| ((i * 2_654_435 + seed * 977) % 511) as f32 / 128.0 - 2.0;
    let values = (0..shape.iter().product()).map(|i| f32::from_bits(value(i).to_bits() & 0xffff_0000)).collect();
    let tensor = Tensor::from_vec(device, shape, values).expect("as many values as the shape takes");
    match (device, &tensor.storage) {
        (Device::Cuda(cuda), Storage::Cuda(buffer)) if cuda.element() == Element::Bf16 => {
            let storage = Storage::Cuda(cuda.cast(buffer, Element::Bf16));
            Tensor { storage, ..tensor }
        }
        _ => tensor,
    }
}

/// Compares with the naive operation: f32 to a few roundings of the largest value, bf16 to its own rounding.
fn check(name: &str, case: impl Fn(&Device) -> Tensor) {
    let expected = case(&Device::reference()).into_vec();
    let largest = expected.iter().fold(1.0f32, |most, value| most.max(value.abs()));
    for (compute, rounding) in [(Compute::Exact, 0.0), (Compute::Bf16, 1.0 / 256.0)] {
        let device = emulated(compute);
        let found = case(&device).into_vec();
        device.check().expect("nothing went wrong");
        assert_eq!(expected.len(), found.len());
        for (at, (expected, found)) in expected.iter().zip(found).enumerate() {
            let off = (expected - found).abs();
            let allowed = 3e-6 * largest + rounding * expected.abs();
            assert!(off <= allowed, "{name} in {compute:?} at {at}: {found} for {expected}");
        }
    }
}

#[test]
fn norms_work_on_rows_of_every_kind() {
    // Held by 32 to 512 threads; too long for that; not made of packs.
    for (rows, cols) in [(3, 128), (2, 2560), (3, 3840), (1, 8192), (1, 10_240), (2, 9001), (3, 20)] {
        let x = |d: &Device| tensor(d, 1, &[rows, cols]);
        let row = |d: &Device, seed| tensor(d, seed, &[cols]);
        check("rms_norm", |d| ops::rms_norm(&x(d), &row(d, 2), 1e-5));
        check("rms_norm_scaled", |d| ops::rms_norm_scaled(&x(d), &row(d, 2), &row(d, 3), 1e-5));
        check("layer_norm_scaled", |d| ops::layer_norm_scaled(&x(d), &row(d, 2), 1e-5));
        check("add_rms_norm", |d| {
            let mut sum = tensor(d, 4, &[rows, cols]);
            ops::add_rms_norm(&mut sum, &x(d), &row(d, 2), 1e-5);
            sum
        });
        check("add_rms_norm_gated", |d| {
            let mut sum = tensor(d, 4, &[rows, cols]);
            ops::add_rms_norm_gated(&mut sum, &x(d), &row(d, 2), &row(d, 3), 1e-5);
            sum
        });
    }
}

#[test]
fn elementwise_operations_work_in_both_elements() {
    for shape in [[1, 1], [3, 5], [9, 4096]] {
        for (name, op) in [("silu", ops::silu as fn(&mut Tensor)), ("tanh", ops::tanh), ("one_plus", ops::one_plus)] {
            check(name, |d| {
                let mut x = tensor(d, 1, &shape);
                op(&mut x);
                x
            });
        }
        type OfTwo = fn(&mut Tensor, &Tensor);
        let of_two = [("add", ops::add as OfTwo), ("subtract_from", ops::subtract_from), ("silu_mul", ops::silu_mul)];
        for (name, op) in of_two {
            check(name, |d| {
                let mut x = tensor(d, 1, &shape);
                op(&mut x, &tensor(d, 2, &shape));
                x
            });
        }
    }
}

#[test]
fn factors_of_columns_work_in_both_elements() {
    for (cols, z_cols, skip) in [(64, 64, 0), (64, 128, 32), (64, 128, 3), (30, 33, 0), (4096, 4096, 0)] {
        check("add_scaled", |d| {
            let mut y = tensor(d, 1, &[3, cols]);
            ops::add_scaled(&mut y, &tensor(d, 2, &[3, z_cols]), skip, &tensor(d, 3, &[cols]));
            y
        });
        check("scale_columns", |d| ops::scale_columns(&tensor(d, 1, &[3, cols]), &tensor(d, 2, &[cols])));
    }
    check("mix_rows", |d| ops::mix_rows(&tensor(d, 1, &[15, 300]), &tensor(d, 2, &[11, 3]), 5));
}

#[test]
fn rotations_work_in_both_elements() {
    for (tokens, heads, head_dim) in [(3, 2, 6), (5, 3, 40), (17, 3, 128)] {
        type Rope = fn(&mut Tensor, &Tensor, &Tensor);
        let tables = |d: &Device| [2, 3].map(|seed| tensor(d, seed, &[tokens, head_dim / 2]));
        for (name, rope) in [("interleaved", ops::rope_interleaved as Rope), ("halves", ops::rope_halves)] {
            check(name, |d| {
                let (mut x, [cos, sin]) = (tensor(d, 1, &[tokens, heads * head_dim]), tables(d));
                rope(&mut x, &cos, &sin);
                x
            });
        }
        check("rms_norm_rope", |d| {
            let (mut x, [cos, sin]) = (tensor(d, 1, &[tokens, heads * head_dim]), tables(d));
            ops::rms_norm_rope(&mut x, &tensor(d, 4, &[head_dim]), 1e-5, &cos, &sin);
            x
        });
    }
}

#[test]
fn moves_keep_bf16_values() {
    check("concat_rows", |d| ops::concat_rows(&tensor(d, 1, &[3, 5]), &tensor(d, 2, &[2, 5])));
    check("slice_rows", |d| ops::slice_rows(&tensor(d, 1, &[5, 7]), 1, 4));
    check("append_token", |d| ops::append_token(&tensor(d, 1, &[3, 5]), &tensor(d, 2, &[1, 5]), 4));
    check("patchify", |d| ops::patchify(&tensor(d, 1, &[3, 4, 10])));
    check("unpatchify", |d| ops::unpatchify(&tensor(d, 1, &[10, 12]), 4, 10));
    check("to tokens", |d| ops::channels_to_tokens(&tensor(d, 1, &[70, 4, 17])));
}

#[test]
fn an_operand_in_another_element_is_cast() {
    let device = emulated(Compute::Bf16);
    let mut x = tensor(&device, 1, &[4, 40]);
    let y = Tensor::from_vec(&device, &[4, 40], tensor(&device, 2, &[4, 40]).to_vec()).expect("160 values");
    ops::add(&mut x, &y);
    ops::silu(&mut x);
    let expected = {
        let device = Device::reference();
        let mut x = tensor(&device, 1, &[4, 40]);
        ops::add(&mut x, &tensor(&device, 2, &[4, 40]));
        ops::silu(&mut x);
        x.into_vec()
    };
    // Two roundings.
    assert!(x.to_vec().iter().zip(expected).all(|(found, expected)| (found - expected).abs() <= 0.02));
}

#[test]
fn infinite_values_are_found_in_bf16_too() {
    for compute in [Compute::Exact, Compute::Bf16] {
        let device = emulated(compute);
        let Device::Cuda(cuda) = &device else { panic!("an emulated device") };
        let find = |(len, at): (usize, Option<usize>)| {
            let mut values = vec![1.0; len];
            at.into_iter().for_each(|at| values[at] = f32::INFINITY);
            let x = Tensor::from_vec(&device, &[1, len], values).expect("as many values as the shape takes");
            let Storage::Cuda(buffer) = &x.storage else { panic!("a tensor on it") };
            cuda.find_non_finite(&cuda.cast(buffer, cuda.element()))
        };
        let found = [(1, Some(0)), (9, Some(8)), (7, None), (5000, Some(3001))].map(find);
        assert_eq!(cuda.first_found(&found.each_ref()), [Some(0), Some(8), None, Some(3001)]);
    }
}
