//! Whether the files of a model are still what they were.

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;

use serde::Serialize;
use zimage_weights::digest::sha256_file;

use super::Store;
use super::import::tell;
use crate::{Error, Event, FileRecord, Record, Result};

/// A file of a model, read anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its path in the model.
    pub path: String,
    /// Where its bytes are.
    pub place: PathBuf,
    /// What was found.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What a file is compared with its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// The same bytes.
    Same,
    /// It is not there.
    Missing,
    /// Another number of bytes.
    Size {
        /// By the record.
        expected: u64,
        /// On the disk.
        found: u64,
    },
    /// Other bytes.
    Digest {
        /// SHA-256 by the record.
        expected: String,
        /// SHA-256 of the file.
        found: String,
    },
}

impl Store {
    /// Reads every file of a model and compares it with what it was when it was installed.
    ///
    /// Errors are those of [`Store::find`], and [`Error::ByHand`] for a model without a record.
    pub fn verify(&self, name: &str, on: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<Vec<Check>> {
        let model = self.find(name)?;
        let Some(record) = &model.record else {
            return Err(Error::ByHand { name: model.name, path: model.path });
        };
        record.files.iter().map(|file| check(record, file, on)).collect()
    }
}

fn check(record: &Record, file: &FileRecord, on: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<Check> {
    let link = record.place(file);
    let place = link.canonicalize().unwrap_or_else(|_| link.clone());
    let verdict = match fs::metadata(&place) {
        Err(_) => Verdict::Missing,
        Ok(metadata) if metadata.len() != file.size_bytes => {
            Verdict::Size { expected: file.size_bytes, found: metadata.len() }
        }
        Ok(metadata) => {
            tell(on, Event::Reading { path: link, size_bytes: metadata.len() })?;
            let found = sha256_file(&place)?;
            match &file.sha256 {
                Some(expected) if *expected == found => Verdict::Same,
                expected => Verdict::Digest { expected: expected.clone().unwrap_or_default(), found },
            }
        }
    };
    Ok(Check { path: file.path.clone(), place, verdict })
}
