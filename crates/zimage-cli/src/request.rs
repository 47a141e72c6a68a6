//! Arguments and settings -> a loaded model and checked requests. `generate` and `plan` share all of it.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use zimage::pipeline::image::{ImageError, InitImage, Mask};
use zimage::pipeline::plan::Budget;
use zimage::pipeline::request::{GenerateOptions, SIZE_MULTIPLE};
use zimage::{Compute, ComputeChoice, Device, GenerateRequest, Pipeline, Task};
use zimage_weights::{Checkpoint, Component, Parts};

use crate::args::{self, DeviceArgs, GenerateArgs, LaterArgs, PartArgs, SizeArgs};
use crate::device;
use crate::env::{Config, Environment};
use crate::failure::Failure;
use crate::progress::Progress;

/// How to get beyond the demo model.
const REAL_MODEL: &str = "hint: `zimage models pull Tongyi-MAI/Z-Image-Turbo` fetches the real one (33 GB), and \
`zimage models use Z-Image-Turbo` makes it the default";

const DEFAULT_SIDE: u32 = 1024;
const DEFAULT_STEPS: usize = 8;
const DEFAULT_STRENGTH: f64 = 0.6;
/// More pixels on a side than any Z-Image has positions for; keeps areas far from overflow.
const MAX_SIDE: u32 = 65_536;

/// Everything that is settled before work begins.
pub struct Job {
    pub pipeline: Pipeline,
    /// The model as the user knows it.
    pub label: String,
    /// One request per prompt, all with the first seed.
    pub requests: Vec<GenerateRequest>,
    /// Pictures per prompt, with seeds counting up.
    pub count: usize,
    /// The memory that may be used.
    pub memory: Budget,
    pub load_time: Duration,
    /// The arithmetic of the transformer.
    pub compute: Compute,
}

impl Job {
    /// Checks all arguments, opens the model, and makes the requests. No weights are read.
    pub fn new(args: &GenerateArgs, environment: &Environment, progress: &Progress) -> Result<Self, Failure> {
        let config = &environment.config;
        refuse_later(&args.later)?;
        let device = device::one(&args.machine.device, config, progress)?;
        let memory = device::memory(&device, &args.machine, config)?;
        let prompts = prompts(args)?;
        let picture = StartPicture::read(args)?;

        let started = Instant::now();
        let (mut pipeline, label) = load(args, environment, device, progress)?;
        pipeline.set_compute(compute(&args.machine.device, config)?)?;
        crate::loras::apply(&args.lora.lora, &mut pipeline, environment, progress)?;
        let load_time = started.elapsed();
        let compute = pipeline.compute(Component::Transformer)?;
        if compute != pipeline.device().compute() {
            progress.note(&format!("compute: {}", pipeline.device().clone().with_compute(compute).describe()));
        }

        let embedded = model_name(args, environment)?.is_none();
        let native = if embedded { pipeline.native_size() as u32 } else { DEFAULT_SIDE };
        let size = size(&args.size, config, native, picture.as_ref())?;
        let seed = args.sampling.seed.unwrap_or_else(random_seed);
        let options = options(args, config, size, seed, picture)?;
        if options.guidance <= 0.0 && !options.negative_prompt.is_empty() {
            progress.note("note: the negative prompt acts only with --guidance above 0");
        }
        let request = |prompt| GenerateRequest::new(GenerateOptions { prompt, ..options.clone() });
        let requests = prompts.into_iter().map(request).collect::<Result<_, _>>()?;
        Ok(Self { pipeline, label, requests, count: args.sampling.count.get(), memory, load_time, compute })
    }
}

impl Job {
    /// The device with the arithmetic of the transformer.
    pub fn device(&self) -> Device {
        self.pipeline.device().clone().with_compute(self.compute)
    }
}

/// The picture to start from, and where to paint.
#[derive(Clone)]
struct StartPicture {
    image: InitImage,
    mask: Option<Mask>,
}

impl StartPicture {
    fn read(args: &GenerateArgs) -> Result<Option<Self>, Failure> {
        let Some(path) = &args.image.init_image else { return Ok(None) };
        let refused = |error: ImageError| Failure::usage(error);
        let image = InitImage::open(path).map_err(refused)?;
        let mask = args.image.mask.as_deref().map(Mask::open).transpose().map_err(refused)?;
        Ok(Some(Self { image, mask }))
    }

    fn into_task(self, strength: f64) -> Task {
        match self.mask {
            None => Task::ImageToImage { image: self.image, strength },
            Some(mask) => Task::Inpaint { image: self.image, mask, strength },
        }
    }
}

fn options(
    args: &GenerateArgs,
    config: &Config,
    (width, height): (u32, u32),
    seed: u64,
    picture: Option<StartPicture>,
) -> Result<GenerateOptions, Failure> {
    let sampling = &args.sampling;
    let strength = args.image.strength.or(config.strength).unwrap_or(DEFAULT_STRENGTH);
    let cache = sampling.cache.map(Ok).or(parsed("cache", &config.cache)).transpose()?;
    Ok(GenerateOptions {
        prompt: String::new(),
        negative_prompt: sampling.negative.clone().or(config.negative.clone()).unwrap_or_default(),
        width: width as usize,
        height: height as usize,
        steps: sampling.steps.or(config.steps).unwrap_or(DEFAULT_STEPS),
        seed,
        guidance: sampling.guidance.or(config.guidance).unwrap_or(0.0),
        cfg_normalization: sampling.cfg_normalization.or(config.cfg_normalization).unwrap_or(0.0),
        cfg_truncation: sampling.cfg_truncation.or(config.cfg_truncation).unwrap_or(1.0),
        shift: sampling.shift.or(config.shift),
        cache: cache.unwrap_or_default(),
        task: picture.map_or(Task::TextToImage, |picture| picture.into_task(strength)),
    })
}

/// Flags of the contract that need parts this build does not have.
fn refuse_later(later: &LaterArgs) -> Result<(), Failure> {
    let used = [
        ("--control-model", later.control_model.is_some()),
        ("--control-image", later.control_image.is_some()),
        ("--control-scale", later.control_scale.is_some()),
        ("--enhance", later.enhance),
        ("--show", later.show),
    ];
    match used.iter().find(|(_, used)| *used) {
        Some((flag, _)) => Err(not_in_this_build(flag)),
        None => Ok(()),
    }
}

fn not_in_this_build(what: &str) -> Failure {
    Failure::usage(format!("{what} is not in this build")).with_hint(format!("run the command without {what}"))
}

pub fn compute(args: &DeviceArgs, config: &Config) -> Result<ComputeChoice, Failure> {
    let set = config.compute.as_deref().map(args::compute).transpose();
    let set = set.map_err(|reason| Failure::usage(format!("the setting compute is not usable: {reason}")))?;
    Ok(args.compute.or(set).unwrap_or_default())
}

/// A setting that has a grammar of its own.
pub fn parsed<T: std::str::FromStr<Err = String>>(name: &str, text: &Option<String>) -> Option<Result<T, Failure>> {
    let refused = |reason: String| Failure::usage(format!("the setting {name} is not usable: {reason}"));
    text.as_ref().map(|text| text.parse().map_err(refused))
}

fn prompts(args: &GenerateArgs) -> Result<Vec<String>, Failure> {
    let Some(path) = &args.prompt.prompt_file else {
        return Ok(vec![args.prompt.prompt.clone().unwrap_or_default()]);
    };
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let name = path.display();
    let text = text.map_err(|error| Failure::usage(format!("cannot read prompts from {name}: {error}")))?;
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim_end).filter(|line| !line.is_empty());
    let prompts: Vec<String> = lines.map(str::to_string).collect();
    if prompts.is_empty() {
        return Err(Failure::usage(format!("{name} holds no prompts")).with_hint("write one prompt per line"));
    }
    Ok(prompts)
}

fn model_name(args: &GenerateArgs, environment: &Environment) -> Result<Option<String>, Failure> {
    let given = args.prompt.model.clone();
    given.map_or_else(|| environment.default_model(), |name| Ok(Some(name)))
}

fn load(
    args: &GenerateArgs,
    environment: &Environment,
    device: Device,
    progress: &Progress,
) -> Result<(Pipeline, String), Failure> {
    progress.note(&format!("device: {}", device.describe()));
    // Whatever is wrong here is wrong with the model, the scheduler's settings included.
    let refused = |error: zimage::Error| Failure::model(error);
    let prompt = &args.prompt;
    let Some(name) = model_name(args, environment)? else {
        if given(&prompt.parts, environment) != Parts::default() {
            return Err(Failure::usage("parts of a model were given, and no model that they belong to")
                .with_hint("give the model or its transformer with --model"));
        }
        let pipeline = Pipeline::demo(device).map_err(refused)?;
        let label = pipeline.checkpoint().label().to_string();
        progress.note(&format!("no model was chosen: using the {label}\n{REAL_MODEL}"));
        return Ok((pipeline, label));
    };
    if prompt.model.is_none() {
        progress.note(&format!("model: {name}"));
    }
    let path = environment.find_model(&name)?;
    let checkpoint = open(&name, &prompt.parts, environment, progress)?;
    let pipeline = Pipeline::from_checkpoint(checkpoint, device).map_err(refused)?;
    // An installed model may lie anywhere.
    if path != Path::new(&name) {
        return Ok((pipeline, name));
    }
    // `.` and `..` have no name of their own.
    let full = if path.file_name().is_none() { path.canonicalize().unwrap_or(path) } else { path };
    let label = full.file_name().map_or_else(|| name.clone(), |name| name.to_string_lossy().into_owned());
    Ok((pipeline, label))
}

/// The parts that flags and settings name.
fn given(parts: &PartArgs, environment: &Environment) -> Parts {
    let (parts, config) = (parts.clone(), &environment.config);
    Parts {
        text_encoder: parts.text_encoder.or(config.text_encoder.clone()),
        vae: parts.vae.or(config.vae.clone()),
        tokenizer: parts.tokenizer.or(config.tokenizer.clone()),
        pad_tokens_from: parts.pad_tokens_from,
        ..Parts::default()
    }
}

/// Opens a model by its name or path, with the parts that were given. What is still missing is lent by the installed
/// models, if they have it, and every origin is told.
pub fn open(
    name: &str,
    parts: &PartArgs,
    environment: &Environment,
    progress: &Progress,
) -> Result<Checkpoint, Failure> {
    let parts = Parts { transformer: environment.find_model(name)?, ..given(parts, environment) };
    let opened = match Checkpoint::from_parts(&parts) {
        Err(zimage_weights::Error::MissingParts { .. }) => {
            Checkpoint::from_parts(&Parts { lenders: environment.lenders()?, ..parts })
        }
        opened => opened,
    };
    let checkpoint = opened.map_err(Failure::model)?;
    for origin in checkpoint.origins() {
        progress.note(&format!("{}: {}", origin.part, origin.place));
    }
    Ok(checkpoint)
}

/// Opens a model for its transformer. What else it lacks is that of another model, by its name and its parts.
pub fn open_transformer(
    name: &str,
    (other, parts): (&str, &PartArgs),
    environment: &Environment,
    progress: &Progress,
) -> Result<Checkpoint, Failure> {
    let alone = Parts { transformer: environment.find_model(name)?, ..Parts::default() };
    let opened = match Checkpoint::from_parts(&alone) {
        Err(zimage_weights::Error::MissingParts { .. }) => {
            let path = environment.find_model(other)?;
            let folder = path.parent().map(Path::to_path_buf);
            let given = given(parts, environment);
            let lenders = [given.text_encoder, given.vae, Some(path), folder].into_iter().flatten().collect();
            Checkpoint::from_parts(&Parts { tokenizer: given.tokenizer, lenders, ..alone })
        }
        opened => opened,
    };
    let checkpoint = opened.map_err(Failure::model)?;
    for origin in checkpoint.origins().iter().filter(|origin| ["transformer", "pad tokens"].contains(&&*origin.part)) {
        progress.note(&format!("{}: {}", origin.part, origin.place));
    }
    Ok(checkpoint)
}

/// Width and height: from the flags, else from the picture to start from, else `native`.
fn size(args: &SizeArgs, config: &Config, native: u32, picture: Option<&StartPicture>) -> Result<(u32, u32), Failure> {
    let (width, height) = if args.aspect.is_some() || args.base.is_some() {
        preset(args, native)?
    } else {
        let image = picture.map(|picture| picture.image.image());
        let rounded = |side: usize| (side / SIZE_MULTIPLE * SIZE_MULTIPLE).max(SIZE_MULTIPLE) as u32;
        let default_width = image.map(|image| rounded(image.width()));
        let default_height = image.map(|image| rounded(image.height()));
        let width = args.width.or(default_width).or(config.width).unwrap_or(native);
        (width, args.height.or(default_height).or(config.height).unwrap_or(native))
    };
    if width.max(height) > MAX_SIDE {
        return Err(Failure::usage(format!("{width}x{height} is larger than any model draws"))
            .with_hint("Z-Image draws up to about 2048x2048"));
    }
    Ok((width, height))
}

/// The multiples of 16 whose area and shape are nearest to `base` squared and `aspect`.
fn preset(args: &SizeArgs, native: u32) -> Result<(u32, u32), Failure> {
    let base = args.base.unwrap_or(native);
    if base == 0 || base > MAX_SIDE {
        return Err(Failure::usage(format!("--base {base} cannot be used")).with_hint("it is a side such as 1024"));
    }
    let ratio = args.aspect.map_or(1.0, |aspect| (aspect.width / aspect.height).sqrt());
    let multiple = |side: f64| ((side / SIZE_MULTIPLE as f64).round().max(1.0) * SIZE_MULTIPLE as f64) as u32;
    Ok((multiple(f64::from(base) * ratio), multiple(f64::from(base) / ratio)))
}

/// A seed that is easy to type, since torch's generator uses 32 bits only.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // Every state of the standard library's hasher has fresh random keys.
    RandomState::new().hash_one(std::process::id()) & u64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
