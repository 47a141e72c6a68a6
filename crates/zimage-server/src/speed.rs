//! How long jobs take, learnt from those that have been done.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use crate::job::{Job, JobSpec, JobState, Millis};
use crate::service::locked;

/// How much of the mean the newest picture makes up.
const NEWEST: f64 = 0.3;

/// Seconds per unit of cost ([`JobSpec::cost`]), by model.
#[derive(Default)]
pub struct Speed(Mutex<BTreeMap<String, f64>>);

impl Speed {
    /// Learns from a picture that was made alone, from its prompt to its file.
    pub fn learn(&self, spec: &JobSpec, took: Duration) {
        let cost = spec.cost() as f64 / f64::from(spec.n);
        let seconds = took.as_secs_f64() / cost;
        let mut known = locked(&self.0);
        let mean = known.entry(spec.model.clone()).or_insert(seconds);
        *mean += NEWEST * (seconds - *mean);
    }

    /// Fills in the time that is left to each of the active jobs, given in their order of service.
    pub fn estimate(&self, jobs: &mut [Job]) {
        let mut before = 0.0;
        for job in jobs {
            let Some(seconds) = self.left(job) else { return };
            before += seconds;
            job.eta_ms = Some((before * 1000.0) as Millis);
        }
    }

    /// Seconds until the first of these jobs is done, and its place free.
    pub fn seconds_of_next(&self, jobs: &[Job]) -> f64 {
        const UNKNOWN: f64 = 10.0;
        jobs.first().and_then(|job| self.left(job)).unwrap_or(UNKNOWN)
    }

    fn left(&self, job: &Job) -> Option<f64> {
        let whole = job.spec.cost() as f64 * locked(&self.0).get(&job.spec.model)?;
        let progress = job.progress.filter(|_| job.state == JobState::Running).unwrap_or_default();
        let step = f64::from(progress.step) / f64::from(progress.steps.max(1));
        let done = (f64::from(progress.image) + step) / f64::from(job.spec.n);
        Some(whole * (1.0 - done).max(0.0))
    }
}
