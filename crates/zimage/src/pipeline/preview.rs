//! A small picture of latents, without the VAE: each latent pixel becomes one pixel, by a linear map of its channels.
//!
//! The map is fitted to the model's own decoder by least squares, so that it needs no table of numbers and serves any
//! VAE: first to what the decoder makes of noise, then, better, to each picture that was made.
//!
//! ```text
//! colour of a pixel = mean of the 8x8 pixels that its latents stand for ~ (latents, 1) x map        (17) x (17, 3)
//! ```

use super::image::RgbImage;
use super::plan::Strategy;
use super::rng::TorchGenerator;
use super::{Latents, Pipeline};
use crate::Result;

/// Side of the latents that the first fit is made on: 256 pixels for 17 unknowns.
const PROBE_SIDE: usize = 16;
/// How much of what was known a new picture leaves.
const REMEMBERED: f64 = 0.5;
/// Keeps the equations solvable where channels are alike.
const RIDGE: f64 = 1e-3;

/// The map from latents to colours, and the sums that it is fitted to.
#[derive(Clone, Debug)]
pub struct Preview {
    channels: usize,
    /// `(channels + 1, channels + 1)`: sums of products of latents, the constant 1 being the last.
    products: Vec<f64>,
    /// `(channels + 1, 3)`: sums of products of latents and colours, these from 0 to 1.
    colours: Vec<f64>,
    /// `(channels + 1, 3)`.
    map: Vec<f64>,
}

impl Preview {
    /// Adds a picture and its latents to what the map is fitted to.
    pub fn learn(&mut self, latents: &Latents, image: &RgbImage) {
        self.products.iter_mut().chain(&mut self.colours).for_each(|sum| *sum *= REMEMBERED);
        self.add(latents, image);
        self.map = self.solve();
    }

    /// The latents as a picture of one pixel for each: an eighth of the finished picture's size.
    pub fn render(&self, latents: &Latents) -> RgbImage {
        let pixels = (0..latents.width * latents.height).flat_map(|pixel| {
            let z = self.features(latents, pixel);
            [0, 1, 2].map(|colour| {
                let value: f64 = z.iter().zip(self.map.iter().skip(colour).step_by(3)).map(|(z, m)| z * m).sum();
                (value.clamp(0.0, 1.0) * 255.0).round() as u8
            })
        });
        RgbImage::new(latents.width, latents.height, pixels.collect())
    }

    fn new(channels: usize) -> Preview {
        let n = channels + 1;
        Preview { channels, products: vec![0.0; n * n], colours: vec![0.0; 3 * n], map: vec![0.0; 3 * n] }
    }

    /// The channels of a latent pixel, and 1.
    fn features(&self, latents: &Latents, pixel: usize) -> Vec<f64> {
        let area = latents.width * latents.height;
        let channel = |channel: usize| f64::from(latents.data[channel * area + pixel]);
        (0..self.channels).map(channel).chain([1.0]).collect()
    }

    fn add(&mut self, latents: &Latents, image: &RgbImage) {
        let n = self.channels + 1;
        let small = image.resize(latents.width, latents.height);
        for (pixel, colour) in small.pixels().chunks_exact(3).enumerate() {
            let z = self.features(latents, pixel);
            for (i, zi) in z.iter().enumerate() {
                self.products[i * n..][..n].iter_mut().zip(&z).for_each(|(sum, zj)| *sum += zi * zj);
                let colours = self.colours[3 * i..][..3].iter_mut();
                colours.zip(colour).for_each(|(sum, &byte)| *sum += zi * f64::from(byte) / 255.0);
            }
        }
    }

    /// Solves the normal equations by elimination; they are symmetric and, with the ridge, positive definite.
    fn solve(&self) -> Vec<f64> {
        let n = self.channels + 1;
        let (mut a, mut b) = (self.products.clone(), self.colours.clone());
        // The constant's sum is the number of pixels, so that the ridge is small for any number of them.
        let ridge = RIDGE * self.products[n * n - 1].max(1.0);
        (0..n).for_each(|i| a[i * n + i] += ridge);
        for pivot in 0..n {
            for row in (0..n).filter(|&row| row != pivot) {
                let factor = a[row * n + pivot] / a[pivot * n + pivot];
                (0..n).for_each(|col| a[row * n + col] -= factor * a[pivot * n + col]);
                (0..3).for_each(|col| b[3 * row + col] -= factor * b[3 * pivot + col]);
            }
        }
        b.iter().enumerate().map(|(i, value)| value / a[i / 3 * (n + 1)]).collect()
    }
}

impl Pipeline {
    /// A map fitted to what this model's decoder makes of noise: one decoding of 128x128 pixels.
    ///
    /// # Errors
    /// Those of [`Pipeline::decode`].
    pub fn preview(&self) -> Result<Preview> {
        let channels = self.checkpoint.transformer_config().in_channels;
        let (height, width) = (PROBE_SIDE, PROBE_SIDE);
        let data = TorchGenerator::new(0).randn(channels * height * width);
        let latents = Latents { data, channels, height, width };
        let image = self.decode(&latents, Strategy::WHOLE)?;
        let mut preview = Preview::new(channels);
        preview.add(&latents, &image);
        preview.map = preview.solve();
        Ok(preview)
    }
}

#[cfg(test)]
mod tests;
