//! The two lines in the database: [`Account`] and [`Share`] over rows.

use rusqlite::{OptionalExtension, Transaction, params};

use super::super::fairness::{Account, Share, Turn};
use super::rows::number;
use super::{NewJob, QueueError, Wanted};
use crate::job::{Job, JobState, Millis, Priority};
use crate::store::signed;

const INTERACTIVE_CLAIMS: &str = "interactive claims";

/// Gives a job that was just inserted its place.
pub(super) fn submit(tx: &Transaction<'_>, job: &NewJob, seq: i64) -> Result<(), QueueError> {
    let mut account = load(tx, job.priority, &job.owner, Some(seq))?;
    account.submit(virtual_time(tx, job.priority)?, seq as u64, job.front, job.spec.cost());
    save(tx, job.priority, &job.owner, &account)
}

/// Takes a job that is cancelled out of its line.
pub(super) fn cancel(tx: &Transaction<'_>, seq: i64, job: &Job) -> Result<(), QueueError> {
    if job.state != JobState::Queued {
        return Ok(());
    }
    let mut account = load(tx, job.priority, &job.owner, None)?;
    account.cancel(seq as u64);
    save(tx, job.priority, &job.owner, &account)
}

/// Chooses the job that is next, and charges it to its owner.
pub(super) fn claim(tx: &Transaction<'_>, wanted: &Wanted, now: Millis) -> Result<Option<i64>, QueueError> {
    let interactive = first(tx, Priority::Interactive, wanted, now)?;
    let batch = first(tx, Priority::Batch, wanted, now)?;
    let mut share = share(tx)?;
    let Some(line) = share.next(interactive.is_some(), batch.is_some()) else { return Ok(None) };
    set_counter(tx, INTERACTIVE_CLAIMS, share.interactive_claims)?;
    let Some(first) = (match line {
        Priority::Interactive => interactive,
        Priority::Batch => batch,
    }) else {
        return Ok(None);
    };
    if !first.had_turn {
        charge(tx, line, &first)?;
    }
    Ok(Some(first.seq))
}

/// How the lines stand to each other.
pub(super) fn share(tx: &Transaction<'_>) -> Result<Share, QueueError> {
    Ok(Share { interactive_claims: counter(tx, INTERACTIVE_CLAIMS)? })
}

struct First {
    seq: i64,
    owner: String,
    had_turn: bool,
}

/// The first job of a line that a worker wants: one that waits or whose lease has ended.
fn first(tx: &Transaction<'_>, line: Priority, wanted: &Wanted, now: Millis) -> Result<Option<First>, QueueError> {
    let not_of = serde_json::to_string(&wanted.not_of).expect("names have a JSON form: this is a bug");
    let found = tx
        .prepare_cached(
            "SELECT seq, owner, had_turn FROM jobs
             WHERE state IN ('queued', 'running') AND priority = ?1
                AND (state = 'queued' OR lease_until_ms <= ?2)
                AND (?3 IS NULL OR batch_key = ?3)
                AND owner NOT IN (SELECT value FROM json_each(?4))
             ORDER BY had_turn DESC, tag, seq LIMIT 1",
        )?
        .query_row(params![number(line), signed(now), wanted.batch_key, not_of], |row| {
            Ok(First { seq: row.get(0)?, owner: row.get(1)?, had_turn: row.get(2)? })
        })
        .optional()?;
    Ok(found)
}

fn charge(tx: &Transaction<'_>, line: Priority, first: &First) -> Result<(), QueueError> {
    let smallest: i64 = tx
        .prepare_cached(
            "SELECT tag FROM jobs WHERE state IN ('queued', 'running') AND priority = ? AND had_turn = 0
             ORDER BY tag LIMIT 1",
        )?
        .query_row([number(line)], |row| row.get(0))?;
    let virtual_time = virtual_time(tx, line)?.max(smallest as u64);
    set_counter(tx, clock_name(line), virtual_time)?;
    let mut account = load(tx, line, &first.owner, None)?;
    account.claim(first.seq as u64);
    save(tx, line, &first.owner, &account)?;
    // Accounts that ended before now start anew: nothing is lost by forgetting them.
    tx.prepare_cached("DELETE FROM accounts WHERE priority = ? AND finish <= ?")?
        .execute(params![number(line), signed(virtual_time)])?;
    Ok(())
}

fn load(tx: &Transaction<'_>, line: Priority, owner: &str, except: Option<i64>) -> Result<Account, QueueError> {
    let finish: Option<i64> = tx
        .prepare_cached("SELECT finish FROM accounts WHERE priority = ? AND owner = ?")?
        .query_row(params![number(line), owner], |row| row.get(0))
        .optional()?;
    let turns = tx
        .prepare_cached(
            "SELECT seq, front, cost, tag FROM jobs
             WHERE state IN ('queued', 'running') AND owner = ? AND priority = ? AND had_turn = 0 AND seq IS NOT ?",
        )?
        .query_map(params![owner, number(line), except], |row| {
            let unsigned = |column| row.get::<_, i64>(column).map(|value| value as u64);
            Ok(Turn { seq: unsigned(0)?, front: row.get(1)?, cost: unsigned(2)?, tag: unsigned(3)? })
        })?
        .collect::<Result<_, _>>()?;
    Ok(Account::new(turns, finish.unwrap_or(0) as u64))
}

fn save(tx: &Transaction<'_>, line: Priority, owner: &str, account: &Account) -> Result<(), QueueError> {
    let mut update = tx.prepare_cached("UPDATE jobs SET tag = ?1 WHERE seq = ?2 AND tag <> ?1")?;
    for turn in account.turns() {
        update.execute(params![signed(turn.tag), signed(turn.seq)])?;
    }
    tx.prepare_cached("INSERT OR REPLACE INTO accounts (priority, owner, finish) VALUES (?, ?, ?)")?
        .execute(params![number(line), owner, signed(account.finish())])?;
    Ok(())
}

fn virtual_time(tx: &Transaction<'_>, line: Priority) -> Result<u64, QueueError> {
    counter(tx, clock_name(line))
}

fn clock_name(line: Priority) -> &'static str {
    match line {
        Priority::Interactive => "interactive virtual time",
        Priority::Batch => "batch virtual time",
    }
}

fn counter(tx: &Transaction<'_>, name: &str) -> Result<u64, QueueError> {
    let value: i64 =
        tx.prepare_cached("SELECT value FROM counters WHERE name = ?")?.query_row([name], |row| row.get(0))?;
    Ok(value as u64)
}

fn set_counter(tx: &Transaction<'_>, name: &str, value: u64) -> Result<(), QueueError> {
    tx.prepare_cached("UPDATE counters SET value = ? WHERE name = ?")?.execute(params![signed(value), name])?;
    Ok(())
}
