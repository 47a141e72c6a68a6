//! Copies from main memory to the device.
//!
//! The device reads only memory that the system cannot move ("pinned"). For what lies elsewhere the driver has a small
//! buffer, which one thread fills, slower than the device could read it. Weights are gigabytes, and their loading is
//! this copy; so large ones go through two pinned buffers in turn: while the device reads one, several threads fill the
//! other.
#![allow(unsafe_code, reason = "calls the driver, and writes to memory that it gives")]

use super::context::{Context, Event, Stream, wait_for};
use crate::Result;
use crate::backend::cuda::driver::Address;
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of each of the two buffers: long enough that what starts and ends a copy does not count.
const HALF: usize = 32 << 20;
/// Up to here the driver's own buffer is as good, and takes the copy at once.
const SMALL: usize = 1 << 20;
/// Threads that fill a buffer, at most: one alone is slower than the bus, also because weights are files, whose pages
/// are met for the first time here.
const FILLERS: usize = 8;
/// What is worth a thread.
const SHARE: usize = 4 << 20;

/// Main memory that the device reads.
#[derive(Debug)]
pub struct PinnedMemory {
    context: Arc<Context>,
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: memory has no thread; it is written only through `&mut`.
unsafe impl Send for PinnedMemory {}
// SAFETY: see above.
unsafe impl Sync for PinnedMemory {}

impl PinnedMemory {
    /// So many bytes.
    pub fn new(context: &Arc<Context>, bytes: usize) -> Result<PinnedMemory> {
        let calls = context.enter()?;
        let mut start = ptr::null_mut();
        // SAFETY: writes to a pointer of ours.
        let status = unsafe { (calls.cuMemHostAlloc)(&mut start, bytes.max(1), 0) };
        context.check(status, &format!("pinning {bytes} bytes of main memory"))?;
        match NonNull::new(start.cast::<u8>()) {
            Some(start) => Ok(PinnedMemory { context: context.clone(), start, bytes }),
            None => Err(context.failure(format!("pinning {bytes} bytes of main memory gave none"))),
        }
    }

    /// Copies bytes to its beginning. No copy to the device may still read it.
    ///
    /// # Panics
    /// If it is too small.
    pub fn fill(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.bytes, "pinned memory that is too small: this is a bug");
        // SAFETY: `start` is of `self.bytes` bytes, which the driver gave to us alone, and which are bytes whatever
        // they are.
        let to = unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast(), bytes.len()) };
        copy_in_parallel(to, bytes);
    }

    /// Puts a copy of its first `bytes` bytes into a queue.
    pub fn send(&self, stream: &Stream, to: Address, bytes: usize) -> Result<()> {
        assert!(bytes <= self.bytes, "a copy of more than is pinned: this is a bug");
        send(&self.context, stream, to, self.start.as_ptr(), bytes)
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        let calls = self.context.enter_to_drop();
        // SAFETY: made in `new`; whoever drops this has waited for the copies from it.
        unsafe { (calls.cuMemFreeHost)(self.start.as_ptr().cast()) };
    }
}

/// Two pinned buffers, made at the first large copy.
#[derive(Debug)]
pub struct Staging {
    context: Arc<Context>,
    halves: Mutex<Vec<Half>>,
}

#[derive(Debug)]
struct Half {
    memory: PinnedMemory,
    /// When the device has read it.
    read: Event,
}

impl Half {
    fn new(context: &Arc<Context>) -> Result<Half> {
        Ok(Half { memory: PinnedMemory::new(context, HALF)?, read: Event::new(context)? })
    }
}

impl Staging {
    /// No buffers yet.
    pub fn new(context: &Arc<Context>) -> Staging {
        Staging { context: context.clone(), halves: Mutex::default() }
    }

    /// Puts a copy into a queue; `bytes` may be changed when this returns.
    pub fn upload(&self, stream: &Stream, to: Address, bytes: &[u8]) -> Result<()> {
        if bytes.len() <= SMALL {
            // The driver has taken pageable memory when it returns.
            return send(&self.context, stream, to, bytes.as_ptr(), bytes.len());
        }
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        while halves.len() < 2 {
            let half = Half::new(&self.context)?;
            halves.push(half);
        }
        for (turn, part) in bytes.chunks(HALF).enumerate() {
            let Half { memory, read } = &mut halves[turn % 2];
            // An event of no moment yet counts as passed.
            wait_for(&self.context, read.raw())?;
            memory.fill(part);
            memory.send(stream, to.offset(turn * HALF), part.len())?;
            read.record(stream)?;
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let halves = self.halves.get_mut().unwrap_or_else(PoisonError::into_inner);
        for half in halves {
            // A device that fails reads no longer.
            let _ = wait_for(&self.context, half.read.raw());
        }
    }
}

fn send(context: &Context, stream: &Stream, to: Address, from: *const u8, bytes: usize) -> Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    let calls = context.enter()?;
    // SAFETY: `from` is of at least `bytes` bytes, which stay until the copy is done if they are pinned, and are taken
    // by the call if they are not. `to` is device memory: a wrong one is an error of the driver.
    let status = unsafe { (calls.cuMemcpyHtoDAsync_v2)(to.0, from.cast::<c_void>(), bytes, stream.raw()) };
    context.check(status, &format!("copying {bytes} bytes to the device"))
}

/// Copies by several threads. They are not those of the pool: a worker of it that waits here, holding the buffers,
/// could be given another upload to do meanwhile, which would wait for the buffers for ever.
fn copy_in_parallel(to: &mut [u8], from: &[u8]) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(FILLERS);
    let share = from.len().div_ceil(threads).max(SHARE);
    if from.len() <= share {
        to.copy_from_slice(from);
        return;
    }
    std::thread::scope(|scope| {
        for (to, from) in to.chunks_mut(share).zip(from.chunks(share)) {
            scope.spawn(move || to.copy_from_slice(from));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::{SHARE, copy_in_parallel};

    #[test]
    fn copies_in_parallel_copy_everything() {
        for len in [0, 1, SHARE, 3 * SHARE + 5] {
            let from: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
            let mut to = vec![0; len];
            copy_in_parallel(&mut to, &from);
            assert!(to == from, "{len} bytes");
        }
    }
}
