//! The tensor: a shape, always contiguous and row-major, and storage on one device. Activations are f32.

use crate::backend::{Backend, cuda, mlx};
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
    /// Memory of a CUDA device.
    Cuda(cuda::Buffer),
    /// What MLX has, or will compute.
    Mlx(mlx::Buffer),
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
        let storage = match device {
            Device::Reference(_) | Device::Cpu(_) => Storage::Host(data.into()),
            Device::Cuda(cuda) => Storage::Cuda(cuda.upload(&data)),
            Device::Mlx(mlx) => Storage::Mlx(mlx.upload(&data)),
        };
        Ok(Tensor { device: device.clone(), shape: shape.to_vec(), storage })
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
        // Two ways to compute on one GPU: the values stay there.
        if let (Storage::Cuda(buffer), Device::Cuda(from), Device::Cuda(to)) = (&self.storage, &self.device, device)
            && from.is_same_device(to)
        {
            let storage = Storage::Cuda(to.slice(buffer, 0, buffer.len()));
            return Tensor { device: device.clone(), shape: self.shape.clone(), storage };
        }
        Tensor::from_vec(device, &self.shape, self.to_vec()).expect("as many values as before: this is a bug")
    }

    /// The values of a tensor on a host backend, where they are.
    pub(crate) fn host_values(&self) -> &[f32] {
        self.host_buffer()
    }

    pub(crate) fn host_buffer(&self) -> &Buffer {
        match &self.storage {
            Storage::Host(data) => data,
            Storage::Cuda(_) | Storage::Mlx(_) => panic!("a tensor of another device: this is a bug"),
        }
    }

    /// The values, copied to main memory. Where the device has failed they are zeros; see [`Device::check`].
    pub fn to_vec(&self) -> Vec<f32> {
        match (&self.storage, &self.device) {
            (Storage::Host(data), _) => data.to_vec(),
            (Storage::Cuda(buffer), Device::Cuda(cuda)) => cuda.download(buffer),
            (Storage::Mlx(buffer), Device::Mlx(mlx)) => mlx.download(buffer),
            (Storage::Cuda(_) | Storage::Mlx(_), device) => panic!("device memory on {device:?}: this is a bug"),
        }
    }

    /// The values, moved to main memory, as by [`Tensor::to_vec`].
    pub fn into_vec(self) -> Vec<f32> {
        match self.storage {
            Storage::Host(data) => data.into_vec(),
            Storage::Cuda(_) | Storage::Mlx(_) => self.to_vec(),
        }
    }

    /// The same tensor in memory of its own: for what outlives the stage that made it, so that the device can release
    /// all that the stage used.
    pub fn detached(self) -> Tensor {
        let (device, shape) = (self.device.clone(), self.shape.clone());
        match self.storage {
            Storage::Host(data) => Tensor { device, shape, storage: Storage::Host(data.into_vec().into()) },
            // Free memory of a device is given back block by block.
            storage @ (Storage::Cuda(_) | Storage::Mlx(_)) => Tensor { device, shape, storage },
        }
    }

    /// The same values under another shape of the same size.
    pub fn reshape(mut self, shape: &[usize]) -> Tensor {
        assert_eq!(shape.iter().product::<usize>(), self.len(), "reshape {:?} to {shape:?}", self.shape);
        self.shape = shape.to_vec();
        self
    }
}
