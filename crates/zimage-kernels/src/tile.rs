//! Views of row-major f32 matrices: a shared one, and disjoint writable tiles for threads.

use std::marker::PhantomData;

/// A row-major view of `rows` x `cols` values; row `r` starts at `r * stride`.
#[derive(Clone, Copy, Debug)]
pub struct MatrixRef<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<'a> MatrixRef<'a> {
    /// A view of `data`, which must hold the last row to its end.
    ///
    /// # Panics
    /// When `stride < cols`, or when `data` is shorter than `(rows - 1) * stride + cols`.
    pub fn new(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(stride >= cols || rows <= 1, "stride {stride} below {cols} columns");
        let needed = if rows == 0 { 0 } else { (rows - 1) * stride + cols };
        assert!(data.len() >= needed, "matrix of {rows} x {cols} (stride {stride}) in {} values", data.len());
        MatrixRef { data, rows, cols, stride }
    }

    /// A view of a contiguous matrix: the stride is the number of columns.
    ///
    /// # Panics
    /// When `data` does not hold exactly `rows * cols` values.
    pub fn contiguous(data: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "matrix of {rows} x {cols}");
        MatrixRef::new(data, rows, cols, cols)
    }

    /// The values from the first one of row 0 on; at least to the end of the last row.
    pub fn data(&self) -> &'a [f32] {
        self.data
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Distance between the starts of two rows, in values.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Row `r`, `cols` values.
    pub fn row(&self, r: usize) -> &'a [f32] {
        assert!(r < self.rows, "row {r} of {}", self.rows);
        &self.data[r * self.stride..][..self.cols]
    }

    /// Rows `start .. start + rows` as a view.
    pub fn row_range(&self, start: usize, rows: usize) -> MatrixRef<'a> {
        assert!(start + rows <= self.rows, "rows {start} + {rows} of {}", self.rows);
        let data = if rows == 0 { &[] } else { &self.data[start * self.stride..] };
        MatrixRef { data, rows, ..*self }
    }

    /// Columns `start .. start + cols` as a view.
    pub fn col_range(&self, start: usize, cols: usize) -> MatrixRef<'a> {
        assert!(start + cols <= self.cols, "columns {start} + {cols} of {}", self.cols);
        let data = if self.rows == 0 { &[] } else { &self.data[start..] };
        MatrixRef { data, cols, ..*self }
    }
}

/// A writable rectangle of a row-major matrix, disjoint from every other tile of the same split.
#[derive(Debug)]
pub struct TileMut<'a> {
    start: *mut f32,
    stride: usize,
    row0: usize,
    col0: usize,
    rows: usize,
    cols: usize,
    matrix: PhantomData<&'a mut [f32]>,
}

// SAFETY: a tile is the only way to reach its values while it lives, like `&mut [f32]`.
unsafe impl Send for TileMut<'_> {}
// SAFETY: `&TileMut` only reads, like `&&mut [f32]`.
unsafe impl Sync for TileMut<'_> {}

impl<'a> TileMut<'a> {
    /// The whole contiguous matrix as one tile.
    ///
    /// # Panics
    /// When `data` does not hold exactly `rows * cols` values.
    pub fn whole(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "matrix of {rows} x {cols}");
        TileMut { start: data.as_mut_ptr(), stride: cols, row0: 0, col0: 0, rows, cols, matrix: PhantomData }
    }

    /// The tile's first row in the matrix.
    pub fn row0(&self) -> usize {
        self.row0
    }

    /// The tile's first column in the matrix.
    pub fn col0(&self) -> usize {
        self.col0
    }

    /// Number of rows of the tile.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns of the tile.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Row `r` of the tile, `cols` values.
    pub fn row(&self, r: usize) -> &[f32] {
        assert!(r < self.rows, "row {r} of {}", self.rows);
        // SAFETY: the row lies inside the matrix and belongs to this tile alone.
        unsafe { std::slice::from_raw_parts(self.start.add(r * self.stride), self.cols) }
    }

    /// Row `r` of the tile, writable.
    pub fn row_mut(&mut self, r: usize) -> &mut [f32] {
        assert!(r < self.rows, "row {r} of {}", self.rows);
        // SAFETY: the row lies inside the matrix and belongs to this tile alone; `&mut self`
        // keeps a second row from being borrowed at the same time.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(r * self.stride), self.cols) }
    }

    /// Columns `start .. start + cols` of the tile as a tile of their own, borrowed from it.
    pub fn col_range(&mut self, start: usize, cols: usize) -> TileMut<'_> {
        assert!(start + cols <= self.cols, "columns {start} + {cols} of {}", self.cols);
        TileMut {
            // `wrapping_add`: an empty tile may have nothing behind its start.
            start: self.start.wrapping_add(start),
            col0: self.col0 + start,
            cols,
            matrix: PhantomData,
            ..*self
        }
    }

    /// Rows `start .. start + rows` of the tile as a tile of their own, borrowed from it.
    pub fn row_range(&mut self, start: usize, rows: usize) -> TileMut<'_> {
        assert!(start + rows <= self.rows, "rows {start} + {rows} of {}", self.rows);
        TileMut {
            start: self.start.wrapping_add(start * self.stride),
            row0: self.row0 + start,
            rows,
            matrix: PhantomData,
            ..*self
        }
    }

    /// The first value, for kernels that write through pointers.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.start
    }

    /// Distance between the starts of two rows, in values.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }
}

/// Splits a row-major `(rows, cols)` matrix into disjoint tiles of at most `tile_rows` x
/// `tile_cols`, in row-major order of the tiles; the last of a row or column may be smaller.
///
/// # Panics
/// When `data` does not hold exactly `rows * cols` values, or a tile size is 0.
pub fn tiles(data: &mut [f32], rows: usize, cols: usize, tile_rows: usize, tile_cols: usize) -> Vec<TileMut<'_>> {
    assert_eq!(data.len(), rows * cols, "matrix of {rows} x {cols}");
    assert!(tile_rows > 0 && tile_cols > 0, "tiles of {tile_rows} x {tile_cols}");
    let start = data.as_mut_ptr();
    let mut tiles = Vec::with_capacity(rows.div_ceil(tile_rows) * cols.div_ceil(tile_cols));
    for row0 in (0..rows).step_by(tile_rows) {
        for col0 in (0..cols).step_by(tile_cols) {
            tiles.push(TileMut {
                // SAFETY: row0 < rows and col0 < cols, so the place lies inside `data`.
                start: unsafe { start.add(row0 * cols + col0) },
                stride: cols,
                row0,
                col0,
                rows: tile_rows.min(rows - row0),
                cols: tile_cols.min(cols - col0),
                matrix: PhantomData,
            });
        }
    }
    tiles
}

#[cfg(test)]
#[path = "tile/tests.rs"]
mod tests;
