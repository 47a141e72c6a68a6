//! Reads a converted model back and compares it with what it was made of, tensor by tensor.

use zimage_kernels::blocks::Layout;

use super::encode::{self, Encoded, chunks};
use super::write::{is_float, matrix_of};
use super::{Model, Opened};
use crate::open::Checkpoint;
use crate::schema::Component;
use crate::{Error, Parts, Result, TensorSpec};

/// What a comparison found. Every tensor was the same, or the error was returned instead.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verified {
    /// Tensors whose values are those of the source, bit for bit.
    pub equal: usize,
    /// Tensors that hold the source's values in a coarser format: the bytes are those that the values encode to.
    pub rounded: usize,
    /// Root mean square of what all values lost, relative to that of the values.
    pub relative_error: f64,
}

/// Sums of squares.
#[derive(Default)]
struct Errors {
    values: f64,
    lost: f64,
}

/// Compares the model at `parts` with the one that it was made of.
///
/// Refuses ([`Error::NotVerified`]) a tensor that differs from what its source's values are in its format.
pub fn verify(source: &dyn Model, parts: &Parts) -> Result<Verified> {
    let written = Opened::new(Checkpoint::from_parts(parts)?)?;
    let mut verified = Verified::default();
    let mut errors = Errors::default();
    for component in Component::ALL {
        for spec in source.specs(component) {
            let equal = tensor(source, &written, component, &spec, &mut errors)?;
            *(if equal { &mut verified.equal } else { &mut verified.rounded }) += 1;
            source.release();
            written.release();
        }
    }
    verified.relative_error = (errors.lost / errors.values.max(f64::MIN_POSITIVE)).sqrt();
    Ok(verified)
}

/// Compares one tensor; whether its values are all those of the source.
fn tensor(
    source: &dyn Model,
    written: &Opened,
    component: Component,
    spec: &TensorSpec,
    errors: &mut Errors,
) -> Result<bool> {
    let found = written.stored(component, &spec.name)?;
    let refused = || Error::NotVerified { tensor: spec.name.clone(), component };
    let copied =
        source.is_stored(component, &spec.name) && source.stored(component, &spec.name)?.layout == found.layout;
    let (rows, cols) = matrix_of(spec);
    let mut all_equal = true;
    for range in chunks(rows, cols) {
        let mut read = vec![0.0; range.len() * cols];
        found.matrix().decode_rows(range.clone(), &mut read);
        let mut exact = vec![0.0; range.len() * cols];
        source.rows(component, &spec.name, range.clone(), &mut exact)?;
        let equal = same(&read, &exact);
        if !equal {
            let expected = match copied {
                true => exact.clone(),
                false => expected(source, component, spec, range, found.layout)?.ok_or_else(refused)?,
            };
            if !same(&read, &expected) {
                return Err(refused());
            }
        }
        all_equal &= equal;
        for (a, b) in exact.iter().zip(&read) {
            errors.values += f64::from(*a).powi(2);
            errors.lost += f64::from(a - b).powi(2);
        }
    }
    Ok(all_equal)
}

/// The source's values once they are encoded to a layout.
fn expected(
    source: &dyn Model,
    component: Component,
    spec: &TensorSpec,
    range: std::ops::Range<usize>,
    layout: Layout,
) -> Result<Option<Vec<f32>>> {
    let (_, cols) = matrix_of(spec);
    let count = range.len();
    // A float is rounded value by value, in any order of axes.
    let (rows, cols) = if is_float(layout) { (1, count * cols) } else { (count, cols) };
    let own_cols = spec.shape.last().copied().unwrap_or(1);
    let values = encode::rows(source, component, &spec.name, range, (layout, own_cols))?;
    Ok(Encoded::of(layout, cols, &values)?.decode(layout, rows, cols))
}

/// The same numbers, bit for bit.
fn same(a: &[f32], b: &[f32]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}
