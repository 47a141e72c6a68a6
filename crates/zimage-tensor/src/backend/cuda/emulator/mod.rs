//! A device made of the CPU: kernels are compiled as C++, and their threads take turns.
//!
//! Everything is done at once, but for copies beside the work, which arrive as late as they may. Memory is main memory
//! with guards around each piece; what a test can see of a mistake is an error.

mod gemm;
mod library;
mod memory;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod warpgroup_tests;

use super::driver::{Address, Driver, Gemm, Launch, Moment, Pinned, Properties, Recordable, Recording};
use crate::{Error, Result};
use memory::Memory;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// With this variable set, whoever asks for a GPU gets an emulated one with so many bytes of memory: for tests of whole
/// programs. Only builds for tests have the emulator.
const VARIABLE: &str = "ZIMAGE_CUDA_EMULATOR";

/// The device that [`VARIABLE`] asks for, if it does.
pub fn of_the_environment() -> Option<Result<Box<dyn Driver>>> {
    let value = std::env::var(VARIABLE).ok()?;
    let what = || format!("{VARIABLE} is {value:?}");
    let hint = || "it may be a number of bytes, or unset for a real GPU".into();
    let bytes = value.parse().map_err(|_| Error::Unavailable { what: what(), hint: hint() });
    Some(bytes.and_then(|bytes| open((9, 0), bytes)))
}

/// An emulated device of a generation, with so much memory; real memory is only taken for what is allocated.
///
/// # Errors
/// [`Error::Unavailable`] when there is no C++ compiler.
pub fn open(capability: (u32, u32), memory_bytes: u64) -> Result<Box<dyn Driver>> {
    library::find_compiler()?;
    let properties = Properties {
        ordinal: 0,
        name: "emulator".into(),
        capability,
        memory_bytes,
        multiprocessors: 132,
        shared_bytes: 227 << 10,
    };
    Ok(Box::new(Emulator { properties, memory: Memory::new(memory_bytes), queues: Mutex::default() }))
}

/// Something that went wrong at the device's work.
fn failure(what: String) -> Error {
    Error::Work { device: "emulator".into(), what }
}

/// The device.
#[derive(Debug)]
struct Emulator {
    properties: Properties,
    memory: Memory,
    queues: Mutex<Queues>,
}

/// What is in the queues, what is pinned, and what is recorded.
#[derive(Debug, Default)]
struct Queues {
    numbers: u64,
    moments: HashMap<Moment, At>,
    pinned: HashMap<u64, Arc<Vec<u8>>>,
    recordings: HashMap<Recording, Arc<[Recordable]>>,
}

/// A moment.
#[derive(Debug)]
enum At {
    /// It has come.
    Past(Instant),
    /// It comes once this is copied, which is when somebody asks for it.
    Copied { to: Address, from: Arc<Vec<u8>> },
}

impl Queues {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn past(&mut self) -> Moment {
        let moment = Moment(self.number());
        self.moments.insert(moment, At::Past(Instant::now()));
        moment
    }
}

impl Emulator {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a moment come.
    fn reach(&self, queues: &mut Queues, moment: Moment) -> Result<Instant> {
        let at = queues.moments.get_mut(&moment);
        let at = at.ok_or_else(|| failure(format!("{moment:?} was never marked, or is forgotten")))?;
        if let At::Copied { to, from } = at {
            self.memory.write(*to, from)?;
            *at = At::Past(Instant::now());
        }
        match at {
            At::Past(instant) => Ok(*instant),
            At::Copied { .. } => panic!("a copy that is not done: this is a bug"),
        }
    }
}

impl Driver for Emulator {
    fn properties(&self) -> &Properties {
        &self.properties
    }

    fn free_bytes(&self) -> Result<u64> {
        Ok(self.memory.free_bytes())
    }

    fn allocate(&self, bytes: usize) -> Result<Address> {
        self.memory.allocate(bytes)
    }

    fn free(&self, address: Address) {
        self.memory.free(address);
    }

    fn upload(&self, to: Address, bytes: &[u8]) -> Result<()> {
        self.memory.write(to, bytes)
    }

    fn download(&self, from: Address, bytes: &mut [u8]) -> Result<()> {
        self.memory.read(from, bytes)
    }

    fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<()> {
        self.memory.copy(to, from, bytes)
    }

    fn fill(&self, to: Address, word: u32, count: usize) -> Result<()> {
        self.memory.write(to, &word.to_le_bytes().repeat(count))
    }

    fn launch(&self, launch: &Launch) -> Result<()> {
        let about = |what| failure(format!("{} of {}: {what}", launch.kernel, launch.source));
        library::source(launch.source)?.launch(launch, self.properties.shared_bytes).map_err(about)?;
        self.memory.check_guards().map_err(about)
    }

    fn gemm(&self, gemm: &Gemm) -> Result<()> {
        gemm::gemm(&self.memory, gemm)
    }

    fn pin(&self, bytes: &[u8]) -> Result<Pinned> {
        let mut queues = self.queues();
        let id = queues.number();
        queues.pinned.insert(id, Arc::new(bytes.to_vec()));
        Ok(Pinned { id, bytes: bytes.len() })
    }

    fn unpin(&self, memory: Pinned) {
        let known = self.queues().pinned.remove(&memory.id);
        assert!(known.is_some(), "memory that is not pinned: this is a bug");
    }

    fn upload_ahead(&self, to: Address, from: Pinned, after: Moment) -> Result<Moment> {
        let mut queues = self.queues();
        self.reach(&mut queues, after)?;
        let from = queues.pinned.get(&from.id).ok_or_else(|| failure("memory that is not pinned".into()))?.clone();
        let moment = Moment(queues.number());
        queues.moments.insert(moment, At::Copied { to, from });
        Ok(moment)
    }

    fn mark(&self) -> Result<Moment> {
        Ok(self.queues().past())
    }

    fn follow(&self, moment: Moment) -> Result<()> {
        self.reach(&mut self.queues(), moment).map(|_| ())
    }

    fn wait(&self, moment: Moment) -> Result<()> {
        self.reach(&mut self.queues(), moment).map(|_| ())
    }

    fn elapsed(&self, from: Moment, to: Moment) -> Result<Duration> {
        let mut queues = self.queues();
        let time = self.reach(&mut queues, to)?.saturating_duration_since(self.reach(&mut queues, from)?);
        queues.moments.remove(&from);
        queues.moments.remove(&to);
        Ok(time)
    }

    fn forget(&self, moment: Moment) {
        let mut queues = self.queues();
        // What is copied is copied, whoever asks; it may go to memory that is free by now.
        let _ = self.reach(&mut queues, moment);
        queues.moments.remove(&moment);
    }

    fn record(&self, work: &[Recordable]) -> Result<Recording> {
        let mut queues = self.queues();
        let recording = Recording(queues.number());
        queues.recordings.insert(recording, work.into());
        Ok(recording)
    }

    fn replay(&self, recording: Recording) -> Result<()> {
        let work = self.queues().recordings.get(&recording).cloned();
        let work = work.ok_or_else(|| failure(format!("{recording:?} was never made, or is forgotten")))?;
        work.iter().try_for_each(|work| match work {
            Recordable::Launch(launch) => self.launch(launch),
            Recordable::Gemm(gemm) => self.gemm(gemm),
            Recordable::Copy { to, from, bytes } => self.copy(*to, *from, *bytes),
            Recordable::Fill { to, word, count } => self.fill(*to, *word, *count),
        })
    }

    fn forget_recording(&self, recording: Recording) {
        let known = self.queues().recordings.remove(&recording);
        assert!(known.is_some(), "a recording that was made: this is a bug");
    }
}
