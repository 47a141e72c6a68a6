//! The flow-matching Euler schedule: which noise levels the loop visits.
//!
//! Parity with diffusers is exact to the last bit of every sigma, so each formula below keeps the order and the
//! precision of the original, including `torch.linspace`'s fused multiply-add.

use serde_json::Value;
use thiserror::Error;

/// The only scheduler class that Z-Image checkpoints use.
const CLASS: &str = "FlowMatchEulerDiscreteScheduler";
/// More steps than the model has training timesteps would visit the same noise level twice.
pub const MAX_STEPS: usize = 1000;

/// Why a scheduler configuration or a schedule was refused.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The configuration names another scheduler.
    #[error(
        "scheduler class is `{found}`, expected `{CLASS}`\nhint: only static flow-matching schedules are supported"
    )]
    Class {
        /// What `_class_name` says, or `nothing`.
        found: String,
    },
    /// The configuration asks for a behaviour that is not implemented.
    #[error("scheduler option `{option}` is {found}, which is not supported")]
    Option {
        /// The key in scheduler_config.json.
        option: &'static str,
        /// Its value, as JSON.
        found: String,
    },
    /// A key is missing or has the wrong type.
    #[error("scheduler option `{option}` must be {expected}, found {found}")]
    Malformed {
        /// The key in scheduler_config.json.
        option: &'static str,
        /// What would have been accepted.
        expected: &'static str,
        /// Its value, as JSON, or `nothing`.
        found: String,
    },
    /// The number of steps is zero or too large.
    #[error("steps must be between 1 and {MAX_STEPS}, found {steps}")]
    Steps {
        /// The number asked for.
        steps: usize,
    },
    /// The shift is not a positive finite number.
    #[error("shift must be a positive finite number, found {shift}")]
    Shift {
        /// The number asked for.
        shift: f64,
    },
    /// The strength is outside 0..1.
    #[error("strength must be between 0 and 1, found {strength}")]
    Strength {
        /// The number asked for.
        strength: f64,
    },
    /// The strength leaves nothing to do.
    #[error("strength {strength} leaves none of the {steps} steps to run\nhint: use a larger strength")]
    NoStep {
        /// The strength asked for.
        strength: f64,
        /// The number of steps asked for.
        steps: usize,
    },
}

/// What scheduler_config.json says, once it is known to be a static flow-matching schedule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SchedulerConfig {
    /// Timesteps the model was trained with; a sigma of 1 is this timestep.
    pub num_train_timesteps: usize,
    /// How far the schedule leans towards high noise: 3 for Z-Image-Turbo, 6 for the base model.
    pub shift: f64,
}

impl SchedulerConfig {
    /// Reads and checks scheduler_config.json.
    ///
    /// Absent keys take the defaults of the diffusers class (`shift` 1, 1000 timesteps). Everything that would change
    /// the sigmas and is not implemented is refused by name.
    ///
    /// Source: diffusers `FlowMatchEulerDiscreteScheduler.__init__`.
    pub fn from_json(config: &Value) -> Result<Self, ScheduleError> {
        match config.get("_class_name") {
            Some(Value::String(class)) if class == CLASS => {}
            other => return Err(ScheduleError::Class { found: described(other) }),
        }
        for option in [
            "use_dynamic_shifting",
            "use_karras_sigmas",
            "use_exponential_sigmas",
            "use_beta_sigmas",
            "invert_sigmas",
            "stochastic_sampling",
        ] {
            refuse_if_true(config, option)?;
        }
        if let Some(terminal) = config.get("shift_terminal").filter(|value| !value.is_null()) {
            return Err(ScheduleError::Option { option: "shift_terminal", found: terminal.to_string() });
        }
        let shift = number(config, "shift", 1.0)?;
        check_shift(shift)?;
        let timesteps = number(config, "num_train_timesteps", 1000.0)?;
        if timesteps != 1000.0 {
            // The model's timestep input is (1000 - T) / 1000, whatever the scheduler says.
            return Err(ScheduleError::Option { option: "num_train_timesteps", found: timesteps.to_string() });
        }
        Ok(Self { num_train_timesteps: 1000, shift })
    }
}

/// The noise levels of one run. Step `i` goes from `sigmas[i]` to `sigmas[i + 1]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Noise levels, from 1 down to a final 0; one more than there are steps.
    pub sigmas: Vec<f32>,
    /// `1000 * sigma` of each step.
    pub timesteps: Vec<f32>,
}

impl Schedule {
    /// The schedule of `steps` real forward passes under a static `shift`.
    ///
    /// Refuses 0 steps, more than [`MAX_STEPS`], and a shift that is not positive and finite.
    ///
    /// Source: diffusers 0.39 and later, `get_default_z_image_sigmas` and
    /// `FlowMatchEulerDiscreteScheduler.set_timesteps`.
    pub fn new(steps: usize, shift: f64) -> Result<Self, ScheduleError> {
        if steps == 0 || steps > MAX_STEPS {
            return Err(ScheduleError::Steps { steps });
        }
        check_shift(shift)?;
        // numpy multiplies an f32 array by a Python float after rounding that float to f32; `shift - 1` is computed in
        // double precision before it is rounded.
        let (scale, slope) = (shift as f32, (shift - 1.0) as f32);
        let shifted = (0..steps).map(|index| {
            let raw = linspace_down(steps, index);
            (scale * raw) / (1.0 + slope * raw)
        });
        let mut sigmas: Vec<f32> = shifted.collect();
        let timesteps = sigmas.iter().map(|sigma| sigma * 1000.0).collect();
        sigmas.push(0.0);
        Ok(Self { sigmas, timesteps })
    }

    /// Number of steps, which is the number of model evaluations per guidance branch.
    pub fn steps(&self) -> usize {
        self.timesteps.len()
    }

    /// The model's time input of step `index`, 0 at pure noise and 1 at the picture: `(1000 - T) / 1000`.
    pub fn t(&self, index: usize) -> f32 {
        (1000.0 - self.timesteps[index]) / 1000.0
    }

    /// The signed width of step `index` in sigma, negative: `sigma[i + 1] - sigma[i]`.
    pub fn dt(&self, index: usize) -> f32 {
        self.sigmas[index + 1] - self.sigmas[index]
    }

    /// The first step that image to image runs at `strength` in 0..=1; at strength 1 it is 0.
    ///
    /// The arithmetic is in double precision as in the original: an f32 strength of 0.6 would select another step at
    /// 10 steps. A strength that leaves no step is refused.
    ///
    /// Source: diffusers `ZImageImg2ImgPipeline.get_timesteps`.
    pub fn start_index(&self, strength: f64) -> Result<usize, ScheduleError> {
        if !(0.0..=1.0).contains(&strength) {
            return Err(ScheduleError::Strength { strength });
        }
        let steps = self.steps();
        let initial = (steps as f64 * strength).min(steps as f64);
        let start = (steps as f64 - initial).max(0.0) as usize;
        if start >= steps {
            return Err(ScheduleError::NoStep { strength, steps });
        }
        Ok(start)
    }
}

/// Element `index` of `torch.linspace(1, 1 / steps, steps)`, f32 on the CPU.
///
/// torch fills the first half upwards from the start and the second half downwards from the end, each with one fused
/// multiply-add, so that both ends are exact.
fn linspace_down(steps: usize, index: usize) -> f32 {
    let end = (1.0 / steps as f64) as f32;
    if steps == 1 {
        return 1.0;
    }
    let step = (end - 1.0) / (steps - 1) as f32;
    if index < steps / 2 { step.mul_add(index as f32, 1.0) } else { (-step).mul_add((steps - 1 - index) as f32, end) }
}

fn check_shift(shift: f64) -> Result<(), ScheduleError> {
    if shift.is_finite() && shift > 0.0 { Ok(()) } else { Err(ScheduleError::Shift { shift }) }
}

fn refuse_if_true(config: &Value, option: &'static str) -> Result<(), ScheduleError> {
    match config.get(option) {
        None | Some(Value::Null | Value::Bool(false)) => Ok(()),
        Some(Value::Bool(true)) => Err(ScheduleError::Option { option, found: "true".into() }),
        other => Err(ScheduleError::Malformed { option, expected: "true or false", found: described(other) }),
    }
}

fn number(config: &Value, option: &'static str, default: f64) -> Result<f64, ScheduleError> {
    match config.get(option) {
        None => Ok(default),
        Some(value) => value.as_f64().ok_or_else(|| ScheduleError::Malformed {
            option,
            expected: "a number",
            found: described(Some(value)),
        }),
    }
}

fn described(value: Option<&Value>) -> String {
    match value {
        None => "nothing".into(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests;
