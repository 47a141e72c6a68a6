//! Step caching: on some steps the main layers are passed over, and what they added when they last ran is added again.
//!
//! # Which steps are computed
//! LeMiCa found its lists for runs of 9 steps: 0 1 2 3 5 7 8 (slow), 0 1 2 4 6 8 (medium), 0 1 2 5 8 (fast). They have
//! one form: the opening of the schedule, where the composition is settled, is computed in full, up to a quarter of the
//! way from the first step to the last (slow: three eighths); from there every second step is computed (fast: every
//! third), and the last step always (slow: the last two). A run of any number of steps follows this form. The opening
//! is a share of the schedule, rounded up. The stride stays the same in longer runs, so that a mode computes about the
//! same share of the steps at any length, and more steps bring the picture nearer to the one without caching; were the
//! stride to grow with the run, every run would compute five to seven steps and waste the others that were asked for.
//! In runs shorter than 9 steps, where a step is a larger part of the way, the stride shrinks in proportion, rounded to
//! the nearest; runs of up to four steps are computed whole. Where a run starts from a picture, the steps that it runs
//! are counted.
//!
//! Source: UnicomAI LeMiCa, for Z-Image.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How many steps pass over the main layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepCache {
    /// None: every step is computed.
    #[default]
    None,
    /// 2 of 9 steps; nearest to the uncached picture.
    Slow,
    /// 3 of 9 steps.
    Medium,
    /// 4 of 9 steps.
    Fast,
}

/// How a step is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// With the main layers; the next step does not need what they add.
    Full,
    /// With the main layers, and what they add is kept.
    Keep,
    /// With what the main layers added when they last ran.
    Reuse,
}

/// The form of a list of computed steps.
struct Form {
    /// Eighths of the way from the first step to the last that are computed in full.
    opening: usize,
    /// After that, every `stride`-th step is computed.
    stride: usize,
    /// Steps at the end that are computed in full.
    closing: usize,
}

/// The steps of the runs that the forms were found in, less one.
const ORIGINAL_LAST: usize = 8;

impl StepCache {
    /// All of them, from none to the most.
    pub const ALL: [StepCache; 4] = [StepCache::None, StepCache::Slow, StepCache::Medium, StepCache::Fast];

    /// As it is written in arguments and metadata.
    pub fn name(self) -> &'static str {
        match self {
            StepCache::None => "none",
            StepCache::Slow => "slow",
            StepCache::Medium => "medium",
            StepCache::Fast => "fast",
        }
    }

    /// Whether every step is computed.
    pub fn is_none(&self) -> bool {
        *self == StepCache::None
    }

    /// Those of `count` steps that run the main layers.
    pub fn computed(self, count: usize) -> impl Iterator<Item = usize> {
        (0..count).filter(move |&step| self.computes(step, count))
    }

    /// How step `step` of `count` is evaluated.
    pub(super) fn pass(self, step: usize, count: usize) -> Pass {
        match (self.computes(step, count), step + 1 == count || self.computes(step + 1, count)) {
            (false, _) => Pass::Reuse,
            (true, false) => Pass::Keep,
            (true, true) => Pass::Full,
        }
    }

    fn computes(self, step: usize, count: usize) -> bool {
        let Some(form) = self.form() else { return true };
        let last = count - 1;
        let opening = (form.opening * last).div_ceil(ORIGINAL_LAST);
        let scaled = (2 * form.stride * last + ORIGINAL_LAST) / (2 * ORIGINAL_LAST);
        let stride = scaled.clamp(1, form.stride);
        step <= opening || step + form.closing > last || (step - opening).is_multiple_of(stride)
    }

    fn form(self) -> Option<Form> {
        match self {
            StepCache::None => None,
            StepCache::Slow => Some(Form { opening: 3, stride: 2, closing: 2 }),
            StepCache::Medium => Some(Form { opening: 2, stride: 2, closing: 1 }),
            StepCache::Fast => Some(Form { opening: 2, stride: 3, closing: 1 }),
        }
    }
}

impl FromStr for StepCache {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = StepCache::ALL.map(StepCache::name).join(", ");
        StepCache::ALL.into_iter().find(|cache| cache.name() == text).ok_or(format!("expected one of {names}"))
    }
}

impl fmt::Display for StepCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;
