//! A band of the output, block by block: inputs transformed, multiplied, transformed back.

use super::multiply::multiply;
use super::quads::Quads;
use super::rows::read_row;
use super::{Conv3x3, Input, Output, PLACES, PRODUCTS, TILE, transform};
use crate::tile::TileMut;
use crate::vector::MOST_LANES;

/// Tiles of a block: with 512 channels its inputs and products are 7 MB each, those of one place 197 KB.
pub(super) const BLOCK_TILES: usize = 96;
/// Most tiles of a block that lie beside each other.
pub(super) const BLOCK_COLS: usize = 32;

/// What all blocks of a call share; the wrapper has compared all lengths.
pub(super) struct Call<'a> {
    pub conv: Conv3x3,
    pub input: Input<'a>,
    pub packed: &'a [f32],
    pub bias: &'a [f32],
    pub output: Output,
}

/// A rectangle of tiles, and the buffers that it goes through.
///
/// Its vectors of tiles are numbered row by row. Consecutive ones make a panel, the operand of one product.
pub(super) struct Block {
    /// First output row and column in the picture.
    y: usize,
    x: usize,
    /// Rows of tiles, and vectors of tiles in each.
    tile_rows: usize,
    row_vectors: usize,
    /// `V`: of each place panels of `(cin, vectors of the panel)` vectors.
    pub inputs: *mut f32,
    /// Values between two places: a line more than there are, so that they do not fall into the same cache set.
    pub input_stride: usize,
    /// `M`: of each place and block of output channels panels of `(channels, vectors of the panel)` vectors.
    pub products: *mut f32,
    /// Values between two places.
    pub product_stride: usize,
}

/// Vectors of tiles that are multiplied together.
pub(super) struct Panel {
    pub start: usize,
    pub vectors: usize,
}

impl Block {
    pub fn vectors(&self) -> usize {
        self.tile_rows * self.row_vectors
    }

    /// The block cut into as few panels of at most `widest` vectors as can be, all but the last of the same width.
    pub fn panels(&self, widest: usize) -> impl Iterator<Item = Panel> {
        let (all, width) = (self.vectors(), self.panel_width(widest));
        (0..all).step_by(width).map(move |start| Panel { start, vectors: width.min(all - start) })
    }

    /// Panel of vector `i`.
    fn panel_of(&self, i: usize, widest: usize) -> Panel {
        let width = self.panel_width(widest);
        let start = i / width * width;
        Panel { start, vectors: width.min(self.vectors() - start) }
    }

    fn panel_width(&self, widest: usize) -> usize {
        self.vectors().div_ceil(self.vectors().div_ceil(widest))
    }
}

/// [`super::conv3x3_band`] with blocks of `ROWS` output channels and panels of at most `VECTORS` (at most 3) vectors.
///
/// # Safety
/// The caller has the CPU features of `V`, and has compared all lengths of the call.
#[inline(always)]
pub(super) unsafe fn band<V: Quads, const ROWS: usize, const VECTORS: usize>(
    call: &Call,
    out: &mut TileMut,
    scratch: &mut Vec<f32>,
) {
    let (width, channels) = (call.conv.width, call.conv.cout.next_multiple_of(ROWS));
    if width == 0 || out.cols() == 0 {
        return;
    }
    let (y, rows) = (out.col0() / width, out.cols() / width);
    let tile_rows = rows.div_ceil(TILE);
    let row_vectors = width.div_ceil(TILE * V::LANES).min(BLOCK_COLS / V::LANES);
    let vectors = tile_rows * row_vectors;
    // A vector of tiles is four vectors of pixels; one more for the border.
    let line = (TILE * row_vectors + 1) * V::LANES;
    let lines = (TILE * tile_rows + 2 + PLACES) * line;
    let (input_stride, product_stride) =
        ((call.conv.cin * vectors + 1) * V::LANES, (channels * vectors + 1) * V::LANES);
    let needed = lines + PRODUCTS * (input_stride + product_stride);
    let start = aligned(scratch, needed);
    let (lines, buffers) = scratch[start..start + needed].split_at_mut(lines);
    let (inputs, products) = buffers.split_at_mut(PRODUCTS * input_stride);
    let step = TILE * row_vectors * V::LANES;
    for x in (0..width).step_by(step) {
        let row_vectors = (width - x).div_ceil(TILE * V::LANES).min(row_vectors);
        let (inputs, products) = (inputs.as_mut_ptr(), products.as_mut_ptr());
        let block = Block { y, x, tile_rows, row_vectors, inputs, input_stride, products, product_stride };
        // SAFETY: as the caller promises; the buffers hold the widest block of this band.
        unsafe {
            read::<V, VECTORS>(call, &block, lines);
            multiply::<V, ROWS, VECTORS>(&call.conv, &block, call.packed);
            write::<V, ROWS, VECTORS>(call, &block, out, rows);
        }
    }
}

/// Grows `scratch` to hold `needed` values from a cache line on, and returns where that is.
fn aligned(scratch: &mut Vec<f32>, needed: usize) -> usize {
    const LINE: usize = 16;
    if scratch.len() < needed + LINE {
        scratch.resize(needed + LINE, 0.0);
    }
    scratch.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE)
}

/// Transforms the inputs of a block; `lines` are the rows that the block sees of a channel, and six rows more.
///
/// # Safety
/// The caller has the CPU features of `V`; the buffers of the block have the sizes that it states.
#[inline(always)]
unsafe fn read<V: Quads, const VECTORS: usize>(call: &Call, block: &Block, lines: &mut [f32]) {
    let (rows, line) = (TILE * block.tile_rows + 2, (TILE * block.row_vectors + 1) * V::LANES);
    let (lines, halves) = lines.split_at_mut(rows * line);
    for channel in 0..call.conv.cin {
        for (i, line) in lines.chunks_exact_mut(line).enumerate() {
            // SAFETY: the caller has the features.
            unsafe { read_row::<V>(&call.conv, &call.input, channel, block.y + i, block.x, line) };
        }
        for tile_row in 0..block.tile_rows {
            // SAFETY: a row of tiles sees six lines, of which there are that many; a vector of tiles sees four vectors
            // and two columns of a line, which has one vector more.
            unsafe {
                let from = lines.as_ptr().add(TILE * tile_row * line);
                for x in (0..line).step_by(V::LANES) {
                    let column = transform::loaded::<V>(from.add(x), line);
                    for (i, value) in transform::inputs(column).into_iter().enumerate() {
                        V::store(value, halves.as_mut_ptr().add(i * line + x));
                    }
                }
                for i in 0..block.row_vectors {
                    let vector = tile_row * block.row_vectors + i;
                    let panel = block.panel_of(vector, VECTORS);
                    let place = panel.start * call.conv.cin + channel * panel.vectors + vector - panel.start;
                    let to = block.inputs.add(place * V::LANES);
                    let from = halves.as_ptr().add(TILE * V::LANES * i);
                    for row in 0..PLACES {
                        let from = from.add(row * line);
                        let ([a, b, c, d], [e, f, ..]) = (V::load_4(from), V::load_4(from.add(TILE)));
                        for (col, value) in transform::inputs([a, b, c, d, e, f]).into_iter().enumerate() {
                            V::store(value, to.add((row * PLACES + col) * block.input_stride));
                        }
                    }
                }
            }
        }
    }
}

/// Transforms the products of a block into the `rows` image rows of `out`.
///
/// # Safety
/// The caller has the CPU features of `V`; the buffers of the block have the sizes that it states.
#[inline(always)]
unsafe fn write<V: Quads, const ROWS: usize, const VECTORS: usize>(
    call: &Call,
    block: &Block,
    out: &mut TileMut,
    rows: usize,
) {
    let width = call.conv.width;
    for channel in 0..call.conv.cout {
        let out = out.row_mut(channel);
        for vector in 0..block.vectors() {
            let panel = block.panel_of(vector, VECTORS);
            let first = channel / ROWS * ROWS * block.vectors() + panel.start * ROWS;
            let place = first + channel % ROWS * panel.vectors + vector - panel.start;
            let (y, x) = (vector / block.row_vectors * TILE, vector % block.row_vectors * TILE * V::LANES + block.x);
            // SAFETY: as the caller promises.
            unsafe {
                let from = block.products.add(place * V::LANES);
                let tiles = tiles_of::<V>(from, block.product_stride, call.bias[channel]);
                for (i, tiles) in tiles.into_iter().enumerate().take(rows - y) {
                    let out = &mut out[(y + i) * width + x..(y + i + 1) * width];
                    put::<V>(tiles, out, call.output);
                }
            }
        }
    }
}

/// The outputs of a vector of tiles: of each of 4 rows, vector `c` has the columns `c` of all tiles.
///
/// # Safety
/// The caller has the CPU features of `V`; `from` is good for a vector every `stride` values.
#[inline(always)]
unsafe fn tiles_of<V: Quads>(from: *const f32, stride: usize, bias: f32) -> [[V; TILE]; TILE] {
    // SAFETY: as the caller promises.
    unsafe {
        let bias = V::splat(bias);
        let mut columns = [[bias; TILE]; PLACES];
        for (col, values) in columns.iter_mut().enumerate() {
            *values = transform::outputs(transform::loaded::<V>(from.add(col * stride), PLACES * stride));
        }
        let mut rows = [[bias; TILE]; TILE];
        for (row, values) in rows.iter_mut().enumerate() {
            let [a, b, c, d, e, f] = &columns;
            *values = transform::outputs([a[row], b[row], c[row], d[row], e[row], f[row]]);
            for value in values {
                *value = V::add(*value, bias);
            }
        }
        rows
    }
}

/// Puts one row of tiles to the begin of `out`, as many of its columns as there are.
///
/// # Safety
/// The caller has the CPU features of `V`.
#[inline(always)]
unsafe fn put<V: Quads>(tiles: [V; TILE], out: &mut [f32], output: Output) {
    let mut row = [0.0f32; TILE * MOST_LANES];
    let count = (TILE * V::LANES).min(out.len());
    let whole = count == TILE * V::LANES;
    // SAFETY: both `row` and, where it is used, `out` have room for four vectors.
    unsafe {
        match output {
            Output::Replace if whole => V::store_4(tiles, out.as_mut_ptr()),
            Output::Replace => {
                V::store_4(tiles, row.as_mut_ptr());
                out[..count].copy_from_slice(&row[..count]);
            }
            Output::Add => {
                V::store_4(tiles, row.as_mut_ptr());
                for (to, value) in out[..count].iter_mut().zip(&row[..count]) {
                    *to += value;
                }
            }
        }
    }
}
