//! Counters for Prometheus.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::job::JobState;
use crate::queue::Depth;

/// What is counted, by the names that `/metrics` shows.
pub struct Metrics {
    registry: Registry,
    submitted: Counter,
    finished: Family<Outcome, Counter>,
    rejected: Family<Reason, Counter>,
    waiting: Family<Line, Gauge>,
    running: Gauge,
    stages: Family<Stage, Histogram>,
    waits: Histogram,
    batch: Histogram,
    loaded: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Line {
    priority: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Stage {
    stage: &'static str,
}

impl Default for Metrics {
    fn default() -> Metrics {
        // From 10 milliseconds to 3 hours.
        let seconds = || Histogram::new(exponential_buckets(0.01, 2.0, 20));
        let mut metrics = Metrics {
            registry: Registry::with_prefix("zimage"),
            submitted: Counter::default(),
            finished: Family::default(),
            rejected: Family::default(),
            waiting: Family::default(),
            running: Gauge::default(),
            stages: Family::new_with_constructor(seconds),
            waits: seconds(),
            batch: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0]),
            loaded: Gauge::default(),
        };
        let r = &mut metrics.registry;
        r.register("jobs_submitted", "Jobs that were put into the queue", metrics.submitted.clone());
        r.register("jobs", "Jobs that ended, by how", metrics.finished.clone());
        r.register("rejected", "Requests that were refused because of load", metrics.rejected.clone());
        r.register("queue_depth", "Jobs that wait", metrics.waiting.clone());
        r.register("jobs_running", "Jobs that a worker has", metrics.running.clone());
        r.register("stage_seconds", "Time of each stage of a picture", metrics.stages.clone());
        r.register("queue_wait_seconds", "How long jobs waited for their first turn", metrics.waits.clone());
        r.register("batch_size", "Jobs that shared a step", metrics.batch.clone());
        r.register("models_loaded", "Models that workers have open", metrics.loaded.clone());
        metrics
    }
}

impl Metrics {
    pub(crate) fn submitted(&self, repeated: bool) {
        if !repeated {
            self.submitted.inc();
        }
    }

    pub(crate) fn finished(&self, state: JobState) {
        let outcome = match state {
            JobState::Done => "done",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
            JobState::Queued | JobState::Running => return,
        };
        self.finished.get_or_create(&Outcome { outcome }).inc();
    }

    pub(crate) fn rejected(&self, reason: &'static str) {
        self.rejected.get_or_create(&Reason { reason }).inc();
    }

    pub(crate) fn stage(&self, stage: &'static str, took: Duration) {
        self.stages.get_or_create(&Stage { stage }).observe(took.as_secs_f64());
    }

    pub(crate) fn waited(&self, took: Duration) {
        self.waits.observe(took.as_secs_f64());
    }

    pub(crate) fn batch(&self, jobs: usize) {
        self.batch.observe(jobs as f64);
    }

    pub(crate) fn loaded(&self, models: usize) {
        self.loaded.set(models as i64);
    }

    /// All of it in Prometheus' text format.
    pub fn text(&self, depth: Depth) -> String {
        let waiting = |priority| self.waiting.get_or_create(&Line { priority });
        waiting("interactive").set(depth.interactive as i64);
        waiting("batch").set(depth.batch as i64);
        self.running.set(depth.running as i64);
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes any text: this is a bug");
        text
    }
}
