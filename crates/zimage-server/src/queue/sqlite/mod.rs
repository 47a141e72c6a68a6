//! The queue in SQLite: what survives the process, and what several processes may share.
//!
//! Every method is one transaction. Those that write hold SQLite's lock from their first statement, so that what they
//! read is still so when they write.

mod line;
mod rows;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{OptionalExtension, Transaction, params};

use super::{
    Cancelled, Clock, Depth, Held, Journal, Lease, NewJob, Outcome, Queue, QueueError, QueueLimits, Submitted, Wanted,
    same_request,
};
use crate::job::{Event, EventKind, Failure, ImageRecord, Job, JobId, JobState, Millis, Priority, Progress};
use crate::queue::{DAY_MS, abandoned};
use crate::store::{Database, gallery, signed};
use rows::{parse_state, state_name, to_json};

/// Jobs in a [`Database`].
pub struct SqliteQueue {
    database: Arc<Database>,
    limits: QueueLimits,
    clock: Clock,
    pruned_ms: AtomicU64,
}

/// Old events are forgotten this often.
const PRUNING_MS: Millis = 3_600_000;

impl SqliteQueue {
    /// The queue of a database.
    pub fn new(database: Arc<Database>, limits: QueueLimits, clock: Clock) -> SqliteQueue {
        SqliteQueue { database, limits, clock, pruned_ms: AtomicU64::new(0) }
    }

    /// Forgets the events of jobs that ended more than a day ago, unless that was done a moment ago.
    fn prune(&self, now: Millis) -> Result<(), QueueError> {
        let pruned = self.pruned_ms.load(Ordering::Relaxed);
        if now < pruned + PRUNING_MS {
            return Ok(());
        }
        self.pruned_ms.store(now, Ordering::Relaxed);
        let before = now.saturating_sub(DAY_MS);
        self.database.write(|tx| {
            tx.execute(
                "DELETE FROM events WHERE job IN (SELECT seq FROM jobs WHERE finished_ms IS NOT NULL AND finished_ms < ?)",
                [signed(before)],
            )?;
            Ok(())
        })
    }

    /// What a worker that holds a job does, if it does hold it.
    fn report(
        &self,
        lease: &Lease,
        work: impl FnOnce(&Transaction<'_>, Report) -> Result<(), QueueError>,
    ) -> Result<Held, QueueError> {
        let now = (self.clock)();
        self.database.write(|tx| {
            let (held, seq) = held(tx, lease)?;
            if held == Held::Held {
                work(tx, Report { seq, id: lease.job.id, now })?;
            }
            Ok(held)
        })
    }

    fn extend(&self, tx: &Transaction<'_>, job: Report) -> Result<(), QueueError> {
        tx.prepare_cached("UPDATE jobs SET lease_until_ms = ? WHERE seq = ?")?
            .execute(params![signed(job.now + self.limits.lease_ms), job.seq])?;
        Ok(())
    }

    fn check_room(&self, tx: &Transaction<'_>, owner: &str) -> Result<(), QueueError> {
        let waiting = depth(tx)?.waiting();
        if waiting >= self.limits.max_waiting {
            return Err(QueueError::Full { waiting });
        }
        let jobs = tx
            .prepare_cached("SELECT COUNT(*) FROM jobs WHERE state IN ('queued', 'running') AND owner = ?")?
            .query_row([owner], |row| row.get::<_, i64>(0))? as u64;
        if jobs >= self.limits.max_per_owner {
            return Err(QueueError::TooManyOfOwner { jobs });
        }
        Ok(())
    }

    /// Fails the jobs that nobody holds any more and that were claimed too often.
    fn abandon(&self, tx: &Transaction<'_>, now: Millis) -> Result<(), QueueError> {
        let ended: Vec<(i64, u32)> = tx
            .prepare_cached(
                // Without being told, SQLite walks the whole history, because that is in the order asked for.
                "SELECT seq, claims - releases FROM jobs INDEXED BY jobs_running
                 WHERE state = 'running' AND lease_until_ms <= ? ORDER BY seq",
            )?
            .query_map([signed(now)], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        for (seq, attempts) in ended {
            if attempts >= self.limits.max_attempts {
                end(tx, seq, now, EventKind::Failed(abandoned(attempts)))?;
            }
        }
        Ok(())
    }
}

/// A job whose lease was checked.
#[derive(Clone, Copy)]
struct Report {
    seq: i64,
    id: JobId,
    now: Millis,
}

impl Queue for SqliteQueue {
    fn submit(&self, job: NewJob) -> Result<Submitted, QueueError> {
        let now = (self.clock)();
        self.prune(now)?;
        self.database.write(|tx| {
            if let Some(earlier) = earlier(tx, &job, now)? {
                return Ok(Submitted { job: earlier, repeated: true });
            }
            self.check_room(tx, &job.owner)?;
            let seq = rows::insert(tx, &job, now)?;
            line::submit(tx, &job, seq)?;
            event(tx, seq, now, &EventKind::Queued)?;
            let (_, job) = rows::job(tx, rows::By::Seq(seq))?.ok_or_else(|| vanished(seq))?;
            Ok(Submitted { job, repeated: false })
        })
    }

    fn claim(&self, worker: &str, wanted: &Wanted) -> Result<Option<Lease>, QueueError> {
        let now = (self.clock)();
        self.database.write(|tx| {
            self.abandon(tx, now)?;
            let Some(seq) = line::claim(tx, wanted, now)? else { return Ok(None) };
            let attempt = tx
                .prepare_cached(
                    "UPDATE jobs SET state = 'running', worker = ?, lease_until_ms = ?, claims = claims + 1, had_turn = 1,
                     started_ms = COALESCE(started_ms, ?), progress = NULL WHERE seq = ? RETURNING claims",
                )?
                .query_row(params![worker, signed(now + self.limits.lease_ms), signed(now), seq], |row| row.get(0))?;
            event(tx, seq, now, &EventKind::Running)?;
            let (_, job) = rows::job(tx, rows::By::Seq(seq))?.ok_or_else(|| vanished(seq))?;
            Ok(Some(Lease { job, worker: worker.into(), attempt, journal: rows::journal(tx, seq)? }))
        })
    }

    fn renew(&self, lease: &Lease) -> Result<Held, QueueError> {
        self.report(lease, |tx, job| self.extend(tx, job))
    }

    fn step(&self, lease: &Lease, progress: Progress, journal: Option<&Journal>) -> Result<Held, QueueError> {
        self.report(lease, |tx, job| {
            self.extend(tx, job)?;
            // Attempts are claims less releases.
            tx.prepare_cached("UPDATE jobs SET progress = ?, releases = claims - 1 WHERE seq = ?")?
                .execute(params![to_json(&progress), job.seq])?;
            if let Some(journal) = journal {
                tx.prepare_cached("INSERT OR REPLACE INTO journals (job, image, step, latents) VALUES (?, ?, ?, ?)")?
                    .execute(params![job.seq, journal.image, journal.step, journal.latents])?;
            }
            event(tx, job.seq, job.now, &EventKind::Step(progress))
        })
    }

    fn add_image(&self, lease: &Lease, image: &ImageRecord) -> Result<Held, QueueError> {
        self.report(lease, |tx, job| {
            self.extend(tx, job)?;
            let image = ImageRecord { job: Some(job.id), ..image.clone() };
            gallery::add_made(tx, job.seq, &image, job.now)?;
            rows::forget_journal(tx, job.seq)?;
            event(tx, job.seq, job.now, &EventKind::Image(ImageRecord { job: None, ..image }))
        })
    }

    fn finish(&self, lease: &Lease, outcome: Outcome) -> Result<Held, QueueError> {
        self.report(lease, |tx, job| {
            let kind = match outcome {
                Outcome::Done => EventKind::Done,
                Outcome::Failed(failure) => EventKind::Failed(failure),
            };
            end(tx, job.seq, job.now, kind)
        })
    }

    fn release(&self, lease: &Lease) -> Result<Held, QueueError> {
        self.report(lease, |tx, job| {
            tx.prepare_cached(
                "UPDATE jobs SET state = 'queued', worker = NULL, lease_until_ms = NULL, releases = releases + 1,
                 progress = NULL WHERE seq = ?",
            )?
            .execute([job.seq])?;
            event(tx, job.seq, job.now, &EventKind::Queued)
        })
    }

    fn holders(&self) -> Result<Vec<String>, QueueError> {
        self.database.read(|tx| {
            let mut statement = tx.prepare_cached("SELECT DISTINCT worker FROM jobs WHERE state = 'running'")?;
            let holders = statement.query_map([], |row| row.get(0))?;
            Ok(holders.collect::<Result<_, _>>()?)
        })
    }

    fn expire(&self, worker: &str) -> Result<usize, QueueError> {
        let now = (self.clock)();
        self.database.write(|tx| {
            let mut statement =
                tx.prepare_cached("UPDATE jobs SET lease_until_ms = ? WHERE state = 'running' AND worker = ?")?;
            Ok(statement.execute(params![signed(now), worker])?)
        })
    }

    fn cancel(&self, id: JobId) -> Result<Cancelled, QueueError> {
        let now = (self.clock)();
        self.database.write(|tx| {
            let Some((seq, job)) = rows::job(tx, rows::By::Id(id))? else { return Ok(Cancelled::Unknown) };
            if job.state.is_final() {
                return Ok(Cancelled::TooLate);
            }
            line::cancel(tx, seq, &job)?;
            end(tx, seq, now, EventKind::Cancelled)?;
            Ok(Cancelled::Now)
        })
    }

    fn job(&self, id: JobId) -> Result<Option<Job>, QueueError> {
        self.database.read(|tx| Ok(rows::job(tx, rows::By::Id(id))?.map(|(_, job)| job)))
    }

    fn active(&self) -> Result<Vec<Job>, QueueError> {
        self.database.read(|tx| {
            let mut jobs = rows::running(tx)?;
            let interactive = rows::waiting(tx, Priority::Interactive)?;
            let batch = rows::waiting(tx, Priority::Batch)?;
            let waiting = line::share(tx)?.merge(interactive, batch);
            jobs.extend(waiting.into_iter().zip(0..).map(|(job, place)| Job { position: Some(place), ..job }));
            Ok(jobs)
        })
    }

    fn events(&self, job: Option<JobId>, after: u64, limit: usize) -> Result<Vec<Event>, QueueError> {
        self.database.read(|tx| rows::events(tx, job, after, limit))
    }

    fn last_seq(&self) -> Result<u64, QueueError> {
        self.database.read(|tx| {
            let seq: Option<i64> = tx
                .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'events'")?
                .query_row([], |row| row.get(0))
                .optional()?;
            Ok(seq.unwrap_or(0) as u64)
        })
    }

    fn depth(&self) -> Result<Depth, QueueError> {
        self.database.read(depth)
    }
}

/// The job that an earlier submission with the same key made.
fn earlier(tx: &Transaction<'_>, job: &NewJob, now: Millis) -> Result<Option<Job>, QueueError> {
    let Some(key) = &job.idempotency_key else { return Ok(None) };
    let seq: Option<i64> = tx
        .prepare_cached(
            "SELECT seq FROM jobs WHERE owner = ? AND idempotency_key = ? AND idempotency_key IS NOT NULL
             AND created_ms > ? ORDER BY seq DESC LIMIT 1",
        )?
        .query_row(params![job.owner, key, signed(now) - signed(DAY_MS)], |row| row.get(0))
        .optional()?;
    let Some(seq) = seq else { return Ok(None) };
    let (_, earlier) = rows::job(tx, rows::By::Seq(seq))?.ok_or_else(|| vanished(seq))?;
    if same_request(&earlier.spec, &job.spec) { Ok(Some(earlier)) } else { Err(QueueError::KeyReused) }
}

/// Whether the worker holds the job: the fence that every report passes.
fn held(tx: &Transaction<'_>, lease: &Lease) -> Result<(Held, i64), QueueError> {
    let row: Option<(i64, String, Option<String>, u32)> = tx
        .prepare_cached("SELECT seq, state, worker, claims FROM jobs WHERE id = ?")?
        .query_row([lease.job.id.to_string()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    let Some((seq, state, worker, claims)) = row else { return Ok((Held::Lost, 0)) };
    let is_ours = worker.as_ref() == Some(&lease.worker) && claims == lease.attempt;
    Ok((super::held(is_ours, parse_state(&state)?), seq))
}

/// Brings a job to its final state, and tells of it.
fn end(tx: &Transaction<'_>, seq: i64, now: Millis, kind: EventKind) -> Result<(), QueueError> {
    let (state, error): (_, Option<&Failure>) = match &kind {
        EventKind::Failed(failure) => (JobState::Failed, Some(failure)),
        EventKind::Cancelled => (JobState::Cancelled, None),
        _ => (JobState::Done, None),
    };
    tx.prepare_cached("UPDATE jobs SET state = ?, finished_ms = ?, progress = NULL, error = ? WHERE seq = ?")?
        .execute(params![state_name(state), signed(now), error.map(to_json), seq])?;
    rows::forget_journal(tx, seq)?;
    event(tx, seq, now, &kind)
}

fn event(tx: &Transaction<'_>, seq: i64, now: Millis, kind: &EventKind) -> Result<(), QueueError> {
    tx.prepare_cached("INSERT INTO events (job, at_ms, kind) VALUES (?, ?, ?)")?.execute(params![
        seq,
        signed(now),
        to_json(kind)
    ])?;
    Ok(())
}

fn depth(tx: &Transaction<'_>) -> Result<Depth, QueueError> {
    let mut statement = tx.prepare_cached(
        "SELECT priority, state, COUNT(*) FROM jobs WHERE state IN ('queued', 'running') GROUP BY priority, state",
    )?;
    let mut depth = Depth::default();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let jobs = row.get::<_, i64>(2)? as u64;
        match (rows::priority(row.get(0)?), parse_state(&row.get::<_, String>(1)?)?) {
            (_, JobState::Running) => depth.running += jobs,
            (Priority::Interactive, _) => depth.interactive += jobs,
            (Priority::Batch, _) => depth.batch += jobs,
        }
    }
    Ok(depth)
}

fn vanished(seq: i64) -> QueueError {
    QueueError::Damaged(format!("job number {seq} is gone"))
}
