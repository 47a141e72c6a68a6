//! Convolutions, and the group norms that they read through.

use super::Cpu;
use crate::backend::{Conv, Norm};
use crate::buffer::Buffer;
use crate::meter::Kind;
use zimage_kernels::conv2d::winograd::{self, ChannelNorm, Conv3x3, Input, Output};
use zimage_kernels::conv2d::{self, Conv2d};
use zimage_kernels::gemm;
use zimage_kernels::group_norm::{self, Moments};
use zimage_kernels::tile::{MatrixRef, tiles};

/// Values of a group whose moments one piece of work takes.
const MOMENTS: usize = 1 << 16;

/// Pixels of a convolution in place: with 256 channels their copy is half a megabyte.
const PIXELS: usize = 512;

/// A group norm with known statistics: one value of each per channel.
pub struct Statistics {
    mean: Vec<f32>,
    factor: Vec<f32>,
    bias: Vec<f32>,
}

impl Statistics {
    pub fn view(&self) -> ChannelNorm<'_> {
        ChannelNorm { mean: &self.mean, factor: &self.factor, bias: &self.bias }
    }
}

impl Cpu {
    /// Any convolution but those of [`Cpu::conv3x3`].
    pub(super) fn conv_general(&self, out: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32], conv: &Conv2d) {
        let pixels = conv.out_height() * conv.out_width();
        let pieces = tiles(out, conv.cout, pixels, conv.cout, conv.band_rows() * conv.out_width());
        let flop = 2.0 * (conv.cout * conv.cin * conv.kh * conv.kw * pixels) as f64;
        self.meter.measure(Kind::Convolution, flop, || {
            self.threads.for_each(pieces, |mut tile, scratch| {
                conv2d::conv2d_band(self.level, conv, &mut tile, x, weight, bias, scratch);
            });
        });
    }

    /// A convolution of 3x3 that keeps the size. The weight is transformed anew each time, in a hundredth of the time
    /// that the convolution takes: kept beside each other, the transformed weights of a VAE would take 0.8 GB.
    pub(super) fn conv3x3(
        &self,
        out: &mut [f32],
        input: Input,
        weight: &[f32],
        bias: &[f32],
        conv: Conv3x3,
        output: Output,
    ) {
        let pixels = conv.height * conv.width;
        let flop = 2.0 * (conv.cout * conv.cin * 9 * pixels) as f64;
        self.meter.measure(Kind::Convolution, flop, || {
            let packed = self.transformed(weight, &conv);
            let bands = tiles(out, conv.cout, pixels, conv.cout, conv.band_rows() * conv.width);
            self.threads.for_each(bands, |mut tile, scratch| {
                winograd::conv3x3_band(self.level, &conv, &mut tile, input, &packed, bias, output, scratch);
            });
        });
    }

    fn transformed(&self, weight: &[f32], conv: &Conv3x3) -> Buffer {
        let (rows, cols) = (Conv3x3::packed_rows(self.level), conv.packed_cols(self.level));
        let mut packed = self.take(rows * cols);
        let blocks = tiles(&mut packed, rows, cols, rows, conv.packed_block_cols(self.level));
        self.threads.for_each(blocks, |mut tile, _| winograd::pack(self.level, conv, &mut tile, weight));
        packed
    }

    /// A convolution of 1x1 into the first planes of its input, which has at least as many.
    pub(super) fn conv1x1_in_place(&self, x: &mut [f32], weight: &[f32], bias: &[f32], conv: &Conv) {
        let pixels = conv.height * conv.width;
        let weight = MatrixRef::contiguous(weight, conv.cout, conv.cin);
        let pieces = tiles(x, conv.cin, pixels, conv.cin, PIXELS);
        let flop = 2.0 * (conv.cout * conv.cin * pixels) as f64;
        self.meter.measure(Kind::Convolution, flop, || {
            self.threads.for_each(pieces, |mut tile, scratch| {
                scratch.clear();
                (0..conv.cin).for_each(|channel| scratch.extend_from_slice(tile.row(channel)));
                let x = MatrixRef::contiguous(scratch, conv.cin, tile.cols());
                let mut out = tile.row_range(0, conv.cout);
                for (channel, bias) in bias.iter().enumerate() {
                    out.row_mut(channel).fill(*bias);
                }
                gemm::gemm_nn(self.level, &mut out, weight, x, true);
            });
        });
    }

    /// Reads `x` once.
    pub(super) fn statistics(&self, x: &[f32], norm: &Norm<Buffer>) -> Statistics {
        let (channels, values) = (norm.weight.len(), x.len() / norm.groups);
        let mut parts = vec![Moments::default(); norm.groups * values.div_ceil(MOMENTS)];
        let slices = x.chunks(values.max(1)).flat_map(|group| group.chunks(MOMENTS));
        let pieces = parts.iter_mut().zip(slices).collect();
        self.threads.for_each(pieces, |(part, x), _| *part = group_norm::moments(self.level, x));
        let groups: Vec<Moments> = parts
            .chunks(values.div_ceil(MOMENTS).max(1))
            .map(|parts| parts.iter().fold(Moments::default(), |all, part| all.merged(*part)))
            .collect();
        let of = |channel: usize| groups[channel * norm.groups / channels];
        Statistics {
            mean: (0..channels).map(|c| of(c).mean() as f32).collect(),
            factor: (0..channels).map(|c| of(c).inverse(norm.eps) as f32 * norm.weight[c]).collect(),
            bias: norm.bias.to_vec(),
        }
    }

    /// The norm alone, as a tensor of its own.
    pub(super) fn normalized(&self, x: &[f32], norm: &Norm<Buffer>) -> Buffer {
        let statistics = self.statistics(x, norm);
        let ChannelNorm { mean, factor, bias } = statistics.view();
        let mut out = self.take(x.len());
        let pixels = (x.len() / mean.len()).max(1);
        let pieces = out.chunks_mut(pixels).zip(x.chunks(pixels)).enumerate().collect();
        self.threads.for_each(pieces, |(c, (out, x)), _| {
            group_norm::normalize(self.level, out, x, mean[c], factor[c], bias[c]);
        });
        out
    }
}
