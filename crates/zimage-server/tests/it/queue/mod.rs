//! The contract of queues, one check per promise, over every implementation.

mod contract;
mod lines;
mod model;
mod sqlite;

use tempfile::TempDir;
use zimage_server::job::{Job, JobId, Priority, Progress};
use zimage_server::queue::{Journal, Lease, MemoryQueue, NewJob, Queue, QueueLimits, SqliteQueue, Wanted};

use crate::samples::{Watch, database, new_job};

pub const LEASE_MS: u64 = 30_000;

/// A queue to be checked, and the time that it sees.
pub struct Bench {
    pub queue: Box<dyn Queue>,
    pub watch: Watch,
    _home: TempDir,
}

pub fn limits() -> QueueLimits {
    QueueLimits { max_waiting: 256, max_per_owner: 128, lease_ms: LEASE_MS, max_attempts: 3 }
}

/// Runs a check on a fresh queue of every kind.
pub fn on_every_queue(check: impl Fn(&Bench)) {
    on_every_queue_with(limits(), check);
}

pub fn on_every_queue_with(limits: QueueLimits, check: impl Fn(&Bench)) {
    let (home, watch) = (TempDir::new().unwrap(), Watch::new());
    let queue = Box::new(MemoryQueue::new(limits, watch.clock()));
    check(&Bench { queue, watch, _home: home });
    let (home, watch) = (TempDir::new().unwrap(), Watch::new());
    let queue = Box::new(SqliteQueue::new(database(&home), limits, watch.clock()));
    check(&Bench { queue, watch, _home: home });
}

impl Bench {
    pub fn submit(&self, job: NewJob) -> JobId {
        self.queue.submit(job).unwrap().job.id
    }

    /// Submits a job of an owner that differs from others by nothing but its prompt.
    pub fn submit_for(&self, owner: &str) -> JobId {
        self.submit(new_job(owner))
    }

    pub fn submit_batch(&self, owner: &str) -> JobId {
        self.submit(NewJob { priority: Priority::Batch, ..new_job(owner) })
    }

    pub fn claim(&self, worker: &str) -> Option<Lease> {
        self.queue.claim(worker, &Wanted::default()).unwrap()
    }

    pub fn claimed(&self, worker: &str) -> Lease {
        self.claim(worker).expect("a job waits")
    }

    pub fn job(&self, id: JobId) -> Job {
        self.queue.job(id).unwrap().expect("the job is known")
    }

    /// The names of the events of a job.
    pub fn story(&self, id: JobId) -> Vec<&'static str> {
        let events = self.queue.events(Some(id), 0, usize::MAX).unwrap();
        events.iter().map(|event| event.kind.name()).collect()
    }

    /// Everything that clients can see.
    pub fn all(&self) -> (Vec<Job>, u64) {
        (self.queue.active().unwrap(), self.queue.last_seq().unwrap())
    }
}

pub fn step(step: u32) -> Progress {
    Progress { image: 0, step, steps: 4 }
}

pub fn journal(step: u32) -> Journal {
    Journal { image: 0, step, latents: vec![step as u8; 64] }
}
