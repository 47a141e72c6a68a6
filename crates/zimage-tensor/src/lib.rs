//! Tensors, and the closed list of operations that Z-Image is made of, on every backend.
//!
//! Model code sees [`Tensor`], [`Weight`], [`Linear`] and the functions of [`ops`]; it cannot see a device, and so it
//! cannot branch on one. A backend is one implementation of the list; `conformance` checks each of them against the
//! naive one.

mod activations;
mod backend;
mod buffer;
#[cfg(test)]
mod conformance;
pub mod delta;
mod device;
mod error;
mod linear;
pub mod meter;
pub mod ops;
mod pool;
mod recorded;
mod tensor;
mod threads;

pub use activations::Activations;
pub use device::{BetweenLoops, Compute, Device, KeepMemory};
pub use error::{Error, Result};
pub use linear::{Linear, PlacedBytes, Stored, Weight};
pub use ops::Mask;
pub use pool::MemoryUse;
pub use recorded::Recorded;
pub use tensor::Tensor;
pub use zimage_kernels::blocks::{Format, Layout};
