//! Activations in 8 bits: a scale for each row, which is its largest magnitude over what the element holds. The layers of
//! blocks read them; they are made once for all layers that do.

use super::Cuda;
use super::driver::Element;
use super::linear::StoredAt;
use super::memory::Buffer;
use crate::{Compute, Weight};

/// Rows of activations in 8 bits, with a scale for each row.
#[derive(Debug)]
pub struct QuantizedRows {
    memory: Buffer,
    /// What they are at address 0.
    form: StoredAt,
}

impl QuantizedRows {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.form.rows
    }

    /// Values in a row.
    pub fn cols(&self) -> usize {
        self.form.cols
    }

    /// The rows where they are.
    fn at(&self) -> StoredAt {
        self.form.located(self.memory.address())
    }
}

impl Cuda {
    /// Whether the linear layers of blocks read 8 bits.
    pub fn quantizes(&self) -> bool {
        self.narrow_element().is_some()
    }

    /// Rows of `cols` values in 8 bits.
    pub fn quantize(&self, x: &Buffer, cols: usize) -> QuantizedRows {
        let (rows, element) = (x.len() / cols, self.expect_narrow());
        let (form, bytes) = StoredAt::made(element, rows, cols);
        let quantized = QuantizedRows { memory: self.take(Element::I8, bytes), form };
        self.convert(&StoredAt::plain(x.element(), rows, cols, x.address()), &quantized.at(), element);
        quantized
    }

    /// The values again.
    pub fn dequantize(&self, rows: &QuantizedRows) -> Buffer {
        let values = self.take(self.element(), rows.rows() * rows.cols());
        let plain = StoredAt::plain(values.element(), rows.rows(), rows.cols(), values.address());
        self.convert(&rows.at(), &plain, values.element());
        values
    }

    /// `x W^T + b` of rows in 8 bits, with the weight in 8 bits, a scale for each of its rows.
    pub fn project(&self, x: &QuantizedRows, weight: &Weight, bias: Option<&Buffer>) -> Buffer {
        self.weigh(&x.at(), weight, self.expect_narrow(), bias)
    }

    fn narrow_element(&self) -> Option<Element> {
        match self.compute() {
            Compute::Fp8 => Some(Element::F8),
            Compute::Int8 => Some(Element::I8),
            Compute::Exact | Compute::Bf16 | Compute::F16 => None,
        }
    }

    fn expect_narrow(&self) -> Element {
        self.narrow_element().expect("rows in 8 bits on a device that multiplies them: this is a bug")
    }
}
