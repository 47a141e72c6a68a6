//! Weights: rows in any stored format to panels of 64 output features.
//!
//! A panel is, for each chunk: for each four columns 4 lines, which hold those four weights of feature 0, of feature 1,
//! and so on to feature 63; then 4 lines of scales (f32) and 4 lines of `-128 * sum of the weights` (i32), one per feature.

use super::micro::Isa;
use super::quantize::{largest, rounded, step_of};
use super::{CHUNK, Chunks, Line, PANEL, QUAD};
#[cfg(target_arch = "x86_64")]
use super::{x86_affine, x86_bytes};
use crate::Level;
use crate::blocks::Matrix;
use crate::level::per_level;

/// Lines of the weights of four columns.
pub(super) const QUAD_LINES: usize = PANEL * QUAD / 64;
/// Lines of scales and sums.
pub(super) const SCALE_LINES: usize = 2 * SIDE;
const SIDE: usize = PANEL / LANES;
/// Features that are packed at once.
pub(super) const LANES: usize = 16;

/// Lines of a panel for rows of `cols` values.
pub fn panel_lines(cols: usize) -> usize {
    let chunks = Chunks::of(cols);
    let lines = |chunk| chunks.quads(chunk) * QUAD_LINES + SCALE_LINES;
    (0..chunks.count()).map(lines).sum()
}

/// Values of the scratch that packing rows of `cols` values takes.
pub fn pack_scratch(cols: usize) -> usize {
    LANES * cols
}

/// Packs rows `first .. first + 64` of a weight, or as many as it has; features beyond its last one are zeros.
///
/// `scratch` has [`pack_scratch`] values: rows are decoded 16 at a time, where they are not packed straight from their
/// bytes. A chunk's scale is its largest magnitude over 127, or the row's own one where the weight is stored in 8-bit
/// numbers with a scale per row, which are then kept as they are. A weight that is not finite makes its chunk's scale not
/// a number.
///
/// # Panics
/// When the panel or the scratch have another length, or the weight no such row.
pub fn pack_panel(level: Level, panel: &mut [Line], w: Matrix, first: usize, scratch: &mut [f32]) {
    let cols = w.cols();
    assert!(first < w.rows(), "row {first} of {}", w.rows());
    assert_eq!(panel.len(), panel_lines(cols), "lines of a panel for {cols} columns");
    assert_eq!(scratch.len(), pack_scratch(cols), "values of the scratch for {cols} columns");
    for side in 0..SIDE {
        let start = first + side * LANES;
        let count = LANES.min(w.rows().saturating_sub(start));
        #[cfg(target_arch = "x86_64")]
        if Isa::of(level) == Isa::Avx512Vnni
            && let Some(bytes) = w.affine_bytes()
        {
            // SAFETY: the features were found, and the panel was checked.
            unsafe { x86_affine::pack_rows(panel, &bytes, start..start + count, side) };
            continue;
        }
        let rows = &mut scratch[..count * cols];
        let mut steps = [None; LANES];
        if count > 0 {
            w.decode_rows_at(level, start..start + count, rows);
            (0..count).for_each(|r| steps[r] = w.integer_step(start + r));
        }
        pack_side(level, panel, rows, cols, &steps, side);
    }
}

fn pack_side(level: Level, panel: &mut [Line], rows: &[f32], cols: usize, steps: &[Option<f32>; LANES], side: usize) {
    #[cfg(target_arch = "x86_64")]
    if Isa::of(level) == Isa::Avx512Vnni {
        // SAFETY: the features were found; `pack_panel` made the rows and checked the panel.
        return unsafe { x86_bytes::pack_rows(panel, rows, cols, steps, side) };
    }
    per_level!(level, pack_rows, pack_rows,
        (panel: &mut [Line], rows: &[f32], cols: usize, steps: &[Option<f32>; LANES], side: usize))
}

/// Packs up to 16 rows as the features `16 * side ..` of a panel.
#[inline(always)]
fn pack_rows(panel: &mut [Line], rows: &[f32], cols: usize, steps: &[Option<f32>; LANES], side: usize) {
    let chunks = Chunks::of(cols);
    for chunk in 0..chunks.count() {
        let range = chunks.range(chunk);
        let mut packed = Side::of(panel, chunks, chunk, side);
        let mut bytes = [[0u8; CHUNK]; LANES];
        let (mut scales, mut sums) = ([0.0; LANES], [0; LANES]);
        for (r, row) in rows.chunks_exact(cols).enumerate() {
            let row = &row[range.clone()];
            let (scale, inverse) = step_of_row(largest(row), steps[r]);
            scales[r] = scale;
            for (byte, value) in bytes[r].iter_mut().zip(row) {
                *byte = rounded(*value, inverse);
                sums[r] += i32::from(*byte as i8);
            }
        }
        for quad in (0..chunks.quads(chunk)).step_by(LANES) {
            for (q, line) in packed.quads(quad).enumerate() {
                for (word, bytes) in line.0.as_chunks_mut::<QUAD>().0.iter_mut().zip(&bytes) {
                    *word = bytes.as_chunks::<QUAD>().0[quad + q];
                }
            }
        }
        packed.finish(scales, sums);
    }
}

/// The scale of a chunk of a row, and what its values are multiplied with.
#[inline(always)]
pub(super) fn step_of_row(largest: f32, step: Option<f32>) -> (f32, f32) {
    match step {
        Some(step) if !largest.is_nan() && step >= f32::MIN_POSITIVE => (step, 1.0 / step),
        _ => step_of(largest),
    }
}

/// 16 features of a chunk of a panel, to be written.
pub(super) struct Side<'a> {
    quads: &'a mut [Line],
    scales: &'a mut Line,
    sums: &'a mut Line,
    side: usize,
}

impl<'a> Side<'a> {
    #[inline(always)]
    pub fn of(panel: &'a mut [Line], chunks: Chunks, chunk: usize, side: usize) -> Side<'a> {
        let (quads, rest) = panel[chunks.first_line(chunk)..].split_at_mut(chunks.quads(chunk) * QUAD_LINES);
        let (scales, sums) = rest.split_at_mut(SIDE);
        Side { quads, scales: &mut scales[side], sums: &mut sums[side], side }
    }

    /// The lines of the quads from `quad` on, at most 16.
    #[inline(always)]
    pub fn quads(&mut self, quad: usize) -> impl Iterator<Item = &mut Line> {
        self.quads[quad * QUAD_LINES..].iter_mut().skip(self.side).step_by(QUAD_LINES).take(LANES)
    }

    /// Writes scales, and the sums of the weights as the kernel wants them.
    #[inline(always)]
    pub fn finish(self, scales: [f32; LANES], sums: [i32; LANES]) {
        self.scales.0 = words(scales.map(f32::to_bits));
        self.sums.0 = words(sums.map(|sum| (-128 * sum) as u32));
    }
}

#[inline(always)]
fn words(values: [u32; LANES]) -> [u8; 64] {
    let mut bytes = [0; 64];
    for (bytes, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
        *bytes = value.to_le_bytes();
    }
    bytes
}

/// One chunk of a panel.
#[derive(Clone, Copy)]
pub(super) struct PanelRef<'a> {
    /// `(quads, 4)` lines of weights.
    pub quads: &'a [Line],
    sides: &'a [Line],
}

impl<'a> PanelRef<'a> {
    pub fn new(panel: &'a [Line], chunks: Chunks, chunk: usize) -> PanelRef<'a> {
        let (quads, rest) = panel[chunks.first_line(chunk)..].split_at(chunks.quads(chunk) * QUAD_LINES);
        PanelRef { quads, sides: &rest[..SCALE_LINES] }
    }

    /// 4 lines of scales.
    pub fn scales(&self) -> &'a [Line] {
        &self.sides[..SIDE]
    }

    /// 4 lines of `-128 * sum`.
    pub fn sums(&self) -> &'a [Line] {
        &self.sides[SIDE..]
    }

    /// The weight of feature `n` at column `k` of the chunk.
    pub fn value(&self, n: usize, k: usize) -> i8 {
        let place = k / QUAD * PANEL * QUAD + n * QUAD + k % QUAD;
        self.quads[place / 64].0[place % 64] as i8
    }

    /// The scale of feature `n`.
    pub fn scale(&self, n: usize) -> f32 {
        f32::from_bits(word(self.scales(), n))
    }

    /// `-128 * sum` of feature `n`.
    pub fn sum(&self, n: usize) -> i32 {
        word(self.sums(), n) as i32
    }
}

fn word(lines: &[Line], n: usize) -> u32 {
    u32::from_le_bytes(lines[n / LANES].0.as_chunks::<4>().0[n % LANES])
}
