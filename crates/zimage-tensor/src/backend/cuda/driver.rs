//! What the backend asks of a device. The native driver and the emulator answer the same, so that all that is above
//! this list is tested where there is no GPU.
//!
//! All work is put into one queue and done in its order; only [`Driver::upload_ahead`] has a queue of its own.

use super::memory::Buffer;
use crate::Result;
use std::fmt::Debug;
use std::time::Duration;

/// A place in device memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Address(pub u64);

impl Address {
    /// The place so many bytes behind.
    pub fn offset(self, bytes: usize) -> Address {
        Address(self.0 + bytes as u64)
    }
}

/// How values lie in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// IEEE single precision.
    F32,
    /// The upper half of an IEEE single.
    Bf16,
    /// IEEE half precision.
    F16,
    /// An 8-bit float with 4 exponent bits and no infinities (e4m3).
    F8,
    /// A signed byte.
    I8,
    /// A signed 32-bit number: sums of products of bytes.
    I32,
}

impl Element {
    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Element::F32 | Element::I32 => 4,
            Element::Bf16 | Element::F16 => 2,
            Element::F8 | Element::I8 => 1,
        }
    }

    /// The number that kernels know it by (`Param` in `primitives.cuh`).
    pub fn code(self) -> u32 {
        match self {
            Element::F32 => 0,
            Element::Bf16 => 1,
            Element::F16 => 2,
            Element::F8 => 3,
            Element::I8 => 4,
            Element::I32 => 5,
        }
    }
}

/// The device, as it is found.
#[derive(Clone, Debug, PartialEq)]
pub struct Properties {
    /// Its place among the devices of its machine.
    pub ordinal: usize,
    /// The maker's name for it.
    pub name: String,
    /// Compute capability: `(9, 0)` for Hopper.
    pub capability: (u32, u32),
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Number of multiprocessors.
    pub multiprocessors: u32,
    /// The most bytes of shared memory that a block of threads may ask for.
    pub shared_bytes: u32,
}

/// The arguments of a kernel, laid out as the C struct that it takes: each at a multiple of its own size.
#[derive(Clone, Debug, Default)]
pub struct Args(Vec<u8>);

impl Args {
    /// No arguments yet.
    pub fn new() -> Args {
        Args::default()
    }

    /// A pointer.
    pub fn address(self, value: Address) -> Args {
        self.push(&value.0.to_le_bytes())
    }

    /// A `u32`; sizes are checked to fit.
    pub fn size(self, value: usize) -> Args {
        let value = u32::try_from(value).expect("a size below four billion: this is a bug");
        self.push(&value.to_le_bytes())
    }

    /// A `float`.
    pub fn float(self, value: f32) -> Args {
        self.push(&value.to_le_bytes())
    }

    /// A `Param`: values that may be f32 or made by an operation.
    pub fn param(self, values: &Buffer) -> Args {
        self.address(values.address()).size(values.element().code() as usize).size(0)
    }

    /// The struct's bytes, without the padding at its end.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn push(mut self, bytes: &[u8]) -> Args {
        self.0.resize(self.0.len().next_multiple_of(bytes.len()), 0);
        self.0.extend_from_slice(bytes);
        self
    }
}

/// One run of a kernel.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The source file that it stands in, without `.cu`: `rows`.
    pub source: &'static str,
    /// Its name there.
    pub kernel: &'static str,
    /// Blocks in each direction.
    pub grid: [u32; 3],
    /// Threads of a block; a multiple of 32.
    pub threads: u32,
    /// Bytes of shared memory whose size the kernel does not know itself.
    pub shared_bytes: u32,
    /// What it takes.
    pub args: Args,
}

/// A matrix in device memory, row by row.
#[derive(Clone, Copy, Debug)]
pub struct MatrixAt {
    /// Its first value.
    pub address: Address,
    /// How its values lie.
    pub element: Element,
    /// Values from a row to the next.
    pub stride: usize,
}

/// `y (m, n) = scale * x (m, k) w + bias`, where `w` is stored as `(n, k)`, or as `(k, n)`.
#[derive(Clone, Copy, Debug)]
pub struct Gemm {
    /// Rows of `x`.
    pub m: usize,
    /// Columns of `y`.
    pub n: usize,
    /// Columns of `x`.
    pub k: usize,
    /// Left factor; F32, Bf16, F16, F8 or I8.
    pub x: MatrixAt,
    /// Right factor, of the same element.
    pub w: MatrixAt,
    /// Whether `w` is stored as `(n, k)`, as weights are.
    pub w_is_transposed: bool,
    /// The result: I32 for bytes; for others the factors' own element or F32; Bf16 or F32 for F8.
    pub y: MatrixAt,
    /// A factor on the product; 1 for bytes.
    pub scale: f32,
    /// One f32 value per column, or none.
    pub bias: Option<Address>,
}

/// A moment in one of the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Moment(pub u64);

/// Main memory that a device reads without a detour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pinned {
    /// Its number.
    pub id: u64,
    /// Its size.
    pub bytes: usize,
}

/// What can be recorded: work that reads nothing but the device's own memory.
#[derive(Clone, Debug)]
pub enum Recordable {
    /// See [`Driver::launch`].
    Launch(Launch),
    /// See [`Driver::gemm`].
    Gemm(Gemm),
    /// See [`Driver::copy`].
    Copy { to: Address, from: Address, bytes: usize },
    /// See [`Driver::fill`].
    Fill { to: Address, word: u32, count: usize },
}

/// Work that was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Recording(pub u64);

/// A device. Everything but `download`, `wait` and `elapsed` may return before the work is done.
pub trait Driver: Debug + Send + Sync {
    /// What it is.
    fn properties(&self) -> &Properties;

    /// Bytes of its memory that nobody uses now.
    fn free_bytes(&self) -> Result<u64>;

    /// Memory of so many bytes, at a multiple of 256.
    fn allocate(&self, bytes: usize) -> Result<Address>;

    /// Gives memory back, once the work that uses it is done.
    fn free(&self, address: Address);

    /// Copies from main memory; `bytes` may be changed when it returns.
    fn upload(&self, to: Address, bytes: &[u8]) -> Result<()>;

    /// Copies to main memory, when all work so far is done.
    fn download(&self, from: Address, bytes: &mut [u8]) -> Result<()>;

    /// Copies within the device; the two do not overlap.
    fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<()>;

    /// Sets `count` words of four bytes.
    fn fill(&self, to: Address, word: u32, count: usize) -> Result<()>;

    /// Runs a kernel.
    fn launch(&self, launch: &Launch) -> Result<()>;

    /// Multiplies matrices.
    fn gemm(&self, gemm: &Gemm) -> Result<()>;

    /// Main memory for [`Driver::upload_ahead`] with these bytes in it.
    fn pin(&self, bytes: &[u8]) -> Result<Pinned>;

    /// Gives pinned memory back, once the copies from it are done.
    fn unpin(&self, memory: Pinned);

    /// Copies pinned memory, beside the work that is done meanwhile, but after `after`. Gives the moment it is there.
    fn upload_ahead(&self, to: Address, from: Pinned, after: Moment) -> Result<Moment>;

    /// The moment at which all work so far is done.
    fn mark(&self) -> Result<Moment>;

    /// Lets work that is put into the queue from now on begin only after this moment.
    fn follow(&self, moment: Moment) -> Result<()>;

    /// Waits for a moment.
    fn wait(&self, moment: Moment) -> Result<()>;

    /// The time from one moment to a later one; waits for both, and forgets them.
    fn elapsed(&self, from: Moment, to: Moment) -> Result<Duration>;

    /// Forgets a moment: nobody will follow it or wait for it.
    fn forget(&self, moment: Moment);

    /// Records some work, which is done in its order whenever it is replayed. What it writes to is not specified until
    /// then: a device may do a part of it to find out how it is done best.
    fn record(&self, work: &[Recordable]) -> Result<Recording>;

    /// Does all work of a recording once more.
    fn replay(&self, recording: Recording) -> Result<()>;

    /// Forgets a recording, once its work is done: nobody will replay it.
    fn forget_recording(&self, recording: Recording);
}
