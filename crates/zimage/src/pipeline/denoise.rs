//! The denoising loop, as an iterator: progress, preview and cancel need no callbacks; to cancel is to stop iterating.

use super::cache::{Pass, StepCache};
use super::encode::{Prompts, TextFeatures};
use super::guidance::guide;
use super::latents::{Keep, Start};
use super::plan::Strategy;
use super::request::GenerateRequest;
use super::{Latents, Pipeline};
use crate::Result;
use crate::model::scheduler::Schedule;
use crate::model::transformer::{Caption, Residual, TimeCondition, Transformer};
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
    /// Dropped after all that holds tensors.
    _memory: KeepMemory,
}

/// The prediction for one of the two prompts, and what its main layers added on the last computed step, if they ran.
struct Branch {
    caption: Caption,
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
        let Start { latents, step, keep } = self.start(request, &schedule, strategy.cut)?;
        let [channels, height, width] = self.latent_shape(request);
        // What the image's encoder has left must not lie beside what the loop needs.
        self.device.release_memory();
        let memory = self.device.keep_memory();
        let transformer = self.load_transformer(strategy)?;
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

    fn advance(&mut self) -> Result<Step> {
        let velocity = self.velocity()?;
        let (dt, sigma) = (self.schedule.dt(self.step), self.schedule.sigmas[self.step + 1]);
        // The scheduler's derivative points to the noise, the model's velocity to the picture.
        self.latents.data.iter_mut().zip(velocity).for_each(|(x, v)| *x += dt * -v);
        if let Some(keep) = &self.keep {
            keep.restore(&mut self.latents.data, sigma);
        }
        let index = self.step - self.first_step;
        self.step += 1;
        Ok(Step { index, count: self.n_steps(), sigma, latents: self.latents.clone() })
    }

    /// The guided velocity at the current latents and time.
    fn velocity(&mut self) -> Result<Vec<f32>> {
        let pass = self.cache.pass(self.step - self.first_step, self.n_steps());
        if pass != Pass::Reuse {
            self.forget();
        }
        let t = self.schedule.t(self.step);
        let time = self.transformer.time_condition(t)?;
        let latents = self.latents.to_tensor(&self.device)?;
        let positive = self.positive.predict(&self.transformer, &latents, &time, pass)?;
        match &mut self.guidance {
            Some(g) if f64::from(t) <= g.truncation => {
                let negative = g.negative.predict(&self.transformer, &latents, &time, pass)?;
                Ok(guide(&positive, &negative, g.guidance as f32, g.normalization as f32))
            }
            _ => Ok(positive),
        }
    }

    /// Drops what the main layers added earlier: of both branches, since guidance may leave one out of this step.
    fn forget(&mut self) {
        self.positive.residual = None;
        if let Some(guidance) = &mut self.guidance {
            guidance.negative.residual = None;
        }
    }
}

impl Branch {
    fn new(caption: Caption) -> Branch {
        Branch { caption, residual: None }
    }

    /// The velocity `(channels, height, width)`. A branch that has nothing to reuse is computed.
    fn predict(
        &mut self,
        transformer: &Transformer,
        latents: &Tensor,
        time: &TimeCondition,
        pass: Pass,
    ) -> Result<Vec<f32>> {
        let velocity = match (pass, &self.residual) {
            (Pass::Full, _) => transformer.forward(latents, &self.caption, time)?,
            (Pass::Reuse, Some(residual)) => transformer.forward_reusing(latents, &self.caption, time, residual)?,
            (Pass::Keep, _) | (Pass::Reuse, None) => {
                let (velocity, residual) = transformer.forward_keeping(latents, &self.caption, time)?;
                self.residual = Some(residual);
                velocity
            }
        };
        Ok(velocity.into_vec())
    }
}

impl Iterator for Denoise {
    type Item = Result<Step>;

    fn next(&mut self) -> Option<Result<Step>> {
        if self.failed || self.step == self.schedule.steps() {
            return None;
        }
        let step = self.advance();
        self.failed = step.is_err();
        Some(step)
    }
}

#[cfg(test)]
mod tests;
