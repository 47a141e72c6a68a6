//! MLX: Apple's library of array operations, which computes on the GPU of a Mac.
//!
//! ```text
//! mod.rs        the device, and the list of operations
//! linear.rs     linear layers: weights as files have them, where MLX can
//! attention.rs  attention, rotations
//! pictures.rs   convolutions and group norms
//! enabled.rs    MLX itself, with the feature `mlx`
//! disabled.rs   what takes its place without
//! ```
//!
//! MLX computes when values are needed: a buffer is the promise of some. They are, after each block of a model, where it
//! is asked whether they are finite. Values of activations lie in bf16, or in f32 where the device computes exactly;
//! what comes from outside is f32.

mod attention;
mod linear;
mod pictures;
#[cfg(not(feature = "mlx"))]
#[path = "disabled.rs"]
mod port;
#[cfg(feature = "mlx")]
#[path = "enabled.rs"]
mod port;

pub use linear::Placed;

use super::{Attention, Backend, Conv, Conv3x3, Norm};
use crate::tensor::Storage;
use crate::{Compute, Error, MemoryUse, Result, Tensor, Weight};
use attention::Turn;
use port::{Array, Port};
use std::sync::{Arc, OnceLock};

/// What the values of an array are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single.
    Bf16,
    /// Words of packed small numbers.
    U32,
}

impl Element {
    /// Bytes of a value.
    fn bytes(self) -> usize {
        match self {
            Element::F32 | Element::U32 => 4,
            Element::F16 | Element::Bf16 => 2,
        }
    }
}

/// The MLX backend.
#[derive(Clone, Debug)]
pub struct Mlx {
    port: Arc<Port>,
    compute: Compute,
}

/// Values of a tensor, or the promise of them. The array may have any shape: in row-major order its values are ours.
#[derive(Debug)]
pub struct Buffer {
    array: Array,
    len: usize,
    /// The same as the kernel of a convolution, once it was used as one.
    kernel: OnceLock<Array>,
}

impl Buffer {
    fn new(array: Array, len: usize) -> Buffer {
        Buffer { array, len, kernel: OnceLock::new() }
    }

    /// The rest of a buffer whose first `len` values an operation wrote: here operations make new ones of that length.
    pub fn truncate(&mut self, len: usize) {
        assert_eq!(self.len, len, "truncate: this is a bug");
    }
}

impl Mlx {
    /// MLX on this machine's GPU.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when this is a build without MLX, or MLX finds no device.
    pub fn new() -> Result<Mlx> {
        let port = Arc::new(Port::open()?);
        Ok(Mlx { port, compute: Mlx::NATURAL_COMPUTE })
    }

    /// The fastest arithmetic that changes nothing that can be seen.
    pub const NATURAL_COMPUTE: Compute = Compute::Bf16;

    /// The same device, computing in another way.
    pub fn with_compute(self, compute: Compute) -> Mlx {
        Mlx { compute, ..self }
    }

    /// How it computes.
    pub fn compute(&self) -> Compute {
        self.compute
    }

    /// Whether it computes so.
    ///
    /// # Errors
    /// [`Error::Arithmetic`] when it does not.
    pub fn supports(&self, compute: Compute) -> Result<()> {
        match compute {
            Compute::Exact | Compute::Bf16 => Ok(()),
            Compute::F16 | Compute::Fp8 | Compute::Int8 => {
                Err(Error::Arithmetic { device: format!("MLX on {}", self.port.name()), compute: compute.name() })
            }
        }
    }

    /// Its name and arithmetic, for people.
    pub fn describe(&self) -> String {
        format!("mlx ({}, {})", self.port.name(), self.compute.name())
    }

    /// What went wrong since it was last asked.
    ///
    /// # Errors
    /// [`Error::Device`] with the first thing that went wrong.
    pub fn check(&self) -> Result<()> {
        match self.port.take_failure() {
            None => Ok(()),
            Some(error) => Err(Error::Device(Arc::new(error))),
        }
    }

    /// Memory that MLX uses, that of weights included.
    pub fn memory_use(&self) -> MemoryUse {
        self.port.memory_use()
    }

    /// Gives what is free back to the operating system.
    pub fn release_memory(&self) {
        self.port.release_memory();
    }

    /// Values from main memory.
    pub fn upload(&self, values: &[f32]) -> Buffer {
        let array = self.port.upload(zimage_kernels::bytes::of(values), Element::F32, &[values.len()]);
        Buffer::new(array, values.len())
    }

    /// Values to main memory; zeros after something went wrong.
    pub fn download(&self, buffer: &Buffer) -> Vec<f32> {
        self.port.download(&buffer.array).unwrap_or_else(|| vec![0.0; buffer.len])
    }

    /// Where the first value that is infinite or not a number stands. Computes what `x` promises.
    pub fn first_non_finite(&self, x: &Buffer) -> Option<usize> {
        if self.port.all_finite(&x.array) {
            return None;
        }
        self.download(x).iter().position(|value| !value.is_finite())
    }

    /// Bytes of memory that can still be used.
    pub fn free_bytes(&self) -> u64 {
        self.port.free_bytes()
    }

    /// Bytes of a value of an activation.
    pub fn activation_bytes(&self) -> u64 {
        self.element().bytes() as u64
    }

    /// What activations lie in.
    fn element(&self) -> Element {
        if self.compute == Compute::Exact { Element::F32 } else { Element::Bf16 }
    }

    /// A buffer's values in the element of activations, under a shape.
    pub(super) fn input(&self, x: &Buffer, shape: &[usize]) -> Array {
        self.port.reshape(&self.port.cast(&x.array, self.element()), shape)
    }

    /// An array in the element of activations, as a buffer.
    pub(super) fn output(&self, array: Array, len: usize) -> Buffer {
        Buffer::new(self.port.cast(&array, self.element()), len)
    }

    /// A buffer's values one after the other, in the element of activations.
    fn flat(&self, x: &Buffer) -> Array {
        self.input(x, &[x.len])
    }

    /// Normalized rows, `(rows, weight.len)`.
    fn normalized(&self, x: &Buffer, weight: &Buffer, eps: f32) -> Array {
        let cols = weight.len;
        self.port.rms_norm(&self.input(x, &[x.len / cols, cols]), &self.input(weight, &[cols]), eps)
    }

    fn silu_of(&self, a: &Array) -> Array {
        self.port.multiply(a, &self.port.sigmoid(a))
    }

    /// `x += y`.
    fn add_to(&self, x: &mut Buffer, y: &Array) {
        let sum = self.port.add(&self.flat(x), &self.port.reshape(y, &[x.len]));
        *x = self.output(sum, x.len);
    }

    /// `silu(group_norm(x))` as pixels, and its convolution.
    fn norm_silu_conv(&self, x: &Buffer, norm: &Norm<Buffer>, w: &Buffer, bias: &Buffer, conv: &Conv) -> Array {
        let h = self.silu_of(&self.group_norm_of(x, norm));
        self.convolution(&self.pixels(&h, [conv.cin, conv.height, conv.width]), w, bias, conv)
    }

    /// The values from `start` to before `end`, in the element that they have: what only moves stays as it is.
    fn cut(&self, x: &Buffer, start: usize, end: usize) -> Buffer {
        let flat = self.port.reshape(&x.array, &[x.len]);
        Buffer::new(self.port.slice(&flat, &[start], &[end]), end - start)
    }
}

impl Backend for Mlx {
    type Buffer = Buffer;

    fn host<'t>(&self, tensor: &'t Tensor) -> &'t Buffer {
        match &tensor.storage {
            Storage::Mlx(buffer) => buffer,
            _ => panic!("a tensor of another device: this is a bug"),
        }
    }

    fn host_mut<'t>(&self, tensor: &'t mut Tensor) -> &'t mut Buffer {
        match &mut tensor.storage {
            Storage::Mlx(buffer) => buffer,
            _ => panic!("a tensor of another device: this is a bug"),
        }
    }

    fn storage(buffer: Buffer) -> Storage {
        Storage::Mlx(buffer)
    }

    fn linear(&self, x: &Buffer, weight: &Weight, bias: Option<&Buffer>) -> Buffer {
        self.multiply_by_weight(x, weight, bias)
    }

    fn embedding(&self, table: &Weight, ids: &[u32]) -> Buffer {
        self.look_up(table, ids)
    }

    fn rms_norm(&self, x: &Buffer, weight: &Buffer, eps: f32) -> Buffer {
        self.output(self.normalized(x, weight, eps), x.len)
    }

    fn rms_norm_scaled(&self, x: &Buffer, weight: &Buffer, scale: &Buffer, eps: f32) -> Buffer {
        let normalized = self.normalized(x, weight, eps);
        self.output(self.port.multiply(&normalized, &self.flat(scale)), x.len)
    }

    fn add_rms_norm(&self, x: &mut Buffer, y: &Buffer, weight: &Buffer, eps: f32) {
        self.add_to(x, &self.normalized(y, weight, eps));
    }

    fn add_rms_norm_gated(&self, x: &mut Buffer, y: &Buffer, weight: &Buffer, gate: &Buffer, eps: f32) {
        let normalized = self.normalized(y, weight, eps);
        self.add_to(x, &self.port.multiply(&normalized, &self.flat(gate)));
    }

    fn layer_norm_scaled(&self, x: &Buffer, scale: &Buffer, eps: f32) -> Buffer {
        let cols = scale.len;
        let normalized = self.port.layer_norm(&self.input(x, &[x.len / cols, cols]), eps);
        self.output(self.port.multiply(&normalized, &self.flat(scale)), x.len)
    }

    fn add(&self, x: &mut Buffer, y: &Buffer) {
        self.add_to(x, &self.flat(y));
    }

    fn subtract_from(&self, x: &mut Buffer, y: &Buffer) {
        *x = self.output(self.port.subtract(&self.flat(y), &self.flat(x)), x.len);
    }

    fn add_scaled(&self, y: &mut Buffer, z: &Buffer, z_cols: usize, skip: usize, factors: &Buffer) {
        let (rows, cols) = (z.len / z_cols, factors.len);
        let used = self.port.slice(&self.input(z, &[rows, z_cols]), &[0, skip], &[rows, skip + cols]);
        self.add_to(y, &self.port.multiply(&used, &self.flat(factors)));
    }

    fn scale_columns(&self, x: &Buffer, factors: &Buffer) -> Buffer {
        let rows = self.input(x, &[x.len / factors.len, factors.len]);
        self.output(self.port.multiply(&rows, &self.flat(factors)), x.len)
    }

    fn mix_rows(&self, x: &Buffer, w: &Buffer, groups: usize, inner: usize, cols: usize) -> Buffer {
        let rows = w.len / inner;
        let mixed = self.port.matmul(&self.input(w, &[rows, inner]), &self.input(x, &[groups, inner, cols]));
        self.output(mixed, groups * rows * cols)
    }

    fn silu(&self, x: &mut Buffer) {
        *x = self.output(self.silu_of(&self.flat(x)), x.len);
    }

    fn silu_mul(&self, gate: &mut Buffer, up: &Buffer) {
        let product = self.port.multiply(&self.silu_of(&self.flat(gate)), &self.flat(up));
        *gate = self.output(product, gate.len);
    }

    fn tanh(&self, x: &mut Buffer) {
        *x = self.output(self.port.tanh(&self.flat(x)), x.len);
    }

    fn one_plus(&self, x: &mut Buffer) {
        let one = self.upload(&[1.0]);
        *x = self.output(self.port.add(&self.flat(x), &self.flat(&one)), x.len);
    }

    fn rope_interleaved(&self, x: &mut Buffer, cos: &Buffer, sin: &Buffer, head_dim: usize) {
        let turn = Turn { head_dim, halves: false };
        *x = self.output(self.rotate(&self.flat(x), x.len / (2 * cos.len), cos, sin, turn), x.len);
    }

    fn rms_norm_rope(&self, x: &mut Buffer, weight: &Buffer, eps: f32, cos: &Buffer, sin: &Buffer) {
        let turn = Turn { head_dim: weight.len, halves: false };
        let normalized = self.normalized(x, weight, eps);
        *x = self.output(self.rotate(&normalized, x.len / (2 * cos.len), cos, sin, turn), x.len);
    }

    fn rope_halves(&self, x: &mut Buffer, cos: &Buffer, sin: &Buffer, head_dim: usize) {
        let turn = Turn { head_dim, halves: true };
        *x = self.output(self.rotate(&self.flat(x), x.len / (2 * cos.len), cos, sin, turn), x.len);
    }

    fn attention(&self, q: &Buffer, k: &Buffer, v: &Buffer, geometry: Attention) -> Buffer {
        self.attention_of(q, k, v, geometry)
    }

    fn concat_rows(&self, a: &Buffer, b: &Buffer) -> Buffer {
        let parts = [a, b].map(|part| self.port.reshape(&part.array, &[part.len]));
        Buffer::new(self.port.concatenate(&[&parts[0], &parts[1]], 0), a.len + b.len)
    }

    fn slice(&self, x: &Buffer, start: usize, end: usize) -> Buffer {
        self.cut(x, start, end)
    }

    fn append_token(&self, x: &Buffer, token: &Buffer, count: usize) -> Buffer {
        let copies = self.port.broadcast(&self.port.reshape(&token.array, &[1, token.len]), &[count, token.len]);
        let len = count * token.len;
        self.concat_rows(x, &Buffer::new(copies, len))
    }

    fn patchify(&self, x: &Buffer, channels: usize, height: usize, width: usize) -> Buffer {
        let blocks = self.port.reshape(&x.array, &[channels, height / 2, 2, width / 2, 2]);
        Buffer::new(self.port.transpose(&blocks, &[1, 3, 2, 4, 0]), x.len)
    }

    fn unpatchify(&self, x: &Buffer, channels: usize, height: usize, width: usize) -> Buffer {
        let tokens = self.port.reshape(&x.array, &[height / 2, width / 2, 2, 2, channels]);
        Buffer::new(self.port.transpose(&tokens, &[4, 0, 2, 1, 3]), x.len)
    }

    fn conv2d(&self, x: &Buffer, weight: &Buffer, bias: &Buffer, conv: &Conv) -> Buffer {
        let shape = [conv.cin, conv.height, conv.width];
        let pixels = self.pixels(&self.input(x, &shape), shape);
        let len = conv.cout * conv.out_height() * conv.out_width();
        self.output(self.convolution(&pixels, weight, bias, conv), len)
    }

    fn conv1x1_in_place(&self, x: &mut Buffer, weight: &Buffer, bias: &Buffer, conv: &Conv) {
        *x = self.conv2d(x, weight, bias, conv);
    }

    fn upsample_conv3x3(&self, x: &Buffer, weight: &Buffer, bias: &Buffer, conv: &Conv3x3) -> Buffer {
        let shape = [conv.cin, conv.height / 2, conv.width / 2];
        let doubled = self.doubled(&self.pixels(&self.input(x, &shape), shape), shape);
        let y = self.convolution(&doubled, weight, bias, &conv.general());
        self.output(y, conv.cout * conv.height * conv.width)
    }

    fn norm_silu_conv3x3(
        &self,
        x: &Buffer,
        norm: &Norm<Buffer>,
        weight: &Buffer,
        bias: &Buffer,
        conv: &Conv3x3,
    ) -> Buffer {
        let y = self.norm_silu_conv(x, norm, weight, bias, &conv.general());
        self.output(y, conv.cout * conv.height * conv.width)
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
        let y = self.norm_silu_conv(y, norm, weight, bias, &conv.general());
        let x_planes = self.input(x, &[conv.cout, conv.height, conv.width]);
        *x = self.output(self.port.add(&x_planes, &y), x.len);
    }

    fn group_norm(&self, x: &Buffer, norm: &Norm<Buffer>) -> Buffer {
        self.output(self.group_norm_of(x, norm), x.len)
    }

    fn transpose(&self, x: &Buffer, rows: usize, cols: usize) -> Buffer {
        Buffer::new(self.port.transpose(&self.port.reshape(&x.array, &[rows, cols]), &[1, 0]), x.len)
    }
}
