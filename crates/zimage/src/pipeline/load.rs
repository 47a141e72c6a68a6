//! Opening a model: the only place where the library opens model files.

use super::plan::Strategy;
use super::{ComputeChoice, Kept, Pipeline, demo};
use crate::Result;
use crate::model::scheduler::SchedulerConfig;
use crate::model::text_encoder::TextEncoder;
use crate::model::tokenizer::Tokenizer;
use crate::model::transformer::Transformer;
use crate::model::vae::{VaeDecoder, VaeEncoder};
use crate::model::{Adapters, Parameters, Residency};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use zimage_tensor::Device;
use zimage_weights::{Checkpoint, Component, Parts};

impl Pipeline {
    /// Opens the checkpoint at `path`. Configurations and tokenizer are read and checked; weights are mapped when a
    /// stage needs them, and released after it.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] or [`crate::Error::Tokenizer`], naming the file.
    pub fn load(path: &Path, device: Device) -> Result<Pipeline> {
        Pipeline::from_checkpoint(Checkpoint::open(path)?, device)
    }

    /// Opens a model whose parts lie in several places; [`Checkpoint::origins`] says what was taken from where.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] or [`crate::Error::Tokenizer`], naming the file or the part that is missing.
    pub fn load_parts(parts: &Parts, device: Device) -> Result<Pipeline> {
        Pipeline::from_checkpoint(Checkpoint::from_parts(parts)?, device)
    }

    /// Opens the small model that the library carries.
    ///
    /// # Errors
    /// None that a user could cause.
    pub fn demo(device: Device) -> Result<Pipeline> {
        Pipeline::from_checkpoint(Checkpoint::from_files(demo::files())?, device)
    }

    /// A model from an opened checkpoint.
    ///
    /// # Errors
    /// Those of [`Pipeline::load`].
    pub fn from_checkpoint(checkpoint: Checkpoint, device: Device) -> Result<Pipeline> {
        let vocab = checkpoint.text_encoder_config().vocab_size;
        let tokenizer = Tokenizer::from_json(&checkpoint.tokenizer_json()?, checkpoint.label(), vocab)?;
        Ok(Pipeline {
            tokenizer,
            scheduler: SchedulerConfig::from_json(checkpoint.scheduler_config())?,
            checkpoint,
            device,
            adapters: Adapters::default(),
            compute: ComputeChoice::default(),
            kept: Mutex::default(),
        })
    }

    /// Maps the text encoder, or takes the one that an earlier picture kept.
    pub(super) fn load_text_encoder(&self, strategy: Strategy) -> Result<Arc<TextEncoder>> {
        let residency = strategy.text_encoder;
        let kept = &mut self.kept().text_encoder;
        let usable = |encoder: &TextEncoder| encoder.residency() == residency;
        kept_or(kept, strategy.keep_rest, usable, || self.read_text_encoder(residency))
    }

    fn read_text_encoder(&self, residency: Residency) -> Result<TextEncoder> {
        let weights = self.checkpoint.weights(Component::TextEncoder)?;
        let device = self.device_for(&weights);
        let parameters = Parameters::new(&weights, &device).with_adapters(&self.adapters);
        TextEncoder::load(self.checkpoint.text_encoder_config(), &parameters, residency)
    }

    /// Maps the transformer, and lays out as many of its blocks as the strategy says; or takes the one that an earlier
    /// picture kept.
    pub(super) fn load_transformer(&self, strategy: Strategy) -> Result<Arc<Transformer>> {
        let residency = strategy.transformer;
        let kept = &mut self.kept().transformer;
        let usable = |transformer: &Transformer| transformer.residency() == residency;
        kept_or(kept, strategy.keep_transformer, usable, || self.read_transformer(residency))
    }

    fn read_transformer(&self, residency: Residency) -> Result<Transformer> {
        let weights = self.checkpoint.weights(Component::Transformer)?;
        let device = self.device_for(&weights);
        let parameters = Parameters::new(&weights, &device).with_adapters(&self.adapters);
        Transformer::load(self.checkpoint.transformer_config(), &parameters, residency)
    }

    /// Reads the decoder half of the VAE, or takes the one that an earlier picture kept.
    pub(super) fn load_vae_decoder(&self, strategy: Strategy) -> Result<Arc<VaeDecoder>> {
        kept_or(&mut self.kept().vae_decoder, strategy.keep_rest, |_| true, || self.read_vae_decoder())
    }

    fn read_vae_decoder(&self) -> Result<VaeDecoder> {
        let weights = self.checkpoint.weights(Component::Vae)?;
        let device = self.device_for(&weights);
        VaeDecoder::load(self.checkpoint.vae_config(), &Parameters::new(&weights, &device))
    }

    /// Reads the encoder half of the VAE.
    pub(super) fn load_vae_encoder(&self) -> Result<VaeEncoder> {
        let weights = self.checkpoint.weights(Component::Vae)?;
        let device = self.device_for(&weights);
        VaeEncoder::load(self.checkpoint.vae_config(), &Parameters::new(&weights, &device))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what earlier pictures kept: it is not what the next one needs. The device gets its memory back.
    pub(super) fn forget_kept(&mut self) {
        *self.kept.get_mut().unwrap_or_else(PoisonError::into_inner) = Kept::default();
        self.device.release_memory();
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.forget_kept();
    }
}

/// What was kept, if it is usable, or what is read anew; kept for the next picture if `keeps`.
fn kept_or<T>(
    kept: &mut Option<Arc<T>>,
    keeps: bool,
    usable: impl FnOnce(&T) -> bool,
    read: impl FnOnce() -> Result<T>,
) -> Result<Arc<T>> {
    let component = match kept.take().filter(|component| usable(component)) {
        Some(component) => component,
        None => Arc::new(read()?),
    };
    *kept = keeps.then(|| component.clone());
    Ok(component)
}
