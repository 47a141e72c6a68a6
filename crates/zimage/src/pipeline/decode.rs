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
        let pixels = self.load_vae_decoder()?.decode(&latents.to_tensor(&self.device)?, cut);
        let image = pixels.map(|pixels| {
            let [_, height, width] = pixels.shape()[..] else { panic!("a picture of {:?}", pixels.shape()) };
            image::from_model_output(&pixels.into_vec(), width, height)
        });
        self.device.release_memory();
        image
    }
}
