//! Work that is recorded once, to be done again and again without anybody putting it together: a step of a loop is a
//! thousand launches, each of which the CPU pays for.
//!
//! Recorded work has addresses in it, so the memory that it was recorded with must stay its own:
//!
//! ```text
//! before     the pool's free memory becomes that of a pool for the recording, which gives nothing away: what a step
//!            has left is what the next one takes, so that a recorded step needs no more memory than one that is done
//! meanwhile  work on tensors of that pool is taken down and not done; memory goes from one tensor to the next
//! afterwards what is free of it is kept until the recording is dropped; tensors that are still there stay what the
//!            recording writes to, and whatever else is done with them goes to the device as usual
//! ```
//! Memory of a recording counts as that of weights does: in what the device holds, and not in what the pool has. When
//! free memory is to go back to the device, it goes too, and the recording with it: whoever repeats it is told.

#[cfg(all(test, feature = "cuda-emulator"))]
mod tests;

use super::Cuda;
use super::driver::Recording;
use super::memory::{Buffer, Memory, Port};
use super::recorder::Recorder;
use crate::Result;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The device while work is recorded.
#[derive(Debug)]
pub struct Tape {
    device: Cuda,
    /// The same device for what is recorded.
    recording: Cuda,
    recorder: Arc<Recorder>,
}

/// What was recorded.
#[derive(Debug)]
pub struct Recorded {
    device: Cuda,
    kept: Arc<Kept>,
}

/// A recording with the memory that it uses for itself, until that is needed elsewhere.
#[derive(Debug)]
struct Kept(Mutex<Option<(Recording, Vec<Memory>)>>);

/// The recordings of a device.
#[derive(Debug, Default)]
pub struct Recordings(Mutex<Vec<Weak<Kept>>>);

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Option<(Recording, Vec<Memory>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_up(&self, port: &Port) {
        if let Some((recording, memory)) = self.lock().take() {
            port.driver().forget_recording(recording);
            drop(memory);
        }
    }
}

impl Recordings {
    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Kept>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cuda {
    /// Gives the memory of all recordings back to the device.
    pub(super) fn give_recordings_up(&self) {
        let recordings = std::mem::take(&mut *self.recordings.lock());
        recordings.iter().filter_map(Weak::upgrade).for_each(|kept| kept.give_up(&self.port));
    }

    /// Begins to record.
    pub fn tape(&self) -> Tape {
        let (port, recorder) = self.port.recording();
        let port = Arc::new(port);
        let pool = self.pool.split(port.clone());
        let recording = Cuda { port, pool, ..self.clone() };
        Tape { device: self.clone(), recording, recorder }
    }

    /// Values like those of another buffer, not specified.
    pub fn like(&self, x: &Buffer) -> Buffer {
        self.take(x.element(), x.len())
    }

    /// Copies values to where they are read.
    pub fn copy_values(&self, to: &Buffer, from: &Buffer) {
        assert_eq!(to.len(), from.len(), "values for a recording");
        let mut held = None;
        let from = self.in_element(from, to.element(), &mut held);
        self.copy(to.address(), from.address(), to.len() * to.element().bytes());
    }
}

impl Tape {
    /// The device that takes down what is done with its tensors.
    pub fn recording(&self) -> &Cuda {
        &self.recording
    }

    /// Ends the recording.
    ///
    /// # Errors
    /// What went wrong meanwhile; the device itself has not failed then.
    pub fn finish(self) -> Result<Recorded> {
        let Tape { device, recording, recorder } = self;
        let outcome = recording.check().and_then(|()| device.port.driver().record(&recorder.take_work()));
        recording.port.end_recording();
        let memory = recording.pool.take_free();
        let kept = Arc::new(Kept(Mutex::new(Some((outcome?, memory)))));
        device.recordings.lock().push(Arc::downgrade(&kept));
        Ok(Recorded { device, kept })
    }
}

impl Recorded {
    /// The device that it was recorded on.
    pub fn device(&self) -> &Cuda {
        &self.device
    }

    /// Does all of it once more, unless it had to be given up.
    pub fn replay(&self) -> bool {
        let kept = self.kept.lock();
        let Some((recording, _)) = &*kept else { return false };
        self.device.port.attempt(|driver| driver.replay(*recording));
        true
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.kept.give_up(&self.device.port);
    }
}
