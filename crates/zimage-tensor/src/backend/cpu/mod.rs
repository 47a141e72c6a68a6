//! The CPU: our kernels at this machine's best level, cut into pieces over a pool of threads.
//!
//! Pieces depend on shapes alone (see `threads`), so the results don't depend on the number of threads.

mod attention;
mod convolution;
mod int8;

pub use int8::{Panels, QuantizedRows};

use super::host::{self, host_methods};
use super::{Attention, Backend, Conv, Norm};
use crate::buffer::{Buffer, Memory};
use crate::meter::{Kind, Meter, Work};
use crate::pool::{Between, Keep, Pool};
use crate::threads::Threads;
use crate::{Compute, Error, MemoryUse, Result, Weight};
use zimage_kernels::conv2d::winograd::{Conv3x3, Input, Output};
use zimage_kernels::level::LEVEL_VARIABLE;
use zimage_kernels::tile::{MatrixRef, tiles};
use zimage_kernels::{Level, activation, elementwise, gemm, gemm_i8, layer_norm, linear, rms_norm, rope};

/// Output tile of a linear layer: a tile widens and lays out its rows of the weight once, and then multiplies up to
/// 1024 tokens with them, so that no format costs more than a few percent over f32. The columns are those of one block
/// of the product; their bits do not depend on either number.
const LINEAR_ROWS: usize = 1024;
const LINEAR_COLS: usize = 256;

/// The CPU backend.
#[derive(Clone, Debug)]
pub struct Cpu {
    level: Level,
    compute: Compute,
    threads: Threads,
    meter: Meter,
    pool: Pool<Memory>,
}

impl Cpu {
    /// The backend on `threads` threads.
    pub fn new(threads: usize) -> Result<Cpu> {
        let asked = std::env::var(LEVEL_VARIABLE).ok();
        if let Some(value) = asked.filter(|value| Level::from_name(value).is_none()) {
            return Err(Error::Level { variable: LEVEL_VARIABLE, value });
        }
        Ok(Cpu {
            level: Level::detect(),
            compute: Compute::Exact,
            threads: Threads::new(threads)?,
            meter: Meter::default(),
            pool: Pool::new(()),
        })
    }

    /// The same threads and memory, computing in another way.
    pub fn with_compute(self, compute: Compute) -> Cpu {
        Cpu { compute, ..self }
    }

    /// How linear layers are computed.
    pub fn compute(&self) -> Compute {
        self.compute
    }

    /// The work of a kind so far.
    pub fn work(&self, kind: Kind) -> Work {
        self.meter.work(kind)
    }

    /// Whether there are instructions for dot products of bytes.
    pub fn multiplies_bytes_fast(&self) -> bool {
        gemm_i8::is_fast(self.level)
    }

    /// Instruction set and threads, for people.
    pub fn describe(&self) -> String {
        let count = self.threads.count();
        let threads = format!("{count} thread{}", if count == 1 { "" } else { "s" });
        if self.compute == Compute::Int8 {
            return format!("cpu (int8 by {}, {threads})", gemm_i8::describe(self.level));
        }
        format!("cpu ({:?}, {threads})", self.level)
    }

    /// What the pool holds.
    pub fn memory_use(&self) -> MemoryUse {
        self.pool.memory_use()
    }

    /// Keeps what is given back while the result lives.
    pub fn keep_memory(&self) -> Keep<Memory> {
        self.pool.keep()
    }

    /// Does as outside of loops while the result lives.
    pub fn between_loops(&self) -> Between<Memory> {
        self.pool.between_loops()
    }

    /// Gives what is free back to the operating system, and the scratch buffers of the threads.
    pub fn release_memory(&self) {
        self.pool.release();
        self.threads.release();
    }
}

impl Backend for Cpu {
    type Buffer = Buffer;
    host_methods!();

    fn linear(&self, x: &Buffer, weight: &Weight, bias: Option<&Buffer>) -> Buffer {
        let rows = x.len() / weight.cols;
        let mut out = self.take(rows * weight.rows);
        let pieces = tiles(&mut out, rows, weight.rows, LINEAR_ROWS, LINEAR_COLS);
        self.meter.measure(Kind::Linear, weight.flop(rows), || {
            self.threads.for_each(pieces, |mut tile, scratch| {
                let a = MatrixRef::new(&x[tile.row0() * weight.cols..], tile.rows(), weight.cols, weight.cols);
                let bias = bias.map(|b| &b[..]);
                linear::linear_tile(self.level, &mut tile, a, weight.matrix(), bias, scratch);
            });
        });
        out
    }

    fn rms_norm(&self, x: &Buffer, weight: &Buffer, eps: f32) -> Buffer {
        let mut out = self.take(x.len());
        self.threads.for_rows(&mut out, x, weight.len(), |out, x| rms_norm::rms_norm(self.level, out, x, weight, eps));
        out
    }

    fn rms_norm_scaled(&self, x: &Buffer, weight: &Buffer, scale: &Buffer, eps: f32) -> Buffer {
        let mut out = self.take(x.len());
        self.threads.for_rows(&mut out, x, weight.len(), |out, x| {
            rms_norm::rms_norm_scaled(self.level, out, x, weight, scale, eps);
        });
        out
    }

    fn add_rms_norm(&self, x: &mut Buffer, y: &Buffer, weight: &Buffer, eps: f32) {
        self.threads.for_rows(x, y, weight.len(), |x, y| rms_norm::add_rms_norm(self.level, x, y, weight, eps));
    }

    fn add_rms_norm_gated(&self, x: &mut Buffer, y: &Buffer, weight: &Buffer, gate: &Buffer, eps: f32) {
        self.threads.for_rows(x, y, weight.len(), |x, y| {
            rms_norm::add_rms_norm_gated(self.level, x, y, weight, gate, eps);
        });
    }

    fn layer_norm_scaled(&self, x: &Buffer, scale: &Buffer, eps: f32) -> Buffer {
        let mut out = self.take(x.len());
        self.threads.for_rows(&mut out, x, scale.len(), |out, x| {
            layer_norm::layer_norm_scaled(self.level, out, x, scale, eps);
        });
        out
    }

    fn add(&self, x: &mut Buffer, y: &Buffer) {
        self.threads.for_rows(x, y, 1, |x, y| elementwise::add(self.level, x, y));
    }

    fn subtract_from(&self, x: &mut Buffer, y: &Buffer) {
        self.threads.for_rows(x, y, 1, |x, y| elementwise::subtract_from(self.level, x, y));
    }

    fn add_scaled(&self, y: &mut Buffer, z: &Buffer, z_cols: usize, skip: usize, factors: &Buffer) {
        let cols = factors.len();
        self.threads.for_rows_mut(y, cols, |row0, y| {
            host::add_scaled(y, &z[row0 * z_cols..][..y.len() / cols * z_cols], z_cols, skip, factors);
        });
    }

    fn mix_rows(&self, x: &Buffer, w: &Buffer, groups: usize, inner: usize, cols: usize) -> Buffer {
        let rows = w.len() / inner;
        let mut out = self.take(groups * rows * cols);
        let pieces = tiles(&mut out, groups * rows, cols, rows, cols);
        self.threads.for_each(pieces, |mut tile, _| {
            let x = &x[tile.row0() / rows * inner * cols..][..inner * cols];
            let w = MatrixRef::contiguous(w, rows, inner);
            gemm::gemm_nn(self.level, &mut tile, w, MatrixRef::contiguous(x, inner, cols), false);
        });
        out
    }

    fn silu(&self, x: &mut Buffer) {
        self.threads.for_rows_mut(x, 1, |_, x| activation::silu(self.level, x));
    }

    fn silu_mul(&self, gate: &mut Buffer, up: &Buffer) {
        self.threads.for_rows(gate, up, 1, |gate, up| activation::silu_mul(self.level, gate, up));
    }

    fn rope_interleaved(&self, x: &mut Buffer, cos: &Buffer, sin: &Buffer, head_dim: usize) {
        self.rope(x, cos, sin, head_dim, rope::rope_interleaved);
    }

    fn rms_norm_rope(&self, x: &mut Buffer, weight: &Buffer, eps: f32, cos: &Buffer, sin: &Buffer) {
        let head_dim = weight.len();
        self.rope(x, cos, sin, head_dim, |level, x, heads, head_dim, cos, sin| {
            let (cols, angles) = (heads * head_dim, head_dim / 2);
            for (i, x) in x.chunks_exact_mut(cols).enumerate() {
                let angles = i * angles..(i + 1) * angles;
                rms_norm::rms_norm_in_place(level, x, weight, eps);
                rope::rope_interleaved(level, x, heads, head_dim, &cos[angles.clone()], &sin[angles]);
            }
        });
    }

    fn rope_halves(&self, x: &mut Buffer, cos: &Buffer, sin: &Buffer, head_dim: usize) {
        self.rope(x, cos, sin, head_dim, rope::rope_halves);
    }

    fn attention(&self, q: &Buffer, k: &Buffer, v: &Buffer, shape: Attention) -> Buffer {
        self.attend(q, k, v, shape)
    }

    fn conv2d(&self, x: &Buffer, weight: &Buffer, bias: &Buffer, conv: &Conv) -> Buffer {
        let mut out = self.take(conv.cout * conv.out_height() * conv.out_width());
        match Conv3x3::of(conv) {
            Some(conv) => self.conv3x3(&mut out, Input::Plain(x), weight, bias, conv, Output::Replace),
            None => self.conv_general(&mut out, x, weight, bias, conv),
        }
        out
    }

    fn conv1x1_in_place(&self, x: &mut Buffer, weight: &Buffer, bias: &Buffer, conv: &Conv) {
        self.conv1x1_in_place(x, weight, bias, conv);
    }

    fn upsample_conv3x3(&self, x: &Buffer, weight: &Buffer, bias: &Buffer, conv: &Conv3x3) -> Buffer {
        let mut out = self.take(conv.cout * conv.height * conv.width);
        self.conv3x3(&mut out, Input::Doubled(x), weight, bias, *conv, Output::Replace);
        out
    }

    fn norm_silu_conv3x3(
        &self,
        x: &Buffer,
        norm: &Norm<Buffer>,
        weight: &Buffer,
        bias: &Buffer,
        conv: &Conv3x3,
    ) -> Buffer {
        let mut out = self.take(conv.cout * conv.height * conv.width);
        let statistics = self.statistics(x, norm);
        let input = Input::NormSilu(x, statistics.view());
        self.conv3x3(&mut out, input, weight, bias, *conv, Output::Replace);
        out
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
        let statistics = self.statistics(y, norm);
        self.conv3x3(x, Input::NormSilu(y, statistics.view()), weight, bias, *conv, Output::Add);
    }

    fn group_norm(&self, x: &Buffer, norm: &Norm<Buffer>) -> Buffer {
        self.normalized(x, norm)
    }
}

impl Cpu {
    /// Where the first value that is infinite or not a number stands.
    pub fn first_non_finite(&self, x: &Buffer) -> Option<usize> {
        elementwise::first_non_finite(self.level, x)
    }

    /// Memory for `len` values, all of which the caller must write.
    fn take(&self, len: usize) -> Buffer {
        Buffer::take(&self.pool, len)
    }

    /// One of the two rotations, over pieces of whole tokens.
    fn rope(
        &self,
        x: &mut [f32],
        cos: &[f32],
        sin: &[f32],
        head_dim: usize,
        rotate: impl Fn(Level, &mut [f32], usize, usize, &[f32], &[f32]) + Sync + Send,
    ) {
        let heads = x.len() / (2 * cos.len());
        let (cols, angles) = (heads * head_dim, head_dim / 2);
        self.threads.for_rows_mut(x, cols, |row0, x| {
            let tables = row0 * angles..(row0 + x.len() / cols) * angles;
            rotate(self.level, x, heads, head_dim, &cos[tables.clone()], &sin[tables]);
        });
    }
}
