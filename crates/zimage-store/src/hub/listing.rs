//! What a repository holds at a commit: from the hub, or from its cache where the network is off.

use std::fmt;
use std::ops::ControlFlow;
use std::str::FromStr;

use serde::Deserialize;

use super::http::{Http, Trouble, encoded};
use super::{Cache, Repo};
use crate::files::{self, is_below};
use crate::{Error, Event, Result};

/// A model's worth of files; a repository with more is no model.
const MAX_FILES: usize = 10_000;

/// The files of a repository at a commit.
#[derive(Debug, Clone)]
pub(crate) struct Listing {
    pub(crate) commit: String,
    pub(crate) files: Vec<RemoteFile>,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteFile {
    /// Its path, which stays below any directory that it is joined to.
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) id: BlobId,
}

/// The digest of a file, which names it in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BlobId {
    /// Of a large file.
    Sha256(String),
    /// Of a file that lies in git itself: SHA-1 of its length and its bytes.
    Git(String),
}

impl FromStr for BlobId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match text.len() {
            64 if hex => Ok(Self::Sha256(text.to_owned())),
            40 if hex => Ok(Self::Git(text.to_owned())),
            _ => Err(()),
        }
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Sha256(text) | Self::Git(text)) = self;
        f.write_str(text)
    }
}

/// The hub's answer to `/api/models/<id>/revision/<revision>?blobs=true`.
#[derive(Deserialize)]
struct Answer {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

impl Listing {
    /// Asks the hub.
    pub(crate) fn fetch(http: &Http, repo: &Repo, on: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<Self> {
        let revision = encoded(repo.revision(), false);
        let url = format!("{}/api/models/{}/revision/{revision}?blobs=true", http.hub.endpoint, repo.id());
        let retry = &http.hub.retry;
        let what = format!("the list of files of {}", repo.id());
        let mut failures = 0;
        loop {
            let (reason, pause) = match http.text(&url, repo) {
                Ok(text) => return Self::parse(&text, http, repo),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Passing { reason, pause }) => (reason, pause),
                Err(Trouble::Range) => ("a list has no ranges".to_owned(), None),
            };
            failures += 1;
            if failures >= retry.attempts {
                return Err(Error::Transfer { what, reason, attempts: failures });
            }
            let pause = retry.pause(failures, pause);
            if on(Event::Retrying { what: what.clone(), reason, pause }).is_break() {
                return Err(Error::Cancelled);
            }
            std::thread::sleep(pause);
        }
    }

    fn parse(text: &str, http: &Http, repo: &Repo) -> Result<Self> {
        let refused =
            |reason: String| Error::Answer { endpoint: http.hub.endpoint.clone(), repo: repo.id().to_owned(), reason };
        let answer: Answer = serde_json::from_str(text).map_err(|error| refused(error.to_string()))?;
        if !is_commit(&answer.sha) {
            return Err(refused(format!("its commit is {:?}", answer.sha)));
        }
        if answer.siblings.len() > MAX_FILES {
            return Err(refused(format!("it has {} files", answer.siblings.len())));
        }
        let files = answer.siblings.into_iter().map(|sibling| {
            let path = sibling.rfilename.clone();
            sibling.checked().ok_or_else(|| refused(format!("the entry of the file {path:?} is damaged")))
        });
        Ok(Self { commit: answer.sha, files: files.collect::<Result<_>>()? })
    }

    /// What the cache has of a repository.
    pub(crate) fn cached(cache: &Cache, repo: &Repo) -> Result<Self> {
        let absent = || Error::Offline {
            repo: repo.id().to_owned(),
            what: format!("revision {}", repo.revision()),
            cache: cache.directory().to_path_buf(),
        };
        let commit = cache.commit(repo.revision()).ok_or_else(absent)?;
        let snapshot = cache.snapshot(&commit);
        let mut found = Vec::new();
        for path in files::list(&snapshot).map_err(|_| absent())? {
            let place = snapshot.join(&path);
            let size = std::fs::metadata(&place).map_err(Error::io("open", &place))?.len();
            // Links lead to a blob, whose name is its digest. Where files lie in their place, they are read for it.
            let blob = place.canonicalize().ok().and_then(|blob| blob.file_name()?.to_str()?.parse().ok());
            let id = match blob {
                Some(id) => id,
                None => BlobId::Sha256(zimage_weights::digest::sha256_file(&place)?),
            };
            found.push(RemoteFile { path, size, id });
        }
        Ok(Self { commit, files: found })
    }
}

impl Sibling {
    /// The file, if its path and its digest are what they should be.
    fn checked(self) -> Option<RemoteFile> {
        let (id, size) = match self.lfs {
            Some(lfs) => (lfs.sha256.parse().ok().filter(|id| matches!(id, BlobId::Sha256(_)))?, lfs.size),
            None => (self.blob_id?.parse().ok().filter(|id| matches!(id, BlobId::Git(_)))?, self.size?),
        };
        is_below(&self.rfilename).then_some(RemoteFile { path: self.rfilename, size, id })
    }
}

/// Whether a text is a whole commit, and not the name of a branch.
pub(super) fn is_commit(text: &str) -> bool {
    matches!(text.parse(), Ok(BlobId::Git(_)))
}
