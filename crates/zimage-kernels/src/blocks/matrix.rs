//! A weight matrix where it lies in its file, in whatever form it is stored.

use std::fmt;
use std::ops::Range;

use super::scaled::{Group, Planes, Scaled};
use super::{Format, Level};
use crate::level::per_level;

/// How a matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Row after row, each one run of bytes.
    Rows(Format),
    /// Values and scales apart.
    Scaled(Scaled),
}

impl Layout {
    /// Values that a row must have a multiple of.
    pub fn block_len(self) -> usize {
        match self {
            Layout::Rows(format) => format.block_len(),
            Layout::Scaled(scaled) => scaled.block_len(),
        }
    }

    /// Bytes of the values, the scales and the biases of a matrix, as messages tell them: `usize::MAX` where there is no
    /// such number, that is where [`Layout::planes`] is `None`.
    pub fn plane_bytes(self, rows: usize, cols: usize) -> [usize; 3] {
        self.planes(rows, cols).unwrap_or([usize::MAX; 3])
    }

    /// Bytes of the values, the scales and the biases of a matrix; `None` where a row is no whole number of blocks, where
    /// they are more than can be counted, and where the layout is not [`Scaled::is_valid`].
    pub fn planes(self, rows: usize, cols: usize) -> Option<[usize; 3]> {
        if let Layout::Scaled(scaled) = self
            && !scaled.is_valid()
        {
            return None;
        }
        if !cols.is_multiple_of(self.block_len()) {
            return None;
        }
        match self {
            Layout::Rows(format) => {
                let row_bytes = (cols / format.block_len()).checked_mul(format.block_bytes())?;
                Some([rows.checked_mul(row_bytes)?, 0, 0])
            }
            Layout::Scaled(scaled) => {
                let scales = scaled.scale_bytes(rows, cols)?;
                let values = rows.checked_mul(scaled.row_bytes(cols))?;
                Some([values, scales, if scaled.biased { scales } else { 0 }])
            }
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Layout::Rows(format) => f.write_str(format.name()),
            Layout::Scaled(scaled) => scaled.fmt(f),
        }
    }
}

/// A stored matrix `(rows, cols)`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    layout: Layout,
    rows: usize,
    cols: usize,
    planes: Planes<'a>,
    factor: f32,
    /// Rows of the planes before the matrix begins.
    skipped: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix of these bytes; `factor` multiplies every scale, and is 1 where the format has none beside them.
    ///
    /// `None` where a row is no whole number of blocks, or a plane has another length than [`Layout::planes`] says.
    pub fn new(layout: Layout, rows: usize, cols: usize, planes: Planes<'a>, factor: f32) -> Option<Matrix<'a>> {
        let found = [planes.values.len(), planes.scales.len(), planes.biases.len()];
        (layout.planes(rows, cols)? == found).then_some(Matrix { layout, rows, cols, planes, factor, skipped: 0 })
    }

    /// A matrix in a format whose rows are one run of bytes each; `None` where their number does not fit.
    pub fn rows_of(format: Format, rows: usize, cols: usize, values: &'a [u8]) -> Option<Matrix<'a>> {
        Matrix::new(Layout::Rows(format), rows, cols, Planes { values, ..Planes::default() }, 1.0)
    }

    /// Some rows of it, as a matrix of their own.
    ///
    /// # Panics
    /// When it has no such rows.
    pub fn window(&self, rows: Range<usize>) -> Matrix<'a> {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        Matrix { rows: rows.len(), skipped: self.skipped + rows.start, ..*self }
    }

    /// How it is stored.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values in a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// What multiplies every scale.
    pub fn factor(&self) -> f32 {
        self.factor
    }

    /// The bytes of its rows alone, where they lie, and the place of its first row among those of the scales: scales in
    /// tiles are given whole, other ones from the first row on.
    pub fn bytes(&self) -> (Planes<'a>, usize) {
        let part = |bytes: &'a [u8], of_row: usize| &bytes[self.skipped * of_row..][..self.rows * of_row];
        match self.layout {
            Layout::Rows(format) => {
                (Planes { values: part(self.planes.values, format.row_bytes(self.cols)), ..self.planes }, 0)
            }
            Layout::Scaled(scaled) => {
                let values = part(self.planes.values, scaled.row_bytes(self.cols));
                if scaled.swizzled {
                    return (Planes { values, ..self.planes }, self.skipped);
                }
                let of_row = scaled.row_scales(self.cols) * scaled.scale.bytes();
                let scales = |plane: &'a [u8]| match scaled.group {
                    Group::Row | Group::Columns(_) if !plane.is_empty() => part(plane, of_row),
                    _ => plane,
                };
                let (scales, biases) = (scales(self.planes.scales), scales(self.planes.biases));
                (Planes { values, scales, biases }, 0)
            }
        }
    }

    /// The bytes of some rows where they lie, in a format that stores a row as one run of them.
    ///
    /// # Panics
    /// When the matrix has no such rows.
    pub(crate) fn bytes_of(&self, rows: Range<usize>) -> Option<(Format, &'a [u8])> {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        let Layout::Rows(format) = self.layout else { return None };
        let bytes = format.row_bytes(self.cols);
        Some((format, &self.planes.values[(self.skipped + rows.start) * bytes..(self.skipped + rows.end) * bytes]))
    }

    /// The step of the integers that a row is stored as, where it has just one: 8 bits, one scale for the row, no bias.
    pub(crate) fn integer_step(&self, row: usize) -> Option<f32> {
        match self.layout {
            Layout::Scaled(scaled) => scaled.integer_step(self.planes, self.skipped + row, self.factor),
            Layout::Rows(_) => None,
        }
    }

    /// The rows where they lie, if they are bytes with a scale and a bias for each group of whole cache lines.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn affine_bytes(&self) -> Option<super::AffineBytes<'a>> {
        let Layout::Scaled(scaled) = self.layout else { return None };
        super::AffineBytes::of(scaled, self.planes, self.cols, self.factor, self.skipped)
    }

    /// Decodes some rows into `dst`, `(rows, cols)`.
    ///
    /// # Panics
    /// When `dst` has another size, or the matrix no such rows.
    pub fn decode_rows(&self, rows: Range<usize>, dst: &mut [f32]) {
        self.decode_rows_at(Level::detect(), rows, dst);
    }

    pub(crate) fn decode_rows_at(&self, level: Level, rows: Range<usize>, dst: &mut [f32]) {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        assert_eq!(dst.len(), rows.len() * self.cols, "values of rows {rows:?}");
        let (first, end) = (self.skipped + rows.start, self.skipped + rows.end);
        match self.layout {
            Layout::Rows(format) => {
                let bytes = format.row_bytes(self.cols);
                format.decode_at(level, &self.planes.values[first * bytes..end * bytes], dst);
            }
            Layout::Scaled(scaled) => {
                let (planes, factor, cols) = (self.planes, self.factor, self.cols);
                per_level!(
                    level,
                    decode_scaled,
                    decode_scaled,
                    (scaled: Scaled, planes: Planes, factor: f32, cols: usize, first: usize, dst: &mut [f32])
                )
            }
        }
    }
}

#[inline(always)]
fn decode_scaled(scaled: Scaled, planes: Planes, factor: f32, cols: usize, first: usize, dst: &mut [f32]) {
    for (at, row) in dst.chunks_mut(cols.max(1)).enumerate() {
        scaled.decode_row(planes, first + at, factor, row);
    }
}
