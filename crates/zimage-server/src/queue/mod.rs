//! The queue of jobs: a contract, kept by [`MemoryQueue`] and [`SqliteQueue`] alike (`tests/it/queue.rs` runs over both).
//!
//! A worker holds a job by a [`Lease`], which ends by itself unless renewed. Its `attempt` is the fencing token: whatever
//! a worker reports under an older one is refused with [`Held::Lost`], so that a worker that was thought dead, and wakes,
//! changes nothing. All methods are synchronous and short.

mod fairness;
mod memory;
mod sqlite;

use crate::job::{
    Event, Failure, FailureCode, ImageRecord, Job, JobId, JobSpec, JobState, Millis, Priority, Progress, Tokens,
};
pub use fairness::BATCH_SHARE;
pub use memory::MemoryQueue;
pub use sqlite::SqliteQueue;

/// A job to be put into the queue.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// What to make.
    pub spec: JobSpec,
    /// Who asked: the unit of fairness.
    pub owner: String,
    /// Which line to wait in.
    pub priority: Priority,
    /// Before the owner's other waiting jobs.
    pub front: bool,
    /// The same key of the same owner means the same job, for a day. Seeds are not compared: where a client leaves the
    /// seed open, every submission has another one.
    pub idempotency_key: Option<String>,
    /// Tokens of the prompt.
    pub tokens: Tokens,
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq)]
pub struct Submitted {
    /// The job.
    pub job: Job,
    /// Whether an earlier submission with the same idempotency key had made it.
    pub repeated: bool,
}

/// A worker's hold on a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// The job as it was claimed, with the pictures that it has already.
    pub job: Job,
    /// Who holds it.
    pub worker: String,
    /// The fencing token: how often the job has been claimed, given back or not.
    pub attempt: u32,
    /// Where an earlier worker was, if it left a note.
    pub journal: Option<Journal>,
}

/// Where the loop of one picture was: enough to go on and end with the same bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Journal {
    /// The picture, from 0.
    pub image: u32,
    /// Steps that are done.
    pub step: u32,
    /// The latents after them, row-major f32 as little-endian bytes.
    pub latents: Vec<u8>,
}

/// What a worker learns when it reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Go on.
    Held,
    /// A client cancelled the job: stop. The job is final already.
    Cancelled,
    /// Somebody else has the job: stop, and report nothing more of it.
    Lost,
}

/// What a client learns when it cancels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// It is cancelled from now on.
    Now,
    /// It had ended before.
    TooLate,
    /// There is no such job.
    Unknown,
}

/// How a job ends.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All pictures were added.
    Done,
    /// It failed.
    Failed(Failure),
}

/// Which jobs a worker asks for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Only jobs of this batch key.
    pub batch_key: Option<String>,
    /// No jobs of these owners.
    pub not_of: Vec<String>,
}

/// How many jobs there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Waiting in the interactive line.
    pub interactive: u64,
    /// Waiting in the batch line.
    pub batch: u64,
    /// Held by workers.
    pub running: u64,
}

impl Depth {
    /// Jobs that wait.
    pub fn waiting(self) -> u64 {
        self.interactive + self.batch
    }
}

/// Numbers that a queue is made with.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// Jobs that may wait.
    pub max_waiting: u64,
    /// Jobs of one owner that may wait or run.
    pub max_per_owner: u64,
    /// How long a lease lasts unless renewed.
    pub lease_ms: Millis,
    /// A job that was claimed so often without a step in between fails as abandoned: it kills its workers.
    pub max_attempts: u32,
}

impl Default for QueueLimits {
    fn default() -> QueueLimits {
        QueueLimits { max_waiting: 256, max_per_owner: 128, lease_ms: 30_000, max_attempts: 10 }
    }
}

/// Why the queue refuses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// As many jobs wait as may.
    #[error("the queue is full: {waiting} jobs wait")]
    Full {
        /// How many.
        waiting: u64,
    },
    /// As many jobs of this owner wait or run as may.
    #[error("{jobs} of your jobs wait or run already")]
    TooManyOfOwner {
        /// How many.
        jobs: u64,
    },
    /// The same idempotency key came with another request.
    #[error("this idempotency key was used for another request")]
    KeyReused,
    /// The database failed.
    #[error("the job database failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// The file of the database cannot be used.
    #[error("the job database {path} cannot be used: {reason}")]
    Unusable {
        /// Where it is.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A newer program made the database.
    #[error("the job database has schema version {found}, and this program knows {known} at most; use a newer zimage")]
    NewerSchema {
        /// The version of the database.
        found: usize,
        /// The highest version that this program knows.
        known: usize,
    },
    /// The files of the pictures could not be read.
    #[error("the folder of the pictures cannot be read: {0}")]
    Files(#[from] std::io::Error),
    /// The system gives no random bytes.
    #[error("the system gives no random numbers: {0}")]
    NoRandomness(String),
    /// A row of the database is not what this program writes.
    #[error("the job database holds something unreadable: {0}")]
    Damaged(String),
}

/// Tells the time, in milliseconds since 1970. Tests bring their own.
pub type Clock = std::sync::Arc<dyn Fn() -> Millis + Send + Sync>;

/// The system's clock.
pub fn system_clock() -> Clock {
    std::sync::Arc::new(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |now| now.as_millis() as Millis)
    })
}

/// Jobs, and what happens to them.
///
/// Order: [`Priority::Interactive`] before [`Priority::Batch`], but while both wait, one claim in [`BATCH_SHARE`] goes to
/// the batch line. Within a line owners take turns by cost ([`JobSpec::cost`]); an owner's own jobs go in the order of
/// submission, `front` ones first.
pub trait Queue: Send + Sync {
    /// Puts a job into the queue, if there is room. Event: `queued`.
    ///
    /// # Errors
    /// [`QueueError::Full`], [`QueueError::TooManyOfOwner`], [`QueueError::KeyReused`].
    fn submit(&self, job: NewJob) -> Result<Submitted, QueueError>;

    /// Takes the next job: one that waits, or one whose lease has ended. Event: `running`. A job that has been claimed
    /// [`QueueLimits::max_attempts`] times already is failed as abandoned instead, and the next one is taken.
    ///
    /// # Errors
    /// Those of the database.
    fn claim(&self, worker: &str, wanted: &Wanted) -> Result<Option<Lease>, QueueError>;

    /// Extends a lease.
    ///
    /// # Errors
    /// Those of the database.
    fn renew(&self, lease: &Lease) -> Result<Held, QueueError>;

    /// Reports a step, with where to go on from if this worker dies, and extends the lease; the attempts before this one
    /// are forgiven. Event: `step`. Without a journal the older one stays.
    ///
    /// # Errors
    /// Those of the database.
    fn step(&self, lease: &Lease, progress: Progress, journal: Option<&Journal>) -> Result<Held, QueueError>;

    /// Adds a finished picture, whose file is already stored, forgets the journal, and extends the lease. Event: `image`.
    /// A picture that the job has at this index already is replaced.
    ///
    /// # Errors
    /// Those of the database.
    fn add_image(&self, lease: &Lease, image: &ImageRecord) -> Result<Held, QueueError>;

    /// Ends the job, and forgets the journal. Events: `done`, `failed`.
    ///
    /// # Errors
    /// Those of the database.
    fn finish(&self, lease: &Lease, outcome: Outcome) -> Result<Held, QueueError>;

    /// Gives the job back, with its journal, to be claimed first; the attempt doesn't count. Event: `queued`.
    ///
    /// # Errors
    /// Those of the database.
    fn release(&self, lease: &Lease) -> Result<Held, QueueError>;

    /// The workers that hold jobs.
    ///
    /// # Errors
    /// Those of the database.
    fn holders(&self) -> Result<Vec<String>, QueueError>;

    /// Ends the leases of a worker that is known to be dead, so that nobody waits for them; says how many there were.
    ///
    /// # Errors
    /// Those of the database.
    fn expire(&self, worker: &str) -> Result<usize, QueueError>;

    /// Cancels a job that waits or runs; pictures that it has stay. Event: `cancelled`.
    ///
    /// # Errors
    /// Those of the database.
    fn cancel(&self, id: JobId) -> Result<Cancelled, QueueError>;

    /// A job.
    ///
    /// # Errors
    /// Those of the database.
    fn job(&self, id: JobId) -> Result<Option<Job>, QueueError>;

    /// Jobs that wait or run, in the order in which they will be served as things are, running ones first.
    ///
    /// # Errors
    /// Those of the database.
    fn active(&self) -> Result<Vec<Job>, QueueError>;

    /// Events behind number `after`, of one job or of all, in order, at most `limit`.
    ///
    /// # Errors
    /// Those of the database.
    fn events(&self, job: Option<JobId>, after: u64, limit: usize) -> Result<Vec<Event>, QueueError>;

    /// The number of the last event, 0 before the first.
    ///
    /// # Errors
    /// Those of the database.
    fn last_seq(&self) -> Result<u64, QueueError>;

    /// How many jobs there are.
    ///
    /// # Errors
    /// Those of the database.
    fn depth(&self) -> Result<Depth, QueueError>;
}

/// How long idempotency keys, and events of jobs that have ended, are kept.
const DAY_MS: Millis = 24 * 60 * 60 * 1000;

/// Whether two submissions ask for the same, whatever their seeds.
fn same_request(one: &JobSpec, other: &JobSpec) -> bool {
    *one == JobSpec { seed: one.seed, ..other.clone() }
}

/// What a worker learns, given whether its name and token are those of the last claim, and where the job is. A lease
/// that has ended is good until somebody else claims.
fn held(is_ours: bool, state: JobState) -> Held {
    match state {
        JobState::Running if is_ours => Held::Held,
        JobState::Cancelled if is_ours => Held::Cancelled,
        _ => Held::Lost,
    }
}

/// Why a job fails whose workers died.
fn abandoned(attempts: u32) -> Failure {
    let message = format!("given up after {attempts} attempts, none of which came to an end");
    Failure { code: FailureCode::Abandoned, message }
}
