//! The arithmetic of a delta on the rows of a weight, for fusing adapters and for the lengths that DoRA needs.

use std::ops::Range;

use zimage_kernels::Level;
use zimage_kernels::gemm::gemm_nn;
use zimage_kernels::tile::{MatrixRef, TileMut};

use super::{Adapter, Delta, Factor, LoraProblem, Magnitude, Product};
use crate::schema::Component;
use crate::{Error, Result};

/// Rows that are worked on at once: enough for the products, little memory beside the weight.
const BLOCK_ROWS: usize = 256;

/// What DoRA multiplies the sum of weight and delta with: its magnitudes over the lengths that the sum has.
#[derive(Clone, Debug, PartialEq)]
pub enum Gain {
    /// One factor per output.
    Rows(Vec<f32>),
    /// One factor per input.
    Columns(Vec<f32>),
}

impl Adapter {
    /// Adds this adapter to the `rows` of a layer's weight, given and left in `weight_rows` as f32, `(rows.len(), in)`.
    /// False where the adapter does not change that layer.
    ///
    /// # Errors
    /// [`Error::Lora`] for a part of the rows of a layer whose columns have magnitudes: their lengths need all rows.
    pub fn add_to(
        &self,
        component: Component,
        layer: &str,
        weight: f32,
        rows: Range<usize>,
        weight_rows: &mut [f32],
    ) -> Result<bool> {
        let Some(delta) = self.delta(component, layer) else { return Ok(false) };
        assert!(rows.end <= delta.out && weight_rows.len() == rows.len() * delta.cols, "rows of {layer}");
        if matches!(delta.magnitude, Some(Magnitude::Columns(_))) && rows != (0..delta.out) {
            let (tensor, what) = (layer.to_owned(), "a DoRA over columns asked for in parts".to_owned());
            let problem = Box::new(LoraProblem::Unsupported { tensor, what });
            return Err(Error::Lora { file: self.path.display().to_string(), problem });
        }
        delta.add_to(weight, rows, weight_rows);
        Ok(true)
    }
}

impl Delta {
    /// The gain of a DoRA on a weight whose rows `read` gives, in f32, a block at a time; `None` for other deltas.
    pub fn gain(&self, mut read: impl FnMut(Range<usize>, &mut [f32])) -> Option<Gain> {
        let magnitude = self.magnitude.as_ref()?;
        let mut lengths = Lengths::new(self);
        for rows in blocks(0..self.out) {
            let mut sum = vec![0.0; rows.len() * self.cols];
            read(rows.clone(), &mut sum);
            self.add_product(self.scale, rows.clone(), &mut sum);
            lengths.count(rows, &sum);
        }
        Some(match magnitude {
            Magnitude::Rows(values) => Gain::Rows(lengths.divide(values)),
            Magnitude::Columns(values) => Gain::Columns(lengths.divide(values)),
        })
    }

    fn add_to(&self, weight: f32, rows: Range<usize>, out: &mut [f32]) {
        if self.magnitude.is_none() {
            return self.add_product(weight * self.scale, rows, out);
        }
        let base = out.to_vec();
        self.add_product(self.scale, rows.clone(), out);
        let mut lengths = Lengths::new(self);
        lengths.count(rows.clone(), out);
        for (r, (out, base)) in out.chunks_exact_mut(self.cols).zip(base.chunks_exact(self.cols)).enumerate() {
            for (c, (sum, base)) in out.iter_mut().zip(base).enumerate() {
                let gain = match self.magnitude.as_ref().expect("checked above: this is a bug") {
                    Magnitude::Rows(values) => values[rows.start + r] / lengths.of(rows.start + r),
                    Magnitude::Columns(values) => values[c] / lengths.of(c),
                };
                *sum = base + weight * (gain * *sum - base);
            }
        }
    }

    /// `out += factor * product[rows]`.
    fn add_product(&self, factor: f32, rows: Range<usize>, out: &mut [f32]) {
        match &self.product {
            Product::LowRank { down, up } => {
                let down_values = down.values();
                for block in blocks(0..rows.len()) {
                    let mut left = up.values_of(rows.start + block.start..rows.start + block.end);
                    left.iter_mut().for_each(|value| *value *= factor);
                    let out = &mut out[block.start * self.cols..block.end * self.cols];
                    add_matmul(out, &left, &down_values, block.len(), down.rows, self.cols);
                }
            }
            Product::Kronecker { w1, w2, skip } => {
                let (left, right) = (w1.values(), w2.values());
                let (height, width) = (w2.rows(), w2.cols());
                for (out, row) in out.chunks_exact_mut(self.cols).zip(rows) {
                    let (p, q) = ((skip + row) / height, (skip + row) % height);
                    let right = &right[q * width..(q + 1) * width];
                    for (out, left) in out.chunks_exact_mut(width).zip(&left[p * w1.cols..(p + 1) * w1.cols]) {
                        out.iter_mut().zip(right).for_each(|(out, right)| *out += factor * left * right);
                    }
                }
            }
        }
    }
}

impl Factor {
    /// `(b, d)` values.
    pub fn values(&self) -> Vec<f32> {
        match self {
            Factor::Whole(matrix) => matrix.values(),
            Factor::Pair { down, up } => {
                let mut out = vec![0.0; up.rows * down.cols];
                add_matmul(&mut out, &up.values(), &down.values(), up.rows, down.rows, down.cols);
                out
            }
        }
    }
}

/// `out += a b`, `(m, k)` and `(k, n)`.
pub(super) fn add_matmul(out: &mut [f32], a: &[f32], b: &[f32], m: usize, k: usize, n: usize) {
    let mut tile = TileMut::whole(out, m, n);
    gemm_nn(Level::detect(), &mut tile, MatrixRef::contiguous(a, m, k), MatrixRef::contiguous(b, k, n), true);
}

fn blocks(rows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    rows.clone().step_by(BLOCK_ROWS).map(move |start| start..(start + BLOCK_ROWS).min(rows.end))
}

/// Squared lengths of rows or columns, as blocks of rows come by. A row or column of zeros has the smallest length
/// that keeps its gain finite, as in LyCORIS.
struct Lengths {
    squares: Vec<f64>,
    columns: bool,
    cols: usize,
}

impl Lengths {
    fn new(delta: &Delta) -> Lengths {
        let columns = matches!(delta.magnitude, Some(Magnitude::Columns(_)));
        let count = if columns { delta.cols } else { delta.out };
        Lengths { squares: vec![0.0; count], columns, cols: delta.cols }
    }

    fn count(&mut self, rows: Range<usize>, values: &[f32]) {
        for (row, values) in rows.zip(values.chunks_exact(self.cols)) {
            let squares = values.iter().map(|value| f64::from(*value) * f64::from(*value));
            match self.columns {
                true => self.squares.iter_mut().zip(squares).for_each(|(sum, square)| *sum += square),
                false => self.squares[row] = squares.sum(),
            }
        }
    }

    fn of(&self, at: usize) -> f32 {
        self.squares[at].sqrt() as f32 + f32::EPSILON
    }

    fn divide(&self, magnitudes: &[f32]) -> Vec<f32> {
        magnitudes.iter().enumerate().map(|(at, magnitude)| magnitude / self.of(at)).collect()
    }
}
