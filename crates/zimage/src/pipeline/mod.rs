//! From a request to a picture: the only file that knows the order of the stages.

pub mod cache;
mod compute;
mod decode;
mod demo;
mod denoise;
pub mod encode;
mod guidance;
pub mod image;
mod latents;
mod load;
mod loras;
pub mod metadata;
pub mod plan;
pub mod preview;
pub mod request;
mod residency;
pub mod rng;
#[cfg(test)]
mod tests;

pub use crate::model::vae::Cut;
pub use compute::ComputeChoice;
pub use denoise::{Bookmark, Denoise, Step, step_together};

use crate::Result;
use crate::model::Adapters;
use crate::model::scheduler::SchedulerConfig;
use crate::model::text_encoder::TextEncoder;
use crate::model::tokenizer::Tokenizer;
use crate::model::transformer::Transformer;
use crate::model::vae::VaeDecoder;
use image::RgbImage;
use plan::Budget;
use request::GenerateRequest;
use std::sync::{Arc, Mutex};
use zimage_tensor::{Device, Tensor};
use zimage_weights::Checkpoint;

/// A model, opened and checked, on a device.
///
/// [`Pipeline::generate`] makes a picture in one call. A caller that shows progress or cancels runs the stages itself:
/// [`Pipeline::encode`], [`Pipeline::denoise`] (an iterator over steps), [`Pipeline::decode`].
pub struct Pipeline {
    checkpoint: Checkpoint,
    tokenizer: Tokenizer,
    scheduler: SchedulerConfig,
    device: Device,
    adapters: Adapters,
    compute: ComputeChoice,
    kept: Mutex<Kept>,
}

/// What earlier pictures keep for the next one.
#[derive(Default)]
struct Kept {
    text_encoder: Option<Arc<TextEncoder>>,
    transformer: Option<Arc<Transformer>>,
    vae_decoder: Option<Arc<VaeDecoder>>,
}

/// A finished picture.
#[derive(Debug)]
pub struct Picture {
    /// 8-bit RGB.
    pub image: RgbImage,
    /// What it was decoded from.
    pub latents: Latents,
}

/// Latents `(channels, height, width)` in main memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Latents {
    /// Row-major values.
    pub data: Vec<f32>,
    /// 16 for every Z-Image so far.
    pub channels: usize,
    /// An eighth of the picture's height.
    pub height: usize,
    /// An eighth of the picture's width.
    pub width: usize,
}

impl Pipeline {
    /// Makes a picture.
    ///
    /// # Errors
    /// Those of the stages.
    pub fn generate(&self, request: &GenerateRequest) -> Result<Picture> {
        let strategy = self.plan(request, Budget::Machine(u64::MAX))?.strategy;
        let prompts = self.encode(std::slice::from_ref(request), strategy)?.remove(0);
        let mut denoise = self.denoise(request, &prompts, strategy)?;
        denoise.by_ref().try_for_each(|step| step.map(drop))?;
        let latents = denoise.into_latents();
        let image = self.decode(&latents, strategy)?;
        Ok(Picture { image, latents })
    }

    /// The opened checkpoint.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The device that it computes on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Width and height that the model was trained at, in pixels.
    pub fn native_size(&self) -> usize {
        self.checkpoint.vae_config().sample_size
    }

    /// The shift of the model's own schedule.
    pub fn native_shift(&self) -> f64 {
        self.scheduler.shift
    }
}

impl Latents {
    fn to_tensor(&self, device: &Device) -> Result<Tensor> {
        Ok(Tensor::from_vec(device, &[self.channels, self.height, self.width], self.data.clone())?)
    }
}
