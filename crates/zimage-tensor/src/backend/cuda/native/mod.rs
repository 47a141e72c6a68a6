//! The device itself, by CUDA's own libraries, which are looked for at run time: one program serves machines with a GPU
//! and machines without.
//!
//! ```text
//! libraries.rs     finds the libraries          symbols.rs      what is called of them, and their types
//! context.rs       the device, its queues and events, what goes wrong
//! device.rs        what the backend asks for, one call each
//! memory.rs        device memory                staging.rs      copies to it, by way of pinned memory
//! modules.rs       kernels in the device        compile.rs      made of their text by NVRTC
//! gemm.rs          products by cuBLASLt         product.rs      how ours are its own      descriptors.rs   its objects
//! fastest.rs       the algorithms that won      narrow.rs       a bias in 16 bits
//! moments.rs       moments of the queues        cache.rs        a folder of what is slow to find out
//! graph.rs         recorded work
//! ```

mod cache;
mod compile;
mod context;
mod descriptors;
mod device;
#[cfg(test)]
mod device_tests;
mod fastest;
mod gemm;
mod graph;
mod libraries;
mod memory;
mod modules;
mod moments;
mod narrow;
mod product;
mod staging;
mod symbols;
#[cfg(test)]
mod tests;
mod texts;

use super::driver::{Driver, Properties};
use crate::Result;
use context::Installed;
use device::Native;

/// The device with this number.
///
/// # Errors
/// [`crate::Error::Unavailable`] when a library is missing, or there is no such device.
pub fn open(ordinal: usize) -> Result<Box<dyn Driver>> {
    Ok(Box::new(Native::open(ordinal)?))
}

/// The devices of this machine, which may be none.
///
/// # Errors
/// [`crate::Error::Unavailable`] when there is no driver.
pub fn devices() -> Result<Vec<Properties>> {
    let installed = Installed::new()?;
    (0..installed.devices).map(|ordinal| Ok(installed.properties(ordinal)?.1)).collect()
}
