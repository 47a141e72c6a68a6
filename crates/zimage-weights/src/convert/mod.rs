//! Writes models: any that can be read, in any of the layouts that are written.
//!
//! There is one path for all of them. A [`Model`] gives tensors by their canonical names; the rules of the target's
//! dialect say how they are cut and called in its files; a policy says what each is stored as. Tensors are written one
//! after the other, in chunks of rows, so that memory stays flat.

mod encode;
mod model;
mod plan;
mod precision;
mod verify;
mod write;

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::{Error, Parts, Result};

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
/// `extra` are files beside those of the target, by their names. `progress` is called after every tensor; when it
/// returns false the conversion ends with [`Error::Cancelled`]. A directory is filled under another name and renamed at
/// the end: what ends early leaves nothing under the destination's name, and removes what it wrote.
///
/// Refuses a destination that exists, unless it is to be replaced ([`Error::Exists`]), and a precision that the target
/// has not ([`Error::PrecisionOfTarget`]).
pub fn convert(
    model: &dyn Model,
    conversion: &Conversion,
    destination: &Path,
    extra: &[(&str, Vec<u8>)],
    progress: &mut dyn FnMut(Progress<'_>) -> bool,
) -> Result<()> {
    let Plan { files, mut texts } = Plan::new(model, conversion)?;
    texts.extend(extra.iter().map(|(name, bytes)| (PathBuf::from(name), bytes.clone())));
    let is_file = conversion.target == Target::Comfyui;
    let beside = destination.parent().unwrap_or(Path::new(""));
    let mut claimed: Vec<PathBuf> = vec![destination.to_path_buf()];
    if is_file {
        claimed.extend(
            texts.iter().filter(|(path, bytes)| !is_same(&beside.join(path), bytes)).map(|(path, _)| beside.join(path)),
        );
    }
    if let Some(path) = claimed.into_iter().find(|path| path.exists() && !conversion.replace) {
        return Err(Error::Exists { path });
    }
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

/// Whether a file has these bytes already.
fn is_same(path: &Path, bytes: &[u8]) -> bool {
    fs::read(path).is_ok_and(|found| found == bytes)
}

fn write_texts(directory: &Path, texts: &[(PathBuf, Vec<u8>)]) -> Result<()> {
    for (file, bytes) in texts {
        let path = directory.join(file);
        let parent = path.parent().unwrap_or(directory);
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        fs::write(&path, bytes).map_err(Error::io("write", &path))?;
    }
    Ok(())
}

/// A directory under another name, removed when dropped before it is finished.
struct Unfinished(PathBuf);

impl Unfinished {
    fn beside(destination: &Path) -> Result<Self> {
        let invalid = || std::io::Error::from(std::io::ErrorKind::InvalidInput);
        let name = destination.file_name().ok_or_else(|| Error::io("write", destination)(invalid()))?;
        let path = destination.with_file_name(format!(".{}.{}.part", name.to_string_lossy(), std::process::id()));
        fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        Ok(Self(path))
    }

    /// Gives the directory its name. What was there before goes only then.
    fn finish(mut self, destination: &Path) -> Result<()> {
        let old = destination.exists().then(|| self.0.with_extension("old"));
        if let Some(old) = &old {
            fs::rename(destination, old).map_err(Error::io("replace", destination))?;
        }
        fs::rename(&self.0, destination).map_err(Error::io("write", destination))?;
        self.0 = PathBuf::new();
        match old {
            Some(old) if old.is_dir() => fs::remove_dir_all(&old).map_err(Error::io("remove", &old)),
            Some(old) => fs::remove_file(&old).map_err(Error::io("remove", &old)),
            None => Ok(()),
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // The error that brought us here is already on its way to the caller.
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
