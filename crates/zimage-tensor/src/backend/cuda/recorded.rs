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
//! Memory of a recording counts as that of weights does: in what the device holds, and not in what the pool has.

#[cfg(all(test, feature = "cuda-emulator"))]
mod tests;

use super::Cuda;
use super::driver::Recording;
use super::memory::{Buffer, Memory};
use super::recorder::Recorder;
use crate::Result;
use std::sync::Arc;

/// The device while work is recorded.
#[derive(Debug)]
pub struct Tape {
    device: Cuda,
    /// The same device for what is recorded.
    recording: Cuda,
    recorder: Arc<Recorder>,
}

/// What was recorded, and the memory that it uses for itself.
#[derive(Debug)]
pub struct Recorded {
    device: Cuda,
    recording: Recording,
    _memory: Vec<Memory>,
}

impl Cuda {
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
        Ok(Recorded { recording: outcome?, device, _memory: memory })
    }
}

impl Recorded {
    /// The device that it was recorded on.
    pub fn device(&self) -> &Cuda {
        &self.device
    }

    /// Does all of it once more.
    pub fn replay(&self) {
        self.device.port.attempt(|driver| driver.replay(self.recording));
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.device.port.driver().forget_recording(self.recording);
    }
}
