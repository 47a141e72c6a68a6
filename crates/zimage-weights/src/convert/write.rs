//! Writes the tensors of a plan, one after the other.

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;

use zimage_kernels::blocks::Layout;

use super::encode::{self, Encoded, chunks};
use super::plan::{FilePlan, TensorPlan};
use super::{Model, Progress};
use crate::container::{TensorSource, write_gguf, write_safetensors};
use crate::{Error, Result, TensorSpec};

/// What the tensors of one conversion share.
pub(super) struct Writer<'a> {
    pub(super) model: &'a dyn Model,
    /// Is told of every tensor, and may stop the conversion.
    pub(super) progress: RefCell<&'a mut dyn FnMut(Progress<'_>) -> bool>,
    pub(super) done_bytes: RefCell<u64>,
    pub(super) total_bytes: u64,
}

impl Writer<'_> {
    /// Writes a file of the plan. An error in the middle leaves nothing.
    pub(super) fn file(&self, path: &Path, plan: &FilePlan) -> Result<()> {
        let failed: RefCell<Option<Error>> = RefCell::new(None);
        let sources: Vec<TensorSource<'_>> =
            plan.tensors.iter().flat_map(|tensor| self.sources(tensor, &failed)).collect();
        let written = match &plan.keys {
            Some(keys) => write_gguf(path, keys, sources),
            None => write_safetensors(path, &plan.metadata, sources),
        };
        // What went wrong in a tensor says more than that its file could not be written.
        failed.into_inner().map_or(written, Err)
    }

    /// The tensors of one weight. Scales and biases are kept while its values are written.
    fn sources<'a>(&'a self, tensor: &'a TensorPlan, failed: &'a RefCell<Option<Error>>) -> Vec<TensorSource<'a>> {
        let kept = Rc::new(RefCell::new(Encoded::default()));
        let source = |(at, stored): (usize, super::plan::Stored)| {
            let kept = Rc::clone(&kept);
            TensorSource::new(stored.name, stored.dtype, &stored.shape, move |out| {
                let mut kept = kept.borrow_mut();
                let written = match at {
                    0 => self.weight(tensor, &mut kept, out),
                    1 => out.write_all(&std::mem::take(&mut kept.scales)).map_err(Stop::Io),
                    _ => out.write_all(&std::mem::take(&mut kept.biases)).map_err(Stop::Io),
                };
                written.map_err(|stop| match stop {
                    Stop::Io(error) => error,
                    Stop::Error(error) => {
                        *failed.borrow_mut() = Some(error);
                        io::Error::other("a tensor could not be made")
                    }
                })
            })
        };
        tensor.stored().into_iter().enumerate().map(source).collect()
    }

    /// Writes the values of a weight, and keeps its scales and biases.
    fn weight(&self, tensor: &TensorPlan, kept: &mut Encoded, out: &mut dyn Write) -> Result<(), Stop> {
        for spec in &tensor.made_of {
            let view = self.model.stored(tensor.component, &spec.name)?;
            let same = self.model.is_stored(tensor.component, &spec.name) && view.layout == tensor.layout;
            match same && !tensor.transposed {
                true => {
                    let [values, scales, biases] = view.planes();
                    kept.scales.extend_from_slice(&scales);
                    kept.biases.extend_from_slice(&biases);
                    out.write_all(&values).map_err(Stop::Io)?;
                }
                false => self.encoded(tensor, spec, kept, out)?,
            }
        }
        // What was read of a mapped file counts as memory of this process until it is released.
        self.model.release();
        *self.done_bytes.borrow_mut() += tensor.size_bytes();
        let progress =
            Progress { tensor: &tensor.name, done_bytes: *self.done_bytes.borrow(), total_bytes: self.total_bytes };
        if (self.progress.borrow_mut())(progress) { Ok(()) } else { Err(Stop::Error(Error::Cancelled)) }
    }

    fn encoded(
        &self,
        tensor: &TensorPlan,
        spec: &TensorSpec,
        kept: &mut Encoded,
        out: &mut dyn Write,
    ) -> Result<(), Stop> {
        if tensor.transposed {
            let values = channels_last(self.model, tensor, spec)?;
            let encoded = Encoded::of(tensor.layout, values.len(), &values)?;
            return out.write_all(&encoded.values).map_err(Stop::Io);
        }
        let (rows, cols) = matrix_of(spec);
        for range in chunks(rows, cols) {
            let layout = (tensor.layout, cols);
            let values = encode::rows(self.model, tensor.component, &spec.name, range, layout)?;
            let encoded = Encoded::of(tensor.layout, cols, &values)?;
            kept.scales.extend_from_slice(&encoded.scales);
            kept.biases.extend_from_slice(&encoded.biases);
            out.write_all(&encoded.values).map_err(Stop::Io)?;
        }
        Ok(())
    }
}

/// Rows and columns of a tensor as a matrix whose columns are the last axis.
pub(super) fn matrix_of(spec: &TensorSpec) -> (usize, usize) {
    let cols = spec.shape.last().copied().unwrap_or(1);
    (spec.shape.iter().rev().skip(1).product(), cols)
}

/// A kernel `(out, in, height, width)` in the order `(out, height, width, in)`.
fn channels_last(model: &dyn Model, tensor: &TensorPlan, spec: &TensorSpec) -> Result<Vec<f32>> {
    let (rows, cols) = matrix_of(spec);
    let mut values = vec![0.0; rows * cols];
    model.rows(tensor.component, &spec.name, 0..rows, &mut values)?;
    let [_, input, height, width] = spec.shape[..] else { return Ok(values) };
    let (pixels, kernel) = (height * width, input * height * width);
    let turned = values.chunks(kernel.max(1)).flat_map(|kernel| {
        (0..pixels).flat_map(move |pixel| (0..input).map(move |channel| kernel[channel * pixels + pixel]))
    });
    Ok(turned.collect())
}

/// Whether a tensor of a plan holds exactly the values of the model.
pub(super) fn is_float(layout: Layout) -> bool {
    matches!(layout, Layout::Rows(format) if format.block_len() == 1)
}

/// Why a tensor is not written.
enum Stop {
    /// The file cannot be written.
    Io(io::Error),
    /// The values cannot be made.
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Error(error)
    }
}
