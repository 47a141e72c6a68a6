//! The SQLite database: its connections and its schema.
//!
//! One connection writes, behind a lock; others read, each read from one snapshot, so that nobody who reads waits for
//! a writer (write-ahead log). Several processes may open the same file: writes begin by taking SQLite's own lock.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use crate::queue::QueueError;

/// How long a connection waits for another process.
const BUSY_TIMEOUT: Duration = Duration::from_millis(5000);
/// Pages in the log before they are moved into the file: 16 MB. A journal of a large picture takes 250, and a new one
/// overwrites it, so that moving them later moves less: with SQLite's own 1000 a step took half as long again.
const CHECKPOINT_PAGES: u32 = 4000;
/// Reading connections that are kept for the next reader.
const MAX_IDLE_READERS: usize = 4;
/// Statements that a connection keeps prepared; all of ours fit.
const PREPARED_STATEMENTS: usize = 128;
/// What brings a schema to the next version, the first from nothing to 1.
const MIGRATIONS: [&str; 1] = [include_str!("schema/1.sql")];

/// One database, shared by queue, gallery and keys.
pub struct Database {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

impl Database {
    /// Opens or makes it, and brings its schema up to date.
    ///
    /// # Errors
    /// [`QueueError::Unusable`] if the file is no SQLite database or a damaged one; [`QueueError::NewerSchema`] if a newer
    /// program made it; else those of SQLite.
    pub fn open(path: &Path) -> Result<Database, QueueError> {
        make_private(path);
        let opened = connect(path).and_then(|mut writer| {
            migrate(&mut writer)?;
            Ok(writer)
        });
        let writer = opened.map_err(|error| explain(path, error))?;
        Ok(Database { path: path.into(), writer: Mutex::new(writer), readers: Mutex::default() })
    }

    /// Does some writing, all of it or nothing: an error takes it back.
    pub(crate) fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, QueueError>,
    ) -> Result<T, QueueError> {
        let mut writer = lock(&self.writer);
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }

    /// Does some reading; nothing that is written meanwhile is seen.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, QueueError>,
    ) -> Result<T, QueueError> {
        let idle = lock(&self.readers).pop();
        let mut reader = idle.map_or_else(|| self.connect_reader(), Ok)?;
        let transaction = reader.transaction()?;
        let found = work(&transaction)?;
        transaction.finish()?;
        let mut readers = lock(&self.readers);
        if readers.len() < MAX_IDLE_READERS {
            readers.push(reader);
        }
        Ok(found)
    }

    fn connect_reader(&self) -> Result<Connection, QueueError> {
        let reader = connect(&self.path)?;
        reader.pragma_update(None, "query_only", true)?;
        Ok(reader)
    }
}

/// A panic while the lock was held has left the connection usable: its transaction was rolled back on the way out.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect(path: &Path) -> Result<Connection, QueueError> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    keep_a_log(&connection)?;
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
    Ok(connection)
}

/// Makes it a database with a write-ahead log, which it stays. The first to open it changes that under a lock for which
/// SQLite does not wait, whatever the timeout: whoever meets it is told that the database is busy.
fn keep_a_log(connection: &Connection) -> Result<(), QueueError> {
    let begin = Instant::now();
    let is_busy = |error: &rusqlite::Error| error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy);
    loop {
        match connection.pragma_update(None, "journal_mode", "wal") {
            Err(error) if is_busy(&error) && begin.elapsed() < BUSY_TIMEOUT => {
                std::thread::sleep(Duration::from_millis(5));
            }
            changed => return Ok(changed?),
        }
    }
}

/// Prompts and digests of keys are nobody else's. SQLite gives its other files the rights of this one.
fn make_private(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Whatever is wrong with the path is SQLite's to report.
        let _ = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    }
    #[cfg(not(unix))]
    let _ = path;
}

fn migrate(connection: &mut Connection) -> Result<(), QueueError> {
    let known = MIGRATIONS.len();
    // Another process may be doing the same: the version is read under the lock.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: usize = transaction.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))? as usize;
    if found > known {
        return Err(QueueError::NewerSchema { found, known });
    }
    for migration in &MIGRATIONS[found..] {
        transaction.execute_batch(migration)?;
    }
    if found < known {
        transaction.pragma_update(None, "user_version", known as u32)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Says which file it is, where the file is to blame.
fn explain(path: &Path, error: QueueError) -> QueueError {
    let QueueError::Database(sqlite) = &error else { return error };
    let reason = match sqlite.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => "it is no SQLite database",
        Some(ErrorCode::DatabaseCorrupt) => "it is damaged",
        Some(ErrorCode::CannotOpen) => "it cannot be opened",
        Some(ErrorCode::ReadOnly) => "it may not be written",
        _ => return error,
    };
    QueueError::Unusable { path: path.display().to_string(), reason }
}

#[cfg(test)]
mod tests;
