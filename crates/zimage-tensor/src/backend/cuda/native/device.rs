//! The device: the list of what is asked of it, one call each.
#![allow(unsafe_code, reason = "calls the driver")]

use super::compile::{Compiler, Target};
use super::context::{Context, Installed, Stream};
use super::gemm::Multiplier;
use super::graph::Graph;
use super::modules::Modules;
use super::moments::Moments;
use super::staging::{PinnedMemory, Staging};
use super::{libraries, memory, narrow};
use crate::backend::cuda::driver::{
    Address, Args, Driver, Element, Gemm, Launch, Moment, Pinned, Properties, Recordable, Recording,
};
use crate::{Error, Result};
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The oldest generation that our kernels run on: the first with tensor cores for bytes.
const TURING: (u32, u32) = (7, 5);
/// The most bytes of arguments that a kernel takes.
const ARGUMENT_BYTES: usize = 4096;
/// Threads of a block of a kernel of our own.
const THREADS: usize = 256;

/// A GPU. Fields are dropped in this order: the queues first, which wait for what is in them.
#[derive(Debug)]
pub struct Native {
    /// Where all work goes.
    compute: Stream,
    /// Where copies go that are made beside it.
    ahead: Stream,
    properties: Properties,
    moments: Moments,
    staging: Staging,
    modules: Modules,
    multiplier: Multiplier,
    pinned: Mutex<Numbered<PinnedMemory>>,
    graphs: Mutex<Numbered<Graph>>,
    context: Arc<Context>,
}

/// The struct that a kernel takes, and zeros behind it.
#[repr(align(16))]
struct Arguments([u8; ARGUMENT_BYTES]);

/// Things by their numbers.
#[derive(Debug)]
struct Numbered<T> {
    made: u64,
    known: HashMap<u64, T>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Numbered<T> {
        Numbered { made: 0, known: HashMap::new() }
    }
}

impl<T> Numbered<T> {
    /// Gives a thing its number.
    fn add(&mut self, thing: T) -> u64 {
        self.made += 1;
        self.known.insert(self.made, thing);
        self.made
    }
}

impl Native {
    /// The device with this number.
    pub fn open(ordinal: usize) -> Result<Native> {
        let installed = Installed::new()?;
        if ordinal >= installed.devices {
            return Err(no_such_device(ordinal, installed.devices));
        }
        let (device, properties) = installed.properties(ordinal)?;
        if properties.capability < TURING {
            let (major, minor) = properties.capability;
            return Err(Error::Unavailable {
                what: format!("cuda:{ordinal} ({}) is of compute capability {major}.{minor}", properties.name),
                hint: "7.5 is needed, which came with the RTX 20 series; compute on the CPU with --device cpu".into(),
            });
        }
        let compiler = Compiler::new(libraries::libnvrtc(installed.major())?);
        let multiply = libraries::libcublaslt(installed.major())?;
        let context = Context::new(&installed, device, ordinal)?;
        let target = compiler.generations().map(|known| Target::of(properties.capability, &known));
        let target = target.map_err(|what| context.failure(what))?.ok_or_else(|| Error::Unavailable {
            what: format!("the kernel compiler NVRTC knows nothing as old as {}", properties.name),
            hint: "install CUDA 12, or compute on the CPU with --device cpu".to_owned(),
        })?;
        Ok(Native {
            compute: Stream::new(&context)?,
            ahead: Stream::new(&context)?,
            moments: Moments::new(&context),
            staging: Staging::new(&context),
            modules: Modules::new(&context, compiler, target, installed.version),
            multiplier: Multiplier::new(&context, multiply, &properties)?,
            pinned: Mutex::default(),
            graphs: Mutex::default(),
            properties,
            context,
        })
    }

    /// Puts a kernel into a queue.
    fn launch_on(&self, stream: &Stream, launch: &Launch) -> Result<()> {
        let Launch { source, kernel, grid: [x, y, z], threads, shared_bytes, args } = launch;
        let function = self.modules.function(source, kernel, *shared_bytes)?;
        let calls = self.context.enter()?;
        // The driver knows from the code how long the struct is, and reads so much: with what is behind the arguments,
        // it never reads what is not ours, whatever the kernel declares.
        let mut arguments = Arguments([0; ARGUMENT_BYTES]);
        arguments.0[..args.bytes().len()].copy_from_slice(args.bytes());
        let mut parameters = [arguments.0.as_mut_ptr().cast::<c_void>()];
        // SAFETY: the function is loaded and has one parameter, which is read before the call returns, from memory that
        // is longer than it can be. What the kernel does with addresses is its own matter; the device checks them.
        let status = unsafe {
            let (stream, parameters, none) = (stream.raw(), parameters.as_mut_ptr(), ptr::null_mut());
            (calls.cuLaunchKernel)(function, *x, *y, *z, *threads, 1, 1, *shared_bytes, stream, parameters, none)
        };
        self.context
            .check(status, &format!("the kernel {kernel} of {source}.cu over {x} x {y} x {z} blocks of {threads}"))
    }

    /// Puts a product into a queue.
    fn gemm_on(&self, stream: &Stream, gemm: &Gemm) -> Result<()> {
        let narrow = |to, from, element| self.narrow(stream, to, from, element, gemm.n);
        self.multiplier.multiply(gemm, stream, narrow)
    }

    /// Puts a copy into a queue.
    fn copy_on(&self, stream: &Stream, to: Address, from: Address, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let calls = self.context.enter()?;
        // SAFETY: both are device memory: a wrong one is an error of the driver.
        let status = unsafe { (calls.cuMemcpyDtoDAsync_v2)(to.0, from.0, bytes, stream.raw()) };
        self.context.check(status, &format!("copying {bytes} bytes within the device"))
    }

    /// Puts the setting of words into a queue.
    fn fill_on(&self, stream: &Stream, to: Address, word: u32, count: usize) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        let calls = self.context.enter()?;
        // SAFETY: as in `copy_on`.
        let status = unsafe { (calls.cuMemsetD32Async)(to.0, word, count, stream.raw()) };
        self.context.check(status, &format!("setting {count} words of the device"))
    }

    /// Puts any of these into a queue.
    fn put(&self, stream: &Stream, work: &Recordable) -> Result<()> {
        match work {
            Recordable::Launch(launch) => self.launch_on(stream, launch),
            Recordable::Gemm(gemm) => self.gemm_on(stream, gemm),
            Recordable::Copy { to, from, bytes } => self.copy_on(stream, *to, *from, *bytes),
            Recordable::Fill { to, word, count } => self.fill_on(stream, *to, *word, *count),
        }
    }

    /// Puts a bias in another element into a queue.
    fn narrow(&self, stream: &Stream, to: Address, from: Address, element: Element, len: usize) -> Result<()> {
        let kernel = if element == Element::F16 { narrow::F16 } else { narrow::BF16 };
        let args = Args::new().address(to).address(from).size(len);
        let grid = [len.div_ceil(THREADS) as u32, 1, 1];
        let threads = THREADS as u32;
        self.launch_on(stream, &Launch { source: narrow::SOURCE, kernel, grid, threads, shared_bytes: 0, args })
    }

    fn pinned(&self) -> MutexGuard<'_, Numbered<PinnedMemory>> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn graphs(&self) -> MutexGuard<'_, Numbered<Graph>> {
        self.graphs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// There is no device of this number, where `count` are.
pub(super) fn no_such_device(ordinal: usize, count: usize) -> Error {
    Error::Unavailable {
        what: format!("no CUDA device {ordinal}: this machine has {count}"),
        hint: match count {
            0 => "see whether nvidia-smi lists the GPU and what CUDA_VISIBLE_DEVICES is, or compute on the CPU with \
                  --device cpu"
                .to_owned(),
            _ => format!("choose one of cuda:0 to cuda:{}", count - 1),
        },
    }
}

impl Driver for Native {
    fn properties(&self) -> &Properties {
        &self.properties
    }

    fn free_bytes(&self) -> Result<u64> {
        memory::free_bytes(&self.context)
    }

    fn allocate(&self, bytes: usize) -> Result<Address> {
        memory::allocate(&self.context, bytes)
    }

    fn free(&self, address: Address) {
        // Errors of the work were told, or will be, by a call that can tell them.
        let _ = self.compute.wait();
        let _ = self.ahead.wait();
        memory::free(&self.context, address);
    }

    fn upload(&self, to: Address, bytes: &[u8]) -> Result<()> {
        self.staging.upload(&self.compute, to, bytes)
    }

    fn download(&self, from: Address, bytes: &mut [u8]) -> Result<()> {
        if !bytes.is_empty() {
            let calls = self.context.enter()?;
            let to = bytes.as_mut_ptr().cast::<c_void>();
            // SAFETY: `to` is of as many bytes and is borrowed until the queue is empty, below; `from` is device
            // memory: a wrong one is an error of the driver.
            let status = unsafe { (calls.cuMemcpyDtoHAsync_v2)(to, from.0, bytes.len(), self.compute.raw()) };
            self.context.check(status, &format!("copying {} bytes from the device", bytes.len()))?;
        }
        self.compute.wait()
    }

    fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<()> {
        self.copy_on(&self.compute, to, from, bytes)
    }

    fn fill(&self, to: Address, word: u32, count: usize) -> Result<()> {
        self.fill_on(&self.compute, to, word, count)
    }

    fn launch(&self, launch: &Launch) -> Result<()> {
        self.launch_on(&self.compute, launch)
    }

    fn gemm(&self, gemm: &Gemm) -> Result<()> {
        self.gemm_on(&self.compute, gemm)
    }

    fn pin(&self, bytes: &[u8]) -> Result<Pinned> {
        let mut memory = PinnedMemory::new(&self.context, bytes.len())?;
        memory.fill(bytes);
        Ok(Pinned { id: self.pinned().add(memory), bytes: bytes.len() })
    }

    fn unpin(&self, memory: Pinned) {
        let memory = self.pinned().known.remove(&memory.id);
        // As in `free`.
        let _ = self.ahead.wait();
        drop(memory);
    }

    fn upload_ahead(&self, to: Address, from: Pinned, after: Moment) -> Result<Moment> {
        self.moments.hold_back(&self.ahead, after)?;
        let pinned = self.pinned();
        let memory = pinned.known.get(&from.id).expect("memory that is pinned: this is a bug");
        memory.send(&self.ahead, to, from.bytes)?;
        self.moments.record(&self.ahead)
    }

    fn mark(&self) -> Result<Moment> {
        self.moments.record(&self.compute)
    }

    fn follow(&self, moment: Moment) -> Result<()> {
        self.moments.hold_back(&self.compute, moment)
    }

    fn wait(&self, moment: Moment) -> Result<()> {
        self.moments.wait(moment)
    }

    fn elapsed(&self, from: Moment, to: Moment) -> Result<Duration> {
        self.moments.elapsed(from, to)
    }

    fn forget(&self, moment: Moment) {
        self.moments.forget(moment);
    }

    fn record(&self, work: &[Recordable]) -> Result<Recording> {
        // What is captured is not done, and so takes no time: an algorithm must be chosen before.
        for work in work {
            if let Recordable::Gemm(gemm) = work
                && !self.multiplier.knows(gemm)
            {
                self.gemm(gemm)?;
            }
        }
        let graph = Graph::of(&self.context, |stream| work.iter().try_for_each(|work| self.put(stream, work)))?;
        Ok(Recording(self.graphs().add(graph)))
    }

    fn replay(&self, recording: Recording) -> Result<()> {
        let graphs = self.graphs();
        let graph = graphs.known.get(&recording.0).expect("a recording that was made: this is a bug");
        graph.launch(&self.compute)
    }

    fn forget_recording(&self, recording: Recording) {
        let graph = self.graphs().known.remove(&recording.0);
        drop(graph);
    }
}
