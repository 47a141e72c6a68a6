//! Tests of kernels against each other, and against the naive attention.

use super::super::emulator;
use super::*;
use crate::{Device, Tensor, ops};

fn emulated() -> Cuda {
    Cuda::on(emulator::open((9, 0), 96 << 30).expect("a C++ compiler")).with_compute(Compute::Bf16)
}

fn small(element: Element) -> Flash {
    Flash::of(element, 128, 99 << 10).expect("heads of 128")
}

#[test]
fn tiles_that_leave_room_in_little_shared_memory_give_the_same() {
    let large = Flash::of(Element::Bf16, 128, 227 << 10).expect("heads of 128");
    assert_eq!((large.name, small(Element::Bf16).name), ("attention_128_by_64_bf16", "attention_128_by_32_bf16"));
    assert!(emulated().agree(large, small(Element::Bf16)));
}

#[test]
fn hopper_has_a_kernel_of_its_own_which_agrees() {
    let cuda = emulated();
    assert_eq!(cuda.on_hopper(small(Element::Bf16)).source, "attention_hopper");
    assert_eq!(cuda.on_hopper(small(Element::F16)).source, "attention", "it is for bf16");
    let ada = Cuda::on(emulator::open((8, 9), 1 << 30).expect("a C++ compiler"));
    assert_eq!(ada.on_hopper(small(Element::Bf16)).source, "attention", "and for Hopper");
    cuda.check().expect("nothing went wrong");
}

#[test]
fn kernels_that_compute_something_else_do_not_agree() {
    let cuda = emulated();
    let right = small(Element::Bf16);
    let other_heads = Flash { name: "attention_64_by_64_bf16", ..right };
    let no_such_kernel = Flash { name: "attention", ..right };
    assert!(!cuda.agree(other_heads, right) && !cuda.agree(no_such_kernel, right));
    cuda.check().expect("what did not run is not used, and no failure");
    assert!(cuda.agree(right, right));
}

/// Multiples of 1/64 up to `most`, which are exact in bf16 up to 4.
fn steps(seed: usize, count: usize, most: f32) -> Vec<f32> {
    (0..count)
        .map(|i| ((i * i + seed * i) % 257) as f32 / 128.0 - 1.0)
        .map(|x| (x * 64.0).round() / 64.0 * most)
        .collect()
}

#[test]
fn on_hopper_heads_agree_with_the_naive_ones_at_the_edges_of_tiles() {
    let cuda = emulated();
    let kernel = hopper::KERNEL;
    let naive = Device::reference();
    let sizes = [1, 63, 128, 200, 257];
    let square = sizes.map(|size| (size, size, 2, 1, Mask::Causal));
    let other = sizes.map(|size| (size, 258 - size, 3, 3, Mask::None));
    let long = [(2, 520, 1, 1, Mask::None), (130, 257, 4, 2, Mask::Causal), (257, 130, 1, 1, Mask::Causal)];
    for (queries, keys, heads, kv_heads, mask) in square.into_iter().chain(other).chain(long) {
        let shape = Attention { queries, keys, heads, kv_heads, head_dim: 128, mask };
        let [q, k, v] = [(1, queries * heads, 4.0), (2, keys * kv_heads, 1.0), (3, keys * kv_heads, 1.0)]
            .map(|(seed, rows, most)| steps(seed, rows * 128, most));
        let tensor = |values: &[f32], heads: usize| {
            let shape = [values.len() / (heads * 128), heads * 128];
            Tensor::from_vec(&naive, &shape, values.to_vec()).expect("as many values as the shape takes")
        };
        let expected = ops::attention(&tensor(&q, heads), &tensor(&k, kv_heads), &tensor(&v, kv_heads), heads, mask);
        let found = cuda.flash(&cuda.upload(&q), &cuda.upload(&k), &cuda.upload(&v), shape, kernel);
        let found = cuda.download(&found);
        cuda.check().expect("nothing went wrong");
        for (at, (found, expected)) in found.iter().zip(expected.to_vec()).enumerate() {
            assert!((found - expected).abs() <= 0.01, "{shape:?} {at}: {found} for {expected}");
        }
    }
}
