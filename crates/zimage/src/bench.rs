//! Speed on random weights of a model's real shape, made in memory: no files, no download.
//!
//! Each stage is a call, so that a caller can tell what is running. Rates are operations over CPU time, and so per core.

use crate::model::text_encoder::TextEncoder;
use crate::model::transformer::{Caption, Lane, RecordedPass, Transformer};
use crate::model::vae::{Cut, VaeDecoder};
use crate::model::{Pages, Parameters, Residency, Source};
use crate::pipeline::rng::TorchGenerator;
use crate::{Compute, Device, Pipeline, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};
use zimage_tensor::meter::{Kind, Work, process_time};
use zimage_tensor::{Activations, Tensor, ops};

pub use zimage_tensor::meter::Peak;
use zimage_weights::convert::Precision;
use zimage_weights::random::{RandomCheckpoint, RandomWeights};
use zimage_weights::{Component, TensorSpec, TextEncoderConfig, TransformerConfig, VaeConfig, WeightView, schema};

/// Tokens of the text: a long sentence in its chat template.
pub const TOKENS: usize = 60;

/// A model's sizes and how its weights are stored.
#[derive(Clone, Debug)]
pub struct Bench {
    transformer: TransformerConfig,
    text_encoder: TextEncoderConfig,
    vae: VaeConfig,
    precision: Precision,
    device: Device,
}

/// What a stage took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// `text_encoder`, `step`, `step.linear`, `step.attention`, `step.other`, `vae_decode`; and `step.repeated`, a step
    /// like the ones before it, where a device records these.
    pub name: &'static str,
    /// Time, and operations.
    pub work: Work,
    /// How most of its operations are done.
    pub compute: Compute,
}

/// What a device with memory of its own can do at best.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DevicePeak {
    /// Products of matrices, in the way that it computes, in GFLOP/s.
    pub gflops: f64,
    /// Reading and writing its memory, in GB/s.
    pub gbytes_per_s: f64,
}

/// A transformer that is ready to run steps.
pub struct Steps {
    transformer: Arc<Transformer>,
    features: Tensor,
    latents: Tensor,
    /// How long it took to get ready: to lay out weights that lie in memory.
    pub load: Duration,
}

impl Bench {
    /// The sizes of Z-Image-Turbo.
    pub fn turbo(precision: Precision, device: Device) -> Bench {
        let RandomCheckpoint { transformer, text_encoder, vae, .. } = RandomCheckpoint::turbo(0);
        Bench { transformer, text_encoder, vae, precision, device }
    }

    /// The sizes of the embedded demo model.
    ///
    /// # Errors
    /// None that a user could cause.
    pub fn demo(precision: Precision, device: Device) -> Result<Bench> {
        let pipeline = Pipeline::demo(device.clone())?;
        let checkpoint = pipeline.checkpoint();
        Ok(Bench {
            transformer: checkpoint.transformer_config().clone(),
            text_encoder: checkpoint.text_encoder_config().clone(),
            vae: checkpoint.vae_config().clone(),
            precision,
            device,
        })
    }

    /// The text encoder on one text of [`TOKENS`] tokens. Its weights are used once, and so not laid out before; on a
    /// device with memory of its own they are there already, as in a server that keeps them.
    ///
    /// # Errors
    /// Those of the model.
    pub fn text_encoder(&self) -> Result<Stage> {
        let weights = self.weights(Component::TextEncoder, schema::text_encoder::tensors(&self.text_encoder));
        let parameters = Parameters::new(&weights, &self.device);
        let own_memory = self.device.has_own_memory();
        let prepared_blocks = if own_memory { self.text_encoder.n_layers } else { 0 };
        let residency = Residency { prepared_blocks, ..Residency::MAPPED };
        let encoder = TextEncoder::load(&self.text_encoder, &parameters, residency)?;
        let ids: Vec<u32> = (0..TOKENS as u32).map(|i| i % self.text_encoder.vocab_size as u32).collect();
        if own_memory {
            encoder.forward(&ids)?;
        }
        let (work, _) = self.measured(|| encoder.forward(&ids))?;
        self.device.release_memory();
        Ok(self.stage("text_encoder", work))
    }

    /// Gets the transformer ready for pictures of `width x height` pixels.
    ///
    /// # Errors
    /// Those of the model.
    pub fn steps(&self, width: usize, height: usize) -> Result<Steps> {
        let weights = self.weights(Component::Transformer, schema::transformer::tensors(&self.transformer));
        let config = &self.transformer;
        // The random numbers are made before the clock starts.
        Transformer::load(config, &Parameters::new(&weights, &self.device), Residency::MAPPED)?;
        let started = Instant::now();
        let parameters = Parameters::new(&weights, &self.device);
        let blocks = config.n_refiner_layers + config.n_layers;
        let residency =
            Residency { prepared_blocks: blocks, prepared_once: self.device.has_own_memory(), streamed: false };
        let transformer = Arc::new(Transformer::load(config, &parameters, residency)?);
        let load = started.elapsed();
        let mut noise = TorchGenerator::new(0);
        let mut random = |shape: &[usize]| Tensor::from_vec(&self.device, shape, noise.randn(shape.iter().product()));
        let features = random(&[TOKENS, config.cap_feat_dim])?;
        let latents = random(&[config.in_channels, height / 8, width / 8])?;
        Ok(Steps { transformer, features, latents, load })
    }

    /// Runs steps, and tells what one takes on average: the whole of it, then its parts.
    ///
    /// # Errors
    /// Those of the model.
    pub fn run(&self, steps: &Steps, count: usize) -> Result<Vec<Stage>> {
        let [_, height, width] = steps.latents.shape()[..] else { panic!("latents: this is a bug") };
        let caption = Arc::new(steps.transformer.caption(&steps.features, height, width)?);
        let _memory = self.device.keep_memory();
        if self.device.has_own_memory() {
            // The first step brings the weights there.
            let time = steps.transformer.time_condition(0.0)?;
            steps.transformer.forward_one(Lane::new(&steps.latents, &caption, &time))?;
        }
        let (whole, parts) = self.measured(|| {
            (0..count).try_for_each(|step| {
                let time = steps.transformer.time_condition(step as f32 / count as f32)?;
                steps.transformer.forward_one(Lane::new(&steps.latents, &caption, &time)).map(drop)
            })
        })?;
        let [linear, attention, convolution] = parts;
        let rest = |all: Duration, part: fn(&Work) -> Duration| all.saturating_sub(part(&linear) + part(&attention));
        let other = Work {
            wall: rest(whole.wall, |work| work.wall),
            cpu: rest(whole.cpu, |work| work.cpu),
            flop: convolution.flop,
        };
        let one = |work| one_of(work, count);
        let floats = self.device.unquantized(self.device.compute());
        let float = |name, work| Stage { name, work: one(work), compute: floats };
        let repeated = self.repeated(steps, caption, count)?;
        // The device counts nothing of what it repeats.
        let repeated = repeated.map(|work| self.stage("step.repeated", one(Work { flop: whole.flop, ..work })));
        let stages = [
            self.stage("step", one(whole)),
            self.stage("step.linear", one(linear)),
            float("step.attention", attention),
            float("step.other", other),
        ];
        Ok(stages.into_iter().chain(repeated).collect())
    }

    /// What steps take that are repeated as they were recorded, if they can be.
    fn repeated(&self, steps: &Steps, caption: Arc<Caption>, count: usize) -> Result<Option<Work>> {
        let Some(pass) = RecordedPass::new(&steps.transformer, vec![caption], &steps.latents) else { return Ok(None) };
        let step = |step: usize| -> Result<()> {
            let outputs = pass.forward(&steps.latents, step as f32 / count as f32)?;
            outputs
                .expect("nobody else needs the memory: this is a bug")
                .into_iter()
                .try_for_each(|output| output.map(drop))
        };
        step(0)?;
        let (work, _) = self.measured(|| (0..count).try_for_each(step))?;
        Ok(Some(work))
    }

    /// The VAE's decoder, with a picture of `width x height` pixels as a whole.
    ///
    /// # Errors
    /// Those of the model.
    pub fn vae_decode(&self, width: usize, height: usize) -> Result<Stage> {
        let weights = self.weights(Component::Vae, schema::vae::tensors(&self.vae));
        let device = self.device.clone().with_compute(self.device.unquantized(self.device.compute()));
        let decoder = VaeDecoder::load(&self.vae, &Parameters::new(&weights, &device))?;
        let shape = [self.vae.latent_channels, height / self.vae.downscale(), width / self.vae.downscale()];
        let values = TorchGenerator::new(0).randn(shape.iter().product());
        let latents = Tensor::from_vec(&device, &shape, values)?;
        if device.has_own_memory() {
            // The first picture compiles kernels.
            decoder.decode(&latents, Cut::Whole)?;
        }
        let (work, _) = self.measured(|| decoder.decode(&latents, Cut::Whole))?;
        self.device.release_memory();
        Ok(Stage { name: "vae_decode", work, compute: device.compute() })
    }

    /// What a device with memory of its own can do at best, measured now: a product of large square matrices, and the
    /// sum of two vectors, which reads two and writes one. `None` where it computes in main memory: see [`Peak`].
    ///
    /// # Errors
    /// Those of the device.
    pub fn device_peak(&self) -> Result<Option<DevicePeak>> {
        const RUNS: u32 = 5;
        if !self.device.has_own_memory() {
            return Ok(None);
        }
        // About 8192 for the real model.
        let side = (2 * self.transformer.dim).next_multiple_of(128);
        let spec = TensorSpec { name: "layer.weight".into(), shape: vec![side, side], role: schema::Role::Linear };
        let weights = self.weights(Component::Transformer, vec![spec]);
        let layer = Parameters::new(&weights, &self.device).prepared(true).linear("layer")?;
        let probe = Tensor::from_vec(&self.device, &[1], vec![0.0])?;
        let x = Tensor::from_vec(&self.device, &[side, side], TorchGenerator::new(0).randn(side * side))?;
        let mut sum = ops::concat_rows(&x, &x);
        let twice = ops::concat_rows(&x, &x);
        let bytes = 3.0 * (4 * sum.len()) as f64;
        let best = |run: &mut dyn FnMut()| -> Result<Duration> {
            let mut best = Duration::MAX;
            for _ in 0..RUNS {
                let started = Instant::now();
                run();
                // Waits for what was put into the queue before.
                ops::find_non_finite(&probe).wait();
                self.device.check()?;
                best = best.min(started.elapsed());
            }
            Ok(best)
        };
        let activations = Activations::of(ops::concat_rows(&x, &x));
        let product = best(&mut || drop(ops::project(&activations, &layer)))?;
        let addition = best(&mut || ops::add(&mut sum, &twice))?;
        Ok(Some(DevicePeak {
            gflops: 4.0 * (side as f64).powi(3) / product.as_secs_f64() / 1e9,
            gbytes_per_s: bytes / addition.as_secs_f64() / 1e9,
        }))
    }

    fn stage(&self, name: &'static str, work: Work) -> Stage {
        Stage { name, work, compute: self.device.compute() }
    }

    fn weights(&self, component: Component, specs: Vec<TensorSpec>) -> RandomWeights {
        RandomWeights::new(component, specs, self.precision)
    }

    /// Runs something; tells its work as a whole, and that of each kind: linear, attention, convolution.
    fn measured<T>(&self, run: impl FnOnce() -> Result<T>) -> Result<(Work, [Work; 3])> {
        let kinds = [Kind::Linear, Kind::Attention, Kind::Convolution];
        let before = kinds.map(|kind| self.device.work(kind));
        let (wall, cpu) = (Instant::now(), process_time());
        run()?;
        let (wall, cpu) = (wall.elapsed(), process_time().zip(cpu));
        let cpu = cpu.map_or(wall, |(after, before)| after - before);
        let mut parts = kinds.map(|kind| self.device.work(kind));
        parts.iter_mut().zip(before).for_each(|(part, before)| *part = *part - before);
        Ok((Work { wall, cpu, flop: parts.iter().map(|part| part.flop).sum() }, parts))
    }
}

/// One of `count` times as much.
fn one_of(work: Work, count: usize) -> Work {
    Work { wall: work.wall / count as u32, cpu: work.cpu / count as u32, flop: work.flop / count as f64 }
}

impl Source for RandomWeights {
    fn component(&self) -> Component {
        self.component()
    }

    fn view(&self, name: &str) -> zimage_weights::Result<WeightView> {
        self.tensor(name)
    }

    fn pages(&self) -> Pages {
        Pages::default()
    }
}
