//! The memory of one device, used again and again.
//!
//! A fresh vector of 60 MB costs a page fault and a cleared page for each 4 KB of it, which was a fifth of all CPU time
//! when every operation made one. So buffers come back when they are dropped ([`crate::buffer`]), and the next one of
//! about that size is made of the same memory.
//!
//! What happens when nothing fits decides how much is held:
//!
//! ```text
//! a request fits memory of its own size up to twice that; the smallest is taken
//! nothing fits, in a loop       take one free memory of at least half the size away, then allocate
//! nothing fits, outside of one  take free memory away, longest unused first, until what is held will not be more
//!                               than what was in use at the worst moment; then allocate
//! ```
//!
//! Outside of a loop sizes come and go, as on the levels of the VAE, and what an earlier level has left must not lie
//! beside what a later one needs: held is never more than the peak of what is in use. In a loop that would throw away
//! in each block what the next one needs, since the wide layers and the narrow ones of a transformer are never in use
//! together. There memory is only ever replaced by larger memory, so the numbers of buffers of at least any given size
//! never fall, and allocations end: after the first step, for the same sizes at each. What a loop holds is at most what
//! its narrow layers need at once and what its wide layers need at once, side by side.
//!
//! Work that is recorded to be done again has the addresses of its memory in it. So it is given a pool of its own, to
//! which all free memory goes ([`Pool::split`]): after a step, that is what the next one takes. Of such a pool no memory
//! is ever given away.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard};

/// Memory at most this many times as large as what is asked for is taken.
const LARGEST_FIT: usize = 2;

/// How much memory a device uses for tensors that its operations made. Weights, and tensors made of given values, are
/// not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// In use now.
    pub live_bytes: usize,
    /// In use or kept for later now.
    pub held_bytes: usize,
    /// The most that was ever held.
    pub peak_held_bytes: usize,
    /// How often memory was asked of the operating system.
    pub allocations: usize,
}

/// What the pool deals in: the policy needs to know no more, and its tests need no memory.
pub trait Block {
    /// Where blocks come from.
    type Source: Debug;
    /// One of `len` values.
    fn allocate(source: &Self::Source, len: usize) -> Self;
    /// Number of values.
    fn len(&self) -> usize;
    /// Whether there is memory behind it: a device that has none left tells so later.
    fn is_there(&self) -> bool {
        true
    }
}

/// Memory that clones share.
#[derive(Debug)]
pub struct Pool<B: Block>(Arc<Mutex<Shelf<B>>>);

impl<B: Block> Clone for Pool<B> {
    fn clone(&self) -> Pool<B> {
        Pool(self.0.clone())
    }
}

/// Makes the pool keep what is given back, for as long as this lives; see [`crate::Device::keep_memory`].
#[derive(Debug)]
pub struct Keep<B: Block>(Pool<B>);

/// Makes the pool do as outside of loops, for as long as this lives; see [`crate::Device::between_loops`].
#[derive(Debug)]
pub struct Between<B: Block>(Pool<B>);

/// The free memory, and the counts.
#[derive(Debug)]
struct Shelf<B: Block> {
    source: B::Source,
    /// The longest unused first.
    free: VecDeque<B>,
    /// Numbers of values.
    live: usize,
    held: usize,
    /// The most that was in use since all free memory was last given away.
    peak_live: usize,
    peak_held: usize,
    allocations: usize,
    /// How many loops are running.
    loops: usize,
    /// How many stages run between the steps of loops.
    between: usize,
    /// Whether addresses are taken down, so that no memory may be given away.
    is_fixed: bool,
}

impl<B: Block> Pool<B> {
    /// A pool that holds nothing.
    pub fn new(source: B::Source) -> Pool<B> {
        Pool::with_free(source, VecDeque::new(), false)
    }

    fn with_free(source: B::Source, free: VecDeque<B>, is_fixed: bool) -> Pool<B> {
        let held = free.iter().map(B::len).sum();
        let shelf = Shelf {
            source,
            free,
            live: 0,
            held,
            peak_live: 0,
            peak_held: held,
            allocations: 0,
            loops: 0,
            between: 0,
            is_fixed,
        };
        Pool(Arc::new(Mutex::new(shelf)))
    }

    /// A pool with all free memory of this one, which gives nothing away until [`Pool::take_free`].
    pub fn split(&self, source: B::Source) -> Pool<B> {
        Pool::with_free(source, self.shelf().drain(), true)
    }

    /// All free memory, which is the pool's no longer. From now on it does as others do.
    pub fn take_free(&self) -> Vec<B> {
        let mut shelf = self.shelf();
        shelf.is_fixed = false;
        shelf.drain().into()
    }

    /// Memory for `len` values or more; what it contains is not specified.
    pub fn take(&self, len: usize) -> B {
        self.shelf().take(len)
    }

    /// Takes memory back that came from [`Pool::take`].
    pub fn give(&self, block: B) {
        let mut shelf = self.shelf();
        shelf.live -= block.len();
        match block.is_there() {
            true => shelf.free.push_back(block),
            false => shelf.held -= block.len(),
        }
    }

    /// Keeps what is given back until the result is dropped.
    pub fn keep(&self) -> Keep<B> {
        self.shelf().loops += 1;
        Keep(self.clone())
    }

    /// Does as outside of loops until the result is dropped, even if some are running: their free memory is given away.
    pub fn between_loops(&self) -> Between<B> {
        let mut shelf = self.shelf();
        shelf.between += 1;
        shelf.release();
        Between(self.clone())
    }

    /// Gives all free memory back to the operating system.
    pub fn release(&self) {
        self.shelf().release();
    }

    /// What is held now, and was.
    pub fn memory_use(&self) -> MemoryUse {
        let shelf = self.shelf();
        MemoryUse {
            live_bytes: shelf.live * size_of::<f32>(),
            held_bytes: shelf.held * size_of::<f32>(),
            peak_held_bytes: shelf.peak_held * size_of::<f32>(),
            allocations: shelf.allocations,
        }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf<B>> {
        // The counts are right whenever the lock is free, whoever panicked.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl<B: Block> Drop for Keep<B> {
    fn drop(&mut self) {
        self.0.shelf().loops -= 1;
    }
}

impl<B: Block> Drop for Between<B> {
    fn drop(&mut self) {
        let mut shelf = self.0.shelf();
        shelf.between -= 1;
        shelf.release();
    }
}

impl<B: Block> Shelf<B> {
    fn take(&mut self, len: usize) -> B {
        let fits = |block: &B| (len..=len.saturating_mul(LARGEST_FIT)).contains(&block.len());
        // Of equal ones the last is taken, which was used last and may still be in a cache.
        let best = (0..self.free.len()).rev().filter(|&i| fits(&self.free[i])).min_by_key(|&i| self.free[i].len());
        let block = best.and_then(|i| self.free.remove(i)).unwrap_or_else(|| self.allocate(len));
        self.live += block.len();
        self.peak_live = self.peak_live.max(self.live);
        block
    }

    fn allocate(&mut self, len: usize) -> B {
        if self.is_fixed {
            // Whatever is free may stand in what was taken down.
        } else if self.loops > 0 && self.between == 0 {
            self.take_away(|block| block.len() < len && len <= block.len().saturating_mul(LARGEST_FIT));
        } else {
            let bound = self.peak_live.max(self.live + len);
            while self.held + len > bound && self.take_away(|_| true) {}
        }
        let block = B::allocate(&self.source, len);
        self.held += block.len();
        self.peak_held = self.peak_held.max(self.held);
        self.allocations += 1;
        block
    }

    /// Gives the longest unused free memory of this kind back to the operating system, if there is any.
    fn take_away(&mut self, of_kind: impl Fn(&B) -> bool) -> bool {
        let found = self.free.iter().position(of_kind).and_then(|i| self.free.remove(i));
        self.held -= found.as_ref().map_or(0, B::len);
        found.is_some()
    }

    fn release(&mut self) {
        if !self.is_fixed {
            self.drain();
        }
    }

    /// Takes all free memory out.
    fn drain(&mut self) -> VecDeque<B> {
        self.held -= self.free.iter().map(B::len).sum::<usize>();
        self.peak_live = self.live;
        std::mem::take(&mut self.free)
    }
}
