//! What an adapter adds to one linear layer.

use std::ops::Range;

use bytes::Bytes;
use zimage_kernels::blocks::Format;

/// A matrix `(rows, cols)` as the file stores it, in a format without blocks.
#[derive(Clone, Debug)]
pub struct Matrix {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) format: Format,
    pub(super) bytes: Bytes,
}

impl Matrix {
    /// Computed values.
    pub(super) fn from_values(rows: usize, cols: usize, values: &[f32]) -> Matrix {
        assert_eq!(values.len(), rows * cols, "values of a matrix: this is a bug");
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Matrix { rows, cols, format: Format::F32, bytes: bytes.into() }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// How the values are stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The stored rows; a window of the file where it was not computed.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// A run of rows, sharing the bytes.
    pub(super) fn row_range(&self, rows: Range<usize>) -> Matrix {
        let row = self.format.row_bytes(self.cols);
        Matrix { rows: rows.len(), bytes: self.bytes.slice(rows.start * row..rows.end * row), ..*self }
    }

    /// The values of a run of rows.
    pub(super) fn values_of(&self, rows: Range<usize>) -> Vec<f32> {
        let part = self.row_range(rows);
        let mut values = vec![0.0; part.rows * part.cols];
        self.format.decode(&part.bytes, &mut values);
        values
    }

    /// All values.
    pub fn values(&self) -> Vec<f32> {
        self.values_of(0..self.rows)
    }
}

/// The change of one linear layer: `W' = W + weight * scale * product`, or with magnitudes
/// `W' = W + weight * (normalised(W + scale * product) - W)`.
#[derive(Clone, Debug)]
pub struct Delta {
    /// The matrix that is added.
    pub product: Product,
    /// `alpha / rank`, or 1 where the file has no alpha.
    pub scale: f32,
    /// The lengths that rows or columns get (DoRA).
    pub magnitude: Option<Magnitude>,
    pub(super) out: usize,
    pub(super) cols: usize,
}

/// A matrix as the product of smaller ones.
#[derive(Clone, Debug)]
pub enum Product {
    /// `up * down`.
    LowRank {
        /// `(rank, in)`.
        down: Matrix,
        /// `(out, rank)`.
        up: Matrix,
    },
    /// The Kronecker product of `w1 (a, c)` and `w2 (b, d)`, `(a b, c d)`, from row `skip` on.
    Kronecker {
        /// `(a, c)`.
        w1: Matrix,
        /// `(b, d)`.
        w2: Factor,
        /// Rows of the product that belong to another layer.
        skip: usize,
    },
}

/// A factor of a Kronecker product.
#[derive(Clone, Debug)]
pub enum Factor {
    /// As it is.
    Whole(Matrix),
    /// `up * down`.
    Pair {
        /// `(rank, d)`.
        down: Matrix,
        /// `(b, rank)`.
        up: Matrix,
    },
}

impl Factor {
    /// Number of rows, `b`.
    pub fn rows(&self) -> usize {
        match self {
            Factor::Whole(matrix) => matrix.rows,
            Factor::Pair { up, .. } => up.rows,
        }
    }

    /// Number of columns, `d`.
    pub fn cols(&self) -> usize {
        match self {
            Factor::Whole(matrix) => matrix.cols,
            Factor::Pair { down, .. } => down.cols,
        }
    }
}

/// The lengths that DoRA gives to the rows or columns of the sum.
#[derive(Clone, Debug)]
pub enum Magnitude {
    /// One per output: PEFT, and LyCORIS with `wd_on_output`.
    Rows(Vec<f32>),
    /// One per input: LyCORIS and OneTrainer without.
    Columns(Vec<f32>),
}

impl Delta {
    /// Number of outputs of the layer.
    pub fn rows(&self) -> usize {
        self.out
    }

    /// Number of inputs of the layer.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes in memory.
    pub fn size_bytes(&self) -> u64 {
        let matrices: usize = match &self.product {
            Product::LowRank { down, up } => down.bytes.len() + up.bytes.len(),
            Product::Kronecker { w1, w2: Factor::Whole(w2), .. } => w1.bytes.len() + w2.bytes.len(),
            Product::Kronecker { w1, w2: Factor::Pair { down, up }, .. } => {
                w1.bytes.len() + down.bytes.len() + up.bytes.len()
            }
        };
        // The factors of the outputs lie beside the matrices.
        (matrices + 8 * self.out) as u64
    }

    /// The rank, where that is a notion of its kind.
    pub fn rank(&self) -> Option<usize> {
        match &self.product {
            Product::LowRank { down, .. } => Some(down.rows),
            Product::Kronecker { w2: Factor::Pair { down, .. }, .. } => Some(down.rows),
            Product::Kronecker { .. } => None,
        }
    }

    /// The delta of some of the rows, as a layer of its own.
    pub(super) fn cut(&self, rows: Range<usize>) -> Delta {
        let product = match &self.product {
            Product::LowRank { down, up } => Product::LowRank { down: down.clone(), up: up.row_range(rows.clone()) },
            Product::Kronecker { w1, w2, skip } => {
                let (first, last) = (skip + rows.start, skip + rows.end);
                let (top, bottom) = (first / w2.rows(), last.div_ceil(w2.rows()));
                let skip = first - top * w2.rows();
                Product::Kronecker { w1: w1.row_range(top..bottom), w2: w2.clone(), skip }
            }
        };
        let magnitude = self.magnitude.as_ref().map(|magnitude| match magnitude {
            Magnitude::Rows(values) => Magnitude::Rows(values[rows.clone()].to_vec()),
            Magnitude::Columns(values) => Magnitude::Columns(values.clone()),
        });
        Delta { product, scale: self.scale, magnitude, out: rows.len(), cols: self.cols }
    }
}
