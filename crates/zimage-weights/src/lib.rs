//! Checkpoint files of Z-Image: what is in them, whether it is what the model needs, and how to write them.
//!
//! The crate reads hostile files (a checkpoint comes from the internet), so every parser here returns an [`Error`] that
//! names the file and the tensor, and none panics. It runs no model: the only arithmetic is on weights.
//!
//! From the bottom up: [`container`] turns bytes into named tensors and knows no model; [`schema`] is the single source
//! of truth for names and shapes; [`dialect`] translates other names to those; [`audit`] compares the two; [`open`] finds the files of a checkpoint and hands out
//! audited weights; [`inspect`] says what an unknown file is; [`lora`] reads adapters;
//! [`convert`] writes models in every layout, and [`merge`] mixes several into one;
//! [`llama_cpp`] reads and writes what llama.cpp keeps of a text encoder beside its tensors;
//! [`random`] writes checkpoints of any shape for tests.

pub mod container;
pub mod dtype;
pub mod schema;

pub mod audit;
pub mod convert;
pub mod dialect;
pub mod llama_cpp;
pub mod merge;
pub mod open;
mod packing;

pub mod digest;
pub mod inspect;
pub mod lora;
pub mod random;

mod error;

pub use audit::Audit;
pub use container::{Container, TensorView};
pub use dtype::Dtype;
pub use error::{Error, Result};
pub use open::{Checkpoint, Origin, Parts, WeightView, Weights};
pub use schema::{Component, Role, TensorSpec, TextEncoderConfig, TransformerConfig, VaeConfig};
