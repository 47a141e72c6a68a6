//! Linear layers.
//!
//! ```text
//! f32, f16, bf16     a matrix, in bf16 where activations are
//! MLX's own formats  the words, scales and biases of the file: nothing is widened in memory
//! all others         decoded once on the CPU, to a matrix
//! ```

use super::port::Array;
use super::{Buffer, Element, Mlx};
use crate::{Format, Layout, PlacedBytes, Weight};
use zimage_kernels::blocks::{Element as Packed, Group, ScaleType, Scaled};

/// A weight as MLX multiplies with it.
#[derive(Debug)]
pub enum Placed {
    /// `(rows, cols)`.
    Dense(Array),
    /// As `mx.quantize` makes it.
    Affine {
        /// Packed values, scales and biases, row by row.
        planes: [Array; 3],
        /// Neighbours that share a scale.
        group: usize,
        /// Bits of a value.
        bits: usize,
    },
}

impl Mlx {
    pub(super) fn multiply_by_weight(&self, x: &Buffer, weight: &Weight, bias: Option<&Buffer>) -> Buffer {
        let (rows, cols) = (weight.rows(), weight.cols());
        let tokens = x.len / cols;
        let x = self.input(x, &[tokens, cols]);
        let mut y = match weight.arrays() {
            Some(kept) => self.multiply_by(&x, kept.get_or_init(|| self.place(weight))),
            None => self.multiply_by(&x, &self.place(weight)),
        };
        if let Some(bias) = bias {
            y = self.port.add(&y, &self.input(bias, &[rows]));
        }
        let y = self.output(y, tokens * rows);
        if weight.arrays().is_none() {
            // Else what was brought for this layer would stay until the end of the stage.
            self.port.evaluate(&y.array);
        }
        y
    }

    fn multiply_by(&self, x: &Array, weight: &Placed) -> Array {
        match weight {
            Placed::Dense(matrix) => {
                self.port.matmul(x, &self.port.transpose(&self.port.cast(matrix, self.element()), &[1, 0]))
            }
            // Where scales have f16 and activations bf16, MLX multiplies in f32.
            Placed::Affine { planes, group, bits } => self.port.quantized_matmul(x, planes, *group, *bits),
        }
    }

    /// Brings a weight to where MLX computes.
    fn place(&self, weight: &Weight) -> Placed {
        let matrix = weight.matrix();
        let (planes, _) = matrix.bytes();
        let shape = [weight.rows(), weight.cols()];
        match stored_as(matrix.layout()) {
            Some(As::Dense(element)) => Placed::Dense(self.kept(self.port.upload(planes.values, element, &shape))),
            Some(As::Affine { group, bits, scales }) if matrix.factor() == 1.0 => {
                let (words, groups) = ([shape[0], shape[1] * bits / 32], [shape[0], shape[1] / group]);
                let planes = [
                    self.port.upload(planes.values, Element::U32, &words),
                    self.port.upload(planes.scales, scales, &groups),
                    self.port.upload(planes.biases, scales, &groups),
                ];
                Placed::Affine { planes, group, bits }
            }
            _ => self.decode(weight),
        }
    }

    /// What a weight of `(rows, cols)` takes that is stored so.
    pub fn placed_bytes(&self, (rows, cols): (usize, usize), layout: Layout, stored_bytes: u64) -> PlacedBytes {
        let values = (rows * cols) as u64;
        let (own, widest) = (self.element().bytes() as u64 * values, Element::F32.bytes() as u64 * values);
        let (stays, use_bytes) = match stored_as(layout) {
            Some(As::Affine { .. }) => (stored_bytes, 0),
            Some(As::Dense(_)) => (own.min(stored_bytes), own.max(stored_bytes)),
            None => (own, widest),
        };
        PlacedBytes { stays, use_bytes, streamed: stays + use_bytes }
    }

    fn decode(&self, weight: &Weight) -> Placed {
        let (rows, cols) = (weight.rows(), weight.cols());
        let mut values = vec![0.0; rows * cols];
        weight.matrix().decode_rows(0..rows, &mut values);
        Placed::Dense(self.kept(self.port.upload(zimage_kernels::bytes::of(&values), Element::F32, &[rows, cols])))
    }

    /// A matrix in the element that it will be read in, if that is the shorter one.
    fn kept(&self, matrix: Array) -> Array {
        let element = self.element();
        if element.bytes() > matrix.element().bytes() {
            return matrix;
        }
        let matrix = self.port.cast(&matrix, element);
        self.port.evaluate(&matrix);
        matrix
    }

    /// Decoded rows of a table, in f32: there are few, and the table may be large.
    pub(super) fn look_up(&self, table: &Weight, ids: &[u32]) -> Buffer {
        let matrix = table.matrix();
        let mut values = vec![0.0; ids.len() * table.cols()];
        for (row, &id) in values.chunks_exact_mut(table.cols()).zip(ids) {
            matrix.decode_rows(id as usize..id as usize + 1, row);
        }
        self.upload(&values)
    }
}

/// What MLX multiplies with as it is.
enum As {
    Dense(Element),
    Affine { group: usize, bits: usize, scales: Element },
}

/// As what MLX can take a weight that is stored so; `None` where it has to be decoded.
fn stored_as(layout: Layout) -> Option<As> {
    let scaled = match layout {
        Layout::Rows(Format::F32) => return Some(As::Dense(Element::F32)),
        Layout::Rows(Format::BF16) => return Some(As::Dense(Element::Bf16)),
        Layout::Rows(Format::F16) => return Some(As::Dense(Element::F16)),
        Layout::Rows(_) => return None,
        Layout::Scaled(scaled) => scaled,
    };
    let Scaled { element: Packed::Unsigned(bits), group: Group::Columns(group), scale, .. } = scaled else {
        return None;
    };
    let scales = match scale {
        ScaleType::F32 => Element::F32,
        ScaleType::F16 => Element::F16,
        ScaleType::BF16 => Element::Bf16,
        ScaleType::E4M3 | ScaleType::E8M0 => return None,
    };
    let own = matches!(group, 32 | 64 | 128) && scaled == Scaled::affine(bits, group, scale);
    own.then_some(As::Affine { group, bits: bits.into(), scales })
}
