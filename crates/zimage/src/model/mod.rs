//! The model, as its checkpoint is cut: tokenizer, text encoder, scheduler, transformer, VAE. Nothing here opens files.

mod adapters;
mod parameters;
pub mod scheduler;
pub mod text_encoder;
pub mod tokenizer;
pub mod transformer;
pub mod vae;
mod watch;

#[cfg(test)]
mod tests;

pub use adapters::{Adapters, Lora};
pub use parameters::{Pages, Parameters, Residency, Source};

pub(crate) use watch::Watch;
