//! What the linear layers of a block read: f32, or bytes where the device multiplies bytes.
//!
//! Quantizing happens where the values are made, row by row while they are in the nearest cache, and once for all layers
//! that read them.

use crate::backend::{cpu, cuda};
use crate::tensor::Storage;
use crate::{Compute, Device, Tensor, ops};

/// Rows for [`ops::project`].
#[derive(Debug)]
pub struct Activations(pub(crate) Rows);

#[derive(Debug)]
pub(crate) enum Rows {
    /// As they are.
    Exact(Tensor),
    /// In 8 bits on the CPU, with a scale for every chunk of a row.
    Quantized {
        /// Where they were made.
        device: Device,
        /// The bytes.
        rows: cpu::QuantizedRows,
    },
    /// In 8 bits on a GPU, with a scale for every row.
    OnCuda {
        /// Where they were made.
        device: Device,
        /// The bytes.
        rows: cuda::QuantizedRows,
    },
}

impl Activations {
    /// A tensor's rows.
    pub fn of(x: Tensor) -> Activations {
        match (&x.device, &x.storage) {
            (Device::Cpu(cpu), _) if cpu.compute() == Compute::Int8 => {
                Activations::quantized(&x.device, cpu.quantize(x.host_values(), x.cols()))
            }
            (Device::Cuda(cuda), Storage::Cuda(buffer)) if cuda.quantizes() => {
                let rows = cuda.quantize(buffer, x.cols());
                Activations(Rows::OnCuda { device: x.device.clone(), rows })
            }
            _ => Activations(Rows::Exact(x)),
        }
    }

    /// [`ops::rms_norm`] of whole rows.
    pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Activations {
        match x.device.int8() {
            None => Activations::of(ops::rms_norm(x, weight, eps)),
            Some(cpu) => {
                assert_eq!(x.cols(), weight.len(), "rms_norm: weight");
                let rows = cpu.quantize_rms_norm(x.host_values(), weight.host_values(), eps);
                Activations::quantized(&x.device, rows)
            }
        }
    }

    /// [`ops::rms_norm_scaled`].
    pub fn rms_norm_scaled(x: &Tensor, weight: &Tensor, scale: &Tensor, eps: f32) -> Activations {
        match x.device.int8() {
            None => Activations::of(ops::rms_norm_scaled(x, weight, scale, eps)),
            Some(cpu) => {
                assert_eq!((x.cols(), x.cols()), (weight.len(), scale.len()), "rms_norm_scaled: weight, scale");
                let (weight, scale) = (weight.host_values(), scale.host_values());
                Activations::quantized(&x.device, cpu.quantize_rms_norm_scaled(x.host_values(), weight, scale, eps))
            }
        }
    }

    /// `silu(gate) * up`.
    pub fn silu_mul(mut gate: Tensor, up: &Tensor) -> Activations {
        match gate.device.int8() {
            None => {
                ops::silu_mul(&mut gate, up);
                Activations::of(gate)
            }
            Some(cpu) => {
                assert_eq!(gate.shape, up.shape, "silu_mul: shapes");
                let rows = cpu.quantize_silu_mul(gate.host_values(), up.host_values(), up.cols());
                Activations::quantized(&up.device, rows)
            }
        }
    }

    fn quantized(device: &Device, rows: cpu::QuantizedRows) -> Activations {
        Activations(Rows::Quantized { device: device.clone(), rows })
    }

    /// Values in a row.
    pub(crate) fn cols(&self) -> usize {
        match &self.0 {
            Rows::Exact(x) => x.cols(),
            Rows::Quantized { rows, .. } => rows.cols(),
            Rows::OnCuda { rows, .. } => rows.cols(),
        }
    }
}
