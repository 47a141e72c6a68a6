//! `zimage generate`: pictures from prompts.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use jiff::Zoned;
use serde::{Serialize, Serializer};
use zimage::GenerateRequest;
use zimage::pipeline::encode::Prompts;
use zimage::pipeline::image::ImageFormat;
use zimage::pipeline::metadata::{FileRecord, Origin};
use zimage::pipeline::plan::{Plan, Strategy};
use zimage::pipeline::{Cut, Latents};
use zimage::{Picture, Task};
use zimage_weights::container::{Metadata as Header, TensorSource, write_safetensors};
use zimage_weights::digest::sha256_bytes;

use crate::args::{GenerateArgs, OutputArgs};
use crate::cancel;
use crate::digests::Digests;
use crate::env::{Environment, peak_memory};
use crate::failure::Failure;
use crate::output::{self, Placeholders, Template};
use crate::progress::Progress;
use crate::request::Job;
use crate::speed::Speeds;

pub fn run(args: &GenerateArgs, environment: &Environment, progress: &Progress) -> Result<ExitCode, Failure> {
    if args.prompt.prompt.is_none() && args.prompt.prompt_file.is_none() {
        return Err(Failure::usage("there is no prompt").with_hint("give one in quotes, or a file with --prompt-file"));
    }
    cancel::install()?;
    let targets = Targets::new(&args.output, environment)?;
    let job = Job::new(args, environment, progress)?;
    // Every request is planned before the first is run, so that nothing is refused after minutes of work.
    let plans = job.requests.iter().map(|request| job.pipeline.plan(request, job.memory));
    let plans = plans.collect::<Result<Vec<Plan>, zimage::Error>>()?;
    targets.prepare(&job)?;
    if let (None, Some(request)) = (args.sampling.seed, job.requests.first()) {
        progress.note(&format!("seed {}", request.seed));
    }

    progress.stage("reading the model's digests");
    let files = Digests::load(&environment.home).of_checkpoint(job.pipeline.checkpoint())?;
    let run = Run { job: &job, targets: &targets, environment, files, progress, json: args.output.json };
    run.all(&plans)?;
    Ok(ExitCode::SUCCESS)
}

/// Where the results of a run go.
struct Targets {
    pictures: Template,
    format: ImageFormat,
    latents: Option<Template>,
}

impl Targets {
    fn new(args: &OutputArgs, environment: &Environment) -> Result<Self, Failure> {
        let chosen = args.output.clone().or(environment.config.output.clone());
        let (pictures, format) = Template::for_pictures(&chosen.unwrap_or_else(|| default_output(&environment.home)))?;
        let latents = args.save_latents.as_deref().map(Template::new).transpose()?;
        Ok(Self { pictures, format, latents })
    }

    /// Makes the directories of the first picture; a failure here costs nothing.
    fn prepare(&self, job: &Job) -> Result<(), Failure> {
        let Some(request) = job.requests.first() else { return Ok(()) };
        let values = Placeholders { seed: request.seed, index: 0, prompt: &request.prompt };
        output::prepare(&self.pictures.fill(&values)?)?;
        self.latents.as_ref().map_or(Ok(()), |latents| output::prepare(&latents.fill(&values)?))
    }
}

fn default_output(home: &Path) -> String {
    let now = Zoned::now();
    let name = format!("{}-{{seed}}.png", now.strftime("%H%M%S"));
    // Braces in the home directory's own name would read as placeholders; such a name is refused with its text.
    home.join("outputs").join(now.strftime("%Y-%m-%d").to_string()).join(name).display().to_string()
}

/// Wall times. `load` and `encode` are those of the first picture that needed them, else 0.
#[derive(Debug, Default, Clone, Copy, Serialize)]
struct Timings {
    #[serde(serialize_with = "as_millis")]
    load: Duration,
    #[serde(serialize_with = "as_millis")]
    encode: Duration,
    #[serde(serialize_with = "as_millis")]
    denoise: Duration,
    #[serde(serialize_with = "as_millis")]
    decode: Duration,
}

fn as_millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_millis() as u64)
}

/// Remembers the speed of a picture for `plan`. Runs that start from a picture encode one inside their loop, and so
/// tell nothing about a phase alone.
fn learn(job: &Job, request: &GenerateRequest, plan: &Plan, timings: Timings, environment: &Environment) {
    if !matches!(request.task, Task::TextToImage) {
        return;
    }
    let mut speeds = Speeds::load(&environment.home, &job.device());
    for (name, time) in [("encode", timings.encode), ("denoise", timings.denoise), ("decode", timings.decode)] {
        speeds.learn(&plan.phases, name, time);
    }
    speeds.save();
}

/// The JSON line of one picture; its keys are a contract.
#[derive(Debug, Serialize)]
struct Line<'a> {
    path: &'a Path,
    seed: u64,
    width: usize,
    height: usize,
    steps: usize,
    model: &'a str,
    sha256: String,
    timings_ms: Timings,
    peak_rss_bytes: Option<u64>,
    device: &'a str,
    compute: &'a str,
}

struct Run<'a> {
    job: &'a Job,
    targets: &'a Targets,
    environment: &'a Environment,
    files: Vec<FileRecord>,
    progress: &'a Progress,
    json: bool,
}

impl Run<'_> {
    /// Makes all pictures, each written before the next begins.
    fn all(&self, plans: &[Plan]) -> Result<(), Failure> {
        let job = self.job;
        self.progress.stage("reading the prompt");
        let started = Instant::now();
        // All texts are encoded at once, as the one that leaves least memory must be.
        let streamed = plans.iter().find(|plan| plan.strategy.text_encoder.streamed);
        let Some(strictest) = streamed.or(plans.first()) else { return Ok(()) };
        let prompts = job.pipeline.encode(&job.requests, strictest.strategy)?;
        let encode = started.elapsed() / job.requests.len() as u32;
        let mut index = 0;
        for ((request, prompts), plan) in job.requests.iter().zip(&prompts).zip(plans) {
            for number in 0..job.count {
                let load = if index == 0 { job.load_time } else { Duration::ZERO };
                let encode = if number == 0 { encode } else { Duration::ZERO };
                let request = request.with_seed(request.seed.wrapping_add(number as u64));
                let is_last = index + 1 == job.requests.len() * job.count;
                let strategy = if is_last { plan.strategy } else { plan.strategy_before_others(job.memory) };
                let timings =
                    self.one(&request, prompts, strategy, index, Timings { load, encode, ..Timings::default() })?;
                if index == 0 {
                    learn(job, &request, plan, timings, self.environment);
                }
                index += 1;
            }
        }
        Ok(())
    }

    fn one(
        &self,
        request: &GenerateRequest,
        prompts: &Prompts,
        strategy: Strategy,
        index: usize,
        mut timings: Timings,
    ) -> Result<Timings, Failure> {
        let pipeline = &self.job.pipeline;
        self.progress.stage("preparing");
        let started = Instant::now();
        let mut denoise = pipeline.denoise(request, prompts, strategy)?;
        self.progress.steps("step", denoise.n_steps());
        for step in denoise.by_ref() {
            step?;
            self.progress.step();
        }
        let latents = denoise.into_latents();
        timings.denoise = started.elapsed();

        self.progress.stage("decoding");
        let started = Instant::now();
        let image = pipeline.decode(&latents, strategy)?;
        timings.decode = started.elapsed();
        self.write(request, &Picture { image, latents }, strategy.cut, index, timings)?;
        Ok(timings)
    }

    fn write(
        &self,
        request: &GenerateRequest,
        picture: &Picture,
        cut: Cut,
        index: usize,
        timings_ms: Timings,
    ) -> Result<(), Failure> {
        let origin = Origin { model: &self.job.label, files: &self.files, compute: self.job.compute };
        let metadata = self.job.pipeline.metadata(request, cut, origin);
        let bytes = picture.image.encode(self.targets.format, Some(&metadata));
        let bytes = bytes.map_err(Failure::failed)?;
        let values = Placeholders { seed: request.seed, index, prompt: &request.prompt };
        let path = self.targets.pictures.fill(&values)?;
        let _uninterrupted = cancel::writing();
        output::prepare(&path)?;
        let path = output::write_numbered(&path, &bytes)?;
        if let Some(template) = &self.targets.latents {
            write_latents(&template.fill(&values)?, &picture.latents)?;
        }
        self.progress.finish();
        if !self.json {
            return output::print_line(&path.display().to_string());
        }
        let line = Line {
            path: &path,
            seed: request.seed,
            width: request.width,
            height: request.height,
            steps: request.steps,
            model: &self.job.label,
            sha256: sha256_bytes(&bytes),
            timings_ms,
            peak_rss_bytes: peak_memory(),
            device: self.job.pipeline.device().name(),
            compute: self.job.compute.name(),
        };
        let line = serde_json::to_string(&line)
            .map_err(|error| Failure::failed(format!("{} has no JSON form: {error}", path.display())))?;
        output::print_line(&line)
    }
}

/// Writes `latents` `(1, channels, height, width)`, f32, under the first free number.
fn write_latents(path: &Path, latents: &Latents) -> Result<(), Failure> {
    output::prepare(path)?;
    let free = |path: &PathBuf| !path.exists();
    let path = output::numbered(path).find(free).expect("the numbers do not end: this is a bug");
    let shape = [1, latents.channels, latents.height, latents.width];
    let tensor = TensorSource::f32("latents", &shape, &latents.data);
    write_safetensors(&path, &Header::new(), vec![tensor]).map_err(Failure::failed)
}
