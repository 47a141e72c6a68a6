//! How fast this machine computes, learnt from the pictures that it made, so that `plan` can predict time.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use zimage::pipeline::plan::{Budget, Phase};
use zimage::{ComputeChoice, Device, GenerateRequest, Pipeline};

use crate::failure::Failure;
use crate::output;

/// Operations per second by phase and device, kept in `<home>/cache/speed.json`.
pub struct Speeds {
    path: PathBuf,
    device: String,
    known: BTreeMap<String, f64>,
}

impl Speeds {
    /// What is known of a device; a file that is missing or damaged knows nothing.
    pub fn load(home: &Path, device: &Device) -> Self {
        let path = home.join("cache").join("speed.json");
        let known = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Self { path, device: device.describe(), known }
    }

    /// Remembers how long a phase took.
    pub fn learn(&mut self, phases: &[Phase], name: &str, time: Duration) {
        let flop: f64 = phases.iter().filter(|phase| phase.name == name).map(|phase| phase.flop).sum();
        if flop > 0.0 && !time.is_zero() {
            self.known.insert(self.key(name), flop / time.as_secs_f64());
        }
    }

    /// Writes what was learnt. Without it, a later plan is less precise, and nothing else.
    pub fn save(&self) {
        let text = serde_json::to_vec(&self.known).expect("speeds are plain data: this is a bug");
        if let Err(failure) = output::replace(&self.path, &text) {
            tracing::warn!("speeds are not remembered: {failure}");
        }
    }

    /// Seconds that a phase will take, if anything is known of it. Encoding an image takes the same operations as decoding one.
    pub fn seconds(&self, phase: &Phase) -> Option<f64> {
        let name = if phase.name == "encode image" { "decode" } else { phase.name };
        self.known.get(&self.key(name)).map(|speed| phase.flop / speed)
    }

    /// Draws one picture of the embedded demo model where no picture was ever made on this device. Its small matrices
    /// run slower than those of a large model, so the first prediction is on the long side.
    pub fn calibrate(&mut self, device: &Device) -> Result<(), Failure> {
        if ["encode", "denoise", "decode"].iter().all(|name| self.known.contains_key(&self.key(name))) {
            return Ok(());
        }
        let mut pipeline = Pipeline::demo(device.clone())?;
        pipeline.set_compute(ComputeChoice::Always(device.compute()))?;
        let side = pipeline.native_size();
        let request = GenerateRequest::text_to_image("a red circle", side, side, 2, 0)?;
        let plan = pipeline.plan(&request, Budget::Machine(u64::MAX))?;
        let started = Instant::now();
        let prompts = pipeline.encode(std::slice::from_ref(&request), plan.strategy)?.remove(0);
        self.learn(&plan.phases, "encode", started.elapsed());
        let started = Instant::now();
        let mut denoise = pipeline.denoise(&request, &prompts, plan.strategy)?;
        denoise.by_ref().try_for_each(|step| step.map(drop))?;
        let latents = denoise.into_latents();
        self.learn(&plan.phases, "denoise", started.elapsed());
        let started = Instant::now();
        pipeline.decode(&latents, plan.strategy)?;
        self.learn(&plan.phases, "decode", started.elapsed());
        Ok(())
    }

    fn key(&self, name: &str) -> String {
        format!("{name} on {}", self.device)
    }
}
