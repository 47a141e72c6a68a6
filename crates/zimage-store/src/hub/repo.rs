//! Names of repositories, checked once.

use std::fmt;
use std::str::FromStr;

use crate::files::is_below;
use crate::{Error, Result};

const MAX_ID_BYTES: usize = 96;

/// `ORGANIZATION/NAME[@REVISION][:FILE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repo {
    id: String,
    revision: Option<String>,
    file: Option<String>,
}

impl Repo {
    /// "Tongyi-MAI/Z-Image-Turbo".
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A branch, tag or commit; `main` unless one was given.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// The one file that is wanted, if not the whole model.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }
}

impl FromStr for Repo {
    type Err = Error;

    /// The rules for ids are those of huggingface_hub's `validate_repo_id`.
    fn from_str(text: &str) -> Result<Self> {
        let refused = |reason| Error::RepoId { text: text.to_owned(), reason };
        if text.contains("://") {
            return Err(refused("it is an address"));
        }
        let (rest, file) = text.split_once(':').map_or((text, None), |(rest, file)| (rest, Some(file)));
        let (id, revision) = rest.split_once('@').map_or((rest, None), |(id, revision)| (id, Some(revision)));
        let word = |word: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            !word.is_empty() && word.chars().all(plain) && !word.starts_with(['.', '-']) && !word.ends_with(['.', '-'])
        };
        if !id.split_once('/').is_some_and(|(organization, name)| word(organization) && word(name)) {
            return Err(refused("it is not two words with a slash between them"));
        }
        // Two dashes stand for the slash in the names of the cache.
        if id.len() > MAX_ID_BYTES || id.contains("--") || id.contains("..") || id.ends_with(".git") {
            return Err(refused("it is longer than 96 bytes, has `--` or `..`, or ends with .git"));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/+".contains(c);
        if revision.is_some_and(|revision| !is_below(revision) || !revision.chars().all(plain)) {
            return Err(refused("its revision is no branch, tag or commit"));
        }
        if file.is_some_and(|file| !is_below(file)) {
            return Err(refused("its file is no path in a repository"));
        }
        Ok(Self { id: id.to_owned(), revision: revision.map(str::to_owned), file: file.map(str::to_owned) })
    }
}

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))?;
        self.file.iter().try_for_each(|file| write!(f, ":{file}"))
    }
}

#[cfg(test)]
mod tests;
