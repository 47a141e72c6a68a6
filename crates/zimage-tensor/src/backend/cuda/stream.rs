//! Weights that are brought over for each use, for devices that do not hold them all.
//!
//! The order of uses is the same at every step, so each weight remembers which one came after it. While one is being
//! used, the next is copied from pinned memory into the other of two slots, on the queue for copies:
//!
//! ```text
//! work     use A . . . . . | use B . . . . . | use C
//! copies     B to slot 1     C to slot 0       D to slot 1
//! ```
//! A slot is overwritten only after the last use of what it held, and used only after the copy has arrived; a weight that
//! was not foreseen is copied when it is asked for. So the order decides how fast it is, and never what comes out.
//!
//! A bf16 weight of 78 MB takes 3 ms at 25 GB/s, and its product with 4096 rows as long at 100 Tflop/s: on a small card
//! copies hide behind the work for a picture of a megapixel, and those of quantized weights for smaller ones too.

#[cfg(all(test, feature = "cuda-emulator"))]
mod tests;

use super::Cuda;
use super::driver::{Moment, Pinned};
use super::linear::{StoredAt, plane_offsets};
use super::memory::{Memory, Port};
use super::recorder::refusal;
use crate::Weight;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use zimage_kernels::blocks::Matrix;

/// Bytes of pinned memory where the system does not tell how much memory there is.
const ROOM_UNTOLD: u64 = 4 << 30;

/// What is known of a weight that is streamed.
#[derive(Debug, Default)]
pub struct Streamed {
    /// Its bytes in pinned memory; none where there was no room for them when it was first used.
    pinned: OnceLock<Option<PinnedPlanes>>,
    /// What was used after it the last time.
    next: Mutex<Weak<Streamed>>,
}

impl Streamed {
    fn next(&self) -> MutexGuard<'_, Weak<Streamed>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pinned(&self) -> Option<&PinnedPlanes> {
        self.pinned.get().and_then(Option::as_ref)
    }
}

/// The planes of a weight in pinned memory, each with its place in a slot.
#[derive(Debug)]
struct PinnedPlanes {
    planes: Vec<(usize, Pinned)>,
    /// Bytes of a slot that they take.
    bytes: usize,
    port: Arc<Port>,
    room: Arc<Room>,
}

impl Drop for PinnedPlanes {
    fn drop(&mut self) {
        for (_, memory) in &self.planes {
            self.port.driver().unpin(*memory);
            self.room.give(memory.bytes as u64);
        }
    }
}

/// How much memory may be pinned: the system cannot use it for anything else.
#[derive(Debug)]
struct Room(AtomicU64);

impl Room {
    /// Half of what the system could give to programs now.
    fn of_this_machine() -> Room {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        Room(AtomicU64::new(kib.map_or(ROOM_UNTOLD, |kib| kib * 1024 / 2)))
    }

    fn take(&self, bytes: u64) -> bool {
        let less = |room: u64| room.checked_sub(bytes);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    fn give(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The slots of a device.
#[derive(Debug)]
pub struct Stream {
    state: Mutex<State>,
    room: Arc<Room>,
}

impl Default for Stream {
    fn default() -> Stream {
        Stream { state: Mutex::default(), room: Arc::new(Room::of_this_machine()) }
    }
}

#[derive(Debug, Default)]
struct State {
    slots: [Slot; 2],
    /// The slot of the last use.
    last: usize,
    /// What was used last.
    before: Weak<Streamed>,
}

impl State {
    fn slot_of(&self, weight: &Weak<Streamed>) -> Option<usize> {
        self.slots.iter().position(|slot| slot.memory.is_some() && slot.holds.ptr_eq(weight))
    }

    fn release(&mut self, port: &Port) {
        self.slots.iter_mut().for_each(|slot| slot.release(port));
    }
}

/// Device memory for one weight at a time.
#[derive(Debug, Default)]
struct Slot {
    memory: Option<Memory>,
    bytes: usize,
    holds: Weak<Streamed>,
    /// When the copy into it will be done, until somebody was told to wait for it.
    arrival: Option<Moment>,
    /// When its last use will be done.
    used: Option<Moment>,
}

impl Slot {
    /// Lets work from now on begin only when the copy has arrived.
    fn settle(&mut self, port: &Port) {
        if let Some(arrival) = self.arrival.take() {
            port.attempt(|driver| driver.follow(arrival));
            port.driver().forget(arrival);
        }
    }

    /// Takes note of a use that was put into the queue.
    fn mark(&mut self, port: &Port) {
        let used = port.attempt(|driver| driver.mark());
        if let Some(before) = std::mem::replace(&mut self.used, used) {
            port.driver().forget(before);
        }
    }

    /// Makes room for a weight: afterwards `used` is a moment from which on it may be written.
    fn prepare(&mut self, cuda: &Cuda, weight: Weak<Streamed>, bytes: usize) {
        self.settle(&cuda.port);
        if self.memory.is_none() || self.bytes < bytes {
            // The old memory goes back before the new one comes.
            self.memory = None;
            self.memory = Some(cuda.memory_to_stay(bytes));
            self.bytes = bytes;
            self.mark(&cuda.port);
        }
        self.holds = weight;
    }

    /// Copies into the slot, beside the work, after the last use of what it held.
    fn copy_ahead(&mut self, cuda: &Cuda, weight: Weak<Streamed>, pinned: &PinnedPlanes) {
        self.prepare(cuda, weight, pinned.bytes);
        let Some((memory, after)) = self.memory.as_ref().zip(self.used) else { return };
        for (offset, plane) in &pinned.planes {
            let to = memory.address().offset(*offset);
            let arrival = cuda.port.attempt(|driver| driver.upload_ahead(to, *plane, after));
            // Copies follow each other: the last one tells of all.
            if let Some(before) = std::mem::replace(&mut self.arrival, arrival) {
                cuda.port.driver().forget(before);
            }
        }
    }

    /// Copies into the slot in the order of the work.
    fn copy_now(&mut self, cuda: &Cuda, weight: Weak<Streamed>, bytes: usize, matrix: &Matrix) {
        self.prepare(cuda, weight, bytes);
        if let Some(memory) = &self.memory {
            cuda.upload_planes(memory.address(), matrix);
        }
    }

    fn release(&mut self, port: &Port) {
        self.settle(port);
        if let Some(used) = self.used.take() {
            port.driver().forget(used);
        }
        *self = Slot::default();
    }
}

impl Stream {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the memory of the slots back.
    pub fn release(&self, port: &Port) {
        self.state().release(port);
    }
}

impl Cuda {
    /// Gives `work` a weight that is in device memory for this use.
    pub(super) fn with_streamed<T>(&self, weight: &Weight, work: impl FnOnce(&StoredAt) -> T) -> T {
        let (matrix, token) = (weight.matrix(), weight.streamed());
        let (form, bytes) = StoredAt::file(&matrix);
        if self.port.is_recording() {
            let what = "a weight that is brought over for each use";
            self.port.attempt(|driver| Err::<(), _>(refusal(driver, what)));
            return work(&form);
        }
        let known = Arc::downgrade(token);
        // Held until the use is in the queue: only then may somebody else overwrite the slot.
        let mut state = self.stream.state();
        let found = state.slot_of(&known);
        let index = found.unwrap_or(1 - state.last);
        let slot = &mut state.slots[index];
        if found.is_none() {
            match token.pinned.get_or_init(|| self.pin(&matrix)) {
                Some(pinned) => slot.copy_ahead(self, known.clone(), pinned),
                None => slot.copy_now(self, known.clone(), bytes, &matrix),
            }
        }
        slot.settle(&self.port);
        let base = slot.memory.as_ref().map(Memory::address).unwrap_or_default();
        let result = work(&form.located(base));
        slot.mark(&self.port);
        state.last = index;
        if let Some(before) = std::mem::replace(&mut state.before, known.clone()).upgrade() {
            *before.next() = known;
        }
        match self.port.failure() {
            None => self.foresee(&mut state, token),
            // Something may not have been copied, or have no memory.
            Some(_) => state.release(&self.port),
        }
        result
    }

    /// Copies what came after this weight the last time, if it is not there.
    fn foresee(&self, state: &mut State, weight: &Streamed) {
        let next = weight.next().clone();
        let Some(token) = next.upgrade() else { return };
        if state.slot_of(&next).is_none()
            && let Some(pinned) = token.pinned()
        {
            state.slots[1 - state.last].copy_ahead(self, next, pinned);
        }
    }

    /// The bytes of a matrix in pinned memory, if there is room; without it, they are copied from where they lie.
    fn pin(&self, matrix: &Matrix) -> Option<PinnedPlanes> {
        let (planes, _) = matrix.bytes();
        let planes = [planes.values, planes.scales, planes.biases];
        let (offsets, bytes) = plane_offsets(planes.map(<[u8]>::len));
        let (port, room) = (self.port.clone(), self.stream.room.clone());
        let mut pinned = PinnedPlanes { planes: Vec::new(), bytes, port, room };
        for (plane, offset) in planes.into_iter().zip(offsets).filter(|(plane, _)| !plane.is_empty()) {
            if self.port.failure().is_some() || !pinned.room.take(plane.len() as u64) {
                return None;
            }
            // What the system refuses is no failure of the device.
            match self.port.driver().pin(plane) {
                Ok(memory) => pinned.planes.push((offset, memory)),
                Err(_) => {
                    pinned.room.give(plane.len() as u64);
                    return None;
                }
            }
        }
        Some(pinned)
    }
}
