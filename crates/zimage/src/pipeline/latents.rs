//! Where a picture starts: noise, or a noised picture; and what inpainting keeps.
//!
//! The order in which random numbers are drawn is part of the result: first the posterior sample of the init image,
//! if there is one, then the noise.
//!
//! Source: diffusers `ZImagePipeline`, `ZImageImg2ImgPipeline`, `ZImageInpaintPipeline`, each `prepare_latents`.

use super::Pipeline;
use super::image::InitImage;
use super::request::{GenerateRequest, Task};
use super::rng::TorchGenerator;
use crate::Result;
use crate::model::scheduler::Schedule;
use crate::model::vae::Cut;
use zimage_tensor::Tensor;

/// The start of the denoising loop; all vectors are latents `(channels, height, width)`.
pub(super) struct Start {
    /// At the noise level of the first step.
    pub latents: Vec<f32>,
    /// Index of the first step that is run.
    pub step: usize,
    /// What inpainting keeps.
    pub keep: Option<Keep>,
}

/// The init image of an inpainting run: after each step, what is outside the mask comes from here.
pub(super) struct Keep {
    image: Vec<f32>,
    noise: Vec<f32>,
    /// 1 to paint, 0 to keep; one per latent pixel.
    mask: Vec<f32>,
}

impl Pipeline {
    /// Draws the start of a request.
    pub(super) fn start(&self, request: &GenerateRequest, schedule: &Schedule, cut: Cut) -> Result<Start> {
        let mut generator = TorchGenerator::new(request.seed);
        let [channels, height, width] = self.latent_shape(request);
        let size = channels * height * width;
        match &request.task {
            Task::TextToImage => Ok(Start { latents: generator.randn(size), step: 0, keep: None }),
            Task::ImageToImage { image, strength } => {
                let step = schedule.start_index(*strength)?;
                let image = self.encode_image(image, request, &mut generator, cut)?;
                let noise = generator.randn(size);
                Ok(Start { latents: add_noise(&image, &noise, schedule.sigmas[step]), step, keep: None })
            }
            Task::Inpaint { image, mask, strength } => {
                let step = schedule.start_index(*strength)?;
                let image = self.encode_image(image, request, &mut generator, cut)?;
                let noise = generator.randn(size);
                let mask = mask.to_latent_size(request.width, request.height, width, height);
                let latents = add_noise(&image, &noise, schedule.sigmas[step]);
                Ok(Start { latents, step, keep: Some(Keep { image, noise, mask }) })
            }
        }
    }

    /// `(channels, height, width)` of a request's latents.
    pub(super) fn latent_shape(&self, request: &GenerateRequest) -> [usize; 3] {
        let scale = self.checkpoint.vae_config().downscale();
        [self.checkpoint.transformer_config().in_channels, request.height / scale, request.width / scale]
    }

    /// A sample of the latents of an image, at the size of the request.
    fn encode_image(
        &self,
        image: &InitImage,
        request: &GenerateRequest,
        generator: &mut TorchGenerator,
        cut: Cut,
    ) -> Result<Vec<f32>> {
        let _memory = self.device.between_loops();
        let pixels = image.to_model_input(request.width, request.height);
        let pixels = Tensor::from_vec(&self.device_of_vae()?, &[3, request.height, request.width], pixels)?;
        let posterior = self.load_vae_encoder()?.encode(&pixels, cut)?;
        Ok(posterior.sample(&generator.randn(posterior.mean.len())))
    }
}

impl Keep {
    /// Puts the kept part of the image, noised to `sigma`, over `latents`.
    pub(super) fn restore(&self, latents: &mut [f32], sigma: f32) {
        let kept = add_noise(&self.image, &self.noise, sigma);
        for (i, (latent, kept)) in latents.iter_mut().zip(kept).enumerate() {
            let mask = self.mask[i % self.mask.len()];
            *latent = (1.0 - mask) * kept + mask * *latent;
        }
    }
}

/// `sigma noise + (1 - sigma) image`.
fn add_noise(image: &[f32], noise: &[f32], sigma: f32) -> Vec<f32> {
    image.iter().zip(noise).map(|(image, noise)| sigma * noise + (1.0 - sigma) * image).collect()
}
