//! What is asked for: checked once, when it is made, so that everything after can rely on it.

use super::cache::StepCache;
use super::image::{InitImage, Mask};
use crate::model::scheduler::MAX_STEPS;
use crate::{Error, Result};
use std::ops::Deref;

/// Width and height are multiples of this: the VAE's 8 and the transformer's 2.
pub const SIZE_MULTIPLE: usize = 16;

/// What the picture starts from.
#[derive(Clone, Debug)]
pub enum Task {
    /// Noise.
    TextToImage,
    /// A picture, noised to `strength` of the schedule.
    ImageToImage {
        /// The picture; resized to the request's size.
        image: InitImage,
        /// 0 keeps everything (and is refused, as no step would remain), 1 keeps nothing.
        strength: f64,
    },
    /// A picture of which the masked part is painted anew.
    Inpaint {
        /// The picture; resized to the request's size.
        image: InitImage,
        /// White where to paint.
        mask: Mask,
        /// As in image to image.
        strength: f64,
    },
}

/// The fields of a [`GenerateRequest`]. Meanings and defaults are those of diffusers' Z-Image pipelines.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// May be empty: the model then sees the bare chat template.
    pub prompt: String,
    /// Used when `guidance` is above 0.
    pub negative_prompt: String,
    /// Pixels; a multiple of 16.
    pub width: usize,
    /// Pixels; a multiple of 16.
    pub height: usize,
    /// Forward passes of the whole schedule, 1 to 1000.
    pub steps: usize,
    /// Seed of torch's CPU generator, which uses its low 32 bits.
    pub seed: u64,
    /// `pos + guidance (pos - neg)`; 0 runs without the negative prompt.
    pub guidance: f64,
    /// Caps the norm of the guided prediction at this multiple of the unguided one's; 0 is off.
    pub cfg_normalization: f64,
    /// Guidance stops at times above this; times run from 0, noise, to 1. At 1 it never stops.
    pub cfg_truncation: f64,
    /// Shift of the schedule; the model's own if absent.
    pub shift: Option<f64>,
    /// Which steps pass over the main layers.
    pub cache: StepCache,
    /// What the picture starts from.
    pub task: Task,
}

/// A request that is valid in itself. Whether a model can serve it, the pipeline says.
#[derive(Clone, Debug)]
pub struct GenerateRequest(GenerateOptions);

impl Deref for GenerateRequest {
    type Target = GenerateOptions;

    fn deref(&self) -> &GenerateOptions {
        &self.0
    }
}

impl GenerateRequest {
    /// Checks the options.
    ///
    /// # Errors
    /// [`Error::Request`], naming the option and what it may be.
    pub fn new(options: GenerateOptions) -> Result<GenerateRequest> {
        check_size("width", options.width)?;
        check_size("height", options.height)?;
        let steps = options.steps;
        check((1..=MAX_STEPS).contains(&steps), || format!("{steps} steps"), "steps run from 1 to 1000")?;
        check_number("guidance", options.guidance, 0.0..=f64::MAX, "guidance is 0 (off) or above")?;
        check_number("cfg-normalization", options.cfg_normalization, 0.0..=f64::MAX, "it is 0 (off) or above")?;
        check_number("cfg-truncation", options.cfg_truncation, 0.0..=f64::MAX, "it is a time from 0 to 1")?;
        if let Some(shift) = options.shift {
            check_number("shift", shift, f64::MIN_POSITIVE..=1000.0, "the shift is above 0, and 3 for Turbo")?;
        }
        match &options.task {
            Task::TextToImage => {}
            Task::ImageToImage { strength, .. } | Task::Inpaint { strength, .. } => {
                check_number("strength", *strength, 0.0..=1.0, "strength runs from 0 to 1")?;
            }
        }
        Ok(GenerateRequest(options))
    }

    /// A picture from a prompt, with every other option at its default for distilled models: no guidance.
    ///
    /// # Errors
    /// As [`GenerateRequest::new`].
    pub fn text_to_image(
        prompt: &str,
        width: usize,
        height: usize,
        steps: usize,
        seed: u64,
    ) -> Result<GenerateRequest> {
        GenerateRequest::new(GenerateOptions {
            prompt: prompt.into(),
            negative_prompt: String::new(),
            width,
            height,
            steps,
            seed,
            guidance: 0.0,
            cfg_normalization: 0.0,
            cfg_truncation: 1.0,
            shift: None,
            cache: StepCache::None,
            task: Task::TextToImage,
        })
    }

    /// The same request with another seed.
    pub fn with_seed(&self, seed: u64) -> GenerateRequest {
        GenerateRequest(GenerateOptions { seed, ..self.0.clone() })
    }

    /// Whether the negative prompt is used.
    pub fn is_guided(&self) -> bool {
        self.guidance > 0.0
    }
}

fn check(ok: bool, what: impl FnOnce() -> String, hint: &str) -> Result<()> {
    if ok { Ok(()) } else { Err(Error::Request { what: format!("{} cannot be used", what()), hint: hint.into() }) }
}

fn check_number(name: &str, value: f64, range: std::ops::RangeInclusive<f64>, hint: &str) -> Result<()> {
    check(range.contains(&value), || format!("{name} {value}"), hint)
}

/// The size must be a positive multiple of 16; otherwise the error names the nearest ones.
fn check_size(name: &'static str, pixels: usize) -> Result<()> {
    if pixels > 0 && pixels.is_multiple_of(SIZE_MULTIPLE) {
        return Ok(());
    }
    let below = pixels / SIZE_MULTIPLE * SIZE_MULTIPLE;
    let hint = match below {
        0 => format!("the nearest valid {name} is {SIZE_MULTIPLE}"),
        _ => format!("the nearest valid values are {below} and {}", below.saturating_add(SIZE_MULTIPLE)),
    };
    Err(Error::Request { what: format!("{name} {pixels} is not a multiple of {SIZE_MULTIPLE}"), hint })
}
