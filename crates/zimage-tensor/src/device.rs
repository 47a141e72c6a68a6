//! Where tensors live and operations run.

use crate::Result;
use crate::backend::cpu::Cpu;
use crate::backend::reference::Reference;

/// A place that computes. Cheap to clone; tensors on different devices never meet in one operation.
#[derive(Clone, Debug)]
pub enum Device {
    /// The naive kernels on one thread: the oracle of the conformance suite.
    Reference(Reference),
    /// This machine's CPU, with its best instruction set and a pool of threads.
    Cpu(Cpu),
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

    /// One line for people: the device and how it will compute.
    pub fn describe(&self) -> String {
        match self {
            Device::Reference(_) => "reference (naive kernels, one thread)".into(),
            Device::Cpu(cpu) => cpu.describe(),
        }
    }
}
