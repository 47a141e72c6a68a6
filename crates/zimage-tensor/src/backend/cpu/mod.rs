//! The CPU: our kernels at this machine's best level, cut into pieces over a pool of threads.
//!
//! Pieces depend on shapes alone (see `threads`), so the results don't depend on the number of threads.

use super::host::{self, host_methods};
use super::{Attention, Backend, Conv};
use crate::threads::Threads;
use crate::{Error, Mask, Result, Weight};
use zimage_kernels::level::LEVEL_VARIABLE;
use zimage_kernels::tile::{MatrixRef, tiles};
use zimage_kernels::{
    Level, activation, attention, conv2d, elementwise, gemm, group_norm, layer_norm, linear, resize, rms_norm, rope,
};

/// Output tile of a linear layer: a tile widens its rows of the weight once (1 Mi values at K = 4096) and then does
/// 512 times as many multiply-adds with them, so that 16-bit weights cost a few percent more than f32 ones.
const LINEAR_ROWS: usize = 1024;
const LINEAR_COLS: usize = 256;

/// The CPU backend.
#[derive(Clone, Debug)]
pub struct Cpu {
    level: Level,
    threads: Threads,
}

impl Cpu {
    /// The backend on `threads` threads.
    pub fn new(threads: usize) -> Result<Cpu> {
        let asked = std::env::var(LEVEL_VARIABLE).ok();
        if let Some(value) = asked.filter(|value| Level::from_name(value).is_none()) {
            return Err(Error::Level { variable: LEVEL_VARIABLE, value });
        }
        Ok(Cpu { level: Level::detect(), threads: Threads::new(threads)? })
    }

    /// Instruction set and threads, for people.
    pub fn describe(&self) -> String {
        let count = self.threads.count();
        format!("cpu ({:?}, {count} thread{})", self.level, if count == 1 { "" } else { "s" })
    }
}

impl Backend for Cpu {
    type Buffer = Vec<f32>;
    host_methods!();

    fn linear(&self, x: &Vec<f32>, weight: &Weight, bias: Option<&Vec<f32>>) -> Vec<f32> {
        let rows = x.len() / weight.cols;
        let mut out = vec![0.0; rows * weight.rows];
        let pieces = tiles(&mut out, rows, weight.rows, LINEAR_ROWS, LINEAR_COLS);
        self.threads.for_each(pieces, |mut tile, scratch| {
            let a = MatrixRef::new(&x[tile.row0() * weight.cols..], tile.rows(), weight.cols, weight.cols);
            let bias = bias.map(|b| &b[..]);
            linear::linear_tile(self.level, &mut tile, a, weight.matrix(), bias, scratch);
        });
        out
    }

    fn rms_norm(&self, x: &Vec<f32>, weight: &Vec<f32>, eps: f32) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        self.threads.for_rows(&mut out, x, weight.len(), |out, x| rms_norm::rms_norm(self.level, out, x, weight, eps));
        out
    }

    fn rms_norm_scaled(&self, x: &Vec<f32>, weight: &Vec<f32>, scale: &Vec<f32>, eps: f32) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        self.threads.for_rows(&mut out, x, weight.len(), |out, x| {
            rms_norm::rms_norm_scaled(self.level, out, x, weight, scale, eps);
        });
        out
    }

    fn add_rms_norm(&self, x: &mut Vec<f32>, y: &Vec<f32>, weight: &Vec<f32>, eps: f32) {
        self.threads.for_rows(x, y, weight.len(), |x, y| rms_norm::add_rms_norm(self.level, x, y, weight, eps));
    }

    fn add_rms_norm_gated(&self, x: &mut Vec<f32>, y: &Vec<f32>, weight: &Vec<f32>, gate: &Vec<f32>, eps: f32) {
        self.threads.for_rows(x, y, weight.len(), |x, y| {
            rms_norm::add_rms_norm_gated(self.level, x, y, weight, gate, eps);
        });
    }

    fn layer_norm_scaled(&self, x: &Vec<f32>, scale: &Vec<f32>, eps: f32) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        self.threads.for_rows(&mut out, x, scale.len(), |out, x| {
            layer_norm::layer_norm_scaled(self.level, out, x, scale, eps);
        });
        out
    }

    fn add(&self, x: &mut Vec<f32>, y: &Vec<f32>) {
        self.threads.for_rows(x, y, 1, |x, y| elementwise::add(self.level, x, y));
    }

    fn subtract_from(&self, x: &mut Vec<f32>, y: &Vec<f32>) {
        self.threads.for_rows(x, y, 1, |x, y| elementwise::subtract_from(self.level, x, y));
    }

    fn add_scaled(&self, y: &mut Vec<f32>, z: &Vec<f32>, z_cols: usize, skip: usize, factors: &Vec<f32>) {
        let cols = factors.len();
        self.threads.for_rows_mut(y, cols, |row0, y| {
            host::add_scaled(y, &z[row0 * z_cols..][..y.len() / cols * z_cols], z_cols, skip, factors);
        });
    }

    fn mix_rows(&self, x: &Vec<f32>, w: &Vec<f32>, groups: usize, inner: usize, cols: usize) -> Vec<f32> {
        let rows = w.len() / inner;
        let mut out = vec![0.0; groups * rows * cols];
        let pieces = tiles(&mut out, groups * rows, cols, rows, cols);
        self.threads.for_each(pieces, |mut tile, _| {
            let x = &x[tile.row0() / rows * inner * cols..][..inner * cols];
            let w = MatrixRef::contiguous(w, rows, inner);
            gemm::gemm_nn(self.level, &mut tile, w, MatrixRef::contiguous(x, inner, cols), false);
        });
        out
    }

    fn silu(&self, x: &mut Vec<f32>) {
        self.threads.for_rows_mut(x, 1, |_, x| activation::silu(self.level, x));
    }

    fn silu_mul(&self, gate: &mut Vec<f32>, up: &Vec<f32>) {
        self.threads.for_rows(gate, up, 1, |gate, up| activation::silu_mul(self.level, gate, up));
    }

    fn rope_interleaved(&self, x: &mut Vec<f32>, cos: &Vec<f32>, sin: &Vec<f32>, head_dim: usize) {
        self.rope(x, cos, sin, head_dim, rope::rope_interleaved);
    }

    fn rope_halves(&self, x: &mut Vec<f32>, cos: &Vec<f32>, sin: &Vec<f32>, head_dim: usize) {
        self.rope(x, cos, sin, head_dim, rope::rope_halves);
    }

    fn attention(&self, q: &Vec<f32>, k: &Vec<f32>, v: &Vec<f32>, g: Attention) -> Vec<f32> {
        let mut out = vec![0.0; q.len()];
        let (q_cols, kv_cols) = (g.heads * g.head_dim, g.kv_heads * g.head_dim);
        let pieces = tiles(&mut out, g.queries, q_cols, attention::QUERIES, g.head_dim);
        self.threads.for_each(pieces, |mut tile, scratch| {
            let kv = tile.col0() / g.head_dim / (g.heads / g.kv_heads) * g.head_dim;
            let q = MatrixRef::new(&q[tile.row0() * q_cols + tile.col0()..], tile.rows(), g.head_dim, q_cols);
            let k = MatrixRef::new(&k[kv..], g.keys, g.head_dim, kv_cols);
            let v = MatrixRef::new(&v[kv..], g.keys, g.head_dim, kv_cols);
            let causal = (g.mask == Mask::Causal).then_some(tile.row0());
            attention::attention(self.level, &mut tile, q, k, v, g.scale(), causal, scratch);
        });
        out
    }

    fn conv2d(&self, x: &Vec<f32>, weight: &Vec<f32>, bias: &Vec<f32>, conv: &Conv) -> Vec<f32> {
        let pixels = conv.out_height() * conv.out_width();
        let mut out = vec![0.0; conv.cout * pixels];
        let pieces = tiles(&mut out, conv.cout, pixels, conv.cout, conv.band_rows() * conv.out_width());
        self.threads.for_each(pieces, |mut tile, scratch| {
            conv2d::conv2d_band(self.level, conv, &mut tile, x, weight, bias, scratch);
        });
        out
    }

    fn group_norm(&self, x: &Vec<f32>, weight: &Vec<f32>, bias: &Vec<f32>, groups: usize, eps: f32) -> Vec<f32> {
        self.grouped(x, weight, bias, groups, |out, x, w, b| group_norm::group_norm(self.level, out, x, w, b, eps))
    }

    fn group_norm_silu(&self, x: &Vec<f32>, weight: &Vec<f32>, bias: &Vec<f32>, groups: usize, eps: f32) -> Vec<f32> {
        self.grouped(x, weight, bias, groups, |out, x, w, b| group_norm::group_norm_silu(self.level, out, x, w, b, eps))
    }

    fn upsample_nearest(&self, x: &Vec<f32>, height: usize, width: usize) -> Vec<f32> {
        let mut out = vec![0.0; 4 * x.len()];
        let planes = out.chunks_mut(4 * height * width).zip(x.chunks(height * width)).collect();
        self.threads.for_each(planes, |(out, x), _| resize::upsample_nearest_2x(out, x, height, width));
        out
    }

    fn first_non_finite(&self, x: &Vec<f32>) -> Option<usize> {
        elementwise::first_non_finite(self.level, x)
    }
}

impl Cpu {
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

    /// Runs `norm(out, x, weight, bias)` once per group of channels.
    fn grouped(
        &self,
        x: &[f32],
        weight: &[f32],
        bias: &[f32],
        groups: usize,
        norm: impl Fn(&mut [f32], &[f32], &[f32], &[f32]) + Sync + Send,
    ) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        let (values, channels) = (x.len() / groups, weight.len() / groups);
        let pieces = out.chunks_mut(values).enumerate().collect();
        self.threads.for_each(pieces, |(g, out), _| {
            let c = g * channels..(g + 1) * channels;
            norm(out, &x[g * values..(g + 1) * values], &weight[c.clone()], &bias[c]);
        });
        out
    }
}
