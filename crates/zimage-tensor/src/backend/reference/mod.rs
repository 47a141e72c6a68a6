//! The naive kernels behind the same list, on one thread and in one piece: the oracle.

use super::host::{self, host_methods};
use super::{Attention, Backend, Conv, Conv3x3, Norm};
use crate::buffer::Buffer;
use crate::{Mask, Weight};
use zimage_kernels::tile::{MatrixRef, tiles};
use zimage_kernels::{
    Level, activation, attention, conv2d, elementwise, gemm, group_norm, layer_norm, linear, resize, rms_norm, rope,
};

const NAIVE: Level = Level::Naive;

/// The reference backend.
#[derive(Clone, Copy, Debug)]
pub struct Reference;

impl Reference {
    /// Where the first value that is infinite or not a number stands.
    pub fn first_non_finite(&self, x: &Buffer) -> Option<usize> {
        elementwise::first_non_finite(NAIVE, x)
    }

    /// A fresh buffer: the oracle shares no memory between its results.
    fn take(self, len: usize) -> Buffer {
        vec![0.0; len].into()
    }
}

impl Backend for Reference {
    type Buffer = Buffer;
    host_methods!();

    fn linear(&self, x: &Buffer, weight: &Weight, bias: Option<&Buffer>) -> Buffer {
        let rows = x.len() / weight.cols;
        let mut out = self.take(rows * weight.rows);
        for mut tile in tiles(&mut out, rows, weight.rows, rows, weight.rows) {
            let a = MatrixRef::new(x, rows, weight.cols, weight.cols);
            let bias = bias.map(|b| &b[..]);
            linear::linear_tile(NAIVE, &mut tile, a, weight.matrix(), bias, &mut Vec::new());
        }
        out
    }

    fn rms_norm(&self, x: &Buffer, weight: &Buffer, eps: f32) -> Buffer {
        let mut out = self.take(x.len());
        rms_norm::rms_norm(NAIVE, &mut out, x, weight, eps);
        out
    }

    fn rms_norm_scaled(&self, x: &Buffer, weight: &Buffer, scale: &Buffer, eps: f32) -> Buffer {
        let mut out = self.take(x.len());
        rms_norm::rms_norm_scaled(NAIVE, &mut out, x, weight, scale, eps);
        out
    }

    fn add_rms_norm(&self, x: &mut Buffer, y: &Buffer, weight: &Buffer, eps: f32) {
        rms_norm::add_rms_norm(NAIVE, x, y, weight, eps);
    }

    fn add_rms_norm_gated(&self, x: &mut Buffer, y: &Buffer, weight: &Buffer, gate: &Buffer, eps: f32) {
        rms_norm::add_rms_norm_gated(NAIVE, x, y, weight, gate, eps);
    }

    fn layer_norm_scaled(&self, x: &Buffer, scale: &Buffer, eps: f32) -> Buffer {
        let mut out = self.take(x.len());
        layer_norm::layer_norm_scaled(NAIVE, &mut out, x, scale, eps);
        out
    }

    fn add(&self, x: &mut Buffer, y: &Buffer) {
        elementwise::add(NAIVE, x, y);
    }

    fn subtract_from(&self, x: &mut Buffer, y: &Buffer) {
        elementwise::subtract_from(NAIVE, x, y);
    }

    fn add_scaled(&self, y: &mut Buffer, z: &Buffer, z_cols: usize, skip: usize, factors: &Buffer) {
        host::add_scaled(y, z, z_cols, skip, factors);
    }

    fn mix_rows(&self, x: &Buffer, w: &Buffer, groups: usize, inner: usize, cols: usize) -> Buffer {
        let rows = w.len() / inner;
        let mut out = self.take(groups * rows * cols);
        for mut tile in tiles(&mut out, groups * rows, cols, rows, cols) {
            let x = &x[tile.row0() / rows * inner * cols..][..inner * cols];
            let w = MatrixRef::contiguous(w, rows, inner);
            gemm::gemm_nn(NAIVE, &mut tile, w, MatrixRef::contiguous(x, inner, cols), false);
        }
        out
    }

    fn silu(&self, x: &mut Buffer) {
        activation::silu(NAIVE, x);
    }

    fn silu_mul(&self, gate: &mut Buffer, up: &Buffer) {
        activation::silu_mul(NAIVE, gate, up);
    }

    fn rms_norm_rope(&self, x: &mut Buffer, weight: &Buffer, eps: f32, cos: &Buffer, sin: &Buffer) {
        *x = self.rms_norm(x, weight, eps);
        self.rope_interleaved(x, cos, sin, weight.len());
    }

    fn rope_interleaved(&self, x: &mut Buffer, cos: &Buffer, sin: &Buffer, head_dim: usize) {
        let heads = x.len() / (2 * cos.len());
        rope::rope_interleaved(NAIVE, x, heads, head_dim, cos, sin);
    }

    fn rope_halves(&self, x: &mut Buffer, cos: &Buffer, sin: &Buffer, head_dim: usize) {
        let heads = x.len() / (2 * cos.len());
        rope::rope_halves(NAIVE, x, heads, head_dim, cos, sin);
    }

    fn attention(&self, q: &Buffer, k: &Buffer, v: &Buffer, g: Attention) -> Buffer {
        let mut out = self.take(q.len());
        let (q_cols, kv_cols) = (g.heads * g.head_dim, g.kv_heads * g.head_dim);
        for mut tile in tiles(&mut out, g.queries, q_cols, g.queries, g.head_dim) {
            let head = tile.col0() / g.head_dim;
            let kv = head / (g.heads / g.kv_heads) * g.head_dim;
            let q = MatrixRef::new(&q[head * g.head_dim..], g.queries, g.head_dim, q_cols);
            let k = MatrixRef::new(&k[kv..], g.keys, g.head_dim, kv_cols);
            let v = MatrixRef::new(&v[kv..], g.keys, g.head_dim, kv_cols);
            let causal = (g.mask == Mask::Causal).then_some(0);
            attention::attention(NAIVE, &mut tile, q, k, v, g.scale(), causal, &mut Vec::new());
        }
        out
    }

    fn conv2d(&self, x: &Buffer, weight: &Buffer, bias: &Buffer, conv: &Conv) -> Buffer {
        let pixels = conv.out_height() * conv.out_width();
        let mut out = self.take(conv.cout * pixels);
        for mut tile in tiles(&mut out, conv.cout, pixels, conv.cout, pixels) {
            conv2d::conv2d_band(NAIVE, conv, &mut tile, x, weight, bias, &mut Vec::new());
        }
        out
    }

    fn conv1x1_in_place(&self, x: &mut Buffer, weight: &Buffer, bias: &Buffer, conv: &Conv) {
        let out = self.conv2d(x, weight, bias, conv);
        x[..out.len()].copy_from_slice(&out);
    }

    fn upsample_conv3x3(&self, x: &Buffer, weight: &Buffer, bias: &Buffer, conv: &Conv3x3) -> Buffer {
        let (height, width) = (conv.height / 2, conv.width / 2);
        let mut doubled = self.take(4 * x.len());
        for (out, x) in doubled.chunks_mut(4 * height * width).zip(x.chunks(height * width)) {
            resize::upsample_nearest_2x(out, x, height, width);
        }
        self.conv2d(&doubled, weight, bias, &conv.general())
    }

    fn norm_silu_conv3x3(
        &self,
        x: &Buffer,
        norm: &Norm<Buffer>,
        weight: &Buffer,
        bias: &Buffer,
        conv: &Conv3x3,
    ) -> Buffer {
        let mut h = self.group_norm(x, norm);
        activation::silu(NAIVE, &mut h);
        self.conv2d(&h, weight, bias, &conv.general())
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
        let h = self.norm_silu_conv3x3(y, norm, weight, bias, conv);
        elementwise::add(NAIVE, x, &h);
    }

    fn group_norm(&self, x: &Buffer, norm: &Norm<Buffer>) -> Buffer {
        let mut out = self.take(x.len());
        let (channels, pixels) = (norm.weight.len(), x.len() / norm.weight.len());
        for (c, out) in out.chunks_mut(pixels).enumerate() {
            let group = c * norm.groups / channels;
            let values = x.len() / norm.groups;
            let moments = group_norm::moments(NAIVE, &x[group * values..(group + 1) * values]);
            let factor = moments.inverse(norm.eps) as f32 * norm.weight[c];
            let x = &x[c * pixels..(c + 1) * pixels];
            group_norm::normalize(NAIVE, out, x, moments.mean() as f32, factor, norm.bias[c]);
        }
        out
    }
}
