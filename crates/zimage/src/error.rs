//! What can go wrong on the way from a prompt to a picture.

use std::path::PathBuf;

/// Errors of the library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A checkpoint could not be opened or is not usable.
    #[error(transparent)]
    Weights(#[from] zimage_weights::Error),
    /// A tensor could not be made.
    #[error(transparent)]
    Tensor(#[from] zimage_tensor::Error),
    /// The schedule could not be made.
    #[error(transparent)]
    Schedule(#[from] crate::model::scheduler::ScheduleError),
    /// An input image could not be read.
    #[error(transparent)]
    Image(#[from] crate::pipeline::image::ImageError),
    /// The tokenizer file is not usable.
    #[error("the tokenizer of {model} is not usable: {reason}")]
    Tokenizer {
        /// The model's label.
        model: String,
        /// What is wrong.
        reason: String,
    },
    /// A request that no model can serve.
    #[error("{what}\nhint: {hint}")]
    Request {
        /// What is refused.
        what: String,
        /// What to do instead.
        hint: String,
    },
    /// A value that is infinite or not a number came out of a layer.
    #[error(
        "{stage} produced a value that is not finite, first in {layer} at index {index}\nhint: the weights may be damaged; `zimage doctor` checks them"
    )]
    NonFinite {
        /// `text encoder`, `transformer`, `vae decoder`, ...
        stage: &'static str,
        /// The layer, by its name in the checkpoint.
        layer: String,
        /// Index of the first such value in the layer's output.
        index: usize,
    },
    /// The request needs more memory than it may take.
    #[error(
        "this needs about {} MiB of memory in {phase}, and may take {} MiB\nhint: make a smaller picture, or raise --mem",
        needed_bytes >> 20,
        budget_bytes >> 20
    )]
    Memory {
        /// The phase that needs most.
        phase: &'static str,
        /// Predicted peak.
        needed_bytes: u64,
        /// The cap.
        budget_bytes: u64,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
}

/// Result of the library.
pub type Result<T> = std::result::Result<T, Error>;
