//! Where a model is written: what may be replaced there, and how nothing is left half written.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Conversion, Target};
use crate::{Error, Result};

/// What layouts and Hugging Face's tools put at the top of a model directory, beside weights.
const KNOWN: [&str; 18] = [
    "model_index.json",
    "config.json",
    "text_encoder_config.json",
    "vae_config.json",
    "merge_info.json",
    "lora_fusion_info.json",
    "transformer",
    "text_encoder",
    "vae",
    "tokenizer",
    "scheduler",
    "diffusion_models",
    "text_encoders",
    "tokenizer.json",
    "README.md",
    ".gitattributes",
    ".cache",
    ".DS_Store",
];

/// Refuses, before anything is written, a destination that is taken or that a model cannot have.
pub(super) fn check(destination: &Path, conversion: &Conversion, texts: &[(PathBuf, Vec<u8>)]) -> Result<()> {
    let refuse = |problem: String| Err(Error::Destination { path: destination.to_path_buf(), problem });
    let is_file = conversion.target == Target::Comfyui;
    if destination.file_name().is_none() {
        return refuse("it has no name of its own".to_owned());
    }
    let is_folder = destination.is_dir() || destination.to_string_lossy().ends_with(std::path::is_separator);
    if is_file && is_folder {
        return refuse("it is a directory, and this layout is one file".to_owned());
    }
    let mut claimed: Vec<PathBuf> = vec![destination.to_path_buf()];
    if is_file {
        let beside = destination.parent().unwrap_or(Path::new(""));
        let places = texts.iter().map(|(path, bytes)| (beside.join(path), bytes));
        claimed.extend(places.filter(|(path, bytes)| !is_same(path, bytes)).map(|(path, _)| path));
    }
    if let Some(path) = claimed.into_iter().find(|path| exists(path) && !conversion.replace) {
        return Err(Error::Exists { path });
    }
    match destination.is_dir().then(|| stranger_in(destination)).transpose()?.flatten() {
        Some(name) => refuse(format!("it holds more than a model, {name} for one, and all of it would be removed")),
        None => Ok(()),
    }
}

/// Something in a directory that is of no model: it must not go with the model that is replaced.
fn stranger_in(directory: &Path) -> Result<Option<String>> {
    let refused = || Error::io("read", directory);
    for entry in fs::read_dir(directory).map_err(refused())? {
        let name = entry.map_err(refused())?.file_name().to_string_lossy().into_owned();
        let ends = |ending: &str| name.ends_with(ending);
        let is_weights = ends(".safetensors") || ends(".gguf") || ends(".safetensors.index.json");
        if !is_weights && !KNOWN.contains(&&*name) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Whether something has this name, be it a link to nothing.
fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Whether a file has these bytes already.
fn is_same(path: &Path, bytes: &[u8]) -> bool {
    fs::read(path).is_ok_and(|found| found == bytes)
}

pub(super) fn write_texts(directory: &Path, texts: &[(PathBuf, Vec<u8>)]) -> Result<()> {
    for (file, bytes) in texts {
        let path = directory.join(file);
        let parent = path.parent().unwrap_or(directory);
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        fs::write(&path, bytes).map_err(Error::io("write", &path))?;
    }
    Ok(())
}

/// A directory under another name, removed when dropped before it is finished.
pub(super) struct Unfinished(pub(super) PathBuf);

impl Unfinished {
    pub(super) fn beside(destination: &Path) -> Result<Self> {
        let invalid = || std::io::Error::from(std::io::ErrorKind::InvalidInput);
        let name = destination.file_name().ok_or_else(|| Error::io("write", destination)(invalid()))?;
        let path = destination.with_file_name(format!(".{}.{}.part", name.to_string_lossy(), std::process::id()));
        fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        Ok(Self(path))
    }

    /// Gives the directory its name. What was there before goes only then.
    pub(super) fn finish(mut self, destination: &Path) -> Result<()> {
        let old = exists(destination).then(|| self.0.with_extension("old"));
        if let Some(old) = &old {
            fs::rename(destination, old).map_err(Error::io("replace", destination))?;
        }
        if let Err(error) = fs::rename(&self.0, destination) {
            if let Some(old) = &old {
                // The error that is returned says more than that this failed too.
                let _ = fs::rename(old, destination);
            }
            return Err(Error::io("write", destination)(error));
        }
        self.0 = PathBuf::new();
        match old {
            Some(old) if old.is_dir() && !old.is_symlink() => {
                fs::remove_dir_all(&old).map_err(Error::io("remove", &old))
            }
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
