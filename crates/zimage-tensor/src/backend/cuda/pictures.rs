//! Convolutions, and the group norms before them.
//!
//! A convolution goes through the picture in strips of rows. For each it lays the channels of every pixel beside each
//! other ([`Source`], `to_pixels`), which is where norm and SiLU are computed, and then multiplies (`convolutions.cu`).
//! So the second picture that this takes is never larger than [`STRIP_BYTES`], and mostly still in the L2 cache when
//! the second kernel reads it; and a convolution of 1x1 may write into the picture that it reads.

use super::driver::{Address, Args, Element};
use super::{Buffer, Conv, Conv3x3, Cuda, Norm, kernel_of};
use crate::meter::Kind;
use std::ops::Range;

/// Bytes of a strip, about: the L2 cache of an H100 has 50 MB. At 1024x1024 it is 256 rows of 128 channels in bf16,
/// 2048 blocks, and 8 waves of the 264 that run at once. Tests have pictures of a few strips.
const STRIP_BYTES: usize = if cfg!(test) { 64 << 10 } else { 64 << 20 };

/// Values whose moments a block takes.
const SLICE: usize = 8192;
/// Channels are padded with zeros to a multiple of this.
const CHANNELS: usize = 32;
/// Pixels that a block of a convolution makes: rows and columns.
const PATCH: [usize; 2] = [8, 16];

/// What is convolved.
struct Source<'a> {
    /// `(cin, height, width)`, or a quarter of that if it is doubled.
    x: &'a Buffer,
    /// The factors of a norm: then `silu(norm(x))` is convolved.
    norm: Option<&'a Buffer>,
    /// Whether each pixel stands for four.
    doubled: bool,
}

/// Rows of the output, and the rows of the source that they are made from.
#[derive(Debug, PartialEq)]
struct Strip {
    out: Range<usize>,
    source: Range<usize>,
}

/// The strips of a convolution whose source has so many bytes in a row.
fn strips(conv: &Conv, doubled: bool, row_bytes: usize) -> Vec<Strip> {
    let shift = usize::from(doubled);
    let most = (STRIP_BYTES / row_bytes.max(1)) << shift;
    let rows = (most.saturating_sub(conv.kh) / conv.stride / PATCH[0] * PATCH[0]).max(PATCH[0]);
    let strip = |first: usize| {
        let end = (first + rows).min(conv.out_height());
        let from = (first * conv.stride).saturating_sub(conv.pad_top).min(conv.height);
        let to = ((end - 1) * conv.stride + conv.kh).saturating_sub(conv.pad_top).clamp(from, conv.height);
        Strip { out: first..end, source: from >> shift..(to + shift) >> shift }
    };
    (0..conv.out_height()).step_by(rows).map(strip).collect()
}

/// A kernel of `convolutions.cu`.
struct Kernel {
    name: &'static str,
    /// Output channels of a block.
    channels: usize,
    threads: u32,
    shared_bytes: usize,
}

impl Kernel {
    /// The one that suits so many output channels.
    fn of(element: Element, cout: usize) -> Kernel {
        let (narrow, threads) = if element == Element::Bf16 { (32, 128) } else { (64, 256) };
        let is_narrow = cout <= narrow;
        let channels = if is_narrow { narrow } else { 128 };
        // Three stages of weights and pixels, 32 channels of each; in f32 the kernel knows its memory itself.
        let shared_bytes = if element == Element::Bf16 { 3 * (channels + 128) * 32 * 2 } else { 0 };
        let name = match is_narrow {
            true => kernel_of!(element, "convolve_narrow"),
            false => kernel_of!(element, "convolve_wide"),
        };
        Kernel { name, channels, threads, shared_bytes }
    }
}

impl Cuda {
    /// [`crate::ops::conv2d`].
    pub(super) fn conv2d(&self, x: &Buffer, weight: &Buffer, bias: &Buffer, conv: &Conv) -> Buffer {
        let mut held = None;
        let x = self.in_element(x, self.element(), &mut held);
        self.convolved(&Source { x, norm: None, doubled: false }, weight, bias, conv)
    }

    /// [`crate::ops::conv1x1`] into the first planes of `x`: each strip is copied before it is written.
    pub(super) fn conv1x1_in_place(&self, x: &mut Buffer, weight: &Buffer, bias: &Buffer, conv: &Conv) {
        self.make_writable(x);
        let source = Source { x, norm: None, doubled: false };
        self.convolve(&source, weight, bias, conv, x.address(), false);
    }

    /// [`crate::ops::upsample_conv2d`].
    pub(super) fn upsample_conv3x3(&self, x: &Buffer, weight: &Buffer, bias: &Buffer, conv: &Conv3x3) -> Buffer {
        let mut held = None;
        let x = self.in_element(x, self.element(), &mut held);
        self.convolved(&Source { x, norm: None, doubled: true }, weight, bias, &conv.general())
    }

    /// [`crate::ops::norm_silu_conv2d`].
    pub(super) fn norm_silu_conv3x3(
        &self,
        x: &Buffer,
        norm: &Norm<Buffer>,
        weight: &Buffer,
        bias: &Buffer,
        conv: &Conv3x3,
    ) -> Buffer {
        let mut held = None;
        let x = self.in_element(x, self.element(), &mut held);
        let factors = self.channel_factors(x, norm);
        let source = Source { x, norm: Some(&factors), doubled: false };
        self.convolved(&source, weight, bias, &conv.general())
    }

    /// [`crate::ops::add_norm_silu_conv2d`].
    pub(super) fn add_norm_silu_conv3x3(
        &self,
        x: &mut Buffer,
        y: &Buffer,
        norm: &Norm<Buffer>,
        weight: &Buffer,
        bias: &Buffer,
        conv: &Conv3x3,
    ) {
        self.make_writable(x);
        let mut held = None;
        let y = self.in_element(y, self.element(), &mut held);
        let factors = self.channel_factors(y, norm);
        let source = Source { x: y, norm: Some(&factors), doubled: false };
        self.convolve(&source, weight, bias, &conv.general(), x.address(), true);
    }

    /// [`crate::ops::group_norm`].
    pub(super) fn group_norm(&self, x: &Buffer, norm: &Norm<Buffer>) -> Buffer {
        let element = self.element();
        let mut held = None;
        let x = self.in_element(x, element, &mut held);
        let factors = self.channel_factors(x, norm);
        let out = self.take(element, x.len());
        let channels = norm.weight.len();
        let plane = x.len() / channels;
        let args = Args::new().address(out.address()).address(x.address()).address(factors.address());
        let grid = [plane.div_ceil(1024), channels, 1];
        self.run("pictures", kernel_of!(element, "normalize"), grid, 256, 0, args.size(plane));
        out
    }

    /// Brings a picture into the element that convolutions write.
    fn make_writable(&self, x: &mut Buffer) {
        if x.element() != self.element() {
            *x = self.cast(x, self.element());
        }
    }

    /// What a norm subtracts from each channel, by what it multiplies then, and what it adds: f32, four per channel.
    fn channel_factors(&self, x: &Buffer, norm: &Norm<Buffer>) -> Buffer {
        let (channels, values) = (norm.weight.len(), x.len() / norm.groups);
        let slices = values.div_ceil(SLICE);
        let parts = self.take(Element::F32, norm.groups * slices * 2);
        let args = Args::new().address(parts.address()).address(x.address()).size(values).size(slices);
        self.run("pictures", kernel_of!(x.element(), "moments"), [slices, norm.groups, 1], 256, 0, args);
        let factors = self.take(Element::F32, channels * 4);
        let args = Args::new().address(factors.address()).address(parts.address());
        let args = args
            .param(norm.weight)
            .param(norm.bias)
            .size(values)
            .size(slices)
            .size(channels / norm.groups)
            .float(norm.eps);
        self.run("pictures", "channel_factors", [norm.groups, 1, 1], 32, 0, args);
        factors
    }

    fn convolved(&self, source: &Source, weight: &Buffer, bias: &Buffer, conv: &Conv) -> Buffer {
        let out = self.take(self.element(), conv.cout * conv.out_height() * conv.out_width());
        self.convolve(source, weight, bias, conv, out.address(), false);
        out
    }

    /// The convolution into the memory at `out`, or added to what is there.
    fn convolve(&self, source: &Source, weight: &Buffer, bias: &Buffer, conv: &Conv, out: Address, add: bool) {
        let taps = conv.kh * conv.kw;
        let flop = 2.0 * (conv.cout * conv.cin * taps) as f64 * (conv.out_height() * conv.out_width()) as f64;
        self.port.measure(Kind::Convolution, flop, || {
            let (element, padded) = (self.element(), conv.cin.next_multiple_of(CHANNELS));
            let weight = self.reordered(weight, conv, padded);
            let row = (conv.width >> usize::from(source.doubled)) * padded;
            let strips = strips(conv, source.doubled, row * element.bytes());
            let most = strips.iter().map(|strip| strip.source.len()).max().unwrap_or_default();
            let pixels = self.take(element, most * row);
            for strip in strips {
                self.to_pixels(source, conv, padded, &strip, &pixels);
                let args = Args::new().address(out).address(pixels.address()).address(weight.address()).param(bias);
                let args = args.size(conv.cout).size(padded).size(conv.kh).size(conv.kw).size(conv.stride);
                let args = args.size(conv.pad_top).size(conv.pad_left).size(source.doubled.into());
                let args = args.size(conv.height).size(conv.width).size(strip.source.start);
                let args = args.size(strip.out.start).size(strip.out.end);
                let args = args.size(conv.out_height()).size(conv.out_width()).size(add.into());
                let kernel = Kernel::of(element, conv.cout);
                let [rows, columns] = PATCH;
                let patches = [conv.out_width().div_ceil(columns), strip.out.len().div_ceil(rows)];
                let grid = [conv.cout.div_ceil(kernel.channels), patches[0], patches[1]];
                self.run("convolutions", kernel.name, grid, kernel.threads, kernel.shared_bytes, args);
            }
        });
    }

    /// The weight as `(cout, padded / 32, taps, 32)`.
    fn reordered(&self, weight: &Buffer, conv: &Conv, padded: usize) -> Buffer {
        let (element, taps) = (self.element(), conv.kh * conv.kw);
        let out = self.take(element, conv.cout * taps * padded);
        let args = Args::new().address(out.address()).param(weight).size(conv.cin).size(padded).size(taps);
        let grid = [out.len().div_ceil(256), 1, 1];
        self.run("pictures", kernel_of!(element, "reorder_weight"), grid, 256, 0, args.size(out.len()));
        out
    }

    /// The rows of a strip as `(pixels, padded)`.
    fn to_pixels(&self, source: &Source, conv: &Conv, padded: usize, strip: &Strip, out: &Buffer) {
        let width = conv.width >> usize::from(source.doubled);
        let (plane, pixels) = (source.x.len() / conv.cin, strip.source.len() * width);
        let args = Args::new().address(out.address()).address(source.x.address());
        let args = args.address(source.norm.map_or(Address::default(), Buffer::address));
        let args = args.size(conv.cin).size(padded).size(plane).size(strip.source.start * width).size(pixels);
        let grid = [pixels.div_ceil(64), padded / CHANNELS, 1];
        self.run("pictures", kernel_of!(out.element(), "to_pixels"), grid, 256, 0, args);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conv(stride: usize, height: usize, width: usize) -> Conv {
        let (kh, kw, pad) = (3, 3, usize::from(stride == 1));
        let (pad_left, pad_right, pad_top, pad_bottom) = (pad, 1, pad, 1);
        Conv { cin: 128, cout: 128, kh, kw, stride, pad_left, pad_right, pad_top, pad_bottom, height, width }
    }

    #[test]
    fn strips_read_the_rows_that_their_kernel_reaches() {
        let strip = |out, source| Strip { out, source };
        let kilobyte = 1 << 10;
        assert_eq!(
            strips(&conv(1, 100, 10), false, kilobyte),
            [strip(0..56, 0..57), strip(56..100, 55..100)],
            "64 rows of a kilobyte, of which 61 are not beside the strip"
        );
        assert_eq!(strips(&conv(1, 200, 10), true, kilobyte)[1], strip(120..200, 59..100), "two rows from one");
        assert_eq!(strips(&conv(2, 100, 10), false, kilobyte)[1], strip(24..48, 48..97), "every second row");
        assert_eq!(strips(&conv(1, 20, 10), false, usize::MAX)[2], strip(16..20, 15..20), "never less than 8 rows");
    }

    #[test]
    fn every_row_of_the_output_is_in_one_strip() {
        for (height, row_bytes) in [(1, 10), (64, 1 << 10), (1000, 3 << 10)] {
            let rows = strips(&conv(1, height, 10), false, row_bytes).into_iter().flat_map(|strip| strip.out);
            assert!(rows.eq(0..height), "{height} rows of {row_bytes} bytes");
        }
    }
}
