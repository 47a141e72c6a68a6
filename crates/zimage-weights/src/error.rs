//! The error of this crate.

use std::io;
use std::path::{Path, PathBuf};

use crate::audit::Audit;
use crate::container::{GgufProblem, Problem};
use crate::schema::Component;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong with the files of a checkpoint. Every message names the file, and the tensor where there is one.
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
    /// The file is something else under the name of a safetensors file.
    #[error("{file} is not safetensors: this is {what}\nhint: {hint}")]
    NotSafetensors {
        /// The file.
        file: String,
        /// What it is instead.
        what: &'static str,
        /// What to do about it.
        hint: &'static str,
    },
    /// The file claims to be safetensors and breaks its rules.
    #[error("{file} is not a valid safetensors file: {problem}")]
    Safetensors {
        /// The file.
        file: String,
        /// The broken rule.
        problem: Problem,
    },
    /// A JSON file does not parse.
    #[error("{file} is not valid JSON: {source}")]
    Json {
        /// The file.
        file: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The index of a sharded checkpoint is unusable or its shards do not agree with it.
    #[error("{file} does not describe its shards: {}", problems.join("; "))]
    Index {
        /// The index file.
        file: String,
        /// Everything that is wrong.
        problems: Vec<String>,
    },
    /// A config has no such key.
    #[error("{file}: {key} is missing")]
    ConfigMissing {
        /// The config file.
        file: String,
        /// The key.
        key: String,
    },
    /// A config asks for something that is wrong or that this program does not do.
    #[error("{file}: {key} is {found}, expected {expected}")]
    Config {
        /// The config file.
        file: String,
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// What this program can use.
        expected: String,
    },
    /// Files of a checkpoint are not there.
    #[error("{label} is not a complete checkpoint, missing: {}", missing.join(", "))]
    MissingFiles {
        /// The checkpoint.
        label: String,
        /// Every missing file, relative to the checkpoint.
        missing: Vec<String>,
    },
    /// Parts of a checkpoint are not there.
    #[error("{label} is not a complete checkpoint, missing: {}\nhint: {hint}", missing.join(", "))]
    MissingParts {
        /// The path of the model.
        label: String,
        /// Every missing part.
        missing: Vec<String>,
        /// How to give them.
        hint: String,
    },
    /// The path holds something that this program cannot run.
    #[error("{label} cannot be opened: {what}\nhint: {hint}")]
    NotACheckpoint {
        /// The path.
        label: String,
        /// What it is: "this is a FluxPipeline checkpoint, not Z-Image".
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// Names or shapes are not those of the model.
    #[error("{label}: the {component} does not fit its config: {audit}")]
    Audit {
        /// The checkpoint.
        label: String,
        /// Which part of it.
        component: Component,
        /// All missing, unknown and misshapen tensors.
        audit: Box<Audit>,
    },
    /// A transformer without pad tokens: the original application drops them, and pictures need them.
    #[error(
        "{label} has no pad tokens (x_pad_token, cap_pad_token): the program that wrote it dropped them, and without them \
         pictures are not those of Z-Image\nhint: take them from another Z-Image checkpoint of the same kind with \
         --pad-tokens-from PATH"
    )]
    MissingPads {
        /// The checkpoint.
        label: String,
    },
    /// Weights are stored in a way that is not read.
    #[error("{label}: {count} tensors of the {component} cannot be read, the first is {tensor}: {reason}")]
    UnsupportedFormat {
        /// The checkpoint.
        label: String,
        /// Which part of it.
        component: Component,
        /// The first of them, by its name in the file.
        tensor: String,
        /// Why: "its format asym_w4a8_int8 is not read".
        reason: String,
        /// How many there are.
        count: usize,
    },
    /// The tensors that make up a weight do not fit each other.
    #[error("{label}: {tensor} cannot be read: {reason}")]
    UnreadableWeight {
        /// The checkpoint.
        label: String,
        /// The tensor, by its name in the file.
        tensor: String,
        /// What does not fit.
        reason: String,
    },
    /// Weights were to be written in a format that is only read.
    #[error("weights cannot be written as {format} here")]
    UnwritableFormat {
        /// The name of the format.
        format: String,
    },
    /// Models that are to be merged are not of one kind.
    #[error("{label} cannot be merged with {base}: {problem}")]
    Merge {
        /// The model.
        label: String,
        /// The one that it is merged into.
        base: String,
        /// What differs, and what can be done about it.
        problem: String,
    },
    /// Models that are to be merged have weights that do not go with them.
    #[error(
        "models cannot be merged like this: {problem}\nhint: give one weight for each model after the first, such as 0.3,0.2; add-difference has one"
    )]
    MergeWeights {
        /// What is wrong.
        problem: String,
    },
    /// Files of a layout cannot hold weights of a precision.
    #[error(
        "{target} files cannot hold {precision} weights\nhint: int2 to int8 are for mlx, q8_0, q4_k and the like for gguf; \
         f32, bf16 and f16 are for all"
    )]
    PrecisionOfTarget {
        /// The precision that was asked for.
        precision: String,
        /// The layout.
        target: &'static str,
    },
    /// What was to be written is there already.
    #[error("{} exists\nhint: choose another name, or replace it with --force", path.display())]
    Exists {
        /// The file or directory.
        path: PathBuf,
    },
    /// A model cannot be written there, or would take the place of something else.
    #[error("cannot write a model to {}: {problem}\nhint: choose another name", path.display())]
    Destination {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// A written tensor is not what its source is in its format.
    #[error("the written {component} differs from its source in {tensor}")]
    NotVerified {
        /// Its canonical name.
        tensor: String,
        /// The part that it is of.
        component: Component,
    },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// The file claims to be GGUF and breaks its rules.
    #[error("{file} is not a valid GGUF file: {problem}")]
    Gguf {
        /// The file.
        file: String,
        /// The broken rule.
        problem: GgufProblem,
    },
    /// The file is one part of a GGUF file that was split.
    #[error(
        "{file} is part {part} of {count} of a split GGUF file\n\
         hint: join the parts with `llama-gguf-split --merge`, giving it the first part, and use the file it writes"
    )]
    SplitGguf {
        /// The file.
        file: String,
        /// Which part it is, from 1.
        part: u64,
        /// How many parts there are.
        count: u64,
    },
    /// Two files that are read together have a tensor of the same name.
    #[error("{file} and {other} both have a tensor {tensor}")]
    SharedTensor {
        /// The later file.
        file: String,
        /// The one before it.
        other: String,
        /// The tensor.
        tensor: String,
    },
    /// The file is no LoRA that can be used.
    #[error("{file} is not a LoRA for this model: {problem}")]
    Lora {
        /// The file.
        file: String,
        /// Why.
        problem: Box<crate::lora::LoraProblem>,
    },
    /// There is no tensor of this name.
    #[error("{file} has no tensor {tensor}")]
    NoTensor {
        /// The file or checkpoint.
        file: String,
        /// The name asked for.
        tensor: String,
    },
    /// A tensor to be written, or a key, is not what was announced or is nothing that the format has.
    #[error("cannot write {tensor} to {file}: {problem}")]
    WriteTensor {
        /// The file being written.
        file: String,
        /// The tensor or the key.
        tensor: String,
        /// What does not fit.
        problem: String,
    },
}

impl Error {
    /// Replaces the relative name of a config file by its place in a checkpoint.
    pub(crate) fn in_checkpoint(mut self, place: impl FnOnce(&str) -> String) -> Error {
        if let Error::Config { file, .. } | Error::ConfigMissing { file, .. } = &mut self {
            *file = place(file);
        }
        self
    }

    /// Wraps an error of the operating system with the path it is about; made for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { action, path, source }
    }
}
