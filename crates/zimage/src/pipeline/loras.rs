//! LoRAs of a pipeline: opened for its model, and applied from the next picture on.

use super::Pipeline;
use crate::Result;
use crate::model::Lora;
use std::path::Path;
use zimage_weights::Component;
use zimage_weights::lora::Adapter;

impl Pipeline {
    /// Opens a LoRA file for this model; [`Pipeline::set_loras`] applies it.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] when the file is no LoRA or not one of this model; it names the modules.
    pub fn open_lora(&self, path: &Path) -> Result<Adapter> {
        let [transformer, text_encoder] =
            [Component::Transformer, Component::TextEncoder].map(|component| self.checkpoint.specs(component));
        Ok(Adapter::open(path, &transformer, &text_encoder)?)
    }

    /// Applies these LoRAs, and no others, to what is made from now on. The model stays open; only its weights are
    /// mapped anew for a picture, as for every picture.
    ///
    /// # Errors
    /// [`crate::Error::Request`] for a weight that is not finite.
    pub fn set_loras(&mut self, loras: Vec<Lora>) -> Result<()> {
        self.adapters = self.adapters.replaced(loras)?;
        self.forget_kept();
        Ok(())
    }

    /// The LoRAs that are applied.
    pub fn loras(&self) -> impl Iterator<Item = &Lora> {
        self.adapters.loras()
    }
}
