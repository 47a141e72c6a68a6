//! The VAE: pictures to latents and back.
//!
//! Source: diffusers `AutoencoderKL` (no quantization convolutions), and the pipelines' scale and shift of latents.

mod blocks;
mod decoder;
mod encoder;
#[cfg(test)]
mod tests;
mod tiling;

use super::Parameters;
use crate::Result;
use decoder::Decoder;
use encoder::Encoder;
use tiling::Tiling;
use zimage_tensor::{Tensor, ops};
use zimage_weights::schema::VaeConfig;

/// Whether a picture goes through the VAE whole or in tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Whole: exact, memory grows with the picture.
    Whole,
    /// In overlapping tiles of the size that the VAE was trained at, where the picture is larger than that.
    Tiles,
}

/// Latents -> picture.
pub struct VaeDecoder {
    config: VaeConfig,
    decoder: Decoder,
}

/// Picture -> latents.
pub struct VaeEncoder {
    config: VaeConfig,
    encoder: Encoder,
}

/// The normal distribution of a picture's latents, before scale and shift; both of `(latent_channels, h, w)`.
pub struct Posterior {
    /// The mode.
    pub mean: Vec<f32>,
    /// Logarithm of the variance, clamped to -30..20.
    pub logvar: Vec<f32>,
    scaling_factor: f32,
    shift_factor: f32,
}

impl VaeDecoder {
    /// Reads the decoder half.
    pub fn load(config: &VaeConfig, p: &Parameters) -> Result<VaeDecoder> {
        Ok(VaeDecoder { config: config.clone(), decoder: Decoder::load(config, &p.below("decoder"))? })
    }

    /// Latents `(latent_channels, h, w)` of the denoising loop -> `(3, 8h, 8w)`, about -1 to 1.
    ///
    /// # Errors
    /// [`crate::Error::NonFinite`] with the layer's name.
    pub fn decode(&self, latents: &Tensor, cut: Cut) -> Result<Tensor> {
        let (scale, shift) = (self.config.scaling_factor as f32, self.config.shift_factor as f32);
        let z = latents.to_vec().into_iter().map(|v| v / scale + shift).collect();
        let z = Tensor::from_vec(latents.device(), latents.shape(), z)?;
        let tiling = Tiling::new(tile_latents(&self.config), self.config.sample_size);
        match cut {
            Cut::Tiles if tiling.applies(z.shape()[1], z.shape()[2]) => {
                tiling.run(&z, |tile| self.decoder.forward(tile))
            }
            Cut::Tiles | Cut::Whole => self.decoder.forward(&z),
        }
    }
}

impl VaeEncoder {
    /// Reads the encoder half.
    pub fn load(config: &VaeConfig, p: &Parameters) -> Result<VaeEncoder> {
        Ok(VaeEncoder { config: config.clone(), encoder: Encoder::load(config, &p.below("encoder"))? })
    }

    /// A picture `(3, 8h, 8w)` from -1 to 1 -> the distribution of its latents.
    ///
    /// # Errors
    /// [`crate::Error::NonFinite`] with the layer's name.
    pub fn encode(&self, image: &Tensor, cut: Cut) -> Result<Posterior> {
        let tiling = Tiling::new(self.config.sample_size, tile_latents(&self.config));
        let moments = match cut {
            Cut::Tiles if tiling.applies(image.shape()[1], image.shape()[2]) => {
                tiling.run(image, |tile| self.encoder.forward(tile))?
            }
            Cut::Tiles | Cut::Whole => self.encoder.forward(image)?,
        };
        let channels = self.config.latent_channels;
        let logvar = ops::slice_rows(&moments, channels, 2 * channels).into_vec();
        Ok(Posterior {
            mean: ops::slice_rows(&moments, 0, channels).into_vec(),
            logvar: logvar.into_iter().map(|v| v.clamp(-30.0, 20.0)).collect(),
            scaling_factor: self.config.scaling_factor as f32,
            shift_factor: self.config.shift_factor as f32,
        })
    }
}

impl Posterior {
    /// A sample, scaled and shifted as the denoising loop wants it; `noise` is standard normal, of the mean's size.
    pub fn sample(&self, noise: &[f32]) -> Vec<f32> {
        assert_eq!(noise.len(), self.mean.len(), "noise of a posterior");
        let z =
            self.mean.iter().zip(&self.logvar).zip(noise).map(|((mean, logvar), n)| mean + (0.5 * logvar).exp() * n);
        z.map(|z| (z - self.shift_factor) * self.scaling_factor).collect()
    }
}

/// Latent size of a tile, which has the picture size that the VAE was trained at.
fn tile_latents(config: &VaeConfig) -> usize {
    config.sample_size / config.downscale()
}
