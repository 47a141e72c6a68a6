//! A device whose work is taken down in place of being done.

use super::driver::{Address, Driver, Gemm, Launch, Moment, Pinned, Properties, Recordable, Recording};
use crate::{Error, Result};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Takes down what another device is to do later, in its order. Memory is that device's own; what would read main memory
/// or wait is refused, since it would be done now, between work that is not.
#[derive(Debug)]
pub struct Recorder {
    device: Arc<dyn Driver>,
    work: Mutex<Vec<Recordable>>,
}

impl Recorder {
    /// Nothing is taken down yet.
    pub fn new(device: Arc<dyn Driver>) -> Recorder {
        Recorder { device, work: Mutex::default() }
    }

    /// What was taken down.
    pub fn take_work(&self) -> Vec<Recordable> {
        std::mem::take(&mut self.work.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, work: Recordable) -> Result<()> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).push(work);
        Ok(())
    }

    fn refuse<T>(&self, what: &str) -> Result<T> {
        Err(refusal(self, what))
    }
}

/// That something cannot be recorded.
pub fn refusal(driver: &dyn Driver, what: &str) -> Error {
    let device = format!("cuda:{}", driver.properties().ordinal);
    Error::Work { device, what: format!("{what} cannot be recorded") }
}

impl Driver for Recorder {
    fn properties(&self) -> &Properties {
        self.device.properties()
    }

    fn free_bytes(&self) -> Result<u64> {
        self.device.free_bytes()
    }

    fn allocate(&self, bytes: usize) -> Result<Address> {
        self.device.allocate(bytes)
    }

    fn free(&self, address: Address) {
        self.device.free(address);
    }

    fn upload(&self, _: Address, bytes: &[u8]) -> Result<()> {
        self.refuse(&format!("a copy of {} bytes from main memory", bytes.len()))
    }

    fn download(&self, _: Address, bytes: &mut [u8]) -> Result<()> {
        self.refuse(&format!("a copy of {} bytes to main memory", bytes.len()))
    }

    fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<()> {
        self.note(Recordable::Copy { to, from, bytes })
    }

    fn fill(&self, to: Address, word: u32, count: usize) -> Result<()> {
        self.note(Recordable::Fill { to, word, count })
    }

    fn launch(&self, launch: &Launch) -> Result<()> {
        self.note(Recordable::Launch(launch.clone()))
    }

    fn gemm(&self, gemm: &Gemm) -> Result<()> {
        self.note(Recordable::Gemm(*gemm))
    }

    fn pin(&self, _: &[u8]) -> Result<Pinned> {
        self.refuse("pinning memory")
    }

    fn unpin(&self, memory: Pinned) {
        self.device.unpin(memory);
    }

    fn upload_ahead(&self, _: Address, _: Pinned, _: Moment) -> Result<Moment> {
        self.refuse("a copy beside the work")
    }

    fn mark(&self) -> Result<Moment> {
        self.refuse("a moment")
    }

    fn follow(&self, _: Moment) -> Result<()> {
        self.refuse("an order of queues")
    }

    fn wait(&self, _: Moment) -> Result<()> {
        self.refuse("waiting")
    }

    fn elapsed(&self, _: Moment, _: Moment) -> Result<Duration> {
        self.refuse("asking for a time")
    }

    fn forget(&self, moment: Moment) {
        self.device.forget(moment);
    }

    fn record(&self, _: &[Recordable]) -> Result<Recording> {
        self.refuse("recording")
    }

    fn replay(&self, _: Recording) -> Result<()> {
        self.refuse("a recording")
    }

    fn forget_recording(&self, recording: Recording) {
        self.device.forget_recording(recording);
    }
}
