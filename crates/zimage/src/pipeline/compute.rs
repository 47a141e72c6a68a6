//! Which arithmetic a model's blocks take.

use super::Pipeline;
use crate::Result;
use zimage_tensor::{Compute, Device};
use zimage_weights::{Component, Weights};

/// Weights with fewer bits on average were rounded already: to round their layers' inputs to 8 bits too changes pictures
/// less than that has (their correlation with exact ones stays above 0.99).
const ROUNDED_BITS: u64 = 12;

/// What the user wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ComputeChoice {
    /// The fastest that keeps the quality of the weights: `int8` for a component whose weights are quantized, where the
    /// device multiplies bytes faster than floats; else what the device computes in by nature, `exact` on the CPU and
    /// `bf16` on a GPU.
    #[default]
    Auto,
    /// This one: `exact` rounds and quantizes no activation; `int8` and `fp8` multiply 8 bits in the blocks of the
    /// transformer, and on the CPU of the text encoder, whatever the weights are stored as.
    Always(Compute),
}

impl ComputeChoice {
    /// What a transformer with weights of so many bits takes on a device.
    pub fn resolved(self, bits: u64, device: &Device) -> Compute {
        match self {
            ComputeChoice::Always(compute) => compute,
            ComputeChoice::Auto if device.multiplies_bytes_fast() && bits < ROUNDED_BITS => Compute::Int8,
            ComputeChoice::Auto => device.natural_compute(),
        }
    }
}

impl Pipeline {
    /// Chooses the arithmetic of what is made from now on.
    ///
    /// # Errors
    /// [`crate::Error::Tensor`] when the device has no such arithmetic; all is as before then.
    pub fn set_compute(&mut self, choice: ComputeChoice) -> Result<()> {
        if let ComputeChoice::Always(compute) = choice {
            self.device.supports(compute)?;
        }
        self.compute = choice;
        self.forget_kept();
        Ok(())
    }

    /// The arithmetic that the blocks of a component take on this device.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] when the component cannot be opened.
    pub fn compute(&self, component: Component) -> Result<Compute> {
        Ok(self.device_for(&self.checkpoint.weights(component)?).compute())
    }

    /// The arithmetic of the transformer, which decides the picture.
    ///
    /// # Errors
    /// As [`Pipeline::compute`].
    pub fn compute_of_transformer(&self) -> Result<Compute> {
        self.compute(Component::Transformer)
    }

    /// The device with the arithmetic for these weights.
    pub(super) fn device_for(&self, weights: &Weights) -> Device {
        let bits = 8 * weights.size_bytes() / weights.parameters().max(1);
        let compute = self.compute.resolved(bits, &self.device);
        let compute = match weights.component() {
            Component::Transformer => compute,
            Component::TextEncoder if !self.device.has_own_memory() => compute,
            Component::TextEncoder | Component::Vae => self.device.unquantized(compute),
        };
        self.device.clone().with_compute(compute)
    }

    /// The device with the arithmetic of the VAE.
    pub(super) fn device_of_vae(&self) -> Result<Device> {
        Ok(self.device_for(&self.checkpoint.weights(Component::Vae)?))
    }
}
