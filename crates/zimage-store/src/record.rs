//! What the store knows of a model: one JSON file in `<home>/models/.store`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::{is_below, write_at_once};
use crate::{Error, Result};

/// The version of the format that this program writes.
const VERSION: u32 = 1;

/// A model whose files lie anywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// What is opened: a directory or a file.
    pub path: PathBuf,
    /// The directory that the paths of `files` begin at.
    pub root: PathBuf,
    /// How it came here.
    pub source: Source,
    /// Whether all files are there; a pull writes its record before it begins.
    pub complete: bool,
    /// Its files.
    pub files: Vec<FileRecord>,
    /// What the store brought here for it at earlier commits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub older: Vec<Older>,
}

/// Files of an earlier commit of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Older {
    /// The directory that their paths begin at.
    pub root: PathBuf,
    /// Those that the store may remove.
    pub paths: Vec<String>,
}

/// How a model came here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Source {
    /// Pulled from a hub; the files are in its cache.
    Hub {
        /// The address of the hub.
        endpoint: String,
        /// "Tongyi-MAI/Z-Image-Turbo".
        repo: String,
        /// The branch, tag or commit that was asked for.
        revision: String,
        /// The commit that it stood for.
        commit: String,
    },
    /// The files stay where their owner keeps them.
    Link,
    /// The files were copied into `<home>/models`.
    Copy {
        /// Where they were.
        from: PathBuf,
    },
}

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its path below the record's root, with `/` between its parts.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256 in lower-case hexadecimal; none before the file was here.
    pub sha256: Option<String>,
    /// Whether the store brought it here, and may remove it.
    pub owned: bool,
}

impl Record {
    pub(crate) fn new(path: PathBuf, root: PathBuf, source: Source, complete: bool, files: Vec<FileRecord>) -> Self {
        Self { version: VERSION, path, root, source, complete, files, older: Vec::new() }
    }

    /// Reads a record; [`Error::Record`] where it is damaged, or from a later version of this program.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let refused = |reason: String| Error::Record { path: path.to_path_buf(), reason };
        let text = fs::read(path).map_err(Error::io("read", path))?;
        let record: Self = serde_json::from_slice(&text).map_err(|error| refused(error.to_string()))?;
        if record.version != VERSION {
            return Err(refused(format!("it has version {}, expected {VERSION}", record.version)));
        }
        let older = record.older.iter().flat_map(|older| &older.paths);
        match record.files.iter().map(|file| &file.path).chain(older).find(|path| !is_below(path)) {
            Some(path) => Err(refused(format!("the path `{path}` leads out of the model"))),
            None => Ok(record),
        }
    }

    /// Writes the record.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let refused = |error: serde_json::Error| Error::Record { path: path.to_path_buf(), reason: error.to_string() };
        write_at_once(path, &serde_json::to_vec_pretty(self).map_err(refused)?)
    }

    /// All files that the store may remove, by the directory that their paths begin at.
    pub(crate) fn owned(&self) -> Vec<Older> {
        let owned = self.files.iter().filter(|file| file.owned).map(|file| file.path.clone());
        let now = Older { root: self.root.clone(), paths: owned.collect() };
        std::iter::once(now).chain(self.older.iter().cloned()).collect()
    }

    /// Where one of its files is.
    pub fn place(&self, file: &FileRecord) -> PathBuf {
        self.root.join(&file.path)
    }

    /// Where the model comes from, in words.
    pub fn origin(&self) -> String {
        match &self.source {
            Source::Hub { repo, commit, .. } => format!("{repo}@{}", commit.get(..8).unwrap_or(commit)),
            Source::Link => self.path.display().to_string(),
            Source::Copy { from } => format!("copied from {}", from.display()),
        }
    }
}
