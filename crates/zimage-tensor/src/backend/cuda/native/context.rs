//! The device's context, its queues, and what goes wrong in them.
#![allow(unsafe_code, reason = "calls the driver")]

use super::symbols::{Libcuda, Status};
use super::{libraries, texts};
use crate::backend::cuda::driver::Properties;
use crate::{Error, Result};
use cudarc::driver::sys::{CUcontext, CUdevice, CUdevice_attribute, CUevent, CUevent_flags, CUstream, CUstream_flags};
use std::ffi::{c_char, c_int};
use std::ptr;
use std::sync::Arc;

/// `CUDA_ERROR_OUT_OF_MEMORY`.
pub const OUT_OF_MEMORY: Status = 2;
/// `CUDA_ERROR_NO_DEVICE`.
const NO_DEVICE: Status = 100;
/// The oldest driver, as it tells its version: CUDA 12.0.
const OLDEST_DRIVER: c_int = 12_000;

/// The driver, ready for calls.
#[derive(Clone, Copy, Debug)]
pub struct Installed {
    pub calls: &'static Libcuda,
    /// 12040 for CUDA 12.4.
    pub version: c_int,
    pub devices: usize,
}

impl Installed {
    /// Loads the driver and asks what it drives.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when there is none, or none that works.
    pub fn new() -> Result<Installed> {
        let calls = libraries::libcuda()?;
        let (mut version, mut devices) = (0, 0);
        // SAFETY: the first calls to the driver, which write to two numbers of ours.
        let statuses = unsafe { [(calls.cuInit)(0), (calls.cuDriverGetVersion)(&mut version)] };
        let update = "update NVIDIA's driver, or compute on the CPU with --device cpu".to_owned();
        for status in statuses {
            if status == NO_DEVICE {
                return Ok(Installed { calls, version, devices: 0 });
            }
            if status != 0 {
                let what = format!("NVIDIA's driver does not work: {}", error_text(calls, status));
                return Err(Error::Unavailable { what, hint: update });
            }
        }
        if version < OLDEST_DRIVER {
            let what = format!("NVIDIA's driver is of CUDA {}.{}; 12.0 is needed", version / 1000, version % 1000 / 10);
            return Err(Error::Unavailable { what, hint: update });
        }
        // SAFETY: writes to a number of ours.
        let status = unsafe { (calls.cuDeviceGetCount)(&mut devices) };
        let devices = if status == 0 { devices.max(0) as usize } else { 0 };
        Ok(Installed { calls, version, devices })
    }

    /// CUDA's first number: 12 for 12.4.
    pub fn major(&self) -> u32 {
        self.version.max(0) as u32 / 1000
    }

    /// What the device with this number is.
    pub fn properties(&self, ordinal: usize) -> Result<(CUdevice, Properties)> {
        let mut device = 0;
        let mut bytes = 0;
        let mut name = [0 as c_char; 256];
        // SAFETY: all write to variables of ours, of which the name is told its size.
        unsafe {
            self.check(ordinal, (self.calls.cuDeviceGet)(&mut device, ordinal as c_int))?;
            self.check(ordinal, (self.calls.cuDeviceGetName)(name.as_mut_ptr(), name.len() as c_int, device))?;
            self.check(ordinal, (self.calls.cuDeviceTotalMem_v2)(&mut bytes, device))?;
        }
        let ask = |attribute| {
            let mut value = 0;
            // SAFETY: writes to a number of ours.
            self.check(ordinal, unsafe { (self.calls.cuDeviceGetAttribute)(&mut value, attribute, device) })?;
            Ok::<u32, Error>(value.max(0) as u32)
        };
        use CUdevice_attribute::*;
        let properties = Properties {
            ordinal,
            name: texts::of_chars(&name),
            capability: (
                ask(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                ask(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            ),
            memory_bytes: bytes as u64,
            multiprocessors: ask(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            shared_bytes: ask(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        };
        Ok((device, properties))
    }

    fn check(&self, ordinal: usize, status: Status) -> Result<()> {
        match status {
            0 => Ok(()),
            _ => Err(Error::Work { device: format!("cuda:{ordinal}"), what: error_text(self.calls, status) }),
        }
    }
}

/// The primary context of a device: the one that CUDA's other libraries use as well.
#[derive(Debug)]
pub struct Context {
    calls: &'static Libcuda,
    device: CUdevice,
    context: CUcontext,
    /// `cuda:0`.
    label: String,
}

// SAFETY: the driver may be called from any thread; the handle is a number to us.
unsafe impl Send for Context {}
// SAFETY: see above.
unsafe impl Sync for Context {}

impl Context {
    /// Makes a device ready.
    pub fn new(installed: &Installed, device: CUdevice, ordinal: usize) -> Result<Arc<Context>> {
        let mut context = ptr::null_mut();
        // SAFETY: writes to a handle of ours.
        installed.check(ordinal, unsafe { (installed.calls.cuDevicePrimaryCtxRetain)(&mut context, device) })?;
        Ok(Arc::new(Context { calls: installed.calls, device, context, label: format!("cuda:{ordinal}") }))
    }

    /// The driver's functions, for this thread: work may come from any thread, and each has a context of its own.
    pub fn enter(&self) -> Result<&'static Libcuda> {
        // SAFETY: the context lives as long as this.
        self.check(unsafe { (self.calls.cuCtxSetCurrent)(self.context) }, "cuCtxSetCurrent")?;
        Ok(self.calls)
    }

    /// The same on drop, where errors have no way out and a broken context is no reason to stop.
    pub fn enter_to_drop(&self) -> &'static Libcuda {
        // SAFETY: as above; a failure makes the calls that follow fail, which nobody reads.
        unsafe { (self.calls.cuCtxSetCurrent)(self.context) };
        self.calls
    }

    /// An error when a call failed; `what` names it.
    pub fn check(&self, status: Status, what: &str) -> Result<()> {
        if status == 0 {
            return Ok(());
        }
        let text = error_text(self.calls, status);
        // What a kernel fails with (a wrong address, a trap, ...) is told at some later call.
        let late = match status {
            700 | 702 | 710..=719 => "; it may be of work before that: CUDA_LAUNCH_BLOCKING=1 tells of which",
            _ => "",
        };
        Err(self.failure(format!("{what}: {text}{late}")))
    }

    /// That something went wrong here.
    pub fn failure(&self, what: String) -> Error {
        Error::Work { device: self.label.clone(), what }
    }

    /// `cuda:0`.
    pub fn label(&self) -> &str {
        &self.label
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once, in `new`; all that was made in it holds an `Arc` of this and is gone.
        unsafe { (self.calls.cuDevicePrimaryCtxRelease_v2)(self.device) };
    }
}

/// `CUDA_ERROR_INVALID_VALUE: invalid argument`.
fn error_text(calls: &Libcuda, status: Status) -> String {
    let (mut name, mut text) = (ptr::null(), ptr::null());
    // SAFETY: give static strings, or null for a status that the driver does not know.
    unsafe {
        (calls.cuGetErrorName)(status, &mut name);
        (calls.cuGetErrorString)(status, &mut text);
        texts::of_error(status, name, text)
    }
}

/// A queue of work.
#[derive(Debug)]
pub struct Stream {
    context: Arc<Context>,
    raw: CUstream,
}

// SAFETY: a queue takes work from any thread.
unsafe impl Send for Stream {}
// SAFETY: see above.
unsafe impl Sync for Stream {}

impl Stream {
    /// A queue that waits for no other.
    pub fn new(context: &Arc<Context>) -> Result<Stream> {
        let mut raw = ptr::null_mut();
        let calls = context.enter()?;
        // SAFETY: writes to a handle of ours.
        let status = unsafe { (calls.cuStreamCreate)(&mut raw, CUstream_flags::CU_STREAM_NON_BLOCKING as u32) };
        context.check(status, "cuStreamCreate")?;
        Ok(Stream { context: context.clone(), raw })
    }

    /// The handle, which lives as long as this.
    pub fn raw(&self) -> CUstream {
        self.raw
    }

    /// Waits until all its work is done.
    pub fn wait(&self) -> Result<()> {
        let calls = self.context.enter()?;
        // SAFETY: the handle is ours.
        self.context.check(unsafe { (calls.cuStreamSynchronize)(self.raw) }, "waiting for the device")
    }

    /// Lets what is put into the queue from now on begin after the event.
    pub fn follow(&self, event: CUevent) -> Result<()> {
        let calls = self.context.enter()?;
        // SAFETY: both handles are of this context.
        self.context.check(unsafe { (calls.cuStreamWaitEvent)(self.raw, event, 0) }, "cuStreamWaitEvent")
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let calls = self.context.enter_to_drop();
        // SAFETY: the handle is ours and nobody has it any longer. Its work is done first, since memory goes next.
        unsafe {
            (calls.cuStreamSynchronize)(self.raw);
            (calls.cuStreamDestroy_v2)(self.raw);
        }
    }
}

/// A moment of a queue, to be used again and again.
#[derive(Debug)]
pub struct Event {
    context: Arc<Context>,
    raw: CUevent,
}

// SAFETY: events may be used from any thread.
unsafe impl Send for Event {}
// SAFETY: see above.
unsafe impl Sync for Event {}

impl Event {
    /// An event of no moment yet, which tells time.
    pub fn new(context: &Arc<Context>) -> Result<Event> {
        let mut raw = ptr::null_mut();
        let calls = context.enter()?;
        // SAFETY: writes to a handle of ours.
        let status = unsafe { (calls.cuEventCreate)(&mut raw, CUevent_flags::CU_EVENT_DEFAULT as u32) };
        context.check(status, "cuEventCreate")?;
        Ok(Event { context: context.clone(), raw })
    }

    /// The handle, which lives as long as this.
    pub fn raw(&self) -> CUevent {
        self.raw
    }

    /// Makes this the moment at which all work in the queue so far is done.
    pub fn record(&self, stream: &Stream) -> Result<()> {
        let calls = self.context.enter()?;
        // SAFETY: both handles are of this context.
        self.context.check(unsafe { (calls.cuEventRecord)(self.raw, stream.raw()) }, "cuEventRecord")
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let calls = self.context.enter_to_drop();
        // SAFETY: the handle is ours; the driver keeps what its queues still need.
        unsafe { (calls.cuEventDestroy_v2)(self.raw) };
    }
}

/// Waits for an event of this context.
pub fn wait_for(context: &Context, event: CUevent) -> Result<()> {
    let calls = context.enter()?;
    // SAFETY: events of ours live as long as the device, see `Moments`.
    context.check(unsafe { (calls.cuEventSynchronize)(event) }, "waiting for the device")
}

/// Milliseconds from one event to a later one, when both have passed.
pub fn milliseconds(context: &Context, from: CUevent, to: CUevent) -> Result<f32> {
    let calls = context.enter()?;
    let mut passed = 0.0;
    // SAFETY: as above; writes to a number of ours.
    context.check(unsafe { (calls.cuEventElapsedTime)(&mut passed, from, to) }, "cuEventElapsedTime")?;
    Ok(passed)
}
