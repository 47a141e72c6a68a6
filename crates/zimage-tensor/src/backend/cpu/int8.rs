//! Linear layers by integer dot products.

use super::Cpu;
use crate::Weight;
use crate::buffer::Buffer;
use crate::meter::Kind;
use zimage_kernels::gemm_i8::{self, Line, PANEL, Quantized};
use zimage_kernels::tile::{TileMut, tiles};
use zimage_kernels::{activation, bytes, pages, rms_norm};

/// Rows that are quantized at a time.
const ROWS: usize = 16;

/// Rows of activations in 8 bits, in memory of the pool.
#[derive(Debug)]
pub struct QuantizedRows {
    /// Bytes, in f32 words.
    values: Buffer,
    scales: Buffer,
    rows: usize,
    cols: usize,
}

impl QuantizedRows {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values in a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    fn view(&self) -> Quantized<'_> {
        Quantized::new(bytes::of(&self.values), &self.scales, self.rows, self.cols)
    }
}

/// A weight in the order in which the kernel reads it, in memory of its own.
#[derive(Debug)]
pub struct Panels {
    values: Vec<f32>,
    lines_of_panel: usize,
}

impl Panels {
    fn panel(&self, index: usize) -> &[Line] {
        &bytes::lines(&self.values)[index * self.lines_of_panel..][..self.lines_of_panel]
    }
}

/// Some rows to be quantized.
struct Piece<'a> {
    first: usize,
    values: &'a mut [u8],
    scales: &'a mut [f32],
}

impl Cpu {
    /// Rows of `cols` values, as they are.
    pub fn quantize(&self, x: &[f32], cols: usize) -> QuantizedRows {
        self.quantize_rows(x.len() / cols, cols, |row, out| out.copy_from_slice(&x[row * cols..][..cols]))
    }

    /// Normalized rows.
    pub fn quantize_rms_norm(&self, x: &[f32], weight: &[f32], eps: f32) -> QuantizedRows {
        let cols = weight.len();
        self.quantize_rows(x.len() / cols, cols, |row, out| {
            rms_norm::rms_norm(self.level, out, &x[row * cols..][..cols], weight, eps);
        })
    }

    /// Normalized and scaled rows.
    pub fn quantize_rms_norm_scaled(&self, x: &[f32], weight: &[f32], scale: &[f32], eps: f32) -> QuantizedRows {
        let cols = weight.len();
        self.quantize_rows(x.len() / cols, cols, |row, out| {
            rms_norm::rms_norm_scaled(self.level, out, &x[row * cols..][..cols], weight, scale, eps);
        })
    }

    /// `silu(gate) * up` in rows of `cols` values.
    pub fn quantize_silu_mul(&self, gate: &[f32], up: &[f32], cols: usize) -> QuantizedRows {
        self.quantize_rows(gate.len() / cols, cols, |row, out| {
            out.copy_from_slice(&gate[row * cols..][..cols]);
            activation::silu_mul(self.level, out, &up[row * cols..][..cols]);
        })
    }

    /// Quantizes what `fill` writes for each row, while it is in the nearest cache.
    fn quantize_rows(&self, rows: usize, cols: usize, fill: impl Fn(usize, &mut [f32]) + Sync + Send) -> QuantizedRows {
        let (stride, chunks) = (gemm_i8::row_stride(cols), gemm_i8::Chunks::of(cols).count());
        let mut values = self.take(rows * stride / size_of::<f32>());
        let mut scales = self.take(rows * chunks);
        let bytes = bytes::of_mut(&mut values).chunks_mut(ROWS * stride);
        let pieces = bytes.zip(scales.chunks_mut(ROWS * chunks)).enumerate();
        let pieces = pieces.map(|(i, (values, scales))| Piece { first: i * ROWS, values, scales }).collect();
        self.threads.for_each(pieces, |piece: Piece<'_>, scratch| {
            let row = room(scratch, cols);
            let outputs = piece.values.chunks_exact_mut(stride).zip(piece.scales.chunks_exact_mut(chunks));
            for (i, (values, scales)) in outputs.enumerate() {
                fill(piece.first + i, row);
                gemm_i8::quantize_rows(self.level, values, scales, row, cols);
            }
        });
        QuantizedRows { values, scales, rows, cols }
    }

    /// The values that the bytes stand for.
    pub fn dequantize(&self, x: &QuantizedRows) -> Buffer {
        let mut out = self.take(x.rows * x.cols);
        let view = x.view();
        self.threads.for_rows_mut(&mut out, x.cols, |row, out| {
            gemm_i8::dequantize_rows(out, view.row_range(row, out.len() / x.cols));
        });
        out
    }

    /// The weight in panels, in memory of their own: each of its values is read once.
    pub fn pack(&self, weight: &Weight) -> Panels {
        let lines_of_panel = gemm_i8::panel_lines(weight.cols);
        let panels = weight.rows.div_ceil(PANEL);
        // Zeros that the system makes when their pages are asked for, and room to align them.
        let words = size_of::<Line>() / size_of::<f32>();
        let mut values = vec![0.0; (panels * lines_of_panel + 1) * words];
        let pieces = bytes::lines_mut(&mut values)[..panels * lines_of_panel].chunks_exact_mut(lines_of_panel);
        self.threads.for_each(pieces.enumerate().collect(), |(i, panel), scratch| {
            // Not before: fresh zeros are still in the cache when they are written over.
            pages::populate(bytes::of_lines_mut(panel));
            let scratch = room(scratch, gemm_i8::pack_scratch(weight.cols));
            gemm_i8::pack_panel(self.level, panel, weight.matrix(), i * PANEL, scratch);
        });
        Panels { values, lines_of_panel }
    }

    /// `x W^T (+ bias)`. A weight that is not packed is packed panel by panel while it is used.
    pub fn project(&self, x: &QuantizedRows, weight: &Weight, bias: Option<&[f32]>) -> Buffer {
        let mut out = self.take(x.rows * weight.rows);
        // All rows pass by a panel at once: it may have to be packed for them.
        let pieces = tiles(&mut out, x.rows, weight.rows, x.rows, PANEL);
        let view = x.view();
        let multiply = |mut tile: TileMut<'_>, scratch: &mut Vec<f32>| {
            let index = tile.col0() / PANEL;
            let bias = bias.map(|bias| &bias[tile.col0()..][..tile.cols()]);
            let panel = match weight.panels() {
                Some(panels) => panels.panel(index),
                None => self.packed(weight, index, scratch),
            };
            gemm_i8::gemm_i8(self.level, &mut tile, view, panel, bias);
        };
        self.meter.measure(Kind::Linear, weight.flop(x.rows), || self.threads.for_each(pieces, multiply));
        out
    }

    /// One panel of a weight, packed into scratch.
    fn packed<'s>(&self, weight: &Weight, index: usize, scratch: &'s mut Vec<f32>) -> &'s [Line] {
        let (lines, words) = (gemm_i8::panel_lines(weight.cols), size_of::<Line>() / size_of::<f32>());
        let rows = gemm_i8::pack_scratch(weight.cols);
        let (panel, rest) = room(scratch, (lines + 1) * words + rows).split_at_mut((lines + 1) * words);
        let panel = &mut bytes::lines_mut(panel)[..lines];
        gemm_i8::pack_panel(self.level, panel, weight.matrix(), index * PANEL, rest);
        panel
    }
}

/// The first `len` values of a scratch, which grows to hold them.
fn room(scratch: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if scratch.len() < len {
        scratch.resize(len, 0.0);
    }
    &mut scratch[..len]
}
