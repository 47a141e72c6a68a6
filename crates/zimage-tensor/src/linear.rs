//! Weights as they lie in the file, and the linear layer.

use crate::backend::cpu::Panels;
use crate::backend::{cuda, mlx};
use crate::delta::Delta;
use crate::{Device, Error, Format, Layout, Result, Tensor};
use bytes::Bytes;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
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
    stored: Arc<Stored>,
    /// The first of the stored rows that is the weight's.
    first: usize,
    /// The weight as integer dot products read it, where it was prepared for them.
    panels: Option<Arc<Panels>>,
    /// The weight in the memory of a GPU, once it is there, where it is to stay there.
    placed: Option<Arc<OnceLock<cuda::Placed>>>,
    /// What a GPU knows of the weight, where it is brought there for each use.
    streamed: Arc<cuda::Streamed>,
    /// The weight as MLX has it, likewise.
    arrays: Option<Arc<OnceLock<mlx::Placed>>>,
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
        Ok(Weight {
            device: device.clone(),
            rows: rows.len(),
            cols,
            first: rows.start,
            stored: Arc::new(stored),
            panels: None,
            placed: None,
            streamed: Arc::default(),
            arrays: None,
        })
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
        Weight { panels, ..self }.resident()
    }

    /// The same weight, which from its first use on stays in the memory of a device that has its own. Without it, it is
    /// brought there for each use.
    pub fn resident(self) -> Weight {
        let placed = matches!(self.device, Device::Cuda(_)).then(Arc::default);
        let arrays = matches!(self.device, Device::Mlx(_)).then(Arc::default);
        Weight { placed, arrays, ..self }
    }

    /// Bytes of memory that a prepared weight of this size takes on a device that multiplies bytes.
    pub fn prepared_bytes(rows: usize, cols: usize) -> u64 {
        let panels = rows.div_ceil(gemm_i8::PANEL) * gemm_i8::panel_lines(cols);
        (panels * size_of::<gemm_i8::Line>()) as u64
    }

    /// What a weight of `(rows, cols)` takes on a device with memory of its own, where it is stored so, in so many bytes.
    /// `in_block` is whether it is multiplied in 8 bits where the device does so.
    pub fn placed_bytes(
        device: &Device,
        shape: (usize, usize),
        (layout, stored_bytes): (Layout, u64),
        in_block: bool,
    ) -> PlacedBytes {
        match device {
            Device::Reference(_) | Device::Cpu(_) => PlacedBytes::default(),
            Device::Cuda(cuda) => cuda.placed_bytes(shape, stored_bytes, in_block),
            Device::Mlx(mlx) => mlx.placed_bytes(shape, layout, stored_bytes),
        }
    }

    /// Operations of the product with so many rows.
    pub(crate) fn flop(&self, rows: usize) -> f64 {
        2.0 * (rows * self.rows * self.cols) as f64
    }

    /// The layout for integer dot products, if the weight was prepared.
    pub(crate) fn panels(&self) -> Option<&Panels> {
        self.panels.as_deref()
    }

    /// Its place in the memory of a GPU, if it is to stay there.
    pub(crate) fn placed(&self) -> Option<&OnceLock<cuda::Placed>> {
        self.placed.as_deref()
    }

    /// What a GPU knows of it, where it is brought there for each use.
    pub(crate) fn streamed(&self) -> &Arc<cuda::Streamed> {
        &self.streamed
    }

    /// Its place in what MLX has, if it is to stay there.
    pub(crate) fn arrays(&self) -> Option<&OnceLock<mlx::Placed>> {
        self.arrays.as_deref()
    }

    /// The matrix where it lies.
    pub(crate) fn matrix(&self) -> Matrix<'_> {
        let all = self.stored.matrix().expect("the bytes were counted: this is a bug");
        all.window(self.first..self.first + self.rows)
    }
}

/// What a weight takes of a device's own memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlacedBytes {
    /// While it stays there.
    pub stays: u64,
    /// Beside that, while it is used, or brought there.
    pub use_bytes: u64,
    /// While it is used, where it does not stay, beside what the file has of it.
    pub streamed: u64,
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
