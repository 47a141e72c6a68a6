//! The history of finished pictures.
//!
//! A picture is known by its SHA-256: the same job run twice makes the same file, and one entry, which then belongs to
//! the later job and moves to the top.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rusqlite::{OptionalExtension, Row, Transaction, named_params, params};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{search, signed};
use crate::job::{Format, ImageRecord, Millis, Sha256};
use crate::queue::{Clock, QueueError};
use crate::store::Database;

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;

/// The columns that [`from_row`] reads.
pub(crate) const COLUMNS: &str = "images.sha256, images.job, images.idx, images.seed, images.width, images.height, \
                                  images.format, images.size_bytes, images.created_ms, images.favourite, images.prompt";
/// How many they are.
pub(crate) const COLUMN_COUNT: usize = 11;

/// The pictures in the database, newest first.
pub struct Gallery {
    database: Arc<Database>,
    clock: Clock,
}

/// Which pictures to list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    /// Where the last page ended.
    pub cursor: Option<String>,
    /// Words of the prompt; each must be there, the last one may be the beginning of a word.
    pub q: Option<String>,
    /// Only marked pictures.
    pub fav: bool,
    /// Pictures on a page, 1 to 200; 50 if absent.
    pub limit: Option<u32>,
}

/// Some pictures.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Page {
    /// Newest first.
    pub images: Vec<ImageRecord>,
    /// Asks for the next page; absent on the last one.
    pub next: Option<String>,
    /// Pictures that match, on all pages.
    pub total: u64,
}

impl Gallery {
    /// The gallery of a database.
    pub fn new(database: Arc<Database>, clock: Clock) -> Gallery {
        Gallery { database, clock }
    }

    /// A page.
    ///
    /// # Errors
    /// Those of the database. A cursor that is none is [`QueueError::Damaged`].
    pub fn page(&self, query: &Query) -> Result<Page, QueueError> {
        let cursor = query.cursor.as_deref().map(Cursor::parse).transpose()?;
        let expression = query.q.as_deref().and_then(search::expression);
        let limit = query.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT) as usize;
        self.database.read(|tx| {
            // One more than asked for tells whether there is a next page.
            let mut found = list(tx, expression.as_deref(), query.fav, cursor, limit + 1)?;
            let more = found.len() > limit;
            found.truncate(limit);
            let next = found.last().filter(|_| more).map(|(cursor, _)| cursor.to_text());
            let total = count(tx, expression.as_deref(), query.fav)?;
            Ok(Page { images: found.into_iter().map(|(_, image)| image).collect(), next, total })
        })
    }

    /// A picture that is not deleted.
    ///
    /// # Errors
    /// Those of the database.
    pub fn image(&self, sha256: &Sha256) -> Result<Option<ImageRecord>, QueueError> {
        self.database.read(|tx| {
            let mut statement =
                tx.prepare_cached(&format!("SELECT {COLUMNS} FROM images WHERE sha256 = ? AND deleted_ms IS NULL"))?;
            statement.query_and_then([sha256.as_str()], from_row)?.next().transpose()
        })
    }

    /// Marks a picture or not; says whether there is such a picture.
    ///
    /// # Errors
    /// Those of the database.
    pub fn set_favourite(&self, sha256: &Sha256, favourite: bool) -> Result<bool, QueueError> {
        self.database.write(|tx| {
            let changed = tx
                .prepare_cached("UPDATE images SET favourite = ? WHERE sha256 = ? AND deleted_ms IS NULL")?
                .execute(params![favourite, sha256.as_str()])?;
            Ok(changed > 0)
        })
    }

    /// Hides pictures; says how many there were. [`Gallery::restore`] takes it back until they are purged.
    ///
    /// # Errors
    /// Those of the database.
    pub fn delete(&self, sha256: &[Sha256]) -> Result<usize, QueueError> {
        let now = (self.clock)();
        self.database.write(|tx| {
            let mut hide =
                tx.prepare_cached("UPDATE images SET deleted_ms = ? WHERE sha256 = ? AND deleted_ms IS NULL")?;
            let mut hidden = 0;
            for sha256 in sha256 {
                hidden += hide.execute(params![signed(now), sha256.as_str()])?;
            }
            Ok(hidden)
        })
    }

    /// Shows deleted pictures again; says how many there were.
    ///
    /// # Errors
    /// Those of the database.
    pub fn restore(&self, sha256: &[Sha256]) -> Result<usize, QueueError> {
        self.database.write(|tx| {
            let mut shown = 0;
            for sha256 in sha256 {
                shown += usize::from(show(tx, sha256)?);
            }
            Ok(shown)
        })
    }

    /// Forgets pictures that were deleted before `before`, and names the files that no picture needs any more. Those that
    /// a job is to start from, which waits or runs, stay until it has ended.
    ///
    /// # Errors
    /// Those of the database.
    pub fn purge(&self, before: Millis) -> Result<Vec<ImageRecord>, QueueError> {
        self.database.write(|tx| {
            let mut statement = tx.prepare_cached(&format!(
                "DELETE FROM images WHERE deleted_ms IS NOT NULL AND deleted_ms < ?
                    AND NOT EXISTS (
                        SELECT 1 FROM jobs WHERE state IN ('queued', 'running')
                            AND images.sha256 IN (spec ->> '$.start.image', spec ->> '$.start.mask'))
                 RETURNING {COLUMNS}"
            ))?;
            let purged = statement.query_and_then([signed(before)], from_row)?;
            purged.collect()
        })
    }

    /// Whether any job started from this picture, and so needs it to be made again.
    ///
    /// # Errors
    /// Those of the database.
    pub fn is_start_of_a_job(&self, sha256: &Sha256) -> Result<bool, QueueError> {
        self.database.read(|tx| {
            let mut statement = tx.prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM jobs WHERE ? IN (spec ->> '$.start.image', spec ->> '$.start.mask'))",
            )?;
            Ok(statement.query_row([sha256.as_str()], |row| row.get(0))?)
        })
    }

    /// Adds a picture that was found on the disk, unless it is known.
    ///
    /// # Errors
    /// Those of the database.
    pub fn restore_record(&self, image: &ImageRecord) -> Result<bool, QueueError> {
        self.database.write(|tx| Ok(insert(tx, image)?.is_some()))
    }
}

/// Adds a picture that a job made: the entry of the gallery, and what ties it to the job.
pub(crate) fn add_made(tx: &Transaction<'_>, job: i64, image: &ImageRecord, now: Millis) -> Result<(), QueueError> {
    let id = match insert(tx, image)? {
        Some(id) => id,
        None => {
            show(tx, &image.sha256)?;
            move_to_top(tx, image)?
        }
    };
    let replaced: Option<i64> = tx
        .prepare_cached("SELECT image FROM job_images WHERE job = ? AND idx = ?")?
        .query_row(params![job, image.index], |row| row.get(0))
        .optional()?;
    tx.prepare_cached("INSERT OR REPLACE INTO job_images (job, idx, image, seed, created_ms) VALUES (?, ?, ?, ?, ?)")?
        .execute(params![job, image.index, id, signed(image.seed), signed(image.created_ms)])?;
    // What a picture replaced, and no other job has, goes the way of deleted ones.
    tx.prepare_cached(
        "UPDATE images SET deleted_ms = ?2
         WHERE id = ?1 AND deleted_ms IS NULL AND NOT EXISTS (SELECT 1 FROM job_images WHERE image = ?1)",
    )?
    .execute(params![replaced, signed(now)])?;
    Ok(())
}

/// Adds an entry, unless the picture has one, deleted or not.
fn insert(tx: &Transaction<'_>, image: &ImageRecord) -> Result<Option<i64>, QueueError> {
    let id: Option<i64> = tx
        .prepare_cached(
            "INSERT INTO images (sha256, job, idx, seed, width, height, format, size_bytes, created_ms, favourite, prompt)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (sha256) DO NOTHING RETURNING id",
        )?
        .query_row(
            params![
                image.sha256.as_str(),
                image.job.map(|job| job.to_string()),
                image.index,
                signed(image.seed),
                image.width,
                image.height,
                image.format.extension(),
                signed(image.size_bytes),
                signed(image.created_ms),
                image.favourite,
                image.prompt,
            ],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(id) = id {
        index(tx, id, &image.prompt)?;
    }
    Ok(id)
}

/// Takes a deletion back; says whether there was one.
fn show(tx: &Transaction<'_>, sha256: &Sha256) -> Result<bool, QueueError> {
    let shown: Option<(i64, String)> = tx
        .prepare_cached(
            "UPDATE images SET deleted_ms = NULL WHERE sha256 = ? AND deleted_ms IS NOT NULL RETURNING id, prompt",
        )?
        .query_row([sha256.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((id, prompt)) = shown else { return Ok(false) };
    index(tx, id, &prompt)?;
    Ok(true)
}

fn index(tx: &Transaction<'_>, id: i64, prompt: &str) -> Result<(), QueueError> {
    tx.prepare_cached("INSERT INTO images_fts (rowid, words) VALUES (?, ?)")?
        .execute(params![id, search::words(prompt)])?;
    Ok(())
}

/// A picture that was made again is new again.
fn move_to_top(tx: &Transaction<'_>, image: &ImageRecord) -> Result<i64, QueueError> {
    let id = tx
        .prepare_cached(
            "UPDATE images SET job = ?2, idx = ?3, created_ms = MAX(created_ms, ?4) WHERE sha256 = ?1
             RETURNING id",
        )?
        .query_row(
            params![image.sha256.as_str(), image.job.map(|job| job.to_string()), image.index, signed(image.created_ms)],
            |row| row.get(0),
        )?;
    Ok(id)
}

fn list(
    tx: &Transaction<'_>,
    expression: Option<&str>,
    fav: bool,
    cursor: Option<Cursor>,
    limit: usize,
) -> Result<Vec<(Cursor, ImageRecord)>, QueueError> {
    let cursor = cursor.unwrap_or(Cursor { created_ms: i64::MAX, id: i64::MAX });
    // The places are chosen first: of what a common word matches, only a page is read.
    let mut statement = tx.prepare_cached(&format!(
        "SELECT {COLUMNS}, images.id FROM images WHERE images.id IN (
             SELECT images.id FROM {} AND (images.created_ms, images.id) < (:created_ms, :id)
             ORDER BY images.created_ms DESC, images.id DESC LIMIT :limit)
         ORDER BY images.created_ms DESC, images.id DESC",
        matching(expression.is_some(), fav)
    ))?;
    let found = statement.query_and_then(
        named_params! {
            ":words": expression.unwrap_or_default(),
            ":created_ms": cursor.created_ms,
            ":id": cursor.id,
            ":limit": limit as i64,
        },
        |row| {
            let image = from_row(row)?;
            Ok((Cursor { created_ms: signed(image.created_ms), id: row.get(COLUMN_COUNT)? }, image))
        },
    )?;
    found.collect()
}

fn count(tx: &Transaction<'_>, expression: Option<&str>, fav: bool) -> Result<u64, QueueError> {
    let (sql, value) = match (expression, fav) {
        (None, false) => ("SELECT value FROM counters WHERE name = ?", "shown images"),
        (None, true) => ("SELECT value FROM counters WHERE name = ?", "shown favourites"),
        (Some(words), false) => ("SELECT COUNT(*) FROM images_fts WHERE images_fts MATCH ?", words),
        (Some(words), true) => (
            "SELECT COUNT(*) FROM images JOIN images_fts ON images_fts.rowid = images.id
             WHERE images_fts MATCH ? AND images.deleted_ms IS NULL AND images.favourite = 1",
            words,
        ),
    };
    let count: i64 = tx.prepare_cached(sql)?.query_row([value], |row| row.get(0))?;
    Ok(count as u64)
}

/// The pictures that a query is about. `:words` occurs in any case, so that every query takes the same values.
fn matching(words: bool, fav: bool) -> String {
    let table = if words { "images_fts JOIN images ON images.id = images_fts.rowid" } else { "images" };
    let words = if words { "images_fts MATCH :words" } else { ":words = ''" };
    let favourite = if fav { "AND images.favourite = 1" } else { "" };
    format!("{table} WHERE {words} AND images.deleted_ms IS NULL {favourite}")
}

/// A picture from the columns [`COLUMNS`], which come first.
pub(crate) fn from_row(row: &Row<'_>) -> Result<ImageRecord, QueueError> {
    let unsigned = |column| row.get::<_, i64>(column).map(|value| value as u64);
    let job = row.get::<_, Option<String>>(1)?.map(|id| id.parse()).transpose();
    Ok(ImageRecord {
        sha256: row.get::<_, String>(0)?.try_into().map_err(QueueError::Damaged)?,
        job: job.map_err(|_| QueueError::Damaged("a picture's job has no id".into()))?,
        index: row.get(2)?,
        seed: unsigned(3)?,
        width: row.get(4)?,
        height: row.get(5)?,
        format: parse_format(&row.get::<_, String>(6)?)?,
        size_bytes: unsigned(7)?,
        created_ms: unsigned(8)?,
        favourite: row.get(9)?,
        prompt: row.get(10)?,
    })
}

fn parse_format(extension: &str) -> Result<Format, QueueError> {
    let known = [Format::Png, Format::Jpeg, Format::Webp].into_iter().find(|format| format.extension() == extension);
    known.ok_or_else(|| QueueError::Damaged(format!("`{extension}` is no format of pictures")))
}

/// The place of a picture in the order of the gallery. Pages that begin behind one stay what they are when pictures
/// come and go.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cursor {
    created_ms: i64,
    id: i64,
}

impl Cursor {
    fn to_text(self) -> String {
        URL_SAFE_NO_PAD.encode([self.created_ms.to_be_bytes(), self.id.to_be_bytes()].concat())
    }

    fn parse(text: &str) -> Result<Cursor, QueueError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
        let number =
            u128::from_be_bytes(bytes.ok_or_else(|| QueueError::Damaged("the cursor is none of ours".into()))?);
        Ok(Cursor { created_ms: (number >> 64) as i64, id: number as i64 })
    }
}
