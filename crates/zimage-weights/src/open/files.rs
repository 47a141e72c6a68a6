//! The files of a checkpoint by their relative paths, on disk or in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::Value;

use crate::container::{File, Shards};
use crate::{Error, Result};

/// A directory, or files that are part of the program.
#[derive(Clone, Debug)]
pub(super) struct Files {
    label: String,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Directory(PathBuf),
    Embedded(BTreeMap<&'static str, Bytes>),
}

impl Files {
    pub(super) fn directory(path: &Path) -> Self {
        Self { label: path.display().to_string(), source: Source::Directory(path.to_path_buf()) }
    }

    pub(super) fn embedded(label: &str, files: Vec<(&'static str, Bytes)>) -> Self {
        Self { label: label.to_owned(), source: Source::Embedded(files.into_iter().collect()) }
    }

    /// The directory, or the name of the embedded checkpoint.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// The directory, if it is one.
    pub(super) fn root(&self) -> Option<&Path> {
        match &self.source {
            Source::Directory(root) => Some(root),
            Source::Embedded(_) => None,
        }
    }

    /// A file's name in messages.
    pub(super) fn display(&self, file: &str) -> String {
        match &self.source {
            Source::Directory(root) => root.join(file).display().to_string(),
            Source::Embedded(_) => format!("{file} of the {}", self.label),
        }
    }

    pub(super) fn exists(&self, file: &str) -> bool {
        match &self.source {
            Source::Directory(root) => root.join(file).is_file(),
            Source::Embedded(files) => files.contains_key(file),
        }
    }

    /// A file's bytes, copied from disk.
    pub(super) fn read(&self, file: &str) -> Result<Bytes> {
        match &self.source {
            Source::Directory(root) => {
                let path = root.join(file);
                std::fs::read(&path).map(Bytes::from).map_err(Error::io("read", &path))
            }
            Source::Embedded(files) => files.get(file).cloned().ok_or_else(|| self.absent(file)),
        }
    }

    /// The files that are in memory, by their paths; none for a directory.
    pub(super) fn in_memory(&self) -> impl Iterator<Item = (&'static str, &Bytes)> {
        let files = match &self.source {
            Source::Directory(_) => None,
            Source::Embedded(files) => Some(files),
        };
        files.into_iter().flatten().map(|(path, bytes)| (*path, bytes))
    }

    pub(super) fn json(&self, file: &str) -> Result<Value> {
        let text = self.read(file)?;
        serde_json::from_slice(&text).map_err(|source| Error::Json { file: self.display(file), source })
    }

    /// A file of tensors, mapped and not copied.
    pub(super) fn open(&self, file: &str) -> Result<File> {
        match &self.source {
            Source::Directory(root) => File::open(&root.join(file)),
            Source::Embedded(_) => File::from_bytes(&self.display(file), self.read(file)?),
        }
    }

    /// The shards in a folder of the checkpoint.
    pub(super) fn folder<'a>(&'a self, folder: &'a str) -> Folder<'a> {
        Folder { files: self, folder }
    }

    fn absent(&self, file: &str) -> Error {
        Error::MissingFiles { label: self.label.clone(), missing: vec![file.to_owned()] }
    }
}

/// One folder of the files.
pub(super) struct Folder<'a> {
    files: &'a Files,
    folder: &'a str,
}

impl Shards for Folder<'_> {
    fn open(&self, name: &str) -> Result<Option<File>> {
        let file = format!("{}/{name}", self.folder);
        if self.files.exists(&file) { self.files.open(&file).map(Some) } else { Ok(None) }
    }
}
