//! Memory of the device.
//!
//! `cuMemAlloc` and `cuMemFree`, not the driver's stream-ordered pool. The pool of this crate keeps what tensors need
//! again, so that after the first step of a loop nothing is allocated; what it gives back is meant to be given back, to
//! other programs too, and the driver's pool would keep it or return it at a moment of its own; memory that is there is
//! there for both queues, without a further order between them; and some virtual GPUs have no such pool. The price is
//! that `free` waits for the queues: outside of loops, where sizes change, as from a level of the VAE to the next.
#![allow(unsafe_code, reason = "calls the driver")]

use super::context::{Context, OUT_OF_MEMORY};
use crate::backend::cuda::driver::Address;
use crate::{Error, Result};
use std::sync::Arc;

/// Bytes that nobody uses now.
pub fn free_bytes(context: &Context) -> Result<u64> {
    let calls = context.enter()?;
    let (mut free, mut total) = (0, 0);
    // SAFETY: writes to numbers of ours.
    context.check(unsafe { (calls.cuMemGetInfo_v2)(&mut free, &mut total) }, "cuMemGetInfo")?;
    Ok(free as u64)
}

/// So many bytes, at a multiple of 256, as the driver promises.
///
/// # Errors
/// [`Error::Memory`] when there are not so many.
pub fn allocate(context: &Context, bytes: usize) -> Result<Address> {
    let calls = context.enter()?;
    let mut address = 0;
    // SAFETY: writes to a number of ours.
    match unsafe { (calls.cuMemAlloc_v2)(&mut address, bytes.max(1)) } {
        OUT_OF_MEMORY => Err(Error::Memory {
            device: context.label().to_owned(),
            asked_bytes: bytes as u64,
            free_bytes: free_bytes(context).unwrap_or_default(),
        }),
        status => context.check(status, &format!("allocating {bytes} bytes")).map(|()| Address(address)),
    }
}

/// Gives memory back. The work that uses it must be done.
pub fn free(context: &Context, address: Address) {
    let calls = context.enter_to_drop();
    // SAFETY: of `allocate`, once. A broken device has freed it itself, and says so in vain.
    unsafe { (calls.cuMemFree_v2)(address.0) };
}

/// Memory that goes back on drop, when the work that uses it is done.
#[derive(Debug)]
pub struct DeviceMemory {
    context: Arc<Context>,
    address: Address,
}

impl DeviceMemory {
    /// So many bytes.
    pub fn new(context: &Arc<Context>, bytes: usize) -> Result<DeviceMemory> {
        Ok(DeviceMemory { context: context.clone(), address: allocate(context, bytes)? })
    }

    /// Where it is.
    pub fn address(&self) -> Address {
        self.address
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        free(&self.context, self.address);
    }
}
