//! Latents -> pixels.

use super::image::{self, RgbImage};
use super::plan::Strategy;
use super::{Latents, Pipeline};
use crate::Result;

impl Pipeline {
    /// Decodes the latents of a finished loop.
    ///
    /// # Errors
    /// [`crate::Error::NonFinite`] with the layer's name, or those of loading.
    pub fn decode(&self, latents: &Latents, strategy: Strategy) -> Result<RgbImage> {
        let device = self.device_of_vae()?;
        // Other loops may be waiting for their next step.
        let _memory = self.device.between_loops();
        let pixels = self.load_vae_decoder(strategy)?.decode(&latents.to_tensor(&device)?, strategy.cut)?;
        let [_, height, width] = pixels.shape()[..] else { panic!("a picture of {:?}", pixels.shape()) };
        let pixels = pixels.into_vec();
        device.check()?;
        Ok(image::from_model_output(&pixels, width, height))
    }
}
