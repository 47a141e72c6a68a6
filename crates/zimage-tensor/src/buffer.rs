//! The values of a tensor in main memory: a vector of its own, or memory of a pool, to which it goes back on drop.

use crate::pool::{Block, Pool};
use std::ops::{Deref, DerefMut};

/// Where values begin in memory of the pool, in bytes: with the widest vector that a kernel loads.
const ALIGNMENT: usize = 64;

/// Values in main memory.
#[derive(Debug)]
pub struct Buffer {
    memory: Memory,
    len: usize,
    home: Option<Pool<Memory>>,
}

/// Memory that may be longer than what is made of it.
#[derive(Debug, Default)]
pub struct Memory {
    values: Vec<f32>,
    /// The first of the values that is used, for the alignment.
    start: usize,
}

impl Buffer {
    /// `len` values that are not specified: an operation that takes them must write them all. Debug builds make them
    /// NaN, so that the tests see it when one does not.
    pub fn take(pool: &Pool<Memory>, len: usize) -> Buffer {
        let mut buffer = Buffer { memory: pool.take(len), len, home: Some(pool.clone()) };
        if cfg!(debug_assertions) {
            buffer.fill(f32::NAN);
        }
        buffer
    }

    /// Forgets the values from the `len`-th on; the memory stays.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        if self.home.is_none() {
            self.memory.values.truncate(self.memory.start + self.len);
        }
    }

    /// The values as a vector of its own.
    pub fn into_vec(mut self) -> Vec<f32> {
        match self.home {
            Some(_) => self.to_vec(),
            None => std::mem::take(&mut self.memory.values),
        }
    }
}

impl From<Vec<f32>> for Buffer {
    fn from(values: Vec<f32>) -> Buffer {
        Buffer { len: values.len(), memory: Memory { values, start: 0 }, home: None }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.memory.values[self.memory.start..][..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory.values[self.memory.start..][..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = self.home.take() {
            pool.give(std::mem::take(&mut self.memory));
        }
    }
}

impl Block for Memory {
    type Source = ();

    fn allocate((): &(), len: usize) -> Memory {
        let values = vec![0.0; len + ALIGNMENT / size_of::<f32>()];
        let start = values.as_ptr().align_offset(ALIGNMENT);
        Memory { values, start }
    }

    fn len(&self) -> usize {
        self.values.len() - ALIGNMENT / size_of::<f32>()
    }
}
