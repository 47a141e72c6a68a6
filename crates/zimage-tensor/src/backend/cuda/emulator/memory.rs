//! The device's memory: pieces of main memory, each with a guard before and behind it.

#![allow(unsafe_code)] // Kernels and copies reach memory by its address, as on a device.

use super::super::driver::Address;
use super::failure;
use crate::{Error, Result};
use std::alloc::Layout;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of a guard; a device's memory begins at multiples of it, too.
const GUARD: usize = 256;
/// What a guard is filled with.
const GUARDED: u8 = 0xa5;
/// What fresh memory is filled with: NaN, whatever floats are made of it.
const FRESH: u8 = 0xff;

/// The pieces by their addresses, with their sizes in bytes.
#[derive(Debug)]
pub struct Memory {
    total_bytes: u64,
    pieces: Mutex<BTreeMap<u64, usize>>,
}

/// A piece with its guards.
fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes + 2 * GUARD, GUARD).expect("a size that main memory may have: this is a bug")
}

impl Memory {
    /// Memory of which so much may be allocated.
    pub fn new(total_bytes: u64) -> Memory {
        Memory { total_bytes, pieces: Mutex::default() }
    }

    fn pieces(&self) -> MutexGuard<'_, BTreeMap<u64, usize>> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that are not allocated.
    pub fn free_bytes(&self) -> u64 {
        self.total_bytes - self.pieces().values().map(|bytes| *bytes as u64).sum::<u64>()
    }

    /// A piece of this size.
    pub fn allocate(&self, bytes: usize) -> Result<Address> {
        let free_bytes = self.free_bytes();
        if bytes as u64 > free_bytes {
            return Err(Error::Memory { device: "emulator".into(), asked_bytes: bytes as u64, free_bytes });
        }
        let layout = layout(bytes);
        // SAFETY: the layout is not empty, since it has guards; the writes stay within it.
        let start = unsafe {
            let start = std::alloc::alloc(layout);
            if start.is_null() {
                std::alloc::handle_alloc_error(layout);
            }
            start.write_bytes(GUARDED, layout.size());
            start.add(GUARD).write_bytes(FRESH, bytes);
            start
        };
        let address = start as u64 + GUARD as u64;
        self.pieces().insert(address, bytes);
        Ok(Address(address))
    }

    /// Gives a piece back.
    pub fn free(&self, address: Address) {
        let bytes = self.pieces().remove(&address.0).expect("memory of this device: this is a bug");
        // SAFETY: the piece was allocated with this layout, and nobody finds it from now on.
        unsafe { std::alloc::dealloc((address.0 - GUARD as u64) as *mut u8, layout(bytes)) };
    }

    /// Where so many bytes at an address lie, which must be within one piece.
    pub fn find(&self, address: Address, bytes: usize) -> Result<*mut u8> {
        let pieces = self.pieces();
        let inside = |(start, len): (&u64, &usize)| address.0 + bytes as u64 <= start + *len as u64;
        match pieces.range(..=address.0).next_back().is_some_and(inside) {
            true => Ok(address.0 as *mut u8),
            false => Err(failure(format!("{bytes} bytes at {:#x} are not within allocated memory", address.0))),
        }
    }

    /// Copies to the device.
    pub fn write(&self, to: Address, bytes: &[u8]) -> Result<()> {
        let to = self.find(to, bytes.len())?;
        // SAFETY: the bytes lie within a piece, which is no memory of Rust's.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// Copies from the device.
    pub fn read(&self, from: Address, bytes: &mut [u8]) -> Result<()> {
        let from = self.find(from, bytes.len())?;
        // SAFETY: as in `write`.
        unsafe { from.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    /// Copies within the device.
    pub fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<()> {
        if to.0 < from.0 + bytes as u64 && from.0 < to.0 + bytes as u64 {
            return Err(failure(format!("a copy of {bytes} bytes from {:#x} to {:#x} overlaps", from.0, to.0)));
        }
        let (to, from) = (self.find(to, bytes)?, self.find(from, bytes)?);
        // SAFETY: both lie within pieces, and do not overlap.
        unsafe { to.copy_from_nonoverlapping(from, bytes) };
        Ok(())
    }

    /// Whether somebody wrote beside a piece; such a guard is restored.
    pub fn check_guards(&self) -> std::result::Result<(), String> {
        for (&start, &bytes) in &*self.pieces() {
            for (guard, side) in [(start - GUARD as u64, "before"), (start + bytes as u64, "behind")] {
                // SAFETY: the guards belong to the piece's layout.
                let guard = unsafe { std::slice::from_raw_parts_mut(guard as *mut u8, GUARD) };
                if guard.iter().any(|byte| *byte != GUARDED) {
                    guard.fill(GUARDED);
                    return Err(format!("wrote {side} {bytes} bytes of allocated memory"));
                }
            }
        }
        Ok(())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let left: Vec<u64> = self.pieces().keys().copied().collect();
        left.into_iter().for_each(|address| self.free(Address(address)));
    }
}
