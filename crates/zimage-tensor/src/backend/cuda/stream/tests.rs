//! On the emulated device, where copies beside the work arrive as late as they may.

use super::*;
use crate::conformance::{tensor, weight};
use crate::{Compute, Device, Format, Linear, ops};

fn emulated() -> (Device, Cuda) {
    let device = Device::emulated_cuda(1 << 36).expect("a C++ compiler").with_compute(Compute::Exact);
    let Device::Cuda(cuda) = device.clone() else { panic!("CUDA's device") };
    (device, cuda)
}

/// The same device, where so much may be pinned.
fn with_room(cuda: Cuda, bytes: u64) -> (Device, Cuda) {
    let stream = Arc::new(Stream { state: Mutex::default(), room: Arc::new(Room(AtomicU64::new(bytes))) });
    let cuda = Cuda { stream, ..cuda };
    (Device::Cuda(cuda.clone()), cuda)
}

/// Weights of different sizes, so that slots grow.
fn layers(device: &Device) -> Vec<Linear> {
    let sizes = [(Format::Q4_0, 9), (Format::F32, 20), (Format::BF16, 5), (Format::Q6K, 31), (Format::F32, 3)];
    sizes.map(|(format, rows)| Linear::new(weight(device, format, rows, 256), None)).into()
}

fn run(device: &Device, layers: &[Linear], at: usize) -> Vec<u32> {
    let y = ops::linear(&tensor(device, at as u64, &[3, 256]), &layers[at]).into_vec();
    device.check().expect("no failure");
    y.iter().map(|value| value.to_bits()).collect()
}

/// Uses streamed weights in one order after the other.
fn check(device: &Device, layers: &[Linear]) {
    let resident = |layer: &Linear| Linear::new(layer.weight().clone().resident(), None);
    let placed: Vec<Linear> = layers.iter().map(resident).collect();
    let expected: Vec<Vec<u32>> = (0..layers.len()).map(|at| run(device, &placed, at)).collect();
    for order in [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [1, 1, 3, 1, 4], [1, 1, 3, 1, 4]]
    {
        for at in order {
            assert_eq!(run(device, layers, at), expected[at], "weight {at} in {order:?}");
        }
    }
}

#[test]
fn weights_that_come_for_each_use_compute_what_those_do_that_stay() {
    let (device, cuda) = emulated();
    check(&device, &layers(&device));
    let (device, _) = with_room(cuda.clone(), 0);
    check(&device, &layers(&device));
    // Room for some of them.
    let (device, _) = with_room(cuda, 20_000);
    check(&device, &layers(&device));
}

#[test]
fn what_came_next_the_last_time_is_there_before_it_is_asked_for() {
    let (device, cuda) = emulated();
    let layers = layers(&device);
    let is_there = |at: usize| {
        let state = cuda.stream.state();
        state.slot_of(&Arc::downgrade(layers[at].weight().streamed())).is_some()
    };
    for at in 0..5 {
        run(&device, &layers, at);
        assert!(at == 4 || !is_there(at + 1), "nothing is known of {at}'s successor yet");
    }
    for at in 0..5 {
        run(&device, &layers, at);
        assert!(is_there((at + 1) % 5), "{at}'s successor");
    }
}

#[test]
fn a_weight_that_is_dropped_gives_its_pinned_memory_back() {
    let (_, cuda) = emulated();
    let (device, cuda) = with_room(cuda, 1_000_000);
    let room = || cuda.stream.room.0.load(Ordering::Relaxed);
    let layers = layers(&device);
    (0..5).for_each(|at| drop(run(&device, &layers, at)));
    assert_eq!(room(), 1_000_000 - (9 * 8 * 18 + 31 * 210) - 256 * (4 * (20 + 3) + 2 * 5));
    drop(layers);
    assert_eq!(room(), 1_000_000);
}

#[test]
fn slots_give_their_memory_back_when_they_are_told_to() {
    let (device, cuda) = emulated();
    let layers = layers(&device);
    let before = cuda.free_bytes().expect("bytes");
    (0..5).for_each(|at| drop(run(&device, &layers, at)));
    assert!(cuda.free_bytes().expect("bytes") < before);
    cuda.release_memory();
    assert_eq!(cuda.free_bytes().expect("bytes"), before);
    (0..5).for_each(|at| drop(run(&device, &layers, at)));
}
