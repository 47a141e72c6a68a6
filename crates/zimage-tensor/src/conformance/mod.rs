//! One suite for every backend: each operation, at odd shapes, against the naive one.

mod accelerators;
mod affine;
mod cases;
mod deltas;
mod int8;
mod pictures;
mod tolerances;

#[cfg(feature = "cuda-emulator")]
pub(crate) use cases::{tensor, weight};
