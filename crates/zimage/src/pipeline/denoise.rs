//! The denoising loop, as an iterator: progress, preview and cancel need no callbacks; to cancel is to stop iterating.

mod repeats;

use super::cache::{Pass, StepCache};
use super::encode::{Prompts, TextFeatures};
use super::guidance::guide;
use super::latents::{Keep, Start};
use super::plan::Strategy;
use super::request::GenerateRequest;
use super::{Latents, Pipeline};
use crate::Result;
use crate::model::scheduler::Schedule;
use crate::model::transformer::{Caption, Lane, MainLayers, Output, Residual, TimeCondition, Transformer};
use repeats::Repeats;
use std::sync::Arc;
use zimage_tensor::{Device, KeepMemory, Tensor};

/// One step done.
#[derive(Clone, Debug)]
pub struct Step {
    /// Counts from 0 over the steps that are run.
    pub index: usize,
    /// How many are run: fewer than the request's steps when it starts from an image.
    pub count: usize,
    /// Noise level of `latents`: 0 after the last step.
    pub sigma: f32,
    /// The latents after this step.
    pub latents: Latents,
    /// The latents of the finished picture as the model sees them from here: what a preview shows.
    pub predicted: Latents,
}

/// Where a loop was: enough to take it up again and end with the same bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Bookmark {
    /// Steps that are done.
    pub step: usize,
    /// The latents after them.
    pub latents: Latents,
}

/// The loop of one picture: an iterator over its steps.
pub struct Denoise {
    device: Device,
    transformer: Arc<Transformer>,
    schedule: Schedule,
    cache: StepCache,
    positive: Branch,
    guidance: Option<Guidance>,
    keep: Option<Keep>,
    first_step: usize,
    step: usize,
    failed: bool,
    latents: Latents,
    repeats: Repeats,
    /// Dropped after all that holds tensors.
    _memory: KeepMemory,
}

/// The prediction for one of the two prompts, and what its main layers added on the last computed step, if they ran.
struct Branch {
    caption: Arc<Caption>,
    residual: Option<Residual>,
}

struct Guidance {
    negative: Branch,
    guidance: f64,
    normalization: f64,
    truncation: f64,
}

impl Pipeline {
    /// Starts the loop of a request whose prompts have been encoded.
    ///
    /// # Errors
    /// [`crate::Error::Request`] when the model cannot serve the request, or those of loading and of the VAE encoder.
    pub fn denoise(&self, request: &GenerateRequest, prompts: &Prompts, strategy: Strategy) -> Result<Denoise> {
        let schedule = self.schedule(request)?;
        let start = self.start(request, &schedule, strategy.cut)?;
        let memory = self.device.keep_memory();
        let transformer = self.load_transformer(strategy)?;
        self.begin(request, prompts, (schedule, start), transformer, memory)
    }

    /// Starts the loop of a request that is to run beside another one, over the same weights: see [`step_together`].
    ///
    /// # Errors
    /// Those of [`Pipeline::denoise`].
    pub fn denoise_beside(
        &self,
        other: &Denoise,
        request: &GenerateRequest,
        prompts: &Prompts,
        strategy: Strategy,
    ) -> Result<Denoise> {
        let schedule = self.schedule(request)?;
        let start = self.start(request, &schedule, strategy.cut)?;
        let memory = self.device.keep_memory();
        self.begin(request, prompts, (schedule, start), other.transformer.clone(), memory)
    }

    fn begin(
        &self,
        request: &GenerateRequest,
        prompts: &Prompts,
        (schedule, start): (Schedule, Start),
        transformer: Arc<Transformer>,
        memory: KeepMemory,
    ) -> Result<Denoise> {
        let Start { latents, step, keep } = start;
        let [channels, height, width] = self.latent_shape(request);
        let caption = |text: &TextFeatures| {
            let features = text.features.on(transformer.device());
            transformer.caption(&features, height, width)
        };
        let negative = prompts.negative.as_ref().map(caption);
        let guidance = negative.transpose()?.map(|negative| Guidance {
            negative: Branch::new(negative),
            guidance: request.guidance,
            normalization: request.cfg_normalization,
            truncation: request.cfg_truncation,
        });
        Ok(Denoise {
            device: transformer.device().clone(),
            positive: Branch::new(caption(&prompts.positive)?),
            transformer,
            schedule,
            cache: request.cache,
            guidance,
            keep,
            first_step: step,
            step,
            failed: false,
            latents: Latents { data: latents, channels, height, width },
            repeats: Repeats::default(),
            _memory: memory,
        })
    }

    /// The schedule of a request: its own shift, or the model's.
    pub fn schedule(&self, request: &GenerateRequest) -> Result<Schedule> {
        Ok(Schedule::new(request.steps, request.shift.unwrap_or(self.scheduler.shift))?)
    }
}

impl Denoise {
    /// How many steps are run in all.
    pub fn n_steps(&self) -> usize {
        self.schedule.steps() - self.first_step
    }

    /// The latents as they are now: the picture's once the iterator is at its end.
    pub fn into_latents(self) -> Latents {
        self.latents
    }

    /// Where the loop is, for [`Denoise::resume`]; nothing while the next step needs what the main layers added before.
    pub fn bookmark(&self) -> Option<Bookmark> {
        let step = self.step - self.first_step;
        let needs_residual = step < self.n_steps() && self.cache.pass(step, self.n_steps()) == Pass::Reuse;
        (!needs_residual).then(|| Bookmark { step, latents: self.latents.clone() })
    }

    /// Takes up the loop of the same request where another one was.
    ///
    /// # Errors
    /// [`crate::Error::Request`] when the bookmark is not one of such a loop.
    pub fn resume(&mut self, bookmark: Bookmark) -> Result<()> {
        let Bookmark { step, latents } = bookmark;
        let shape = |latents: &Latents| [latents.channels, latents.height, latents.width, latents.data.len()];
        if step > self.n_steps() || shape(&latents) != shape(&self.latents) {
            let what = format!("a bookmark after step {step} of latents {:?}", shape(&latents));
            return Err(crate::Error::Request { what, hint: "it belongs to another request".into() });
        }
        self.step = self.first_step + step;
        self.latents = latents;
        self.forget();
        self.repeats.end();
        Ok(())
    }

    /// Whether no step is left: all are done, or one failed.
    pub fn is_over(&self) -> bool {
        self.failed || self.step == self.schedule.steps()
    }

    /// What the next step needs that is made before its pass.
    fn prepare(&mut self) -> Result<Next> {
        let pass = self.cache.pass(self.step - self.first_step, self.n_steps());
        if pass != Pass::Reuse {
            self.forget();
        }
        let t = self.schedule.t(self.step);
        Ok(Next { pass, time: self.transformer.time_condition(t)?, latents: self.latents.to_tensor(&self.device)? })
    }

    /// The branches that a step runs: the prompt's, then the negative one's.
    fn branches(&self, step: usize) -> impl Iterator<Item = &Branch> {
        let t = f64::from(self.schedule.t(step));
        let guidance = self.guidance.as_ref().filter(|guidance| t <= guidance.truncation);
        std::iter::once(&self.positive).chain(guidance.map(|guidance| &guidance.negative))
    }

    /// Takes the step, by what its branches gave.
    fn finish(&mut self, outputs: Vec<Result<Output>>) -> Result<Step> {
        let mut outputs = outputs.into_iter();
        let mut velocity_of = |branch: &mut Branch| -> Option<Result<Vec<f32>>> {
            let take = |output: Output| {
                branch.residual = output.residual.or(branch.residual.take());
                output.velocity.into_vec()
            };
            Some(outputs.next()?.map(take))
        };
        let positive = velocity_of(&mut self.positive).expect("every step has the prompt's branch: this is a bug")?;
        let velocity = match &mut self.guidance {
            None => positive,
            Some(g) => match velocity_of(&mut g.negative).transpose()? {
                None => positive,
                Some(negative) => guide(&positive, &negative, g.guidance as f32, g.normalization as f32),
            },
        };
        self.device.check()?;
        Ok(self.advance(&velocity))
    }

    fn advance(&mut self, velocity: &[f32]) -> Step {
        let (dt, sigma) = (self.schedule.dt(self.step), self.schedule.sigmas[self.step + 1]);
        // The scheduler's derivative points to the noise, the model's velocity to the picture.
        self.latents.data.iter_mut().zip(velocity).for_each(|(x, v)| *x += dt * -v);
        let mut predicted = self.latents.clone();
        predicted.data.iter_mut().zip(velocity).for_each(|(x, v)| *x += sigma * v);
        if let Some(keep) = &self.keep {
            keep.restore(&mut self.latents.data, sigma);
            keep.restore(&mut predicted.data, 0.0);
        }
        let index = self.step - self.first_step;
        self.step += 1;
        Step { index, count: self.n_steps(), sigma, latents: self.latents.clone(), predicted }
    }

    /// Drops what the main layers added earlier: of both branches, since guidance may leave one out of this step.
    fn forget(&mut self) {
        self.positive.residual = None;
        if let Some(guidance) = &mut self.guidance {
            guidance.negative.residual = None;
        }
    }
}

/// What a step needs that is made before its pass.
struct Next {
    pass: Pass,
    time: TimeCondition,
    latents: Tensor,
}

impl Branch {
    fn new(caption: Caption) -> Branch {
        Branch { caption: Arc::new(caption), residual: None }
    }

    /// A branch that has nothing to reuse is computed.
    fn lane<'a>(&'a self, next: &'a Next) -> Lane<'a> {
        let main_layers = match (next.pass, &self.residual) {
            (Pass::Full, _) => MainLayers::Run,
            (Pass::Reuse, Some(residual)) => MainLayers::Reuse(residual),
            (Pass::Keep, _) | (Pass::Reuse, None) => MainLayers::Keep,
        };
        Lane::new(&next.latents, &self.caption, &next.time).with(main_layers)
    }
}

/// Takes one step of each loop that is not at its end, all in one pass through the transformer, which reads its weights
/// once. Each step is what it would be alone, to the bit, and fails alone. The loops may be at different steps, of
/// different lengths, and join or leave between calls.
///
/// Returns for each loop what its iterator would.
///
/// # Panics
/// When the loops do not share a transformer: all but one must come from [`Pipeline::denoise_beside`] it.
pub fn step_together(loops: &mut [&mut Denoise]) -> Vec<Option<Result<Step>>> {
    match loops.iter().filter(|one| !one.is_over()).count() {
        1 => loops.iter_mut().map(|one| if one.is_over() { None } else { one.step_alone() }).collect(),
        _ => {
            loops.iter_mut().for_each(|one| one.repeats.end());
            take_steps(loops)
        }
    }
}

/// Takes the steps of [`step_together`] in one pass that is put together for them.
fn take_steps(loops: &mut [&mut Denoise]) -> Vec<Option<Result<Step>>> {
    let Some(transformer) = loops.first().map(|first| first.transformer.clone()) else { return Vec::new() };
    let shared = loops.iter().all(|one| Arc::ptr_eq(&one.transformer, &transformer));
    assert!(shared, "loops that step together share a transformer");
    let prepared = loops.iter_mut().map(|one| (!one.is_over()).then(|| one.prepare()));
    let prepared: Vec<Option<Result<Next>>> = prepared.collect();
    let running = || loops.iter().zip(&prepared).filter_map(|(one, next)| Some((one, next.as_ref()?.as_ref().ok()?)));
    let lanes: Vec<Lane<'_>> =
        running().flat_map(|(one, next)| one.branches(one.step).map(move |branch| branch.lane(next))).collect();
    let counts: Vec<usize> = running().map(|(one, _)| one.branches(one.step).count()).collect();
    let mut outputs = transformer.forward(&lanes).into_iter();
    let mut outputs: Vec<Vec<_>> = counts.into_iter().map(|count| outputs.by_ref().take(count).collect()).collect();
    outputs.reverse();
    let steps = loops.iter_mut().zip(prepared).map(|(one, next)| {
        let step = match next? {
            Ok(_) => one.finish(outputs.pop().expect("each running loop has outputs: this is a bug")),
            Err(error) => Err(error),
        };
        one.failed = step.is_err();
        Some(step)
    });
    steps.collect()
}

impl Iterator for Denoise {
    type Item = Result<Step>;

    fn next(&mut self) -> Option<Result<Step>> {
        step_together(&mut [self]).pop().flatten()
    }
}

#[cfg(test)]
mod tests;
