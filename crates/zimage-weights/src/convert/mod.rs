//! Writes models: any that can be read, in any of the layouts that are written.
//!
//! There is one path for all of them. A [`Model`] gives tensors by their canonical names; the rules of the target's
//! dialect say how they are cut and called in its files; a policy says what each is stored as. Tensors are written one
//! after the other, in chunks of rows, so that memory stays flat.

mod destination;
pub(crate) mod encode;
mod model;
mod plan;
pub(crate) mod precision;
mod verify;
mod write;

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::{Error, Parts, Result};

use destination::{Unfinished, check, write_texts};
pub use model::{Model, Opened};
use plan::{Plan, TensorPlan};
pub use precision::{GROUP, PRECISIONS, Precision, Reach};
pub use verify::{Verified, verify};
use write::Writer;

/// A layout that models are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A directory as diffusers saves it.
    Diffusers,
    /// A directory as the original MLX application has it.
    Mlx,
    /// One file with all parts, as ComfyUI's checkpoints are.
    Comfyui,
    /// A directory with a file per part, as ComfyUI's own models are.
    ComfyuiSplit,
    /// A directory with GGUF files of the transformer and the text encoder.
    Gguf,
}

impl Target {
    /// All of them.
    pub const ALL: [Target; 5] = [Target::Diffusers, Target::Mlx, Target::Comfyui, Target::ComfyuiSplit, Target::Gguf];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Target::Diffusers => "diffusers",
            Target::Mlx => "mlx",
            Target::Comfyui => "comfyui",
            Target::ComfyuiSplit => "comfyui-split",
            Target::Gguf => "gguf",
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Target::ALL.map(Target::name).join(", ");
        Target::ALL.into_iter().find(|target| target.name() == text).ok_or(format!("expected one of {names}"))
    }
}

/// What a model is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conversion {
    /// The layout.
    pub target: Target,
    /// What weights are stored as.
    pub precision: Precision,
    /// Which of them are quantized.
    pub reach: Reach,
    /// Whether what is at the destination is replaced.
    pub replace: bool,
}

/// How far a conversion is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The tensor that was written.
    pub tensor: &'a str,
    /// Bytes of all tensors until now.
    pub done_bytes: u64,
    /// Bytes of all tensors.
    pub total_bytes: u64,
}

/// Writes a model to `destination`: a directory, or for [`Target::Comfyui`] a file with a `tokenizer.json` beside it.
///
/// `extra` are files beside those of the target, by their names; beside a file they begin with its name, because others
/// may lie there too. `progress` is called after every tensor; when it
/// returns false the conversion ends with [`Error::Cancelled`]. A directory is filled under another name and renamed at
/// the end: what ends early leaves nothing under the destination's name, and removes what it wrote.
///
/// Refuses a destination that exists, unless it is to be replaced ([`Error::Exists`]), one that cannot be replaced or
/// holds more than a model ([`Error::Destination`]), and a precision that the target has not
/// ([`Error::PrecisionOfTarget`]).
pub fn convert(
    model: &dyn Model,
    conversion: &Conversion,
    destination: &Path,
    extra: &[(&str, Vec<u8>)],
    progress: &mut dyn FnMut(Progress<'_>) -> bool,
) -> Result<()> {
    let Plan { files, mut texts } = Plan::new(model, conversion)?;
    let is_file = conversion.target == Target::Comfyui;
    let stem = destination.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let place = |name: &str| PathBuf::from(if is_file { format!("{stem}.{name}") } else { name.to_owned() });
    texts.extend(extra.iter().map(|(name, bytes)| (place(name), bytes.clone())));
    check(destination, conversion, &texts)?;
    let beside = destination.parent().unwrap_or(Path::new(""));
    let total_bytes = files.iter().flat_map(|file| &file.tensors).map(TensorPlan::size_bytes).sum();
    let writer = Writer { model, progress: RefCell::new(progress), done_bytes: RefCell::new(0), total_bytes };
    if is_file {
        fs::create_dir_all(beside).map_err(Error::io("create", beside))?;
        files.iter().try_for_each(|file| writer.file(destination, file))?;
        return write_texts(beside, &texts);
    }
    let directory = Unfinished::beside(destination)?;
    for file in &files {
        let path = directory.0.join(&file.path);
        let parent = path.parent().unwrap_or(&directory.0);
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        writer.file(&path, file)?;
    }
    write_texts(&directory.0, &texts)?;
    directory.finish(destination)
}

/// The parts that a converted model is opened by.
pub fn parts_of(destination: &Path) -> Parts {
    Parts { transformer: destination.to_path_buf(), ..Parts::default() }
}
