//! Everything that can be wrong with a LoRA file.

use super::report::{Misfit, Unmatched};

/// Why a LoRA file cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LoraProblem {
    /// It has no tensors of an adapter.
    #[error("it has no LoRA, LoHa, LoKr or DoRA tensors ({first} is the first of {count})")]
    NoAdapter {
        /// The first tensor's name.
        first: String,
        /// Number of tensors.
        count: usize,
    },
    /// It is an adapter of another model.
    #[error(
        "none of its {} modules is in the model: {}",
        unmatched.len(),
        unmatched.iter().take(4).map(Unmatched::to_string).collect::<Vec<_>>().join("; ")
    )]
    NothingMatches {
        /// All of its modules.
        unmatched: Vec<Unmatched>,
    },
    /// Modules have other sizes than the model's layers.
    #[error(
        "{} of its modules do not fit the model: {}",
        misfits.len(),
        misfits.iter().take(4).map(Misfit::to_string).collect::<Vec<_>>().join("; ")
    )]
    Misfits {
        /// All of them.
        misfits: Vec<Misfit>,
    },
    /// It has tensors that mean something that cannot be applied, and leaving them out would change the picture.
    #[error("{tensor} is {what}, which cannot be applied")]
    Unsupported {
        /// The tensor.
        tensor: String,
        /// What it is.
        what: String,
    },
    /// A module is not whole.
    #[error("{module} has {found} but no {missing}")]
    Incomplete {
        /// The module.
        module: String,
        /// The parts that are there.
        found: String,
        /// The part that is not.
        missing: &'static str,
    },
    /// Two tensors mean the same.
    #[error("{first} and {second} are the same part of one module")]
    Twice {
        /// One name.
        first: String,
        /// The other.
        second: String,
    },
    /// A tensor's shape does not go with the others of its module.
    #[error("{tensor} has the shape {found:?}, expected {expected}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// What would fit.
        expected: String,
    },
    /// A tensor has a value that is infinite or not a number.
    #[error("{tensor} has a value that is not finite, at index {index}")]
    NonFinite {
        /// The tensor.
        tensor: String,
        /// Where.
        index: usize,
    },
    /// A tensor is stored in a type that adapters are not read from.
    #[error("{tensor} is stored as {dtype}, expected a float")]
    Dtype {
        /// The tensor.
        tensor: String,
        /// The type.
        dtype: &'static str,
    },
    /// A setting in the header is not usable.
    #[error("{key} of its header is not usable: {reason}")]
    Setting {
        /// The key.
        key: String,
        /// Why.
        reason: String,
    },
}
