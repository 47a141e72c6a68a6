//! The tensor: a shape, always contiguous and row-major, and storage on one device. Activations are f32.

use crate::buffer::Buffer;
use crate::{Device, Error, Result};

/// A contiguous row-major f32 tensor on a device.
#[derive(Debug)]
pub struct Tensor {
    pub(crate) device: Device,
    pub(crate) shape: Vec<usize>,
    pub(crate) storage: Storage,
}

/// The memory behind a tensor. The two host backends share one kind.
#[derive(Debug)]
pub(crate) enum Storage {
    /// Main memory.
    Host(Buffer),
}

impl Tensor {
    /// A tensor of `shape` on `device` with the given values.
    ///
    /// # Errors
    /// [`Error::Size`] when the number of values does not fit the shape.
    pub fn from_vec(device: &Device, shape: &[usize], data: Vec<f32>) -> Result<Tensor> {
        let expected = shape.iter().product();
        if data.len() != expected {
            return Err(Error::Size { shape: shape.to_vec(), expected, found: data.len() });
        }
        Ok(Tensor { device: device.clone(), shape: shape.to_vec(), storage: Storage::Host(data.into()) })
    }

    /// The shape, slowest dimension first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The device that it lives on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no values at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of rows when seen as a matrix whose columns are the last dimension.
    pub fn rows(&self) -> usize {
        self.shape[..self.shape.len() - 1].iter().product()
    }

    /// Length of the last dimension.
    pub fn cols(&self) -> usize {
        self.shape[self.shape.len() - 1]
    }

    /// The same values on another device.
    pub fn on(&self, device: &Device) -> Tensor {
        Tensor { device: device.clone(), shape: self.shape.clone(), storage: Storage::Host(self.to_vec().into()) }
    }

    /// The values of a tensor on a host backend, where they are.
    pub(crate) fn host_values(&self) -> &[f32] {
        match &self.storage {
            Storage::Host(data) => data,
        }
    }

    /// The values, copied to main memory.
    pub fn to_vec(&self) -> Vec<f32> {
        match &self.storage {
            Storage::Host(data) => data.to_vec(),
        }
    }

    /// The values, moved to main memory.
    pub fn into_vec(self) -> Vec<f32> {
        match self.storage {
            Storage::Host(data) => data.into_vec(),
        }
    }

    /// The same tensor in memory of its own: for what outlives the stage that made it, so that the device can release
    /// all that the stage used.
    pub fn detached(self) -> Tensor {
        let (device, shape) = (self.device.clone(), self.shape.clone());
        Tensor { device, shape, storage: Storage::Host(self.into_vec().into()) }
    }

    /// The same values under another shape of the same size.
    pub fn reshape(mut self, shape: &[usize]) -> Tensor {
        assert_eq!(shape.iter().product::<usize>(), self.len(), "reshape {:?} to {shape:?}", self.shape);
        self.shape = shape.to_vec();
        self
    }
}
