//! What goes on during long work.

use std::path::PathBuf;
use std::time::Duration;

/// News from a pull, an import or a check. The caller answers each with `Continue`, or with `Break` to stop the work; a
/// stopped pull goes on from where it was when it is started again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// What a pull will do, before it begins.
    Planned {
        /// The commit that the revision stands for.
        commit: String,
        /// The files of the model, the largest first. Later events name them by their index.
        files: Vec<PlannedFile>,
        /// The repository's files that Z-Image has no use for.
        skipped: Vec<String>,
    },
    /// More of a file is on the disk.
    Received {
        /// Its index in the plan.
        file: usize,
        /// Bytes of it that are there now; fewer than before where a server made it begin anew.
        bytes: u64,
    },
    /// A file is whole, and its digest is right.
    Finished {
        /// Its index in the plan.
        file: usize,
    },
    /// A transfer failed and will be tried again.
    Retrying {
        /// What is fetched.
        what: String,
        /// Why it failed.
        reason: String,
        /// How long it waits.
        pause: Duration,
    },
    /// Another program is fetching the same file; this one waits for it.
    Locked {
        /// Its index in the plan.
        file: usize,
    },
    /// A file is read in whole, for its digest or to copy it.
    Reading {
        /// The file.
        path: PathBuf,
        /// Its size.
        size_bytes: u64,
    },
}

/// A file of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile {
    /// Its path in the repository.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
    /// Bytes of it that are on this machine already.
    pub present_bytes: u64,
}
