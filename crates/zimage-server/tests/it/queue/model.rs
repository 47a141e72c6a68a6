//! Both queues give the same answers to anything that clients and workers do.

use proptest::prelude::*;
use tempfile::TempDir;
use zimage_server::job::{Failure, FailureCode, ImageRecord, JobId, JobSpec, Priority, Sha256};
use zimage_server::queue::{Lease, MemoryQueue, NewJob, Outcome, Queue, QueueLimits, SqliteQueue, Wanted};

use super::{LEASE_MS, journal, step};
use crate::samples::{Watch, database, new_job, picture, spec};

/// What clients and workers do, and what befalls them. Leases and jobs are named by when they came.
#[derive(Clone, Debug)]
enum Act {
    Submit { owner: usize, batch: bool, front: bool, wide: bool, steps: u32, key: Option<u8> },
    Claim { worker: u8, only: Option<bool>, not_of: Option<usize> },
    Renew(usize),
    Step { lease: usize, step: u32, journal: bool },
    AddImage { lease: usize, index: u32, variant: u8 },
    Finish { lease: usize, well: bool },
    Release(usize),
    Cancel(usize),
    Pass(u64),
    Reopen,
}

const OWNERS: [&str; 3] = ["ann", "bob", "cay"];

fn act() -> impl Strategy<Value = Act> {
    // Late leases are few, so a small number is one that was taken not long ago.
    let lease = || 0_usize..4;
    prop_oneof![
        6 => (0_usize..3, any::<bool>(), prop::bool::weighted(0.2), any::<bool>(), 1_u32..9, prop::option::weighted(0.2, 0_u8..3))
            .prop_map(|(owner, batch, front, wide, steps, key)| Act::Submit { owner, batch, front, wide, steps, key }),
        6 => (0_u8..2, prop::option::weighted(0.2, any::<bool>()), prop::option::weighted(0.2, 0_usize..3))
            .prop_map(|(worker, only, not_of)| Act::Claim { worker, only, not_of }),
        1 => lease().prop_map(Act::Renew),
        3 => (lease(), 1_u32..5, any::<bool>()).prop_map(|(lease, step, journal)| Act::Step { lease, step, journal }),
        3 => (lease(), 0_u32..3, 0_u8..2).prop_map(|(lease, index, variant)| Act::AddImage { lease, index, variant }),
        2 => (lease(), any::<bool>()).prop_map(|(lease, well)| Act::Finish { lease, well }),
        2 => lease().prop_map(Act::Release),
        2 => (0_usize..6).prop_map(Act::Cancel),
        2 => prop_oneof![1..LEASE_MS, Just(LEASE_MS)].prop_map(Act::Pass),
        1 => Just(Act::Reopen),
    ]
}

/// A queue, and what the acts so far have given.
struct Player {
    queue: Box<dyn Queue>,
    jobs: Vec<JobId>,
    leases: Vec<Lease>,
}

impl Player {
    fn new(queue: Box<dyn Queue>) -> Player {
        Player { queue, jobs: Vec::new(), leases: Vec::new() }
    }

    /// Counted from the latest.
    fn lease(&self, back: usize) -> Option<&Lease> {
        self.leases.iter().rev().nth(back)
    }

    /// The answer, as text without the names of jobs.
    fn answer(&mut self, act: &Act, now: u64) -> String {
        let answer = match act {
            Act::Submit { .. } => {
                let answer = self.queue.submit(submission(act));
                if let Ok(submitted) = &answer
                    && !submitted.repeated
                {
                    self.jobs.push(submitted.job.id);
                }
                format!("{answer:?}")
            }
            Act::Claim { worker, only, not_of } => {
                let batch_key = only.map(|wide| wide_or_not(wide).batch_key());
                let not_of = not_of.iter().map(|owner| OWNERS[*owner].into()).collect();
                let lease = self.queue.claim(&format!("worker {worker}"), &Wanted { batch_key, not_of }).unwrap();
                self.leases.extend(lease.clone());
                format!("{lease:?}")
            }
            Act::Cancel(back) => match self.jobs.iter().rev().nth(*back) {
                Some(job) => format!("{:?}", self.queue.cancel(*job)),
                None => String::new(),
            },
            Act::Pass(_) | Act::Reopen => String::new(),
            report => self.report(report, now),
        };
        self.without_names(answer)
    }

    fn report(&self, act: &Act, now: u64) -> String {
        let (Act::Renew(back)
        | Act::Release(back)
        | Act::Step { lease: back, .. }
        | Act::AddImage { lease: back, .. }
        | Act::Finish { lease: back, .. }) = act
        else {
            return String::new();
        };
        let Some(lease) = self.lease(*back) else { return String::new() };
        let held = match act {
            Act::Step { step: done, journal: keep, .. } => {
                self.queue.step(lease, step(*done), keep.then(|| journal(*done)).as_ref())
            }
            Act::AddImage { index, variant, .. } => self.queue.add_image(lease, &image(lease, *index, *variant, now)),
            Act::Finish { well, .. } => self.queue.finish(lease, outcome(*well)),
            Act::Release(_) => self.queue.release(lease),
            _ => self.queue.renew(lease),
        };
        format!("{held:?}")
    }

    /// Everything that can be seen of the queue.
    fn state(&self) -> String {
        let jobs: Vec<_> = self.jobs.iter().map(|job| self.queue.job(*job).unwrap()).collect();
        let owners: Vec<_> = jobs.iter().flatten().map(|job| job.owner.clone()).collect();
        let events = self.queue.events(None, 0, usize::MAX).unwrap();
        let (active, depth, last) = (self.queue.active(), self.queue.depth(), self.queue.last_seq());
        self.without_names(format!("{jobs:#?}\n{owners:?}\n{active:#?}\n{depth:?}\n{last:?}\n{events:#?}"))
    }

    fn without_names(&self, text: String) -> String {
        let numbered = self.jobs.iter().enumerate();
        numbered.fold(text, |text, (number, job)| text.replace(&job.to_string(), &format!("job {number}")))
    }
}

fn wide_or_not(wide: bool) -> JobSpec {
    JobSpec { width: if wide { 128 } else { 64 }, ..spec() }
}

fn submission(act: &Act) -> NewJob {
    let Act::Submit { owner, batch, front, wide, steps, key } = act else { panic!("{act:?} submits nothing") };
    NewJob {
        spec: JobSpec { steps: *steps, ..wide_or_not(*wide) },
        priority: if *batch { Priority::Batch } else { Priority::Interactive },
        front: *front,
        idempotency_key: key.map(|key| key.to_string()),
        ..new_job(OWNERS[*owner])
    }
}

/// Pictures of equal jobs are equal files.
fn image(lease: &Lease, index: u32, variant: u8, now: u64) -> ImageRecord {
    let spec = &lease.job.spec;
    let sha256 = Sha256::of(format!("{} {} {index} {variant}", spec.width, spec.steps).as_bytes());
    ImageRecord { sha256, index, ..picture("a red balloon", now) }
}

fn outcome(well: bool) -> Outcome {
    let failure = Failure { code: FailureCode::Internal, message: "a bug".into() };
    if well { Outcome::Done } else { Outcome::Failed(failure) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn both_queues_give_the_same_answers(acts in prop::collection::vec(act(), 1..80)) {
        let (home, watch) = (TempDir::new().unwrap(), Watch::new());
        let limits = QueueLimits { max_waiting: 12, max_per_owner: 8, lease_ms: LEASE_MS, max_attempts: 2 };
        let open = || Box::new(SqliteQueue::new(database(&home), limits, watch.clock()));
        let mut memory = Player::new(Box::new(MemoryQueue::new(limits, watch.clock())));
        let mut sqlite = Player::new(open());
        for act in &acts {
            match act {
                Act::Pass(ms) => watch.pass(*ms),
                Act::Reopen => sqlite.queue = open(),
                _ => {}
            }
            prop_assert_eq!(memory.answer(act, watch.now()), sqlite.answer(act, watch.now()), "{:?}", act);
            prop_assert_eq!(memory.state(), sqlite.state(), "after {:?}", act);
        }
    }
}
