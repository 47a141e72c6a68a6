//! The model, as its checkpoint is cut: tokenizer, text encoder, scheduler, transformer, VAE. Nothing here opens files.

mod adapters;
mod parameters;
pub mod scheduler;
pub mod text_encoder;
pub mod tokenizer;
pub mod transformer;
pub mod vae;

#[cfg(test)]
mod tests;

pub use adapters::{Adapters, Lora};
pub use parameters::{Pages, Parameters, Residency, Source};

use crate::{Error, Result};
use zimage_tensor::{Tensor, ops};

/// Fails with the name of the stage and layer when `x` holds a value that is infinite or not a number: rather no
/// picture than a black one.
pub(crate) fn assert_finite(x: &Tensor, stage: &'static str, layer: impl FnOnce() -> String) -> Result<()> {
    match ops::first_non_finite(x) {
        None => Ok(()),
        Some(index) => Err(Error::NonFinite { stage, layer: layer(), index }),
    }
}
