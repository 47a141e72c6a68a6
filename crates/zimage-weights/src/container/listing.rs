//! The tensors of one file, whichever way its header lists them.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::mmap::Pages;
use super::{TensorInfo, TensorView};
use crate::{Error, Result};

/// A file's tensors by their names, and the bytes that they are windows of.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    label: String,
    path: Option<PathBuf>,
    /// Sorted by name.
    entries: Vec<Entry>,
    data: Bytes,
    /// Of a file that is mapped.
    pages: Option<Pages>,
}

/// A tensor of a header; the range was checked against dtype, shape and file.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) info: TensorInfo,
    pub(super) begin: usize,
    pub(super) end: usize,
}

impl Listing {
    /// The checked tensors of `data`; `label` stands for the file in messages.
    pub(super) fn new(label: &str, mut entries: Vec<Entry>, data: Bytes) -> Self {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Self { label: label.to_owned(), path: None, entries, data, pages: None }
    }

    /// Remembers the file that the bytes are mapped from.
    pub(super) fn map(&mut self, path: &Path, pages: Pages) {
        self.path = Some(path.to_path_buf());
        self.pages = Some(pages);
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// See [`File::release_pages`](super::File::release_pages).
    pub(super) fn release_pages(&self) {
        self.pages.iter().for_each(Pages::release);
    }

    /// Bytes of all tensors together, without what aligns them.
    pub(super) fn data_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.end - entry.begin).sum()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.entries.iter().map(|entry| (entry.name.as_str(), &entry.info))
    }

    pub(super) fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.entry(name).map(|entry| &entry.info)
    }

    pub(super) fn tensor(&self, name: &str) -> Result<TensorView> {
        let missing = || Error::NoTensor { file: self.label.clone(), tensor: name.to_owned() };
        let entry = self.entry(name).ok_or_else(missing)?;
        Ok(TensorView {
            name: name.to_owned(),
            dtype: entry.info.dtype,
            shape: entry.info.shape.clone(),
            data: self.data.slice(entry.begin..entry.end),
        })
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| entry.name.as_str().cmp(name)).ok()?;
        Some(&self.entries[at])
    }
}
