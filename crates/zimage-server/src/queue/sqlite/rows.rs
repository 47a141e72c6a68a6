//! Jobs, events and journals as rows.

use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Journal, NewJob, QueueError, line};
use crate::job::{Event, ImageRecord, Job, JobId, JobState, Millis, Priority, Tokens};
use crate::store::{gallery, signed};

const COLUMNS: &str = "seq, id, state, spec, priority, owner, created_ms, started_ms, finished_ms, \
                       claims - releases, progress, error, tokens_used, tokens_dropped";

/// What names a job.
#[derive(Clone, Copy)]
pub(super) enum By {
    /// Its row.
    Seq(i64),
    /// Its id.
    Id(JobId),
}

/// A job, with its pictures and its position.
pub(super) fn job(tx: &Transaction<'_>, by: By) -> Result<Option<(i64, Job)>, QueueError> {
    let found = match by {
        By::Seq(seq) => select(tx, "WHERE seq = ?", [seq])?,
        By::Id(id) => select(tx, "WHERE id = ?", [id.to_string()])?,
    };
    let Some((seq, mut job)) = found.into_iter().next() else { return Ok(None) };
    if job.state == JobState::Queued {
        job.position = Some(position(tx, seq, job.priority)?);
    }
    Ok(Some((seq, job)))
}

/// Jobs that workers have, in the order of submission.
pub(super) fn running(tx: &Transaction<'_>) -> Result<Vec<Job>, QueueError> {
    let jobs = select(tx, "INDEXED BY jobs_running WHERE state = 'running' ORDER BY seq", [])?;
    Ok(jobs.into_iter().map(|(_, job)| job).collect())
}

/// The waiting jobs of a line, the next one first.
pub(super) fn waiting(tx: &Transaction<'_>, line: Priority) -> Result<Vec<Job>, QueueError> {
    let of_line = "WHERE state IN ('queued', 'running') AND state = 'queued' AND priority = ?
                   ORDER BY had_turn DESC, tag, seq";
    let jobs = select(tx, of_line, [number(line)])?;
    Ok(jobs.into_iter().map(|(_, job)| job).collect())
}

fn select(tx: &Transaction<'_>, which: &str, values: impl rusqlite::Params) -> Result<Vec<(i64, Job)>, QueueError> {
    let mut statement = tx.prepare_cached(&format!("SELECT {COLUMNS} FROM jobs {which}"))?;
    let mut jobs: Vec<(i64, Job)> = statement.query_and_then(values, from_row)?.collect::<Result<_, _>>()?;
    // A job that nobody has begun has no pictures.
    for (seq, job) in jobs.iter_mut().filter(|(_, job)| job.started_ms.is_some()) {
        job.images = images(tx, *seq, job.id)?;
    }
    Ok(jobs)
}

fn from_row(row: &Row<'_>) -> Result<(i64, Job), QueueError> {
    let unsigned = |value: i64| value as u64;
    let json = |column| row.get::<_, Option<String>>(column);
    let job = Job {
        id: parse_id(&row.get::<_, String>(1)?)?,
        state: parse_state(&row.get::<_, String>(2)?)?,
        spec: from_json(&row.get::<_, String>(3)?)?,
        priority: priority(row.get(4)?),
        owner: row.get(5)?,
        created_ms: unsigned(row.get(6)?),
        started_ms: row.get::<_, Option<i64>>(7)?.map(unsigned),
        finished_ms: row.get::<_, Option<i64>>(8)?.map(unsigned),
        attempts: row.get(9)?,
        progress: json(10)?.as_deref().map(from_json).transpose()?,
        position: None,
        eta_ms: None,
        images: Vec::new(),
        error: json(11)?.as_deref().map(from_json).transpose()?,
        tokens: Tokens { used: row.get(12)?, dropped: row.get(13)? },
    };
    Ok((row.get(0)?, job))
}

fn images(tx: &Transaction<'_>, seq: i64, id: JobId) -> Result<Vec<ImageRecord>, QueueError> {
    let mut statement = tx.prepare_cached(&format!(
        "SELECT {}, link.idx, link.seed, link.created_ms FROM job_images AS link
         JOIN images ON images.id = link.image WHERE link.job = ? ORDER BY link.idx",
        gallery::COLUMNS
    ))?;
    let images = statement.query_and_then([seq], |row| {
        let image = gallery::from_row(row)?;
        let (index, seed, created): (u32, i64, i64) =
            (row.get(gallery::COLUMN_COUNT)?, row.get(gallery::COLUMN_COUNT + 1)?, row.get(gallery::COLUMN_COUNT + 2)?);
        Ok(ImageRecord { job: Some(id), index, seed: seed as u64, created_ms: created as u64, ..image })
    })?;
    images.collect()
}

fn position(tx: &Transaction<'_>, seq: i64, line: Priority) -> Result<u32, QueueError> {
    let ahead: i64 = tx
        .prepare_cached(
            "SELECT COUNT(*) FROM jobs AS other, jobs AS this
             WHERE this.seq = ? AND other.state IN ('queued', 'running') AND other.state = 'queued'
                AND other.priority = this.priority
                AND (-other.had_turn, other.tag, other.seq) < (-this.had_turn, this.tag, this.seq)",
        )?
        .query_row([seq], |row| row.get(0))?;
    let depth = super::depth(tx)?;
    let others = match line {
        Priority::Interactive => depth.batch,
        Priority::Batch => depth.interactive,
    };
    let position = line::share(tx)?.position(line, ahead as u64, others);
    Ok(u32::try_from(position).unwrap_or(u32::MAX))
}

/// Puts a job into the table; its place in the line is not decided by this.
pub(super) fn insert(tx: &Transaction<'_>, job: &NewJob, now: Millis) -> Result<i64, QueueError> {
    tx.prepare_cached(
        "INSERT INTO jobs (id, state, spec, batch_key, owner, priority, front, cost, tag, idempotency_key, tokens_used,
         tokens_dropped, created_ms) VALUES (?, 'queued', ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?)",
    )?
    .execute(params![
        JobId::new().to_string(),
        to_json(&job.spec),
        job.spec.batch_key(),
        job.owner,
        number(job.priority),
        job.front,
        signed(job.spec.cost()),
        job.idempotency_key,
        job.tokens.used,
        job.tokens.dropped,
        signed(now),
    ])?;
    Ok(tx.last_insert_rowid())
}

/// Events behind number `after`.
pub(super) fn events(
    tx: &Transaction<'_>,
    job: Option<JobId>,
    after: u64,
    limit: usize,
) -> Result<Vec<Event>, QueueError> {
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let columns =
        "SELECT events.seq, jobs.id, events.at_ms, events.kind FROM events JOIN jobs ON jobs.seq = events.job";
    let order = "ORDER BY events.seq LIMIT ?";
    let Some(job) = job else {
        let mut statement = tx.prepare_cached(&format!("{columns} WHERE events.seq > ? {order}"))?;
        return statement.query_and_then([after, limit], event_from_row)?.collect();
    };
    let seq: Option<i64> = tx
        .prepare_cached("SELECT seq FROM jobs WHERE id = ?")?
        .query_row([job.to_string()], |row| row.get(0))
        .optional()?;
    let mut statement = tx.prepare_cached(&format!("{columns} WHERE events.job = ? AND events.seq > ? {order}"))?;
    statement.query_and_then(params![seq, after, limit], event_from_row)?.collect()
}

fn event_from_row(row: &Row<'_>) -> Result<Event, QueueError> {
    Ok(Event {
        seq: row.get::<_, i64>(0)? as u64,
        job: parse_id(&row.get::<_, String>(1)?)?,
        at_ms: row.get::<_, i64>(2)? as u64,
        kind: from_json(&row.get::<_, String>(3)?)?,
    })
}

/// Where a worker was.
pub(super) fn journal(tx: &Transaction<'_>, seq: i64) -> Result<Option<Journal>, QueueError> {
    let journal = tx
        .prepare_cached("SELECT image, step, latents FROM journals WHERE job = ?")?
        .query_row([seq], |row| Ok(Journal { image: row.get(0)?, step: row.get(1)?, latents: row.get(2)? }))
        .optional()?;
    Ok(journal)
}

/// There is nothing to go on from any more.
pub(super) fn forget_journal(tx: &Transaction<'_>, seq: i64) -> Result<(), QueueError> {
    tx.prepare_cached("DELETE FROM journals WHERE job = ?")?.execute([seq])?;
    Ok(())
}

pub(super) fn to_json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("our types have a JSON form: this is a bug")
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, QueueError> {
    serde_json::from_str(text).map_err(|error| QueueError::Damaged(error.to_string()))
}

fn parse_id(text: &str) -> Result<JobId, QueueError> {
    text.parse().map_err(|_| QueueError::Damaged(format!("`{text}` names no job")))
}

pub(super) fn number(priority: Priority) -> i64 {
    match priority {
        Priority::Interactive => 0,
        Priority::Batch => 1,
    }
}

pub(super) fn priority(number: i64) -> Priority {
    if number == 0 { Priority::Interactive } else { Priority::Batch }
}

const STATES: [(JobState, &str); 5] = [
    (JobState::Queued, "queued"),
    (JobState::Running, "running"),
    (JobState::Done, "done"),
    (JobState::Failed, "failed"),
    (JobState::Cancelled, "cancelled"),
];

pub(super) fn state_name(state: JobState) -> &'static str {
    STATES.iter().find(|(known, _)| *known == state).expect("every state has a name: this is a bug").1
}

pub(super) fn parse_state(text: &str) -> Result<JobState, QueueError> {
    let known = STATES.iter().find(|(_, name)| *name == text).map(|(state, _)| *state);
    known.ok_or_else(|| QueueError::Damaged(format!("`{text}` is no state of a job")))
}
