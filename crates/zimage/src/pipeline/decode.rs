//! Latents -> pixels.

use super::image::{self, RgbImage};
use super::{Latents, Pipeline};
use crate::Result;
use crate::model::vae::Cut;

impl Pipeline {
    /// Decodes the latents of a finished loop.
    ///
    /// # Errors
    /// [`crate::Error::NonFinite`] with the layer's name, or those of loading.
    pub fn decode(&self, latents: &Latents, cut: Cut) -> Result<RgbImage> {
        // Other loops may be waiting for their next step.
        let _memory = self.device.between_loops();
        let pixels = self.load_vae_decoder()?.decode(&latents.to_tensor(&self.device)?, cut)?;
        let [_, height, width] = pixels.shape()[..] else { panic!("a picture of {:?}", pixels.shape()) };
        Ok(image::from_model_output(&pixels.into_vec(), width, height))
    }
}
