//! Weights as they lie in the file, and the linear layer.

use crate::backend::cpu::Panels;
use crate::delta::Delta;
use crate::{Device, Error, Format, Layout, Result, Tensor};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;
use zimage_kernels::blocks::{Matrix, Planes};
use zimage_kernels::gemm_i8;

/// The bytes of a matrix `(rows, cols)` as a file stores it, shared with the memory map.
#[derive(Clone, Debug)]
pub struct Stored {
    /// How it is stored.
    pub layout: Layout,
    /// Rows.
    pub rows: usize,
    /// Values in a row.
    pub cols: usize,
    /// The values, row by row.
    pub values: Bytes,
    /// Their scales, where they lie apart.
    pub scales: Bytes,
    /// The biases of the scales, where there are any.
    pub biases: Bytes,
    /// A factor on every scale; 1 where there is none.
    pub factor: f32,
}

impl Stored {
    /// The matrix, or `None` where the number of bytes does not fit.
    fn matrix(&self) -> Option<Matrix<'_>> {
        let planes = Planes { values: &self.values, scales: &self.scales, biases: &self.biases };
        Matrix::new(self.layout, self.rows, self.cols, planes, self.factor)
    }
}

/// A weight matrix in the format of its file: 16-bit and quantized weights stay as they are, typically in the memory map,
/// and are widened tile by tile while they are used.
#[derive(Clone, Debug)]
pub struct Weight {
    pub(crate) device: Device,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    stored: Stored,
    /// The first of the stored rows that is the weight's.
    first: usize,
    /// The weight as integer dot products read it, where it was prepared for them.
    panels: Option<Arc<Panels>>,
}

impl Weight {
    /// A weight of all stored rows, or of the window `rows` of them: output features, by input features.
    ///
    /// # Errors
    /// [`Error::Blocks`] when a row is no whole number of the format's blocks, [`Error::Size`] when the number of bytes
    /// does not fit.
    pub fn new(device: &Device, stored: Stored, rows: Range<usize>) -> Result<Weight> {
        let Stored { layout, cols, .. } = stored;
        let block_len = layout.block_len();
        if !cols.is_multiple_of(block_len) {
            return Err(Error::Blocks { format: layout.to_string(), cols, block_len });
        }
        if stored.matrix().is_none() {
            let expected = layout.plane_bytes(stored.rows, cols).into_iter().fold(0, usize::saturating_add);
            let found = stored.values.len() + stored.scales.len() + stored.biases.len();
            return Err(Error::Size { shape: vec![stored.rows, cols], expected, found });
        }
        assert!(rows.start <= rows.end && rows.end <= stored.rows, "rows {rows:?} of a weight of {}", stored.rows);
        Ok(Weight { device: device.clone(), rows: rows.len(), cols, first: rows.start, stored, panels: None })
    }

    /// A weight whose rows are one run of bytes each.
    ///
    /// # Errors
    /// Those of [`Weight::new`].
    pub fn rows_of(device: &Device, format: Format, rows: usize, cols: usize, values: Bytes) -> Result<Weight> {
        let (scales, biases) = (Bytes::new(), Bytes::new());
        let stored = Stored { layout: Layout::Rows(format), rows, cols, values, scales, biases, factor: 1.0 };
        Weight::new(device, stored, 0..rows)
    }

    /// Number of output features.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of input features.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The same weight, laid out once for all its uses where the device computes with another layout than that of files:
    /// what it then takes is [`Weight::prepared_bytes`], beside the bytes of the file. Without it, such a device lays
    /// every part out when it uses it.
    pub fn prepared(self) -> Weight {
        let panels = self.device.int8().map(|cpu| Arc::new(cpu.pack(&self)));
        Weight { panels, ..self }
    }

    /// Bytes of memory that a prepared weight of this size takes on a device that multiplies bytes.
    pub fn prepared_bytes(rows: usize, cols: usize) -> u64 {
        let panels = rows.div_ceil(gemm_i8::PANEL) * gemm_i8::panel_lines(cols);
        (panels * size_of::<gemm_i8::Line>()) as u64
    }

    /// Operations of the product with so many rows.
    pub(crate) fn flop(&self, rows: usize) -> f64 {
        2.0 * (rows * self.rows * self.cols) as f64
    }

    /// The layout for integer dot products, if the weight was prepared.
    pub(crate) fn panels(&self) -> Option<&Panels> {
        self.panels.as_deref()
    }

    /// The matrix where it lies.
    pub(crate) fn matrix(&self) -> Matrix<'_> {
        let all = self.stored.matrix().expect("the bytes were counted: this is a bug");
        all.window(self.first..self.first + self.rows)
    }
}

/// `y = x W^T + b`, and what adapters add to it.
#[derive(Debug)]
pub struct Linear {
    pub(crate) weight: Weight,
    pub(crate) bias: Option<Tensor>,
    pub(crate) deltas: Vec<Delta>,
}

impl Linear {
    /// A linear layer; the bias, if any, has one value per output feature.
    pub fn new(weight: Weight, bias: Option<Tensor>) -> Linear {
        if let Some(bias) = &bias {
            assert_eq!(bias.len(), weight.rows, "bias of a linear layer");
        }
        Linear { weight, bias, deltas: Vec::new() }
    }

    /// The same layer with one more side branch.
    pub fn with_delta(mut self, delta: Delta) -> Linear {
        self.deltas.push(delta);
        self
    }

    /// The weight, without what adapters add.
    pub fn weight(&self) -> &Weight {
        &self.weight
    }
}
