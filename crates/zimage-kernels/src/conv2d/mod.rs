//! Two-dimensional convolution, one band of output rows at a time.

mod im2col;
mod naive;
pub mod winograd;

#[cfg(test)]
mod tests;

use crate::Level;
use crate::tile::TileMut;

/// The shape of a convolution: `(cin, height, width)` to `(cout, out_height, out_width)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Input channels.
    pub cin: usize,
    /// Output channels.
    pub cout: usize,
    /// Kernel height.
    pub kh: usize,
    /// Kernel width.
    pub kw: usize,
    /// Step of the kernel, in both directions.
    pub stride: usize,
    /// Columns of zeros left of the input.
    pub pad_left: usize,
    /// Columns of zeros right of the input.
    pub pad_right: usize,
    /// Rows of zeros above the input.
    pub pad_top: usize,
    /// Rows of zeros below the input.
    pub pad_bottom: usize,
    /// Input height.
    pub height: usize,
    /// Input width.
    pub width: usize,
}

impl Conv2d {
    /// Height of the output.
    ///
    /// # Panics
    /// When the kernel is higher than the padded input.
    pub fn out_height(&self) -> usize {
        (self.height + self.pad_top + self.pad_bottom - self.kh) / self.stride + 1
    }

    /// Width of the output.
    ///
    /// # Panics
    /// When the kernel is wider than the padded input.
    pub fn out_width(&self) -> usize {
        (self.width + self.pad_left + self.pad_right - self.kw) / self.stride + 1
    }

    /// Output rows per band: a number that depends on the shape alone, so that results do not
    /// depend on the number of threads.
    pub fn band_rows(&self) -> usize {
        // Wide enough that reading the weights once per band costs little, and enough bands for
        // every thread at the sizes that matter.
        const COLUMNS: usize = 2048;
        (COLUMNS / self.out_width().max(1)).clamp(1, self.out_height())
    }
}

/// `out = conv2d(x, weight) + bias` for one band of output rows.
///
/// `x` is `(cin, height, width)`, `weight` `(cout, cin, kh, kw)`, `bias` `(cout)`. `out` is a
/// tile of the `(cout, out_height * out_width)` output that covers whole image rows:
/// `tiles(out, cout, out_height * out_width, cout, band_rows * out_width)`; it may also be split
/// by output channels. `scratch` grows to a few megabytes.
///
/// # Panics
/// When the lengths do not fit the shape, or the tile does not cover whole image rows.
///
/// Source: `torch.nn.functional.conv2d`.
pub fn conv2d_band(
    level: Level,
    conv: &Conv2d,
    out: &mut TileMut,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    scratch: &mut Vec<f32>,
) {
    let out_width = conv.out_width();
    assert_eq!(x.len(), conv.cin * conv.height * conv.width, "values of the input");
    assert_eq!(weight.len(), conv.cout * conv.cin * conv.kh * conv.kw, "values of the weight");
    assert_eq!(bias.len(), conv.cout, "values of the bias");
    assert!(out.row0() + out.rows() <= conv.cout, "output channels");
    assert!(out.col0().is_multiple_of(out_width) && out.cols().is_multiple_of(out_width), "a band covers whole rows");
    assert!(out.col0() + out.cols() <= conv.out_height() * out_width, "rows of the output");
    level.check();
    match level {
        Level::Naive => naive::conv2d_band(conv, out, x, weight, bias),
        _ => im2col::conv2d_band(level, conv, out, x, weight, bias, scratch),
    }
}
