//! What a client asks for, most of it left open, and how it becomes a [`JobSpec`] that can be served.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zimage::GenerateRequest;
use zimage::Task;
use zimage::pipeline::cache::StepCache;
use zimage::pipeline::request::GenerateOptions;

use crate::job::{Format, JobSpec, LoraChoice, Priority, Sha256, StartImage};
use crate::limits::Limits;
use crate::refusal::Refusal;

const DEFAULT_STEPS: u32 = 8;
const DEFAULT_STRENGTH: f64 = 0.6;
/// Larger seeds are no numbers of JavaScript; torch uses 32 bits anyway.
const MAX_SEED: u64 = (1 << 53) - 1;

/// A request for pictures. Whatever is left out has a default; unknown fields are refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Draft {
    /// Name of a model; the server's default if absent.
    pub model: Option<String>,
    /// What the picture shows.
    pub prompt: String,
    /// What it must not show; acts when `guidance` is above 0.
    pub negative_prompt: Option<String>,
    /// Pixels, a multiple of 16; the model's own size if absent.
    pub width: Option<u32>,
    /// Pixels, a multiple of 16; the model's own size if absent.
    pub height: Option<u32>,
    /// Forward passes; 8 if absent.
    pub steps: Option<u32>,
    /// Seed of the first picture; drawn if absent.
    pub seed: Option<u64>,
    /// Number of pictures; 1 if absent.
    pub n: Option<u32>,
    /// `pos + guidance (pos - neg)`; 0, off, if absent.
    pub guidance: Option<f64>,
    /// Caps the norm of the guided prediction; 0, off, if absent.
    pub cfg_normalization: Option<f64>,
    /// Guidance stops at times above this; 1, never, if absent.
    pub cfg_truncation: Option<f64>,
    /// Shift of the schedule; the model's own if absent.
    pub shift: Option<f64>,
    /// Step caching: `none`, `slow`, `medium`, `fast`.
    #[schema(value_type = Option<String>)]
    pub cache: Option<StepCache>,
    /// LoRAs, in order.
    pub loras: Vec<LoraChoice>,
    /// The picture to start from.
    pub start: Option<DraftStart>,
    /// Format of the files; `png` if absent.
    pub format: Option<Format>,
    /// Quality of JPEG files, 1 to 100; 95 if absent.
    pub quality: Option<u8>,
    /// Which line to wait in.
    pub priority: Priority,
    /// Before one's own other waiting jobs.
    pub front: bool,
}

/// The picture to start from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DraftStart {
    /// An uploaded picture, or one of the gallery.
    pub image: Sha256,
    /// White where to paint; without it all is painted anew.
    pub mask: Option<Sha256>,
    /// How much of the schedule is run, from 0 to 1; 0.6 if absent.
    pub strength: Option<f64>,
}

/// What a model fills in.
#[derive(Clone, Debug)]
pub struct ModelDefaults {
    /// Its name.
    pub name: String,
    /// The side of the square that it was trained at.
    pub native_size: u32,
}

impl Draft {
    /// Fills in the defaults and checks everything that can be checked without files.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], naming the first field that cannot be used and its limit.
    pub fn into_spec(self, model: &ModelDefaults, limits: &Limits) -> Result<JobSpec, Refusal> {
        let start = self.start.map(|start| StartImage {
            image: start.image,
            mask: start.mask,
            strength: start.strength.unwrap_or(DEFAULT_STRENGTH),
        });
        let spec = JobSpec {
            model: model.name.clone(),
            prompt: self.prompt,
            negative_prompt: self.negative_prompt.unwrap_or_default(),
            width: self.width.unwrap_or(model.native_size),
            height: self.height.unwrap_or(model.native_size),
            steps: self.steps.unwrap_or(DEFAULT_STEPS),
            seed: self.seed.map_or_else(random_seed, Ok)?,
            n: self.n.unwrap_or(1),
            guidance: self.guidance.unwrap_or(0.0),
            cfg_normalization: self.cfg_normalization.unwrap_or(0.0),
            cfg_truncation: self.cfg_truncation.unwrap_or(1.0),
            shift: self.shift,
            cache: self.cache.unwrap_or(StepCache::None),
            loras: self.loras,
            start,
            format: self.format.unwrap_or_default(),
            quality: self.quality,
        };
        check(&spec, limits)?;
        Ok(spec)
    }
}

fn check(spec: &JobSpec, limits: &Limits) -> Result<(), Refusal> {
    let too_long = |text: &str| text.chars().count() > limits.max_prompt_chars;
    let characters = || format!("it may have {} characters", limits.max_prompt_chars);
    refuse_if(too_long(&spec.prompt), "prompt", characters)?;
    refuse_if(too_long(&spec.negative_prompt), "negative_prompt", characters)?;
    let side = || format!("it may be {} at most", limits.max_side);
    refuse_if(spec.width > limits.max_side, "width", side)?;
    refuse_if(spec.height > limits.max_side, "height", side)?;
    let pixels = u64::from(spec.width) * u64::from(spec.height);
    refuse_if(pixels > limits.max_pixels, "width", || {
        format!("{}x{} is {pixels} pixels, and {} is the limit", spec.width, spec.height, limits.max_pixels)
    })?;
    refuse_if(!(1..=limits.max_steps).contains(&spec.steps), "steps", || {
        format!("{} is not in the range 1 to {}", spec.steps, limits.max_steps)
    })?;
    refuse_if(!(1..=limits.max_n).contains(&spec.n), "n", || {
        format!("{} is not in the range 1 to {}", spec.n, limits.max_n)
    })?;
    refuse_if(spec.seed > MAX_SEED, "seed", || format!("it may be {MAX_SEED} at most"))?;
    refuse_if(spec.loras.len() > limits.max_loras, "loras", || format!("there may be {} at most", limits.max_loras))?;
    let weights_are_numbers = spec.loras.iter().all(|lora| (-10.0..=10.0).contains(&lora.weight));
    refuse_if(!weights_are_numbers, "loras", || "a weight is a number from -10 to 10".into())?;
    let quality = spec.quality.is_none_or(|quality| (1..=100).contains(&quality));
    refuse_if(!quality, "quality", || "it runs from 1 to 100".into())?;
    if let Some(start) = &spec.start {
        refuse_if(!(0.0..=1.0).contains(&start.strength), "start", || "strength runs from 0 to 1".into())?;
    }
    // What is left is the library's to check; its messages name the field and the nearest valid value.
    GenerateRequest::new(options(spec, 0, Task::TextToImage)).map(drop).map_err(|error| refused(&error))
}

fn refuse_if(condition: bool, param: &'static str, message: impl FnOnce() -> String) -> Result<(), Refusal> {
    if condition { Err(Refusal::invalid(param, format!("{param}: {}", message()))) } else { Ok(()) }
}

/// The library's words for what is wrong with a request, on one line.
fn refused(error: &zimage::Error) -> Refusal {
    let zimage::Error::Request { what, hint } = error else { return Refusal::internal(error) };
    let names = ["width", "height", "steps", "guidance", "cfg-normalization", "cfg-truncation", "shift", "strength"];
    let fields = ["width", "height", "steps", "guidance", "cfg_normalization", "cfg_truncation", "shift", "start"];
    let field = names.iter().zip(fields).find(|(name, _)| what.contains(*name)).map_or("prompt", |(_, field)| field);
    Refusal::invalid(field, format!("{what}; {hint}"))
}

/// The options of picture `index` of a job.
pub(crate) fn options(spec: &JobSpec, index: u32, task: Task) -> GenerateOptions {
    GenerateOptions {
        prompt: spec.prompt.clone(),
        negative_prompt: spec.negative_prompt.clone(),
        width: spec.width as usize,
        height: spec.height as usize,
        steps: spec.steps as usize,
        seed: spec.seed.wrapping_add(u64::from(index)),
        guidance: spec.guidance,
        cfg_normalization: spec.cfg_normalization,
        cfg_truncation: spec.cfg_truncation,
        shift: spec.shift,
        cache: spec.cache,
        task,
    }
}

fn random_seed() -> Result<u64, Refusal> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(Refusal::internal)?;
    Ok(u64::from(u32::from_le_bytes(bytes)))
}
