//! The thread that owns the model of a device, and makes the pictures.
//!
//! ```text
//! until the server goes down:
//!     take the next job, and while there is room, jobs that can share its steps        (claimed in order, never past
//!                                                                                      one that cannot)
//!     one step of all of them; each is journaled, and told to whoever watches
//!     whose picture is finished: decode, store, record; then its next picture, or the end
//! ```
//!
//! Whatever goes wrong in a job, a panic included, fails that job alone.

mod active;
mod engine;
mod failure;
mod heart;
mod presence;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use zimage::pipeline::{Denoise, Latents, Step, step_together};
use zimage::{ComputeChoice, GenerateRequest};

use crate::bell::Heard;
use crate::draft::options;
use crate::job::{Failure, FailureCode, JobSpec, JobState};
use crate::queue::{Held, Lease, Outcome, QueueError, Wanted};
use crate::service::{Enlisted, Place, Service};
use active::{Active, Advance, Begun, Stepped};
use engine::{Beside, Engine};
use failure::internal;
use heart::Heart;
pub use presence::Presence;

/// An idle worker looks for jobs of other processes, and for workers that died, this often.
const PATIENCE: Duration = Duration::from_secs(1);

/// How a worker works.
pub struct WorkerOptions {
    /// Where it computes.
    pub place: Place,
    /// With which arithmetic.
    pub compute: ComputeChoice,
    /// Jobs that may share a step, each of another owner.
    pub max_batch: usize,
    /// How long an idle worker keeps its model; for ever if absent.
    pub keep_alive: Option<Duration>,
    /// How often leases are renewed.
    pub heartbeat: Duration,
    /// Its name among the workers of the database, and the proof that it lives.
    pub presence: Presence,
}

/// Starts a worker. Its thread ends once the service drains and nothing runs any more.
///
/// # Errors
/// Those of the operating system.
pub fn start(service: Arc<Service>, options: WorkerOptions) -> std::io::Result<JoinHandle<()>> {
    let heart = Heart::start(Arc::clone(&service), options.heartbeat)?;
    let body = move || Worker::new(service, options, heart).run();
    thread::Builder::new().name("zimage-worker".into()).spawn(body)
}

struct Worker {
    enlisted: Enlisted,
    service: Arc<Service>,
    options: WorkerOptions,
    heart: Heart,
    engine: Option<Engine>,
    active: Vec<Active>,
    idle_since: Instant,
    heard: Heard,
}

impl Worker {
    fn new(service: Arc<Service>, options: WorkerOptions, heart: Heart) -> Worker {
        let enlisted = service.enlist();
        Worker {
            enlisted,
            service,
            options,
            heart,
            engine: None,
            active: Vec::new(),
            idle_since: Instant::now(),
            heard: Heard::default(),
        }
    }

    fn run(mut self) {
        self.bury_the_dead();
        while !(self.service.is_draining() && self.active.is_empty()) {
            let turn = catch_unwind(AssertUnwindSafe(|| self.turn()));
            match turn {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!("{error}");
                    thread::sleep(PATIENCE);
                }
                // What a panic outside of any job has left behind is not to be trusted.
                Err(_) => self.start_over(),
            }
            self.enlisted.set_loaded(self.engine.is_some());
        }
    }

    fn turn(&mut self) -> Result<(), QueueError> {
        self.fill()?;
        if self.active.is_empty() {
            self.idle();
            return Ok(());
        }
        self.idle_since = Instant::now();
        self.step();
        Ok(())
    }

    /// Waits for work.
    fn idle(&mut self) {
        let too_long = self.options.keep_alive.is_some_and(|limit| self.idle_since.elapsed() >= limit);
        if self.enlisted.take_unload() || too_long {
            self.engine = None;
            self.enlisted.set_loaded(false);
        }
        self.service.bell().wait(&mut self.heard, PATIENCE);
        self.bury_the_dead();
    }

    /// Takes jobs for as long as they can be run together.
    fn fill(&mut self) -> Result<(), QueueError> {
        while !self.service.is_draining() && self.active.len() < self.options.max_batch.max(1) {
            let wanted = match self.active.first() {
                None => Wanted::default(),
                Some(first) if self.next_can_join(first)? => Wanted {
                    batch_key: Some(first.batch_key()),
                    not_of: self.active.iter().map(|active| active.owner().to_owned()).collect(),
                },
                Some(_) => return Ok(()),
            };
            let Some(lease) = self.service.queue().claim(self.options.presence.name(), &wanted)? else { return Ok(()) };
            self.service.changed();
            self.heart.beat_for(&lease);
            self.begin(lease);
        }
        Ok(())
    }

    /// Whether the job whose turn it is can share the steps of those that run. One that cannot is not passed by, or it
    /// might wait for ever. Jobs of one owner run one after the other: sharing would only make the first one later.
    fn next_can_join(&self, first: &Active) -> Result<bool, QueueError> {
        let jobs = self.service.queue().active()?;
        let Some(next) = jobs.into_iter().find(|job| job.state == JobState::Queued) else { return Ok(false) };
        let is_new = self.active.iter().all(|active| active.owner() != next.owner);
        Ok(is_new && next.spec.batch_key() == first.batch_key() && self.has_room(&next.spec))
    }

    /// Whether a job can be made beside those that run, within the memory that there is.
    fn has_room(&self, spec: &JobSpec) -> bool {
        let (Some(engine), Ok(task)) = (&self.engine, self.service.task(spec)) else { return false };
        let request = GenerateRequest::new(options(spec, 0, task));
        request.is_ok_and(|request| engine.strategy(&request, beside(&self.active)).is_ok())
    }

    /// Starts a claimed job, or fails it.
    fn begin(&mut self, lease: Lease) {
        let begun = guarded(|| {
            self.check_wait(&lease)?;
            let engine = Engine::ready(&mut self.engine, &self.service, &self.options, &lease.job.spec)?;
            Active::begin(&self.service, engine, beside(&self.active), &lease)
        });
        match begun {
            Ok(Begun::Running(active)) => self.active.push(*active),
            Ok(Begun::Ended(Advance::Done)) => self.end(&lease, Outcome::Done),
            Ok(Begun::Ended(_)) => self.forget(&lease),
            Err(failure) => self.end(&lease, Outcome::Failed(failure)),
        }
    }

    /// Refuses a job that had to wait longer than it may for its first turn.
    fn check_wait(&self, lease: &Lease) -> Result<(), Failure> {
        let job = &lease.job;
        if lease.attempt > 1 {
            return Ok(());
        }
        let waited = Duration::from_millis(job.started_ms.unwrap_or(job.created_ms).saturating_sub(job.created_ms));
        self.service.metrics().waited(waited);
        match self.service.limits().wait_timeout {
            Some(limit) if waited > limit => Err(failure::failure(
                FailureCode::TimedOut,
                "the job waited longer for its turn than this server allows",
            )),
            _ => Ok(()),
        }
    }

    /// One step of everything that runs, and what follows from it.
    fn step(&mut self) {
        self.service.metrics().batch(self.active.len());
        let started = Instant::now();
        let steps = step_all(&mut self.active);
        self.service.metrics().stage("denoise_step", started.elapsed());
        let is_alone = self.active.len() == 1;
        let (mut going_on, mut finished) = (Vec::with_capacity(self.active.len()), Vec::new());
        for (mut active, step) in std::mem::take(&mut self.active).into_iter().zip(steps) {
            active.ran_alone &= is_alone;
            let engine = self.engine.as_mut().expect("what runs has an engine: this is a bug");
            let stepped = step.and_then(|step| guarded(|| active.after(&self.service, engine, step)));
            match stepped {
                Ok(Stepped::GoOn) => going_on.push(active),
                Ok(Stepped::Finished(latents)) => finished.push((active, latents)),
                Ok(Stepped::Stop) => self.forget(active.lease()),
                Err(failure) => self.end(active.lease(), Outcome::Failed(failure)),
            }
        }
        self.active = going_on;
        for (active, latents) in finished {
            self.finish(active, &latents);
        }
    }

    /// Makes a picture of finished latents, while the others wait; then its job goes on or ends.
    fn finish(&mut self, mut active: Active, latents: &Latents) {
        let engine = self.engine.as_mut().expect("what runs has an engine: this is a bug");
        let others = beside(&self.active);
        let advance = guarded(|| {
            let advance = active.finish_picture(&self.service, engine, latents)?;
            if advance == Advance::GoOn {
                active.next_picture(engine, others)?;
            }
            Ok(advance)
        });
        match advance {
            Ok(Advance::GoOn) => self.active.push(active),
            Ok(Advance::Done) => self.end(active.lease(), Outcome::Done),
            Ok(Advance::Stop) => self.forget(active.lease()),
            Err(failure) => self.end(active.lease(), Outcome::Failed(failure)),
        }
    }

    /// Ends a job.
    fn end(&self, lease: &Lease, outcome: Outcome) {
        if let Outcome::Failed(failure) = &outcome {
            tracing::warn!("job {} failed: {}", lease.job.id, failure.message);
        }
        let state = if outcome == Outcome::Done { JobState::Done } else { JobState::Failed };
        match self.service.queue().finish(lease, outcome) {
            Ok(Held::Held) => self.service.metrics().finished(state),
            Ok(Held::Cancelled | Held::Lost) => {}
            // Its lease ends by itself, and it is run again.
            Err(error) => tracing::error!("job {} could not be ended: {error}", lease.job.id),
        }
        self.forget(lease);
    }

    fn forget(&self, lease: &Lease) {
        self.heart.stop_for(lease);
        self.service.previews().remove(lease.job.id);
        self.service.changed();
    }

    /// Ends the leases of workers whose processes are gone.
    fn bury_the_dead(&self) {
        let holders = self.service.queue().holders().unwrap_or_default();
        for worker in holders.iter().filter(|worker| self.options.presence.is_dead(worker)) {
            match self.service.queue().expire(worker) {
                Ok(jobs) => tracing::info!("a worker is gone; {jobs} of its jobs go on here"),
                Err(error) => tracing::error!("{error}"),
            }
        }
    }

    fn start_over(&mut self) {
        for active in std::mem::take(&mut self.active) {
            self.end(active.lease(), Outcome::Failed(internal()));
        }
        self.engine = None;
    }
}

/// Work for one job, which a panic fails.
fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(internal()))
}

/// What another job would run beside.
fn beside(active: &[Active]) -> Option<Beside<'_>> {
    let (denoise, strategy) = active.first()?.running()?;
    Some(Beside { denoise, strategy, count: active.len() })
}

/// One step of each. Where a step of several panics, each takes its own, so that only the culprit fails: a step that
/// panics has changed nothing.
fn step_all(active: &mut [Active]) -> Vec<Result<Step, Failure>> {
    let mut loops: Vec<&mut Denoise> = active.iter_mut().map(Active::denoise).collect();
    if let Ok(steps) = catch_unwind(AssertUnwindSafe(|| step_together(&mut loops))) {
        return steps.into_iter().map(failure::of_step).collect();
    }
    loops.into_iter().map(|one| guarded(|| failure::of_step(one.next()))).collect()
}
