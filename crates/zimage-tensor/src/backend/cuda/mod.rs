//! CUDA: our kernels, compiled at run time for the device that is found, and cuBLASLt for products of matrices.
//!
//! ```text
//! mod.rs          the device, and the list of operations, one line each
//! rows.rs         norms, elementwise operations, rotations          kernels/rows.cu
//! moves.rs        what only moves values                            kernels/moves.cu
//! linear.rs       linear layers: weights in device memory, widened  kernels/decode.cu
//!                 or decoded while they are multiplied              kernels/linear_quantized.cu
//! stream.rs       weights that are brought over for each use
//! quantize.rs     activations in 8 bits                             kernels/quantize.cu
//! attention.rs    and attention/: which kernel serves which head    kernels/attention{,_hopper,_tiled}.cu
//! pictures.rs     convolutions and group norms                      kernels/{pictures,convolutions}.cu
//! memory.rs       device memory, and what went wrong
//! timed.rs        how long work took
//! recorded.rs     work that is recorded, and done again and again   recorder.rs     takes it down
//! driver.rs       what is asked of a device
//! kernels/        the sources of all kernels, and what they are written in
//! native/         the device itself, by CUDA's own libraries, which are looked for at run time
//! emulator/       the same on the CPU, for tests: kernels are compiled as C++
//! ```
//!
//! Values of activations lie in one [`Element`], which follows from how the device computes; parameters that come from
//! outside are f32. Sums are always f32, and so is the arithmetic within a kernel.

mod attention;
pub mod driver;
#[cfg(feature = "cuda-emulator")]
pub mod emulator;
mod kernels;
mod linear;
mod memory;
mod moves;
mod native;
mod pictures;
mod quantize;
mod recorded;
mod recorder;
mod rows;
mod stream;
mod timed;

use attention::Hopper;
pub use driver::Properties;
pub use linear::Placed;
pub use memory::{Buffer, Memory};
pub use quantize::QuantizedRows;
pub use recorded::Recorded;
pub use stream::Streamed;

use super::{Attention, Backend, Conv, Conv3x3, Norm};
use crate::meter::{Kind, Work};
use crate::pool::{Between, Keep, Pool};
use crate::tensor::Storage;
use crate::{Compute, Error, MemoryUse, Result, Tensor, Weight};
use driver::{Args, Driver, Element, Launch};
use memory::Port;
use recorded::Recordings;
use std::sync::Arc;
use stream::Stream;

/// The first generation whose tensor cores multiply bf16.
const AMPERE: (u32, u32) = (8, 0);
/// The first generation whose tensor cores multiply fp8.
const ADA: (u32, u32) = (8, 9);

/// Threads of a block of an elementwise kernel.
const THREADS: u32 = 256;

/// The CUDA backend on one device.
#[derive(Clone, Debug)]
pub struct Cuda {
    port: Arc<Port>,
    pool: Pool<Memory>,
    stream: Arc<Stream>,
    hopper: Arc<Hopper>,
    recordings: Arc<Recordings>,
    compute: Compute,
}

impl Cuda {
    /// The device with this number.
    ///
    /// # Errors
    /// [`Error::Unavailable`], which names the library that is missing, or says that there is no such device.
    pub fn new(ordinal: usize) -> Result<Cuda> {
        #[cfg(feature = "cuda-emulator")]
        if let Some(emulated) = emulator::of_the_environment() {
            return emulated.map(Cuda::on);
        }
        Ok(Cuda::on(native::open(ordinal)?))
    }

    /// The devices of this machine.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when there is no driver.
    pub fn devices() -> Result<Vec<Properties>> {
        native::devices()
    }

    /// The backend on a driver, computing in the way that suits its device.
    pub(crate) fn on(driver: Box<dyn Driver>) -> Cuda {
        let port = Arc::new(Port::new(driver));
        let pool = Pool::new(port.clone());
        let (stream, hopper) = (Arc::default(), Arc::default());
        let cuda = Cuda { pool, port, stream, hopper, recordings: Arc::default(), compute: Compute::Exact };
        let compute = cuda.natural_compute();
        cuda.with_compute(compute)
    }

    /// The same device, computing in another way.
    pub fn with_compute(self, compute: Compute) -> Cuda {
        Cuda { compute, ..self }
    }

    /// How linear layers are computed.
    pub fn compute(&self) -> Compute {
        self.compute
    }

    /// The fastest arithmetic that changes nothing that can be seen: bf16, where the device has it.
    pub fn natural_compute(&self) -> Compute {
        if self.properties().capability >= AMPERE { Compute::Bf16 } else { Compute::F16 }
    }

    /// Whether the device computes so.
    ///
    /// # Errors
    /// [`Error::Arithmetic`] when it does not.
    pub fn supports(&self, compute: Compute) -> Result<()> {
        let needed = match compute {
            Compute::Exact | Compute::F16 | Compute::Int8 => (7, 5),
            Compute::Bf16 => AMPERE,
            Compute::Fp8 => ADA,
        };
        let properties = self.properties();
        if properties.capability >= needed {
            return Ok(());
        }
        Err(Error::Arithmetic { device: properties.name.clone(), compute: compute.name() })
    }

    /// What the device is.
    pub fn properties(&self) -> &Properties {
        self.port.driver().properties()
    }

    /// Bytes of its memory that nobody uses now, what the pool has free among them.
    pub fn free_bytes(&self) -> Result<u64> {
        let memory = self.pool.memory_use();
        Ok(self.port.driver().free_bytes()? + (memory.held_bytes - memory.live_bytes) as u64)
    }

    /// Its name and arithmetic, for people.
    pub fn describe(&self) -> String {
        let Properties { ordinal, name, memory_bytes, .. } = self.properties();
        let gib = *memory_bytes as f64 / f64::from(1u32 << 30);
        format!("cuda:{ordinal} ({name}, {gib:.0} GiB, {})", self.compute.name())
    }

    /// What went wrong since it was last asked: operations cannot fail, and after one that did nothing is computed.
    ///
    /// # Errors
    /// [`Error::Device`] with the first thing that went wrong.
    pub fn check(&self) -> Result<()> {
        match self.port.take_failure() {
            None => Ok(()),
            Some(error) => Err(Error::Device(error)),
        }
    }

    /// The work of a kind so far, but for what was recorded.
    pub fn work(&self, kind: Kind) -> Work {
        self.port.work(kind)
    }

    /// What the pool holds.
    pub fn memory_use(&self) -> MemoryUse {
        self.pool.memory_use()
    }

    /// Bytes of its memory that we hold, weights included.
    pub fn held_bytes(&self) -> u64 {
        self.port.held_bytes()
    }

    /// Keeps what is given back while the result lives.
    pub fn keep_memory(&self) -> Keep<Memory> {
        self.pool.keep()
    }

    /// Does as outside of loops while the result lives.
    pub fn between_loops(&self) -> Between<Memory> {
        self.give_recordings_up();
        self.pool.between_loops()
    }

    /// Gives what is free back to the device.
    pub fn release_memory(&self) {
        self.give_recordings_up();
        self.pool.release();
        self.stream.release(&self.port);
    }

    /// Whether two handles are of one device.
    pub fn is_same_device(&self, other: &Cuda) -> bool {
        self.port.is_of_same_device(&other.port)
    }

    /// Values from main memory.
    pub fn upload(&self, values: &[f32]) -> Buffer {
        let buffer = self.take(Element::F32, values.len());
        let bytes = zimage_kernels::bytes::of(values);
        self.port.attempt(|driver| driver.upload(buffer.address(), bytes));
        buffer
    }

    /// Values to main memory; zeros after something went wrong.
    pub fn download(&self, buffer: &Buffer) -> Vec<f32> {
        let widened;
        let buffer = match buffer.element() {
            Element::F32 => buffer,
            _ => {
                widened = self.cast(buffer, Element::F32);
                &widened
            }
        };
        let mut values = vec![0.0; buffer.len()];
        let bytes = zimage_kernels::bytes::of_mut(&mut values);
        self.port.attempt(|driver| driver.download(buffer.address(), bytes));
        values
    }

    /// Bytes of a value of an activation.
    pub fn activation_bytes(&self) -> u64 {
        self.element().bytes() as u64
    }

    /// What activations lie in.
    fn element(&self) -> Element {
        match self.compute {
            Compute::Exact | Compute::F16 => Element::F32,
            Compute::Bf16 | Compute::Fp8 => Element::Bf16,
            // Turing multiplies bytes, and has no bf16.
            Compute::Int8 if self.properties().capability >= AMPERE => Element::Bf16,
            Compute::Int8 => Element::F32,
        }
    }

    fn take(&self, element: Element, len: usize) -> Buffer {
        Buffer::take(&self.pool, element, len)
    }

    /// Runs a kernel over `grid` blocks of `threads` threads.
    fn run(
        &self,
        source: &'static str,
        kernel: &'static str,
        grid: [usize; 3],
        threads: u32,
        shared: usize,
        args: Args,
    ) {
        if grid.contains(&0) {
            return;
        }
        let grid = grid.map(|count| u32::try_from(count).expect("a grid below four billion: this is a bug"));
        let launch = Launch { source, kernel, grid, threads, shared_bytes: shared as u32, args };
        self.port.attempt(|driver| driver.launch(&launch));
    }
}

/// The name of a kernel that there is for both elements of activations.
macro_rules! kernel_of {
    ($element:expr, $name:literal) => {
        match $element {
            $crate::backend::cuda::driver::Element::F32 => concat!($name, "_f32"),
            $crate::backend::cuda::driver::Element::Bf16 => concat!($name, "_bf16"),
            other => panic!("activations are never {other:?}: this is a bug"),
        }
    };
}
use kernel_of;

impl Backend for Cuda {
    type Buffer = Buffer;

    fn host<'t>(&self, tensor: &'t Tensor) -> &'t Buffer {
        match &tensor.storage {
            Storage::Cuda(buffer) => buffer,
            _ => panic!("a tensor of another device: this is a bug"),
        }
    }

    fn host_mut<'t>(&self, tensor: &'t mut Tensor) -> &'t mut Buffer {
        match &mut tensor.storage {
            Storage::Cuda(buffer) => buffer,
            _ => panic!("a tensor of another device: this is a bug"),
        }
    }

    fn storage(buffer: Buffer) -> Storage {
        Storage::Cuda(buffer)
    }

    fn linear(&self, x: &Buffer, weight: &Weight, bias: Option<&Buffer>) -> Buffer {
        self.linear(x, weight, bias)
    }

    fn embedding(&self, table: &Weight, ids: &[u32]) -> Buffer {
        self.embedding(table, ids)
    }

    fn rms_norm(&self, x: &Buffer, weight: &Buffer, eps: f32) -> Buffer {
        self.rms_norm(x, weight, eps)
    }

    fn rms_norm_scaled(&self, x: &Buffer, w: &Buffer, scale: &Buffer, eps: f32) -> Buffer {
        self.rms_norm_scaled(x, w, scale, eps)
    }

    fn add_rms_norm(&self, x: &mut Buffer, y: &Buffer, weight: &Buffer, eps: f32) {
        self.add_rms_norm(x, y, weight, eps)
    }

    fn add_rms_norm_gated(&self, x: &mut Buffer, y: &Buffer, w: &Buffer, g: &Buffer, eps: f32) {
        self.add_rms_norm_gated(x, y, w, g, eps)
    }

    fn layer_norm_scaled(&self, x: &Buffer, scale: &Buffer, eps: f32) -> Buffer {
        self.layer_norm_scaled(x, scale, eps)
    }

    fn add(&self, x: &mut Buffer, y: &Buffer) {
        self.add(x, y)
    }

    fn subtract_from(&self, x: &mut Buffer, y: &Buffer) {
        self.subtract_from(x, y)
    }

    fn add_scaled(&self, y: &mut Buffer, z: &Buffer, z_cols: usize, skip: usize, factors: &Buffer) {
        self.add_scaled(y, z, z_cols, skip, factors)
    }

    fn scale_columns(&self, x: &Buffer, factors: &Buffer) -> Buffer {
        self.scale_columns(x, factors)
    }

    fn mix_rows(&self, x: &Buffer, w: &Buffer, groups: usize, inner: usize, cols: usize) -> Buffer {
        self.mix_rows(x, w, groups, inner, cols)
    }

    fn silu(&self, x: &mut Buffer) {
        self.silu(x)
    }

    fn silu_mul(&self, gate: &mut Buffer, up: &Buffer) {
        self.silu_mul(gate, up)
    }

    fn tanh(&self, x: &mut Buffer) {
        self.tanh(x)
    }

    fn one_plus(&self, x: &mut Buffer) {
        self.one_plus(x)
    }

    fn rope_interleaved(&self, x: &mut Buffer, cos: &Buffer, sin: &Buffer, head_dim: usize) {
        self.rope_interleaved(x, cos, sin, head_dim)
    }

    fn rms_norm_rope(&self, x: &mut Buffer, w: &Buffer, eps: f32, cos: &Buffer, sin: &Buffer) {
        self.rms_norm_rope(x, w, eps, cos, sin)
    }

    fn rope_halves(&self, x: &mut Buffer, cos: &Buffer, sin: &Buffer, head_dim: usize) {
        self.rope_halves(x, cos, sin, head_dim)
    }

    fn attention(&self, q: &Buffer, k: &Buffer, v: &Buffer, geometry: Attention) -> Buffer {
        self.attention(q, k, v, geometry)
    }

    fn concat_rows(&self, a: &Buffer, b: &Buffer) -> Buffer {
        self.concat_rows(a, b)
    }

    fn slice(&self, x: &Buffer, start: usize, end: usize) -> Buffer {
        self.slice(x, start, end)
    }

    fn append_token(&self, x: &Buffer, token: &Buffer, count: usize) -> Buffer {
        self.append_token(x, token, count)
    }

    fn patchify(&self, x: &Buffer, channels: usize, height: usize, width: usize) -> Buffer {
        self.patchify(x, channels, height, width)
    }

    fn unpatchify(&self, x: &Buffer, channels: usize, height: usize, width: usize) -> Buffer {
        self.unpatchify(x, channels, height, width)
    }

    fn conv2d(&self, x: &Buffer, weight: &Buffer, bias: &Buffer, conv: &Conv) -> Buffer {
        self.conv2d(x, weight, bias, conv)
    }

    fn conv1x1_in_place(&self, x: &mut Buffer, weight: &Buffer, bias: &Buffer, conv: &Conv) {
        self.conv1x1_in_place(x, weight, bias, conv)
    }

    fn upsample_conv3x3(&self, x: &Buffer, weight: &Buffer, bias: &Buffer, conv: &Conv3x3) -> Buffer {
        self.upsample_conv3x3(x, weight, bias, conv)
    }

    fn norm_silu_conv3x3(
        &self,
        x: &Buffer,
        norm: &Norm<Buffer>,
        weight: &Buffer,
        bias: &Buffer,
        conv: &Conv3x3,
    ) -> Buffer {
        self.norm_silu_conv3x3(x, norm, weight, bias, conv)
    }

    fn add_norm_silu_conv3x3(
        &self,
        x: &mut Buffer,
        y: &Buffer,
        norm: &Norm<Buffer>,
        weight: &Buffer,
        bias: &Buffer,
        conv: &Conv3x3,
    ) {
        self.add_norm_silu_conv3x3(x, y, norm, weight, bias, conv)
    }

    fn group_norm(&self, x: &Buffer, norm: &Norm<Buffer>) -> Buffer {
        self.group_norm(x, norm)
    }

    fn transpose(&self, x: &Buffer, rows: usize, cols: usize) -> Buffer {
        self.transpose(x, rows, cols)
    }
}
