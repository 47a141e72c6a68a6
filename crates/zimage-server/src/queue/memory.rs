//! The queue in memory: for tests, and for servers that need not remember.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::fairness::{Account, Share, Turn};
use super::{
    Cancelled, Clock, DAY_MS, Depth, Held, Journal, Lease, NewJob, Outcome, Queue, QueueError, QueueLimits, Submitted,
    Wanted, abandoned, held, same_request,
};
use crate::job::{Event, EventKind, ImageRecord, Job, JobId, JobState, Millis, Priority, Progress};

/// Jobs that end with the process.
pub struct MemoryQueue {
    state: Mutex<State>,
    limits: QueueLimits,
    clock: Clock,
}

impl MemoryQueue {
    /// An empty queue.
    pub fn new(limits: QueueLimits, clock: Clock) -> MemoryQueue {
        MemoryQueue { state: Mutex::default(), limits, clock }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a worker that holds a job does, if it does hold it.
    fn report(&self, lease: &Lease, work: impl FnOnce(&mut State, u64, Millis)) -> Held {
        let now = (self.clock)();
        let state = &mut *self.state();
        let Some(&seq) = state.by_id.get(&lease.job.id) else { return Held::Lost };
        let entry = &state.jobs[&seq];
        let is_ours = entry.worker.as_ref() == Some(&lease.worker) && entry.claims == lease.attempt;
        let held = held(is_ours, entry.job.state);
        if held == Held::Held {
            work(state, seq, now);
        }
        held
    }

    fn extend(&self, state: &mut State, seq: u64, now: Millis) {
        state.entry(seq).lease_until_ms = now + self.limits.lease_ms;
    }

    fn check_room(&self, state: &State, owner: &str) -> Result<(), QueueError> {
        let waiting = state.depth().waiting();
        if waiting >= self.limits.max_waiting {
            return Err(QueueError::Full { waiting });
        }
        let jobs = state.active().filter(|(_, entry)| entry.job.owner == owner).count() as u64;
        if jobs >= self.limits.max_per_owner { Err(QueueError::TooManyOfOwner { jobs }) } else { Ok(()) }
    }
}

#[derive(Default)]
struct State {
    jobs: BTreeMap<u64, Entry>,
    by_id: HashMap<JobId, u64>,
    /// Jobs that wait or run.
    active: BTreeSet<u64>,
    by_key: HashMap<(String, String), u64>,
    events: Vec<Event>,
    interactive: Line,
    batch: Line,
    share: Share,
}

/// A job and what clients don't see of it.
struct Entry {
    job: Job,
    front: bool,
    tag: u64,
    had_turn: bool,
    claims: u32,
    worker: Option<String>,
    lease_until_ms: Millis,
    journal: Option<Journal>,
}

#[derive(Default)]
struct Line {
    virtual_time: u64,
    finishes: HashMap<String, u64>,
}

impl Entry {
    fn new(job: Job, front: bool) -> Entry {
        Entry { job, front, tag: 0, had_turn: false, claims: 0, worker: None, lease_until_ms: 0, journal: None }
    }

    /// Whether a worker may claim it.
    fn is_free(&self, now: Millis) -> bool {
        self.job.state == JobState::Queued || self.lease_until_ms <= now
    }

    fn is_wanted(&self, wanted: &Wanted) -> bool {
        let is_of_batch = wanted.batch_key.as_ref().is_none_or(|key| *key == self.job.spec.batch_key());
        is_of_batch && !wanted.not_of.contains(&self.job.owner)
    }

    /// The order within a line.
    fn rank(&self, seq: u64) -> (bool, u64, u64) {
        (!self.had_turn, self.tag, seq)
    }
}

impl State {
    fn entry(&mut self, seq: u64) -> &mut Entry {
        self.jobs.get_mut(&seq).expect("jobs are never forgotten: this is a bug")
    }

    fn line(&mut self, line: Priority) -> &mut Line {
        match line {
            Priority::Interactive => &mut self.interactive,
            Priority::Batch => &mut self.batch,
        }
    }

    fn active(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.active.iter().map(|seq| (*seq, &self.jobs[seq]))
    }

    /// The waiting jobs of a line, the next one first.
    fn waiting(&self, line: Priority) -> Vec<u64> {
        let of_line = |entry: &Entry| entry.job.state == JobState::Queued && entry.job.priority == line;
        let mut waiting: Vec<_> = self.active().filter(|(_, entry)| of_line(entry)).collect();
        waiting.sort_by_key(|(seq, entry)| entry.rank(*seq));
        waiting.into_iter().map(|(seq, _)| seq).collect()
    }

    fn order(&self) -> Vec<u64> {
        self.share.merge(self.waiting(Priority::Interactive), self.waiting(Priority::Batch))
    }

    /// A job as clients see it.
    fn seen(&self, seq: u64) -> Job {
        let job = self.jobs[&seq].job.clone();
        let position = self.order().iter().position(|waiting| *waiting == seq);
        Job { position: position.map(|position| position as u32), ..job }
    }

    fn depth(&self) -> Depth {
        let mut depth = Depth::default();
        for (_, entry) in self.active() {
            match (entry.job.state, entry.job.priority) {
                (JobState::Running, _) => depth.running += 1,
                (_, Priority::Interactive) => depth.interactive += 1,
                (_, Priority::Batch) => depth.batch += 1,
            }
        }
        depth
    }

    fn event(&mut self, seq: u64, at_ms: Millis, kind: EventKind) {
        let event = Event { seq: self.events.len() as u64 + 1, job: self.jobs[&seq].job.id, at_ms, kind };
        self.events.push(event);
    }

    /// Changes the account of a job's owner, and with it the tags of the owner's waiting jobs.
    fn with_account(&mut self, seq: u64, change: impl FnOnce(&mut Account, &Line)) {
        let (owner, priority) = (self.jobs[&seq].job.owner.clone(), self.jobs[&seq].job.priority);
        let is_in = |entry: &Entry| !entry.had_turn && entry.job.owner == owner && entry.job.priority == priority;
        let turn = |(seq, entry): (u64, &Entry)| {
            let cost = entry.job.spec.cost();
            Turn { seq, front: entry.front, cost, tag: entry.tag }
        };
        let turns = self.active().filter(|(_, entry)| is_in(entry)).map(turn).collect();
        let line = self.line(priority);
        let mut account = Account::new(turns, line.finishes.get(&owner).copied().unwrap_or(0));
        change(&mut account, line);
        line.finishes.insert(owner, account.finish());
        for turn in account.turns() {
            self.entry(turn.seq).tag = turn.tag;
        }
    }

    /// The first job of a line that a worker wants.
    fn first(&self, line: Priority, wanted: &Wanted, now: Millis) -> Option<u64> {
        let candidates = self
            .active()
            .filter(|(_, entry)| entry.job.priority == line && entry.is_free(now) && entry.is_wanted(wanted));
        candidates.min_by_key(|(seq, entry)| entry.rank(*seq)).map(|(seq, _)| seq)
    }

    /// Chooses the job that is next, and charges it to its owner.
    fn next(&mut self, wanted: &Wanted, now: Millis) -> Option<u64> {
        let interactive = self.first(Priority::Interactive, wanted, now);
        let batch = self.first(Priority::Batch, wanted, now);
        let line = self.share.next(interactive.is_some(), batch.is_some())?;
        let seq = match line {
            Priority::Interactive => interactive,
            Priority::Batch => batch,
        }?;
        if !self.jobs[&seq].had_turn {
            let waits = |entry: &Entry| entry.job.priority == line && !entry.had_turn;
            let smallest = self.active().filter(|(_, entry)| waits(entry)).map(|(_, entry)| entry.tag).min();
            let state = self.line(line);
            state.virtual_time = state.virtual_time.max(smallest.unwrap_or(0));
            self.with_account(seq, |account, _| account.claim(seq));
        }
        Some(seq)
    }

    /// Fails the jobs that nobody holds any more and that were claimed too often.
    fn abandon(&mut self, max_attempts: u32, now: Millis) {
        let is_dead = |entry: &Entry| {
            entry.job.state == JobState::Running && entry.is_free(now) && entry.job.attempts >= max_attempts
        };
        let dead: Vec<u64> = self.active().filter(|(_, entry)| is_dead(entry)).map(|(seq, _)| seq).collect();
        for seq in dead {
            let attempts = self.jobs[&seq].job.attempts;
            self.end(seq, now, EventKind::Failed(abandoned(attempts)));
        }
    }

    /// The job that an earlier submission with the same key made.
    fn earlier(&self, job: &NewJob, now: Millis) -> Result<Option<Job>, QueueError> {
        let Some(key) = &job.idempotency_key else { return Ok(None) };
        let Some(&seq) = self.by_key.get(&(job.owner.clone(), key.clone())) else { return Ok(None) };
        let earlier = self.seen(seq);
        if earlier.created_ms + DAY_MS <= now {
            return Ok(None);
        }
        if same_request(&earlier.spec, &job.spec) { Ok(Some(earlier)) } else { Err(QueueError::KeyReused) }
    }

    fn add(&mut self, job: NewJob, now: Millis) -> Job {
        let seq = self.jobs.len() as u64 + 1;
        let NewJob { spec, owner, priority, front, idempotency_key, tokens } = job;
        if let Some(key) = idempotency_key {
            self.by_key.insert((owner.clone(), key), seq);
        }
        let cost = spec.cost();
        let job = Job {
            id: JobId::new(),
            state: JobState::Queued,
            spec,
            priority,
            owner,
            created_ms: now,
            started_ms: None,
            finished_ms: None,
            attempts: 0,
            progress: None,
            position: None,
            eta_ms: None,
            images: Vec::new(),
            error: None,
            tokens,
        };
        self.by_id.insert(job.id, seq);
        self.jobs.insert(seq, Entry::new(job, front));
        self.with_account(seq, |account, line| account.submit(line.virtual_time, seq, front, cost));
        self.active.insert(seq);
        self.event(seq, now, EventKind::Queued);
        self.seen(seq)
    }

    fn end(&mut self, seq: u64, now: Millis, kind: EventKind) {
        let entry = self.entry(seq);
        entry.journal = None;
        entry.job.progress = None;
        entry.job.finished_ms = Some(now);
        entry.job.state = match &kind {
            EventKind::Failed(failure) => {
                entry.job.error = Some(failure.clone());
                JobState::Failed
            }
            EventKind::Cancelled => JobState::Cancelled,
            _ => JobState::Done,
        };
        self.active.remove(&seq);
        self.event(seq, now, kind);
    }
}

impl Queue for MemoryQueue {
    fn submit(&self, job: NewJob) -> Result<Submitted, QueueError> {
        let now = (self.clock)();
        let state = &mut *self.state();
        if let Some(job) = state.earlier(&job, now)? {
            return Ok(Submitted { job, repeated: true });
        }
        self.check_room(state, &job.owner)?;
        Ok(Submitted { job: state.add(job, now), repeated: false })
    }

    fn claim(&self, worker: &str, wanted: &Wanted) -> Result<Option<Lease>, QueueError> {
        let now = (self.clock)();
        let state = &mut *self.state();
        state.abandon(self.limits.max_attempts, now);
        let Some(seq) = state.next(wanted, now) else { return Ok(None) };
        self.extend(state, seq, now);
        let entry = state.entry(seq);
        entry.worker = Some(worker.into());
        entry.claims += 1;
        entry.had_turn = true;
        entry.job.attempts += 1;
        entry.job.state = JobState::Running;
        entry.job.started_ms.get_or_insert(now);
        entry.job.progress = None;
        let (attempt, journal) = (entry.claims, entry.journal.clone());
        state.event(seq, now, EventKind::Running);
        Ok(Some(Lease { job: state.seen(seq), worker: worker.into(), attempt, journal }))
    }

    fn renew(&self, lease: &Lease) -> Result<Held, QueueError> {
        Ok(self.report(lease, |state, seq, now| self.extend(state, seq, now)))
    }

    fn step(&self, lease: &Lease, progress: Progress, journal: Option<&Journal>) -> Result<Held, QueueError> {
        Ok(self.report(lease, |state, seq, now| {
            self.extend(state, seq, now);
            let entry = state.entry(seq);
            entry.job.progress = Some(progress);
            entry.job.attempts = 1;
            if let Some(journal) = journal {
                entry.journal = Some(journal.clone());
            }
            state.event(seq, now, EventKind::Step(progress));
        }))
    }

    fn add_image(&self, lease: &Lease, image: &ImageRecord) -> Result<Held, QueueError> {
        Ok(self.report(lease, |state, seq, now| {
            self.extend(state, seq, now);
            let entry = state.entry(seq);
            let image = ImageRecord { job: Some(entry.job.id), ..image.clone() };
            entry.journal = None;
            entry.job.images.retain(|other| other.index != image.index);
            entry.job.images.push(image.clone());
            entry.job.images.sort_by_key(|image| image.index);
            state.event(seq, now, EventKind::Image(ImageRecord { job: None, ..image }));
        }))
    }

    fn finish(&self, lease: &Lease, outcome: Outcome) -> Result<Held, QueueError> {
        Ok(self.report(lease, |state, seq, now| {
            state.end(
                seq,
                now,
                match outcome {
                    Outcome::Done => EventKind::Done,
                    Outcome::Failed(failure) => EventKind::Failed(failure),
                },
            );
        }))
    }

    fn release(&self, lease: &Lease) -> Result<Held, QueueError> {
        Ok(self.report(lease, |state, seq, now| {
            let entry = state.entry(seq);
            entry.worker = None;
            entry.job.attempts -= 1;
            entry.job.state = JobState::Queued;
            entry.job.progress = None;
            state.event(seq, now, EventKind::Queued);
        }))
    }

    fn holders(&self) -> Result<Vec<String>, QueueError> {
        let state = self.state();
        let running = state.active().filter(|(_, entry)| entry.job.state == JobState::Running);
        let holders: BTreeSet<String> = running.filter_map(|(_, entry)| entry.worker.clone()).collect();
        Ok(holders.into_iter().collect())
    }

    fn expire(&self, worker: &str) -> Result<usize, QueueError> {
        let now = (self.clock)();
        let state = &mut *self.state();
        let is_held = |entry: &Entry| entry.job.state == JobState::Running && entry.worker.as_deref() == Some(worker);
        let held: Vec<u64> = state.active().filter(|(_, entry)| is_held(entry)).map(|(seq, _)| seq).collect();
        for seq in &held {
            state.entry(*seq).lease_until_ms = now;
        }
        Ok(held.len())
    }

    fn cancel(&self, id: JobId) -> Result<Cancelled, QueueError> {
        let now = (self.clock)();
        let state = &mut *self.state();
        let Some(&seq) = state.by_id.get(&id) else { return Ok(Cancelled::Unknown) };
        let job = &state.jobs[&seq].job;
        if job.state.is_final() {
            return Ok(Cancelled::TooLate);
        }
        if job.state == JobState::Queued {
            state.with_account(seq, |account, _| account.cancel(seq));
        }
        state.end(seq, now, EventKind::Cancelled);
        Ok(Cancelled::Now)
    }

    fn job(&self, id: JobId) -> Result<Option<Job>, QueueError> {
        let state = self.state();
        Ok(state.by_id.get(&id).map(|seq| state.seen(*seq)))
    }

    fn active(&self) -> Result<Vec<Job>, QueueError> {
        let state = self.state();
        let running = state.active().filter(|(_, entry)| entry.job.state == JobState::Running);
        let mut jobs: Vec<Job> = running.map(|(_, entry)| entry.job.clone()).collect();
        for (seq, place) in state.order().into_iter().zip(0..) {
            jobs.push(Job { position: Some(place), ..state.jobs[&seq].job.clone() });
        }
        Ok(jobs)
    }

    fn events(&self, job: Option<JobId>, after: u64, limit: usize) -> Result<Vec<Event>, QueueError> {
        let state = self.state();
        let skip = usize::try_from(after).unwrap_or(usize::MAX);
        let of_job = |event: &&Event| job.is_none_or(|job| event.job == job);
        Ok(state.events.iter().skip(skip).filter(of_job).take(limit).cloned().collect())
    }

    fn last_seq(&self) -> Result<u64, QueueError> {
        Ok(self.state().events.len() as u64)
    }

    fn depth(&self) -> Result<Depth, QueueError> {
        Ok(self.state().depth())
    }
}
