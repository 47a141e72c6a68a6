//! Products with quantized weights as they are stored: kernels decode while they multiply.
//!
//! ```text
//! product in    rows of x    kernel
//! bf16          1 to 4       multiply_rows     f32 arithmetic, a warp for each column of the result
//!               5 to 128     multiply_tiles    tensor cores, tiles of 64 rows and 128 columns
//! f32, f16      1 to 16      multiply_rows
//! any           more         none: the weight is widened, and cuBLASLt multiplies
//! ```
//! So it is for weights of less than 16 bits a value, with rows in multiples of 8 values, as all models have them. Others
//! take nothing to widen, or are laid out for the product once. Products in 8 bits have weights in 8 bits.
//!
//! The numbers of rows are where both ways cost about the same, counted for a value of 4 bits on an H100, with 2.5 TB/s
//! of memory and 29 T instructions per second. None of it is measured.
//!
//! ```text
//! widened, bf16     0.5 B read, 2 written, 2 read       1.8 ps  + 0.2 ps for 64 rows, at 600 Tflop/s
//! multiply_tiles    0.5 B read, once for all blocks     0.2 ps  + 0.8 ps for 64 rows: 7 instructions to decode, beside
//!                                                                 fragments out of shared memory
//! widened, f32      0.5 B read, 4 written, 4 read       3.4 ps  + 0.04 ps for a row, at 50 Tflop/s
//! multiply_rows     0.5 B read                          0.2 ps  + 0.1 ps for a row: 7 instructions for 4, and 1 for each
//! ```
//! That is 170 and 50 rows; a device with less memory bandwidth for its arithmetic has more of them. The limits are below,
//! so that a kernel which does not come as near to its floor as cuBLASLt costs nothing. Products in f16 scale each row of
//! both factors, the weight's every time: above 16 rows a Turing does that as before.

#[cfg(all(test, feature = "cuda-emulator"))]
mod tests;

use super::stored::{Multipliers, StoredAt};
use super::with_bias;
use crate::backend::cuda::driver::{Address, Args, Element};
use crate::backend::cuda::memory::Buffer;
use crate::backend::cuda::{Cuda, THREADS};

/// The most rows for `multiply_rows` where tensor cores have a kernel: those that a block of it has at once.
const MOST_ROWS_BF16: usize = ROWS_AT_ONCE;
/// The most rows for it where they have none.
const MOST_ROWS: usize = 16;
/// The most rows for `multiply_tiles`.
const MOST_ROWS_TILES: usize = 128;

/// Rows of x of a block of `multiply_rows` (`AT_ONCE` in `linear_quantized.cu`).
const ROWS_AT_ONCE: usize = 4;
/// Rows of x of a block of `multiply_tiles`.
const TILE_ROWS: usize = 64;
/// Columns of the result of such a block.
const TILE_COLUMNS: usize = 128;
/// Columns of x and of the weight that it has in shared memory at once.
const DEPTH: usize = 256;
/// Its threads.
const TILE_THREADS: u32 = 256;
/// Its shared memory.
const TILE_BYTES: usize = (TILE_ROWS + TILE_COLUMNS) * DEPTH * 2;

/// A kernel that decodes while it multiplies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fused {
    /// `multiply_rows`.
    Rows(Multipliers),
    /// `multiply_tiles`.
    Tiles(Multipliers),
}

impl Fused {
    /// The kernel for so many rows of x and this weight, whose product is in `element`, if it is not to be widened.
    pub fn of(rows: usize, weight: &StoredAt, element: Element) -> Option<Fused> {
        let kernels = weight.multipliers().filter(|_| weight.cols.is_multiple_of(8))?;
        match element {
            Element::Bf16 if rows <= MOST_ROWS_BF16 => Some(Fused::Rows(kernels)),
            Element::Bf16 if rows <= MOST_ROWS_TILES => Some(Fused::Tiles(kernels)),
            Element::F32 | Element::F16 if rows <= MOST_ROWS => Some(Fused::Rows(kernels)),
            _ => None,
        }
    }
}

impl Cuda {
    /// The product of x with a weight as it is stored.
    pub(super) fn multiply_stored(&self, kernel: Fused, x: &StoredAt, w: &StoredAt, bias: Option<&Buffer>) -> Buffer {
        self.with_element(x, self.element(), |x| match kernel {
            Fused::Rows(kernels) => self.multiply_rows(kernels, x, w, bias),
            Fused::Tiles(kernels) => self.multiply_tiles(kernels, x, w, bias),
        })
    }

    fn multiply_rows(&self, kernels: Multipliers, x: &StoredAt, w: &StoredAt, bias: Option<&Buffer>) -> Buffer {
        let element = self.element();
        let y = self.take(element, x.rows * w.rows);
        let args = w.args().address(x.matrix(element).address).size(element.code() as usize).size(0);
        let args = with_bias(args, bias).address(y.address()).size(x.rows).size(element.code() as usize);
        let grid = [w.rows.div_ceil(THREADS as usize / 32), x.rows.div_ceil(ROWS_AT_ONCE), 1];
        self.run(kernels.source, kernels.rows, grid, THREADS, 0, args);
        y
    }

    fn multiply_tiles(&self, kernels: Multipliers, x: &StoredAt, w: &StoredAt, bias: Option<&Buffer>) -> Buffer {
        let y = self.take(Element::Bf16, x.rows * w.rows);
        let [columns, rows] = [w.rows.div_ceil(TILE_COLUMNS), x.rows.div_ceil(TILE_ROWS)];
        let properties = self.properties();
        let at_once = properties.multiprocessors as usize * (properties.shared_bytes as usize / TILE_BYTES).max(1);
        let (splits, depth) = splits(w.cols, columns * rows, at_once);
        let sums = (splits > 1).then(|| self.take(Element::F32, splits * y.len()));
        let sums_at = sums.as_ref().map_or(Address::default(), Buffer::address);
        let args = with_bias(w.args().address(x.matrix(Element::Bf16).address), bias);
        let args = args.address(y.address()).address(sums_at).size(x.rows).size(depth);
        self.run(kernels.source, kernels.tiles, [columns, rows, splits], TILE_THREADS, TILE_BYTES, args);
        if sums.is_some() {
            let args = with_bias(Args::new().address(y.address()).address(sums_at), bias);
            let args = args.size(y.len()).size(w.rows).size(splits).size(0);
            self.run(kernels.source, "add_splits", [y.len().div_ceil(THREADS as usize), 1, 1], THREADS, 0, args);
        }
        y
    }
}

/// Into how many parts the depth of a product is split, whose sums are added up afterwards, and the columns of one: what
/// takes least time on a device that has room for `at_once` blocks. A part's sums, which are written and read again, take
/// about the time of a tile. There are at most as many parts as tiles of the depth, so that for 128 rows all sums take no
/// more memory than the widened weight, which is what is planned for.
fn splits(cols: usize, blocks: usize, at_once: usize) -> (usize, usize) {
    let tiles = cols.div_ceil(DEPTH);
    let time = |splits: &usize| {
        let sums = usize::from(*splits > 1);
        (blocks * splits).div_ceil(at_once) * (tiles.div_ceil(*splits) + sums)
    };
    let splits = (1..=(cols / DEPTH).max(1)).min_by_key(time).expect("one part at least: this is a bug");
    let depth = tiles.div_ceil(splits);
    (tiles.div_ceil(depth), depth * DEPTH)
}
