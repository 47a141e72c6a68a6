//! Convolutions of 3x3 with stride 1 and padding 1, by Winograd's F(4x4, 3x3).
//!
//! A tile of 4 x 4 outputs takes 36 multiplications per pair of channels instead of 144:
//!
//! ```text
//! U[p] = (G w Gᵀ)[p]        once per call, (cout, cin) for each of 36 places p
//! V[p] = (Bᵀ d B)[p]        (cin, tiles): d are the 6 x 6 inputs that a tile sees
//! M[p] = U[p] V[p]          36 matrix products
//! y    = Aᵀ M A + bias      4 x 4 outputs
//! ```
//!
//! Lanes of vectors are tiles, so the transforms never mix lanes; only their ends do, where each fourth
//! column is taken or written. A block of 96 tiles goes through all three stages while it is in the caches.
//!
//! The input is made while it is read: normalized and activated, or doubled in size, so that neither
//! is ever stored. Padding is zeros after that.

mod band;
mod multiply;
mod naive;
mod quads;
mod rows;
mod transform;
mod weights;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests;

use super::Conv2d;
use crate::Level;
use crate::tile::TileMut;
use band::Call;

/// Outputs of a tile in one direction.
const TILE: usize = 4;
/// Inputs of a tile in one direction, and places of the transforms.
const PLACES: usize = 6;
/// Places of a tile, each a matrix product of its own.
const PRODUCTS: usize = PLACES * PLACES;

/// The shape: `(cin, height, width)`, as it is after [`Input`], to `(cout, height, width)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv3x3 {
    /// Input channels.
    pub cin: usize,
    /// Output channels.
    pub cout: usize,
    /// Height of the output.
    pub height: usize,
    /// Width of the output.
    pub width: usize,
}

/// What is convolved, and how it is made while it is read.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// `(cin, height, width)` as it is.
    Plain(&'a [f32]),
    /// `(cin, height, width)` of which `silu((x - mean) * factor + bias)` is convolved.
    NormSilu(&'a [f32], ChannelNorm<'a>),
    /// `(cin, height / 2, width / 2)`, each pixel taken four times.
    Doubled(&'a [f32]),
}

/// A normalization whose statistics are known; each has one value per input channel.
#[derive(Clone, Copy, Debug)]
pub struct ChannelNorm<'a> {
    /// What is subtracted.
    pub mean: &'a [f32],
    /// The factor after that.
    pub factor: &'a [f32],
    /// What is added in the end.
    pub bias: &'a [f32],
}

/// What happens to the values that are in the output already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// They are replaced.
    Replace,
    /// The convolution is added to them.
    Add,
}

impl Conv3x3 {
    /// That convolution, if it has this form.
    pub fn of(conv: &Conv2d) -> Option<Conv3x3> {
        let pads = [conv.pad_left, conv.pad_right, conv.pad_top, conv.pad_bottom];
        let Conv2d { cin, cout, kh, kw, stride, height, width, .. } = *conv;
        let form = (kh, kw, stride, pads) == (3, 3, 1, [1; 4]);
        form.then_some(Conv3x3 { cin, cout, height, width })
    }

    /// The same as a general convolution.
    pub fn general(&self) -> Conv2d {
        let Conv3x3 { cin, cout, height, width } = *self;
        let (kh, kw, stride) = (3, 3, 1);
        Conv2d { cin, cout, kh, kw, stride, pad_left: 1, pad_right: 1, pad_top: 1, pad_bottom: 1, height, width }
    }

    /// Output rows per band: a number that depends on the shape alone.
    pub fn band_rows(&self) -> usize {
        // At least eight bands, for the threads, but for pictures of a few tiles.
        const BANDS: usize = 8;
        let (rows, cols) = (self.height.div_ceil(TILE), self.width.div_ceil(TILE));
        let wanted = band::BLOCK_TILES / cols.next_power_of_two().clamp(1, band::BLOCK_COLS);
        TILE * wanted.min(rows.div_ceil(BANDS)).max(1)
    }

    /// Values in a row of the transformed weight, which has [`Conv3x3::packed_rows`] of them.
    pub fn packed_cols(&self, level: Level) -> usize {
        match level {
            Level::Naive => self.cout * self.cin,
            _ => self.cout.next_multiple_of(block_channels(level)) * self.cin,
        }
    }

    /// Rows of the transformed weight.
    pub fn packed_rows(level: Level) -> usize {
        if level == Level::Naive { 9 } else { PRODUCTS }
    }

    /// Columns of the transformed weight that belong to one block of output channels: the width of the tiles that
    /// [`pack`] takes.
    pub fn packed_block_cols(&self, level: Level) -> usize {
        match level {
            Level::Naive => self.cin,
            _ => self.cin * block_channels(level),
        }
    }

    fn input_len(&self, input: &Input) -> usize {
        match input {
            Input::Plain(x) | Input::NormSilu(x, _) => x.len(),
            Input::Doubled(x) => {
                assert!(self.height.is_multiple_of(2) && self.width.is_multiple_of(2), "an odd size is not a double");
                4 * x.len()
            }
        }
    }
}

/// Output channels that are computed together.
fn block_channels(level: Level) -> usize {
    match level {
        Level::Naive => 1,
        Level::Portable => 4,
        Level::Avx2 => 6,
        Level::Avx512 => 8,
    }
}

/// Transforms the weight `(cout, cin, 3, 3)` of one block of output channels.
///
/// `packed` is a tile of the `(packed_rows, packed_cols)` transformed weight: all its rows, and the
/// `packed_block_cols` columns of a block. What lies in it is known to [`conv3x3_band`] of the same level alone.
///
/// # Panics
/// When the lengths do not fit the shape, or the tile is no block.
pub fn pack(level: Level, conv: &Conv3x3, packed: &mut TileMut, weight: &[f32]) {
    let cols = conv.packed_block_cols(level);
    assert_eq!(weight.len(), conv.cout * conv.cin * 9, "values of the weight");
    assert_eq!((packed.rows(), packed.cols()), (Conv3x3::packed_rows(level), cols), "a block of the weight");
    let channels = block_channels(level);
    let first = packed.col0() / cols.max(1) * channels;
    let weight = &weight[first * conv.cin * 9..(first + channels).min(conv.cout) * conv.cin * 9];
    weights::pack(level, packed, weight, conv.cin);
}

/// `out = conv2d(input, weight) + bias` for one band of output rows, or that added to `out`.
///
/// `packed` is what [`pack`] made at the same level, `bias` is `(cout)`. `out` is a tile of the
/// `(cout, height * width)` output that covers whole image rows from a multiple of 4 on:
/// `tiles(out, cout, height * width, cout, band_rows * width)`. `scratch` grows to 36 x 96 values per channel, of input and of output.
///
/// # Panics
/// When the lengths do not fit the shape, or the tile does not cover whole image rows of all channels.
///
/// Source: `torch.nn.functional.conv2d`; Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks".
pub fn conv3x3_band(
    level: Level,
    conv: &Conv3x3,
    out: &mut TileMut,
    input: Input,
    packed: &[f32],
    bias: &[f32],
    output: Output,
    scratch: &mut Vec<f32>,
) {
    let width = conv.width;
    assert_eq!(conv.input_len(&input), conv.cin * conv.height * width, "values of the input");
    if let Input::NormSilu(_, norm) = &input {
        let lens = [norm.mean.len(), norm.factor.len(), norm.bias.len()];
        assert_eq!(lens, [conv.cin; 3], "channels of the norm");
    }
    assert_eq!(packed.len(), Conv3x3::packed_rows(level) * conv.packed_cols(level), "values of the weight");
    assert_eq!(bias.len(), conv.cout, "values of the bias");
    assert_eq!((out.row0(), out.rows()), (0, conv.cout), "output channels");
    assert!(out.col0().is_multiple_of(TILE * width) && out.cols().is_multiple_of(width), "a band covers whole rows");
    assert!(out.col0() + out.cols() <= conv.height * width, "rows of the output");
    level.check();
    let call = Call { conv: *conv, input, packed, bias, output };
    match level {
        Level::Naive => naive::conv3x3_band(&call, out),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `check` found that this CPU has the level; all lengths are compared above.
        Level::Avx2 => unsafe { x86::avx2(&call, out, scratch) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `check` found that this CPU has the level; all lengths are compared above.
        Level::Avx512 => unsafe { x86::avx512(&call, out, scratch) },
        // SAFETY: the portable vector needs no CPU feature; all lengths are compared above.
        _ => unsafe { band::band::<[f32; 8], 4, 1>(&call, out, scratch) },
    }
}
