//! Finds the parts of a model in a directory that is not in the layout of diffusers, by looking into its files.
//!
//! MLX directories have `weights.safetensors`, `text_encoder.safetensors` and `vae.safetensors`; mflux saves shards in a
//! folder per part; ComfyUI keeps one file per part in `diffusion_models`, `text_encoders` and `vae`; GGUF files lie
//! beside each other. What holds a part is found by its tensors, so that names of files don't matter.

use std::path::{Path, PathBuf};

use super::parts::{Source, held};
use super::{Parts, SCHEDULER_CONFIG};
use crate::container::Container;
use crate::dialect::mlx;
use crate::schema::Component;
use crate::{Error, Result};

/// Folders of a model directory that may hold a part.
const FOLDERS: [&str; 7] =
    ["transformer", "text_encoder", "vae", "diffusion_models", "text_encoders", "unet", "checkpoints"];

/// The parts in a directory, or `None` where it has no weights at all.
///
/// Refuses a directory in which a part is there twice, and one whose only weights are those of something else.
pub(super) fn parts_in(directory: &Path) -> Result<Option<Parts>> {
    let mut found: Vec<(Component, Source)> = Vec::new();
    let mut refused = None;
    let sources = sources_in(directory)?;
    let none = sources.is_empty();
    for source in sources.into_iter().filter(|source| !source.path().ends_with(mlx::PAD_TOKENS)) {
        // A LoRA or an upscaler may lie beside a model.
        match source.container(Component::Transformer).and_then(|container| held(&source.label(), &container)) {
            Ok(components) => found.extend(components.into_iter().map(|component| (component, source.clone()))),
            Err(error) => refused = Some(error),
        }
    }
    if none || found.is_empty() {
        return refused.map_or(Ok(None), Err);
    }
    let one = |component: Component| -> Result<Option<PathBuf>> {
        let mut of = found.iter().filter(|(held, _)| *held == component).map(|(_, source)| source);
        match (of.next(), of.next()) {
            (Some(first), Some(second)) => Err(Error::NotACheckpoint {
                label: directory.display().to_string(),
                what: format!("it has more than one {component}: {} and {}", first.label(), second.label()),
                hint: "give the file of the one that you want".to_owned(),
            }),
            (first, _) => Ok(first.map(Source::path)),
        }
    };
    let (transformer, text_encoder, vae) =
        (one(Component::Transformer)?, one(Component::TextEncoder)?, one(Component::Vae)?);
    let existing = |file: &str| Some(directory.join(file)).filter(|path| path.is_file());
    Ok(Some(Parts {
        transformer: transformer.unwrap_or_else(|| directory.to_path_buf()),
        text_encoder,
        vae,
        tokenizer: existing(super::TOKENIZER).or_else(|| existing("tokenizer.json")),
        scheduler: existing(SCHEDULER_CONFIG),
        pad_tokens_from: existing(mlx::PAD_TOKENS),
        ..Parts::default()
    }))
}

/// Everything with weights in a directory and its folders: files, or the shards of one folder together.
pub(super) fn sources_in(directory: &Path) -> Result<Vec<Source>> {
    let mut sources = of_folder(directory)?;
    for folder in FOLDERS.map(|folder| directory.join(folder)).into_iter().filter(|folder| folder.is_dir()) {
        sources.extend(of_folder(&folder)?);
    }
    Ok(sources)
}

/// The weights of a folder: its index, its numbered shards, or its files one by one.
pub(super) fn of_folder(folder: &Path) -> Result<Vec<Source>> {
    let entries = std::fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let mut indices: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    indices.retain(|path| path.to_string_lossy().ends_with(".safetensors.index.json") && path.is_file());
    indices.sort();
    if !indices.is_empty() {
        return Ok(indices.into_iter().map(Source::File).collect());
    }
    let files = files_in(folder)?;
    let numbered = |path: &PathBuf| {
        path.file_stem().is_some_and(|stem| stem.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
    };
    if files.len() > 1 && files.iter().all(numbered) {
        return Ok(vec![Source::Shards(files)]);
    }
    Ok(files.into_iter().map(Source::File).collect())
}

/// The safetensors and GGUF files of a directory, sorted.
fn files_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory).map_err(Error::io("read", directory))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    let weights = |path: &PathBuf| path.extension().is_some_and(|end| end == "safetensors" || end == "gguf");
    files.retain(|path| weights(path) && path.is_file());
    files.sort();
    Ok(files)
}

impl Source {
    /// The path that leads to it.
    fn path(&self) -> PathBuf {
        match self {
            Source::Layout(files) => files.root().map(Path::to_path_buf).unwrap_or_default(),
            Source::File(path) => path.clone(),
            Source::Shards(paths) => paths[0].parent().map(Path::to_path_buf).unwrap_or_default(),
        }
    }
}

/// The container of a file or of the shards that [`of_folder`] found.
pub(super) fn open(source: &Source) -> Result<Container> {
    match source {
        Source::Shards(paths) => Container::open_shards(paths),
        Source::File(path) => Container::open(path),
        Source::Layout(files) => Err(Error::NotACheckpoint {
            label: files.label().to_owned(),
            what: "it is a directory".to_owned(),
            hint: "give a file".to_owned(),
        }),
    }
}
