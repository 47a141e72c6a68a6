//! What lasts: the database (`zimage.db`) and the files of pictures, uploads and thumbnails beside it.
//!
//! The database can be lost: [`rebuild`] makes the gallery again from what the pictures say of themselves.

mod database;
mod files;
pub(crate) mod gallery;
mod keys;
mod rebuild;
mod search;

pub use database::Database;
pub use files::{Files, StoredFile};
pub use gallery::{Gallery, Page, Query};
pub use keys::{ApiKey, Keys, NewKey};
pub use rebuild::{Rebuilt, rebuild};

/// An unsigned number as SQLite stores it: the signed one of the same bits.
pub(crate) fn signed(value: u64) -> i64 {
    value as i64
}
