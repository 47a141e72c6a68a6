//! Products of 8-bit activations with 8-bit weights into one f32 tile: linear layers by integer dot products.
//!
//! The K values of a row are cut into [`Chunks`] of at most 640; a chunk of a token and a chunk of an output feature have
//! one scale each, so that one large value takes precision from its neighbours only:
//!
//! ```text
//! out[t][n] = sum over chunks c of  (a_scale[t][c] * w_scale[n][c]) * dot(a[t][c], w[n][c])
//! ```
//!
//! The dot products are exact, and all levels scale and add them in the same order without fused operations: a result
//! has the same bits at every level and for every split into tiles.
//!
//! Activations are rows of `u8`, `q + 128` ([`quantize_rows`]). Weights are packed 64 output features at a time into a
//! panel ([`pack_panel`]) in the order in which the kernel reads them; since `vpdpbusd` multiplies unsigned with signed
//! bytes, a panel also holds the sums of its weights, and the kernel starts from `-128 * sum`.
//!
//! Measured on a core of a Zen 4 EPYC (peak 470 GOP/s), 1056 x 3840 x 10240: scales per row 448 GOP/s, per 128 values
//! 410, per 64 394, per 32 340. Chunks of 640 cost 2 % against whole rows.

mod micro;
mod naive;
mod pack;
mod portable;
mod quantize;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
mod x86_affine;
#[cfg(target_arch = "x86_64")]
mod x86_bytes;

#[cfg(test)]
mod tests;

pub use pack::{pack_panel, pack_scratch, panel_lines};
pub use quantize::{dequantize_rows, quantize_rows, row_stride};

use crate::Level;
use crate::tile::TileMut;
use micro::{Block, Isa};
use std::ops::Range;

/// Output features of a panel.
pub const PANEL: usize = 64;
/// Values of a row that are multiplied at once with those of another: one dot product instruction takes four.
const QUAD: usize = 4;
/// Most values that share a scale.
const CHUNK: usize = 640;
/// Rows that pass by a panel before the next ones do, so that their results stay in L2 from chunk to chunk.
const ROWS: usize = 1020;

/// A cache line of a panel: 64 weights, 16 scales or 16 sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Line([u8; 64]);

impl Line {
    /// A line of zeros.
    pub const ZERO: Line = Line([0; 64]);
}

/// How a row of `cols` values is cut into chunks: as few as may be, of equal length but for the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunks {
    cols: usize,
    len: usize,
}

impl Chunks {
    /// The chunks of rows of `cols` values.
    pub fn of(cols: usize) -> Chunks {
        let count = cols.div_ceil(CHUNK).max(1);
        Chunks { cols, len: cols.div_ceil(count).next_multiple_of(64).max(64) }
    }

    /// How many there are.
    pub fn count(self) -> usize {
        self.cols.div_ceil(self.len)
    }

    /// The columns of a chunk.
    pub fn range(self, chunk: usize) -> Range<usize> {
        chunk * self.len..self.cols.min((chunk + 1) * self.len)
    }

    /// Groups of four columns in a chunk; what the last one lacks is padded with zero weights.
    fn quads(self, chunk: usize) -> usize {
        self.range(chunk).len().div_ceil(QUAD)
    }

    /// Where a chunk starts in a panel, in lines.
    fn first_line(self, chunk: usize) -> usize {
        chunk * (self.len / QUAD * pack::QUAD_LINES + pack::SCALE_LINES)
    }
}

/// Rows of activations in 8 bits.
#[derive(Clone, Copy, Debug)]
pub struct Quantized<'a> {
    values: &'a [u8],
    scales: &'a [f32],
    rows: usize,
    chunks: Chunks,
}

impl<'a> Quantized<'a> {
    /// What [`quantize_rows`] made of rows of `cols` values.
    ///
    /// # Panics
    /// When the lengths do not fit.
    pub fn new(values: &'a [u8], scales: &'a [f32], rows: usize, cols: usize) -> Quantized<'a> {
        let chunks = Chunks::of(cols);
        assert_eq!(values.len(), rows * row_stride(cols), "bytes of {rows} rows of {cols}");
        assert_eq!(scales.len(), rows * chunks.count(), "scales of {rows} rows of {cols}");
        Quantized { values, scales, rows, chunks }
    }

    /// Rows `start .. start + rows`.
    pub fn row_range(&self, start: usize, rows: usize) -> Quantized<'a> {
        assert!(start + rows <= self.rows, "rows {start} + {rows} of {}", self.rows);
        let (stride, count) = (row_stride(self.chunks.cols), self.chunks.count());
        let values = &self.values[start * stride..(start + rows) * stride];
        Quantized { values, scales: &self.scales[start * count..(start + rows) * count], rows, chunks: self.chunks }
    }
}

/// How integer dot products are computed at a level, for people: `AVX-512 VNNI`, `AVX2`, ...
pub fn describe(level: Level) -> &'static str {
    if level == Level::Naive { "plain loops" } else { Isa::of(level).name() }
}

/// Whether a level has dot products of bytes: without them, this is no faster than products of f32.
pub fn is_fast(level: Level) -> bool {
    level != Level::Naive && Isa::of(level).is_fast()
}

/// `out = a wᵀ (+ bias)` for one tile of at most [`PANEL`] columns: those of the panel from its first on.
///
/// `a` has the tile's rows; `panel` comes from [`pack_panel`] for rows of as many values; `bias` has the tile's columns.
///
/// # Panics
/// When the shapes do not fit each other.
pub fn gemm_i8(level: Level, out: &mut TileMut, a: Quantized, panel: &[Line], bias: Option<&[f32]>) {
    assert_eq!(a.rows, out.rows(), "rows of the activations");
    assert!(out.cols() <= PANEL, "{} columns in a panel", out.cols());
    assert_eq!(panel.len(), panel_lines(a.chunks.cols), "lines of the panel");
    if let Some(bias) = bias {
        assert_eq!(bias.len(), out.cols(), "length of the bias");
        (0..out.rows()).for_each(|r| out.row_mut(r).copy_from_slice(bias));
    }
    level.check();
    match level {
        Level::Naive => naive::gemm_i8(out, a, panel, bias.is_some()),
        _ => by_blocks(Isa::of(level), out, a, panel, bias.is_some()),
    }
}

/// Chunk by chunk, so that a chunk of the panel (41 KB) stays in the nearest caches while the rows pass by it.
fn by_blocks(isa: Isa, out: &mut TileMut, a: Quantized, panel: &[Line], add: bool) {
    if a.chunks.count() == 0 && !add {
        (0..out.rows()).for_each(|r| out.row_mut(r).fill(0.0));
    }
    let kernels = isa.kernels();
    for first in (0..a.rows).step_by(ROWS) {
        let end = a.rows.min(first + ROWS);
        for chunk in 0..a.chunks.count() {
            for row in (first..end).step_by(kernels.len()) {
                let rows = kernels.len().min(end - row);
                let block = Block::new(a, panel, chunk, row, rows, add || chunk > 0);
                block.run(kernels[rows - 1], &mut out.row_range(row, rows));
            }
        }
    }
}
