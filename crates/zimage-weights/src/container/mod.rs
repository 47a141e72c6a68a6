//! Bytes to named tensors. Nothing here knows a model.

mod file;
mod gguf;
mod listing;
mod mmap;
mod output;
mod problem;
mod safetensors;
mod sharded;
mod sniff;
mod write;

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::Dtype;

pub use file::File;
pub use gguf::{Array, Gguf, GgufProblem, Value, ValueType, write_gguf};
pub use mmap::map_file;
pub use output::TensorSource;
pub use problem::Problem;
pub use safetensors::SafeTensors;
pub use sharded::Container;
pub(crate) use sharded::Shards;
pub use sniff::{Kind, sniff};
pub use write::write_safetensors;

/// The `__metadata__` of a safetensors file.
pub type Metadata = BTreeMap<String, String>;

/// Type and shape of a stored tensor, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type.
    pub dtype: Dtype,
    /// Sizes of the axes, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
}

impl TensorInfo {
    /// Number of elements. It fits: the parser refuses shapes whose size overflows.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of the tensor's data. They are counted: the parsers refuse shapes that are no whole number of blocks.
    pub fn size_bytes(&self) -> usize {
        self.dtype.size_of(&self.shape).expect("sizes are checked before an info is made: this is a bug")
    }
}

/// A stored tensor. It keeps its file mapped for as long as it lives.
#[derive(Clone, Debug)]
pub struct TensorView {
    /// Name under which it was asked for.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Sizes of the axes, outermost first.
    pub shape: Vec<usize>,
    /// Little-endian elements, row-major: a window of the file, not a copy. It may start at any byte, aligned or not.
    pub data: Bytes,
}
