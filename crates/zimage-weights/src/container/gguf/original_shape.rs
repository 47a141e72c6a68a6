//! Shapes that a tensor had before it was folded to fit the format.
//!
//! The converters of ComfyUI-GGUF fold a tensor into rows of 256 values where its own rows are no whole number of
//! blocks, and note the real shape, outermost axis first, as an array under `comfy.gguf.orig_shape.<name>`. Others note
//! it where an axis of one value came or went.

use std::collections::BTreeMap;

use super::{GgufProblem, Value};
use crate::container::TensorInfo;

/// What the names of these keys begin with.
const PREFIX: &str = "comfy.gguf.orig_shape.";

/// More axes than any tensor has: a bound on what a hostile key can make us keep.
const MAX_AXES: usize = 8;

/// Gives a tensor its original shape back. Both are row-major over the same values, so that no byte moves.
///
/// A tensor whose original rows are no whole number of blocks keeps the folded shape: its blocks run across the
/// original rows, and no code that reads it row by row, which is all code that reads blocks, could say where one begins.
/// It is then reported as misshapen by whoever knows the shape that it should have. Refuses a key that is not a list of
/// sizes, and one of another number of values.
pub(super) fn restore(
    metadata: &BTreeMap<String, Value>,
    tensor: &str,
    info: TensorInfo,
) -> Result<TensorInfo, GgufProblem> {
    let Some(value) = metadata.get(&format!("{PREFIX}{tensor}")) else { return Ok(info) };
    let (elements, dtype) = (info.elements(), info.dtype);
    let shape = sizes(value).filter(|shape| product(shape) == Some(elements));
    let Some(shape) = shape else {
        return Err(GgufProblem::OriginalShape { tensor: tensor.to_owned(), found: value.to_string(), elements });
    };
    let in_blocks = dtype.size_of(&shape).is_some();
    Ok(if in_blocks { TensorInfo { dtype, shape } } else { info })
}

fn sizes(value: &Value) -> Option<Vec<usize>> {
    match value {
        Value::Array(array) if array.len() <= MAX_AXES => {
            array.iter().map(|size| usize::try_from(size.as_u64()?).ok()).collect()
        }
        _ => None,
    }
}

fn product(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size))
}
