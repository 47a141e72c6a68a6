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
    pub fn estimate(&self, jobs: &mut [Job], now: Millis) {
        let known = self.known(jobs, now);
        let mut before = 0.0;
        for job in jobs {
            let Some(seconds) = left(job, &known) else { return };
            before += seconds;
            job.eta_ms = Some((before * 1000.0) as Millis);
        }
    }

    /// Seconds until the first of these jobs is done, and its place free.
    pub fn seconds_of_next(&self, jobs: &[Job], now: Millis) -> f64 {
        const UNKNOWN: f64 = 10.0;
        let known = self.known(jobs, now);
        jobs.first().and_then(|job| left(job, &known)).unwrap_or(UNKNOWN)
    }

    /// What was learnt; and of models that have not finished a picture yet, the pace of one that runs.
    fn known(&self, jobs: &[Job], now: Millis) -> BTreeMap<String, f64> {
        let mut known = locked(&self.0).clone();
        for job in jobs {
            let done = done(job) * job.spec.cost() as f64;
            if let Some(started) = job.started_ms.filter(|_| done > 0.0) {
                let seconds = now.saturating_sub(started) as f64 / 1000.0;
                known.entry(job.spec.model.clone()).or_insert(seconds / done);
            }
        }
        known
    }
}

fn left(job: &Job, known: &BTreeMap<String, f64>) -> Option<f64> {
    let whole = job.spec.cost() as f64 * known.get(&job.spec.model)?;
    Some(whole * (1.0 - done(job)).max(0.0))
}

/// Which part of a job is done, from 0 to 1.
fn done(job: &Job) -> f64 {
    let progress = job.progress.filter(|_| job.state == JobState::Running).unwrap_or_default();
    let step = f64::from(progress.step) / f64::from(progress.steps.max(1));
    (f64::from(progress.image) + step) / f64::from(job.spec.n)
}

#[cfg(test)]
mod tests;
