//! Names of installed models.

use std::fmt;
use std::path::Path;

use crate::{Error, Result};

const MAX_BYTES: usize = 100;

/// The name of a model, which is also the name of a file on every system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// Refuses names that are paths, hidden files, or not to be had on some system ([`Error::Name`]).
    pub fn new(name: &str) -> Result<Self> {
        let allowed = |c: char| c.is_alphanumeric() || " ._-+()".contains(c);
        let reason = if name.is_empty() {
            "it is empty"
        } else if name.len() > MAX_BYTES {
            "it is longer than 100 bytes"
        } else if name.starts_with(['.', '-', ' ']) || name.ends_with(['.', ' ']) {
            "it begins with a dot, dash or space, or ends with a dot or space"
        } else if !name.chars().all(allowed) {
            "it has characters that file names or commands cannot have"
        } else {
            return Ok(Self(name.to_owned()));
        };
        Err(Error::Name { name: name.to_owned(), reason })
    }

    /// The name that a file gives its model when nobody chooses one: its own without the ending.
    pub(crate) fn of_file(path: &str) -> Result<Self> {
        let path = path.strip_suffix(".safetensors.index.json").unwrap_or(path);
        let stem = Path::new(path).file_stem().unwrap_or_default();
        Self::new(&stem.to_string_lossy())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
