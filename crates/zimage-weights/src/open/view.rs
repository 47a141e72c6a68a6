//! A tensor where it lies in its file, under its canonical name and shape.

use std::ops::Range;

use bytes::Bytes;
use zimage_kernels::blocks::{Layout, Matrix, Planes};

use crate::container::Container;
use crate::dialect::Entry;
use crate::packing::Kind;
use crate::{Error, Result};

/// A weight in the form of its file: nothing is decoded, and only kernels whose axes are in another order are copied.
#[derive(Clone, Debug)]
pub struct WeightView {
    /// Canonical name.
    pub name: String,
    /// Canonical shape.
    pub shape: Vec<usize>,
    /// How it is stored.
    pub layout: Layout,
    /// The values of all stored rows.
    pub values: Bytes,
    /// Their scales, where they lie apart.
    pub scales: Bytes,
    /// The biases of the scales, where there are any.
    pub biases: Bytes,
    /// A factor on every scale.
    pub factor: f32,
    /// Number of stored rows.
    pub stored_rows: usize,
    /// Which of the stored rows are the tensor's: fused matrices hold several.
    pub rows: Range<usize>,
}

impl WeightView {
    /// The tensor as a matrix: the last axis are its columns.
    pub fn matrix(&self) -> Matrix<'_> {
        let all = self.whole().expect("the planes were measured when the view was made: this is a bug");
        all.window(self.rows.clone())
    }

    /// Columns of [`WeightView::matrix`].
    pub fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// The values in f32, row-major.
    pub fn decode(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.shape.iter().product()];
        self.matrix().decode_rows(0..self.rows.len(), &mut values);
        values
    }

    /// The bytes of a tensor that is stored as one run of bytes.
    pub fn bytes(&self) -> Option<Bytes> {
        let Layout::Rows(format) = self.layout else { return None };
        let row = format.row_bytes(self.cols());
        Some(self.values.slice(self.rows.start * row..self.rows.end * row))
    }

    /// The values, scales and biases of the tensor's own rows; whole planes where one scale serves them all.
    pub(crate) fn planes(&self) -> [Bytes; 3] {
        let (rows, cols) = (self.rows.clone(), self.cols());
        let part = |plane: &Bytes, row: usize| plane.slice(rows.start * row..rows.end * row);
        match self.layout {
            Layout::Rows(format) => [part(&self.values, format.row_bytes(cols)), Bytes::new(), Bytes::new()],
            Layout::Scaled(scaled) => {
                let scales = scaled.row_scales(cols) * scaled.scale.bytes();
                let biases = if scaled.biased { part(&self.biases, scales) } else { Bytes::new() };
                [part(&self.values, scaled.row_bytes(cols)), part(&self.scales, scales), biases]
            }
        }
    }

    fn whole(&self) -> Option<Matrix<'_>> {
        let planes = Planes { values: &self.values, scales: &self.scales, biases: &self.biases };
        Matrix::new(self.layout, self.stored_rows, self.cols(), planes, self.factor)
    }

    /// The tensor of an entry whose shape is the schema's. `label` stands for the checkpoint in messages.
    pub(super) fn of(entry: &Entry, container: &Container, label: &str) -> Result<Self> {
        let refused = |reason: String| Error::UnreadableWeight {
            label: label.to_owned(),
            tensor: entry.packed.name.clone(),
            reason,
        };
        let cols = entry.shape.last().copied().unwrap_or(1);
        let layout = entry.packed.layout(cols).map_err(refused)?;
        let block_len = layout.block_len();
        if !cols.is_multiple_of(block_len) {
            return Err(refused(format!("a row of {cols} values is no whole number of blocks of {block_len}")));
        }
        let count = entry.shape.iter().rev().skip(1).product::<usize>();
        let (part, of) = entry.rows.map_or((0, 1), |rows| (rows.part, rows.of));
        let mut view = Self {
            name: entry.name.clone(),
            shape: entry.shape.clone(),
            layout,
            values: container.tensor(&entry.packed.name)?.data,
            scales: Bytes::new(),
            biases: Bytes::new(),
            factor: 1.0,
            stored_rows: count * of,
            rows: part * count..(part + 1) * count,
        };
        match &entry.packed.kind {
            Kind::Plain | Kind::Refused(_) => {}
            Kind::Words { scales, biases, .. } => {
                view.scales = container.tensor(scales)?.data;
                view.biases =
                    biases.as_ref().map(|name| container.tensor(name)).transpose()?.map_or_else(Bytes::new, |t| t.data);
            }
            Kind::Scaled { scales, factor, .. } => {
                view.scales = container.tensor(scales)?.data;
                view.factor = factor.as_ref().map_or(Ok(1.0), |name| scalar(container, name)).map_err(refused)?;
            }
        }
        if entry.transposed {
            view.values = channels_first(&view, &refused)?;
        }
        if view.whole().is_none() {
            let expected = layout.plane_bytes(view.stored_rows, cols);
            let found = [view.values.len(), view.scales.len(), view.biases.len()];
            return Err(refused(format!(
                "as {layout} its values, scales and biases take {expected:?} bytes, found {found:?}"
            )));
        }
        Ok(view)
    }
}

/// The only value of a tensor.
fn scalar(container: &Container, name: &str) -> Result<f32, String> {
    let tensor = container.tensor(name).map_err(|error| error.to_string())?;
    match (tensor.dtype.format(), &*tensor.data) {
        (Some(format), data) if data.len() == format.row_bytes(1) => {
            let mut value = [0.0];
            format.decode(data, &mut value);
            Ok(value[0])
        }
        _ => Err(format!("its factor {name} is no single number")),
    }
}

/// The bytes of a kernel that is stored `(out, height, width, in)`, in the order `(out, in, height, width)`.
fn channels_first(view: &WeightView, refused: &impl Fn(String) -> Error) -> Result<Bytes> {
    let (Layout::Rows(format), [out, input, height, width]) = (view.layout, &*view.shape) else {
        return Err(refused("a quantized kernel of a convolution is not read".to_owned()));
    };
    let (pixels, size) = (height * width, format.row_bytes(1));
    if view.values.len() != out * input * pixels * size {
        return Err(refused(format!("it has {} bytes", view.values.len())));
    }
    let mut turned = Vec::with_capacity(view.values.len());
    for kernel in view.values.chunks_exact((input * pixels * size).max(1)) {
        for channel in 0..*input {
            for pixel in 0..pixels {
                let at = (pixel * input + channel) * size;
                turned.extend_from_slice(&kernel[at..at + size]);
            }
        }
    }
    Ok(turned.into())
}
