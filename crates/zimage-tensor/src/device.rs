//! Where tensors live and operations run.

use crate::backend::cpu::Cpu;
use crate::backend::cuda::{self, Cuda};
use crate::backend::mlx::Mlx;
use crate::backend::reference::Reference;
use crate::meter::{Kind, Work};
use crate::{Error, MemoryUse, Result};
use std::fmt::Debug;

/// A place that computes. Cheap to clone; tensors on different devices never meet in one operation.
#[derive(Clone, Debug)]
pub enum Device {
    /// The naive kernels on one thread: the oracle of the conformance suite.
    Reference(Reference),
    /// This machine's CPU, with its best instruction set and a pool of threads.
    Cpu(Cpu),
    /// A GPU by CUDA.
    Cuda(Cuda),
    /// A Mac's GPU by MLX.
    Mlx(Mlx),
}

/// How a device computes: on the CPU the linear layers of a block, on a GPU everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compute {
    /// In f32: no activation is rounded or quantized.
    Exact,
    /// With activations and weights in bf16, sums in f32.
    Bf16,
    /// With f32 activations, each row of which is scaled into the range of f16 for the products; sums in f32.
    F16,
    /// By products of activations and weights in 8-bit floats; all else as with bf16.
    Fp8,
    /// By integer dot products of activations and weights in 8 bits, whatever the weights are stored as.
    Int8,
}

impl Compute {
    /// The name used on the command line and in metadata: `exact`, `bf16`, `f16`, `fp8`, `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Compute::Exact => "exact",
            Compute::Bf16 => "bf16",
            Compute::F16 => "f16",
            Compute::Fp8 => "fp8",
            Compute::Int8 => "int8",
        }
    }
}

/// What makes the pool of one of the backends do something, until it is dropped.
type Held = Box<dyn Debug + Send + Sync>;

/// Makes a device keep the memory of dropped tensors while this lives; dropping it releases that.
#[derive(Debug)]
pub struct KeepMemory {
    device: Device,
    keep: Option<Held>,
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
    between: Option<Held>,
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

    /// The GPU with this number, by CUDA.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], which names the library that is missing, or says that there is no such GPU.
    pub fn cuda(ordinal: usize) -> Result<Device> {
        Cuda::new(ordinal).map(Device::Cuda)
    }

    /// The GPUs that CUDA finds.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`] when CUDA is not there.
    pub fn cuda_devices() -> Result<Vec<cuda::Properties>> {
        Cuda::devices()
    }

    /// A Mac's GPU by MLX.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`] in a build without the feature `mlx`, and where MLX finds no device.
    pub fn mlx() -> Result<Device> {
        Mlx::new().map(Device::Mlx)
    }

    /// CUDA's backend with its kernels run by the CPU, in so much memory of its own: slow, and for tests where there is no
    /// GPU.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`] when there is no C++ compiler.
    #[cfg(feature = "cuda-emulator")]
    pub fn emulated_cuda(memory_bytes: u64) -> Result<Device> {
        let hopper = (9, 0);
        Ok(Device::Cuda(Cuda::on(cuda::emulator::open(hopper, memory_bytes)?)))
    }

    /// The name used on the command line and in metadata: `cpu`, `cuda`, `mlx`, `reference`.
    pub fn name(&self) -> &'static str {
        match self {
            Device::Reference(_) => "reference",
            Device::Cpu(_) => "cpu",
            Device::Cuda(_) => "cuda",
            Device::Mlx(_) => "mlx",
        }
    }

    /// Whether it can compute so. The reference is always exact.
    ///
    /// # Errors
    /// [`crate::Error::Arithmetic`] when the device has no such arithmetic.
    pub fn supports(&self, compute: Compute) -> Result<()> {
        match (self, compute) {
            (Device::Cuda(cuda), _) => cuda.supports(compute),
            (Device::Mlx(mlx), _) => mlx.supports(compute),
            (Device::Reference(_), _) | (Device::Cpu(_), Compute::Exact | Compute::Int8) => Ok(()),
            (Device::Cpu(_), _) => Err(Error::Arithmetic { device: "the CPU".into(), compute: compute.name() }),
        }
    }

    /// The same device, computing in another way.
    ///
    /// # Panics
    /// When it has no such arithmetic: ask [`Device::supports`] first.
    pub fn with_compute(self, compute: Compute) -> Device {
        assert!(self.supports(compute).is_ok(), "{self:?} was asked to compute in {compute:?}: this is a bug");
        match self {
            Device::Reference(reference) => Device::Reference(reference),
            Device::Cpu(cpu) => Device::Cpu(cpu.with_compute(compute)),
            Device::Cuda(cuda) => Device::Cuda(cuda.with_compute(compute)),
            Device::Mlx(mlx) => Device::Mlx(mlx.with_compute(compute)),
        }
    }

    /// The arithmetic that it takes unless another one is asked for.
    pub fn natural_compute(&self) -> Compute {
        match self {
            Device::Reference(_) | Device::Cpu(_) => Compute::Exact,
            Device::Cuda(cuda) => cuda.natural_compute(),
            Device::Mlx(_) => Mlx::NATURAL_COMPUTE,
        }
    }

    /// What is left of an arithmetic where nothing is quantized, as in the VAE.
    pub fn unquantized(&self, compute: Compute) -> Compute {
        match compute {
            Compute::Fp8 | Compute::Int8 => self.natural_compute(),
            floats => floats,
        }
    }

    /// Whether its tensors lie in memory of its own and not in main memory. MLX takes its part of a Mac's one memory.
    pub fn has_own_memory(&self) -> bool {
        matches!(self, Device::Cuda(_) | Device::Mlx(_))
    }

    /// Bytes of its own memory that can be used now; `None` where it computes in main memory.
    ///
    /// # Errors
    /// [`crate::Error::Work`] when the device does not tell.
    pub fn free_bytes(&self) -> Result<Option<u64>> {
        match self {
            Device::Reference(_) | Device::Cpu(_) => Ok(None),
            Device::Cuda(cuda) => cuda.free_bytes().map(Some),
            Device::Mlx(mlx) => Ok(Some(mlx.free_bytes())),
        }
    }

    /// Bytes of its own memory that we hold, for weights and for all else; 0 where it computes in main memory.
    pub fn held_bytes(&self) -> u64 {
        match self {
            Device::Reference(_) | Device::Cpu(_) => 0,
            Device::Cuda(cuda) => cuda.held_bytes(),
            Device::Mlx(mlx) => mlx.memory_use().live_bytes as u64,
        }
    }

    /// Bytes that a value of an activation takes.
    pub fn activation_bytes(&self) -> u64 {
        match self {
            Device::Reference(_) | Device::Cpu(_) => size_of::<f32>() as u64,
            Device::Cuda(cuda) => cuda.activation_bytes(),
            Device::Mlx(mlx) => mlx.activation_bytes(),
        }
    }

    /// What went wrong on the device since it was last asked. Operations cannot fail; on a GPU, one that does leaves
    /// nothing but zeros behind it, and is told here.
    ///
    /// # Errors
    /// [`crate::Error::Device`], with what went wrong first.
    pub fn check(&self) -> Result<()> {
        match self {
            Device::Reference(_) | Device::Cpu(_) => Ok(()),
            Device::Cuda(cuda) => cuda.check(),
            Device::Mlx(mlx) => mlx.check(),
        }
    }

    /// How linear layers of blocks are computed.
    pub fn compute(&self) -> Compute {
        match self {
            Device::Reference(_) => Compute::Exact,
            Device::Cpu(cpu) => cpu.compute(),
            Device::Cuda(cuda) => cuda.compute(),
            Device::Mlx(mlx) => mlx.compute(),
        }
    }

    /// The work of a kind that it has done so far. The reference counts none, nor does MLX, which computes later. What was
    /// recorded is not counted when it is run: it is one piece, whose parts have no time of their own.
    pub fn work(&self, kind: Kind) -> Work {
        match self {
            Device::Reference(_) | Device::Mlx(_) => Work::default(),
            Device::Cpu(cpu) => cpu.work(kind),
            Device::Cuda(cuda) => cuda.work(kind),
        }
    }

    /// Whether [`Compute::Int8`] is faster here than the natural arithmetic: whether the processor has dot products of
    /// bytes.
    pub fn multiplies_bytes_fast(&self) -> bool {
        match self {
            Device::Reference(_) | Device::Cuda(_) | Device::Mlx(_) => false,
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
            Device::Cuda(cuda) => cuda.describe(),
            Device::Mlx(mlx) => mlx.describe(),
        }
    }

    /// What the tensors take that operations made on it. The reference shares no memory and counts none.
    pub fn memory(&self) -> MemoryUse {
        match self {
            Device::Reference(_) => MemoryUse::default(),
            Device::Cpu(cpu) => cpu.memory_use(),
            Device::Cuda(cuda) => cuda.memory_use(),
            Device::Mlx(mlx) => mlx.memory_use(),
        }
    }

    /// For a loop that asks for the same sizes at every step: no memory is given away until the result is dropped, so
    /// that none must be allocated after the first step. Without it, what is held is never more than what was in use
    /// at once.
    pub fn keep_memory(&self) -> KeepMemory {
        let keep = match self {
            // MLX keeps free memory until it is asked to release it.
            Device::Reference(_) | Device::Mlx(_) => None,
            Device::Cpu(cpu) => Some(Box::new(cpu.keep_memory()) as Held),
            Device::Cuda(cuda) => Some(Box::new(cuda.keep_memory()) as Held),
        };
        KeepMemory { device: self.clone(), keep }
    }

    /// For a stage between the steps of loops, such as decoding one of several pictures: what is held is never more than
    /// what was in use at once, although loops that keep their memory are running.
    pub fn between_loops(&self) -> BetweenLoops {
        let between = match self {
            Device::Reference(_) | Device::Mlx(_) => None,
            Device::Cpu(cpu) => Some(Box::new(cpu.between_loops()) as Held),
            Device::Cuda(cuda) => Some(Box::new(cuda.between_loops()) as Held),
        };
        BetweenLoops { device: self.clone(), between }
    }

    /// Gives all memory that no tensor uses back to the operating system: at the end of a stage, so that it does not
    /// lie beside that of the next one.
    pub fn release_memory(&self) {
        match self {
            Device::Reference(_) => {}
            Device::Cpu(cpu) => cpu.release_memory(),
            Device::Cuda(cuda) => cuda.release_memory(),
            Device::Mlx(mlx) => mlx.release_memory(),
        }
    }
}
