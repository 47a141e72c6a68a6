//! Where tensors live and operations run.

use crate::backend::cpu::Cpu;
use crate::backend::reference::Reference;
use crate::buffer::Memory;
use crate::meter::{Kind, Work};
use crate::pool::{Between, Keep};
use crate::{MemoryUse, Result};

/// A place that computes. Cheap to clone; tensors on different devices never meet in one operation.
#[derive(Clone, Debug)]
pub enum Device {
    /// The naive kernels on one thread: the oracle of the conformance suite.
    Reference(Reference),
    /// This machine's CPU, with its best instruction set and a pool of threads.
    Cpu(Cpu),
}

/// How the linear layers of a block are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compute {
    /// In floating point: no activation is quantized.
    Exact,
    /// By integer dot products of activations and weights in 8 bits, whatever the weights are stored as.
    Int8,
}

impl Compute {
    /// The name used on the command line and in metadata: `exact`, `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Compute::Exact => "exact",
            Compute::Int8 => "int8",
        }
    }
}

/// Makes a device keep the memory of dropped tensors while this lives; dropping it releases that.
#[derive(Debug)]
pub struct KeepMemory {
    device: Device,
    keep: Option<Keep<Memory>>,
}

impl Drop for KeepMemory {
    fn drop(&mut self) {
        self.keep = None;
        self.device.release_memory();
    }
}

/// Makes a device do as outside of loops while this lives; dropping it releases what is free.
#[derive(Debug)]
pub struct BetweenLoops {
    device: Device,
    between: Option<Between<Memory>>,
}

impl Drop for BetweenLoops {
    fn drop(&mut self) {
        self.between = None;
        self.device.release_memory();
    }
}

impl Device {
    /// The naive oracle.
    pub fn reference() -> Device {
        Device::Reference(Reference)
    }

    /// The CPU with a pool of `threads` threads.
    ///
    /// # Errors
    /// [`crate::Error::Threads`] when the pool cannot be made, [`crate::Error::Level`] when the environment asks for
    /// an unknown instruction set.
    pub fn cpu(threads: usize) -> Result<Device> {
        Cpu::new(threads).map(Device::Cpu)
    }

    /// The name used on the command line and in metadata: `cpu`, `reference`.
    pub fn name(&self) -> &'static str {
        match self {
            Device::Reference(_) => "reference",
            Device::Cpu(_) => "cpu",
        }
    }

    /// The same device, computing the linear layers of blocks in another way. The reference is always exact.
    pub fn with_compute(self, compute: Compute) -> Device {
        match self {
            Device::Reference(reference) => Device::Reference(reference),
            Device::Cpu(cpu) => Device::Cpu(cpu.with_compute(compute)),
        }
    }

    /// How linear layers of blocks are computed.
    pub fn compute(&self) -> Compute {
        match self {
            Device::Reference(_) => Compute::Exact,
            Device::Cpu(cpu) => cpu.compute(),
        }
    }

    /// The work of a kind that it has done so far. The reference counts none.
    pub fn work(&self, kind: Kind) -> Work {
        match self {
            Device::Reference(_) => Work::default(),
            Device::Cpu(cpu) => cpu.work(kind),
        }
    }

    /// Whether [`Compute::Int8`] is faster here: whether the processor has dot products of bytes.
    pub fn multiplies_bytes_fast(&self) -> bool {
        match self {
            Device::Reference(_) => false,
            Device::Cpu(cpu) => cpu.multiplies_bytes_fast(),
        }
    }

    /// The backend, where it multiplies bytes.
    pub(crate) fn int8(&self) -> Option<&Cpu> {
        match self {
            Device::Cpu(cpu) if cpu.compute() == Compute::Int8 => Some(cpu),
            _ => None,
        }
    }

    /// One line for people: the device and how it will compute.
    pub fn describe(&self) -> String {
        match self {
            Device::Reference(_) => "reference (naive kernels, one thread)".into(),
            Device::Cpu(cpu) => cpu.describe(),
        }
    }

    /// What the tensors take that operations made on it. The reference shares no memory and counts none.
    pub fn memory(&self) -> MemoryUse {
        match self {
            Device::Reference(_) => MemoryUse::default(),
            Device::Cpu(cpu) => cpu.memory_use(),
        }
    }

    /// For a loop that asks for the same sizes at every step: no memory is given away until the result is dropped, so
    /// that none must be allocated after the first step. Without it, what is held is never more than what was in use
    /// at once.
    pub fn keep_memory(&self) -> KeepMemory {
        let keep = match self {
            Device::Reference(_) => None,
            Device::Cpu(cpu) => Some(cpu.keep_memory()),
        };
        KeepMemory { device: self.clone(), keep }
    }

    /// For a stage between the steps of loops, such as decoding one of several pictures: what is held is never more than
    /// what was in use at once, although loops that keep their memory are running.
    pub fn between_loops(&self) -> BetweenLoops {
        let between = match self {
            Device::Reference(_) => None,
            Device::Cpu(cpu) => Some(cpu.between_loops()),
        };
        BetweenLoops { device: self.clone(), between }
    }

    /// Gives all memory that no tensor uses back to the operating system: at the end of a stage, so that it does not
    /// lie beside that of the next one.
    pub fn release_memory(&self) {
        match self {
            Device::Reference(_) => {}
            Device::Cpu(cpu) => cpu.release_memory(),
        }
    }
}
