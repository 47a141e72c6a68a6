//! The error of this crate.

use std::io;
use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a model could not be found, fetched, installed or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: "open", "read", "write".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A checkpoint cannot be read.
    #[error(transparent)]
    Weights(#[from] zimage_weights::Error),
    /// A text cannot be the name of a model.
    #[error(
        "`{name}` cannot be the name of a model: {reason}\nhint: use letters, digits, dots, dashes and underscores"
    )]
    Name {
        /// The text.
        name: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// Another model has the name.
    #[error("there is a model `{name}` already: {what}\nhint: choose another name with --name, or remove it first")]
    Taken {
        /// The name.
        name: String,
        /// Where that one comes from.
        what: String,
    },
    /// No model has the name.
    #[error("no model `{name}` is installed\nhint: {hint}")]
    Unknown {
        /// The name.
        name: String,
        /// What is there instead, or how to get one.
        hint: String,
    },
    /// A record of the store cannot be read or written.
    #[error("the record {} is not usable: {reason}", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A path to import holds nothing that this program can use.
    #[error("{} cannot be installed: {reason}", path.display())]
    NotUsable {
        /// The path.
        path: PathBuf,
        /// The reason; may have a hint.
        reason: String,
    },
    /// A model that the store did not bring here.
    #[error(
        "`{name}` was put into the models directory by hand, and the store has no digests of it and removes nothing of it\n\
         hint: its files are {}; `zimage models import PATH` makes a record",
        path.display()
    )]
    ByHand {
        /// The model.
        name: String,
        /// Its files.
        path: PathBuf,
    },
    /// A pull that did not end.
    #[error("`{name}` was not fetched to the end\nhint: go on with `zimage models pull {repo}`")]
    Incomplete {
        /// The model.
        name: String,
        /// Its repository.
        repo: String,
    },
    /// A text does not name a repository.
    #[error(
        "`{text}` does not name a repository: {reason}\nhint: write ORGANIZATION/NAME, as in Tongyi-MAI/Z-Image-Turbo; \
             @REVISION and :FILE may follow"
    )]
    RepoId {
        /// The text.
        text: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The address of the hub is unusable.
    #[error(
        "`{endpoint}` is not the address of a hub: {reason}\nhint: HF_ENDPOINT is an address such as https://huggingface.co"
    )]
    Endpoint {
        /// The address.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The network may not be used, and the cache does not have the files.
    #[error("{what} of {repo} is not in the cache {}, and the network is off\nhint: unset HF_HUB_OFFLINE, or pull it on a \
             machine with a network and copy the cache", cache.display())]
    Offline {
        /// The repository.
        repo: String,
        /// What is missing.
        what: String,
        /// The cache that was looked into.
        cache: PathBuf,
    },
    /// The hub wants to know who asks.
    #[error("{repo} is not open to {who} (status {status})\nhint: {hint}")]
    Denied {
        /// The repository.
        repo: String,
        /// "everybody", "this account".
        who: &'static str,
        /// 401 or 403.
        status: u16,
        /// What to do.
        hint: &'static str,
    },
    /// The hub has no such thing.
    #[error("{endpoint} has no {what}\nhint: {hint}")]
    NotFound {
        /// The hub.
        endpoint: String,
        /// "repository X", "revision Y of X", "file Z in X".
        what: String,
        /// What to do.
        hint: String,
    },
    /// The hub answered something that makes no sense.
    #[error("{endpoint} gave no usable answer about {repo}: {reason}")]
    Answer {
        /// The hub.
        endpoint: String,
        /// The repository.
        repo: String,
        /// What is wrong.
        reason: String,
    },
    /// A transfer failed as often as it is tried.
    #[error(
        "cannot fetch {what}: {reason}, {attempts} times in a row\nhint: what was received is kept, the same command goes on from there"
    )]
    Transfer {
        /// What was fetched.
        what: String,
        /// Why it failed the last time.
        reason: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// The bytes received are not the ones that the repository has.
    #[error(
        "{what} arrived damaged: expected digest {expected}, found {found}\nhint: it was deleted; pull again, through \
             another network or mirror if it happens again"
    )]
    Damaged {
        /// The file.
        what: String,
        /// Digest by the repository.
        expected: String,
        /// Digest of what was received.
        found: String,
    },
    /// A repository holds several models, or several precisions of one.
    #[error("{repo} holds several models: {}\nhint: choose one, as in `zimage models pull {repo}:{}`",
            files.join(", "), files.first().map_or("", String::as_str))]
    Choose {
        /// The repository.
        repo: String,
        /// The weight files to choose from.
        files: Vec<String>,
    },
    /// A repository has no weights that this program reads.
    #[error("{repo} has no weight files (.safetensors, .gguf)\nhint: the real model is Tongyi-MAI/Z-Image-Turbo")]
    NoWeights {
        /// The repository.
        repo: String,
    },
    /// The disk is too full.
    #[error("{needed} bytes are still to be fetched, and {} has {available} free\nhint: make room, or set HF_HUB_CACHE to a \
             directory on another disk", path.display())]
    Space {
        /// The directory.
        path: PathBuf,
        /// Bytes to be written.
        needed: u64,
        /// Bytes that are free.
        available: u64,
    },
    /// The caller stopped the work.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// Wraps an error of the operating system with the path it is about; made for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { action, path, source }
    }
}
