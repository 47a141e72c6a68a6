//! Weights as they lie in the file, and the linear layer.

use crate::{Device, Error, Format, Result, Tensor};
use bytes::Bytes;

/// A weight matrix `(rows, cols)` in the format of its file: 16-bit weights stay 16-bit, typically in the memory map,
/// and are widened tile by tile while they are used.
#[derive(Clone, Debug)]
pub struct Weight {
    pub(crate) device: Device,
    pub(crate) format: Format,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) bytes: Bytes,
}

impl Weight {
    /// A weight of `rows` output and `cols` input features.
    ///
    /// # Errors
    /// [`Error::Blocks`] when a row is no whole number of the format's blocks, [`Error::Size`] when the number of bytes
    /// does not fit.
    pub fn new(device: &Device, format: Format, rows: usize, cols: usize, bytes: Bytes) -> Result<Weight> {
        let block_len = format.block_len();
        if !cols.is_multiple_of(block_len) {
            return Err(Error::Blocks { format: format.name(), cols, block_len });
        }
        let expected = rows * format.row_bytes(cols);
        if bytes.len() != expected {
            return Err(Error::Size { shape: vec![rows, cols], expected, found: bytes.len() });
        }
        Ok(Weight { device: device.clone(), format, rows, cols, bytes })
    }

    /// Number of output features.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of input features.
    pub fn cols(&self) -> usize {
        self.cols
    }
}

/// `y = x W^T + b`.
#[derive(Debug)]
pub struct Linear {
    pub(crate) weight: Weight,
    pub(crate) bias: Option<Tensor>,
}

impl Linear {
    /// A linear layer; the bias, if any, has one value per output feature.
    pub fn new(weight: Weight, bias: Option<Tensor>) -> Linear {
        if let Some(bias) = &bias {
            assert_eq!(bias.len(), weight.rows, "bias of a linear layer");
        }
        Linear { weight, bias }
    }
}
