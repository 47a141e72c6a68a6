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
    /// device multiplies bytes faster than floats; else `exact`.
    #[default]
    Auto,
    /// No activation is quantized.
    Exact,
    /// Integer dot products in the blocks of transformer and text encoder, whatever the weights are stored as.
    Int8,
}

impl ComputeChoice {
    fn resolved(self, weights: &Weights, device: &Device) -> Compute {
        let bits = || 8 * weights.size_bytes() / weights.parameters().max(1);
        match self {
            ComputeChoice::Exact => Compute::Exact,
            ComputeChoice::Int8 => Compute::Int8,
            ComputeChoice::Auto if device.multiplies_bytes_fast() && bits() < ROUNDED_BITS => Compute::Int8,
            ComputeChoice::Auto => Compute::Exact,
        }
    }
}

impl Pipeline {
    /// Chooses the arithmetic of what is made from now on.
    pub fn set_compute(&mut self, choice: ComputeChoice) {
        self.compute = choice;
        self.forget_transformer();
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
        let compute = match weights.component() {
            Component::Vae => Compute::Exact,
            Component::TextEncoder | Component::Transformer => self.compute.resolved(weights, &self.device),
        };
        self.device.clone().with_compute(compute)
    }
}
