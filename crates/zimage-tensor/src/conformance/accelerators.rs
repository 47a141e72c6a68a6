//! The devices that a machine may have beside its CPU.

use super::tolerances::{BF16, F16, MLX_BF16, MOVE};
use crate::{Compute, Device};
use std::sync::OnceLock;

/// Those that are here, in each of their ways to compute floats.
pub(super) fn accelerators() -> Vec<Device> {
    computing(&[Compute::Exact, Compute::Bf16, Compute::F16])
}

/// Those that are here and multiply 8 bits.
pub(super) fn accelerators_in_8_bits() -> Vec<Device> {
    computing(&[Compute::Int8, Compute::Fp8])
}

fn computing(ways: &[Compute]) -> Vec<Device> {
    static FOUND: OnceLock<Vec<Device>> = OnceLock::new();
    let found = FOUND.get_or_init(|| gpu().into_iter().chain(emulated()).chain(mlx()).collect());
    let on = |device: &Device| {
        let ways = ways.iter().filter(|way| device.supports(**way).is_ok());
        ways.map(|way| device.clone().with_compute(*way)).collect::<Vec<Device>>()
    };
    found.iter().flat_map(on).collect()
}

/// A GPU, if this machine has one.
fn gpu() -> Option<Device> {
    let gpu = Device::cuda(0);
    if let Err(error) = &gpu {
        println!("skipped on a GPU: {error}");
    }
    gpu.ok()
}

/// MLX, if this build has it.
fn mlx() -> Option<Device> {
    let mlx = Device::mlx();
    if let Err(error) = &mlx {
        println!("skipped on MLX: {error}");
    }
    mlx.ok()
}

/// CUDA's kernels on the CPU.
#[cfg(feature = "cuda-emulator")]
fn emulated() -> Option<Device> {
    Some(Device::emulated_cuda(1 << 36).expect("a C++ compiler"))
}

#[cfg(not(feature = "cuda-emulator"))]
fn emulated() -> Option<Device> {
    None
}

/// How far an operation may be from the naive one that may be off by `tolerance` in f32. What only moves stays exact.
pub(super) fn tolerance_on(device: &Device, tolerance: f32) -> f32 {
    match device.compute() {
        _ if tolerance == MOVE => MOVE,
        Compute::Bf16 if matches!(device, Device::Mlx(_)) => MLX_BF16,
        Compute::Bf16 => BF16,
        Compute::F16 => F16,
        Compute::Exact | Compute::Fp8 | Compute::Int8 => tolerance,
    }
}
