//! Steps that are alike, which a device records once and repeats: a loop of its own, the main layers run and nothing of
//! them kept, and as many lanes as in the step before.
//!
//! ```text
//! first of them     as any other: it brings weights to the device and memory to the pool, and times its products
//! second            recorded, if enough of them are left, and repeated at once
//! others            repeated
//! ```
//! The recording has the memory that a step takes, so it is dropped before a step that is not repeated. Where a picture is
//! decoded between two steps, or a model is loaded, the device gives it up: then the next step is taken as the first was.

use super::{Denoise, Step, take_steps};
use crate::Result;
use crate::model::transformer::{Output, RecordedPass};
use crate::pipeline::cache::Pass;
use zimage_tensor::Tensor;

/// Steps that must be left for a recording to be made: it costs more than to put one step together.
const WORTH_RECORDING: usize = 3;

/// What is known of steps that are alike.
#[derive(Default)]
pub(super) struct Repeats {
    /// Lanes of the step before, if it may be repeated.
    before: Option<usize>,
    recorded: Option<RecordedPass>,
    /// Whether the device has recorded nothing when it was asked to.
    refused: bool,
}

impl Repeats {
    /// The step to come is another one.
    pub(super) fn end(&mut self) {
        self.before = None;
        self.recorded = None;
    }
}

impl Denoise {
    /// Takes a step of this loop alone, which is not over.
    pub(super) fn step_alone(&mut self) -> Option<Result<Step>> {
        let step = match self.repeat() {
            Ok(None) => return take_steps(&mut [self]).pop().flatten(),
            Ok(Some(outputs)) => self.finish(outputs),
            Err(error) => Err(error),
        };
        self.failed = step.is_err();
        Some(step)
    }

    /// What the branches of the next step give by a recording; `None` where there is none for it.
    fn repeat(&mut self) -> Result<Option<Vec<Result<Output>>>> {
        let lanes = self.full_lanes(self.step);
        if lanes.is_none() || self.repeats.before != lanes {
            self.repeats.end();
            self.repeats.before = lanes;
            return Ok(None);
        }
        let alike = (self.step..self.schedule.steps()).take_while(|step| self.full_lanes(*step) == lanes);
        if self.repeats.recorded.is_none() && !self.repeats.refused && alike.count() >= WORTH_RECORDING {
            self.record(&self.latents.to_tensor(&self.device)?);
        }
        let Some(recorded) = &self.repeats.recorded else { return Ok(None) };
        let outputs = recorded.forward(&self.latents.to_tensor(&self.device)?, self.schedule.t(self.step))?;
        if outputs.is_none() {
            self.repeats.recorded = None;
        }
        Ok(outputs)
    }

    /// The lanes of a step, if it may be repeated.
    fn full_lanes(&self, step: usize) -> Option<usize> {
        let pass = self.cache.pass(step - self.first_step, self.n_steps());
        (pass == Pass::Full).then(|| self.branches(step).count())
    }

    /// Records the next step, if the device does; where it does not, the steps are taken as before.
    fn record(&mut self, latents: &Tensor) {
        let captions = self.branches(self.step).map(|branch| branch.caption.clone()).collect();
        self.repeats.recorded = RecordedPass::new(&self.transformer, captions, latents);
        self.repeats.refused = self.repeats.recorded.is_none();
    }
}

#[cfg(test)]
mod tests;
