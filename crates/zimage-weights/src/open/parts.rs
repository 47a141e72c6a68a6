//! Where the parts of a checkpoint lie: in one directory, in one file, or each somewhere else.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Files, MODEL_INDEX, SCHEDULER_CONFIG, TOKENIZER, check_pipeline, index_file, infer, weights_file};
use crate::container::Container;
use crate::dialect::{Naming, Reading};
use crate::inspect::Dialect;
use crate::schema::Component;
use crate::{Error, Result};

/// The paths that a checkpoint is put together from.
///
/// A path of weights may be a safetensors file in the names of diffusers or ComfyUI (or the index of its shards), the
/// directory of that part, or a model directory in the layout of diffusers, from which the part is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The model: its transformer, and every other part that is there too and not given below.
    pub transformer: PathBuf,
    /// The text encoder.
    pub text_encoder: Option<PathBuf>,
    /// The autoencoder.
    pub vae: Option<PathBuf>,
    /// `tokenizer.json`, its directory, or a model directory. Without it, one beside the model or the text encoder.
    pub tokenizer: Option<PathBuf>,
    /// `scheduler_config.json`, its directory, or a model directory. Without it, the one beside the transformer, and
    /// without that a shift of 3.
    pub scheduler: Option<PathBuf>,
}

impl Parts {
    /// The path that was given for a part.
    pub(super) fn given(&self, component: Component) -> Option<&Path> {
        match component {
            Component::Transformer => Some(&self.transformer),
            Component::TextEncoder => self.text_encoder.as_deref(),
            Component::Vae => self.vae.as_deref(),
        }
    }
}

/// The place of a config in messages.
pub(crate) fn config_place(label: &str, found: Option<String>) -> String {
    found.unwrap_or_else(|| format!("{label}, the config told from shapes"))
}

/// Where one part of a checkpoint was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// "transformer", "tokenizer", "scheduler", ...
    pub part: String,
    /// Its place, and how it was read.
    pub place: String,
}

/// Where the weights of one part are.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// In a folder of files in the layout of diffusers.
    Layout(Files),
    /// In a file, or in the shards of an index.
    File(PathBuf),
}

impl Source {
    /// What a path given for a part leads to; the part's files are there.
    pub(super) fn find(path: &Path, component: Component) -> Result<Self> {
        if !path.exists() {
            return Err(Error::io("open", path)(std::io::ErrorKind::NotFound.into()));
        }
        if !path.is_dir() {
            return Ok(Source::File(path.to_path_buf()));
        }
        if !path.join(MODEL_INDEX).is_file() {
            return weights_in(path, component).map(Source::File);
        }
        let files = Files::directory(path);
        check_pipeline(&files)?;
        match super::missing_weights(&files, component) {
            Some(file) => Err(Error::MissingFiles { label: files.label().to_owned(), missing: vec![file] }),
            None => Ok(Source::Layout(files)),
        }
    }

    /// The weight files of a part, opened.
    pub(super) fn container(&self, component: Component) -> Result<Container> {
        let files = match self {
            Source::File(path) => return Container::open(path),
            Source::Layout(files) => files,
        };
        let index = index_file(component);
        if files.exists(&index) {
            let text = files.read(&index)?;
            return Container::from_index(&files.display(&index), &text, &files.folder(component.folder()));
        }
        files.open(&weights_file(component)).map(Container::from)
    }

    /// The path in messages.
    pub(super) fn label(&self) -> String {
        match self {
            Source::Layout(files) => files.label().to_owned(),
            Source::File(path) => path.display().to_string(),
        }
    }

    /// The directories where the files that belong to this one may be: its own, and the one around a part's folder.
    fn directories(&self) -> Vec<PathBuf> {
        match self {
            Source::Layout(files) => files.root().map(Path::to_path_buf).into_iter().collect(),
            Source::File(path) => {
                let own = path.parent().map(Path::to_path_buf);
                let around = own.as_deref().and_then(Path::parent).map(Path::to_path_buf);
                own.into_iter().chain(around).collect()
            }
        }
    }
}

/// The parts of Z-Image that a container holds. Refuses what is not Z-Image by its name, and quantized weights.
pub(crate) fn held(label: &str, container: &Container) -> Result<Vec<Component>> {
    let (dialect, _) = Dialect::of(container);
    if !matches!(dialect, Dialect::Diffusers | Dialect::Comfyui) {
        return Err(Error::NotACheckpoint {
            label: label.to_owned(),
            what: format!("this is {dialect}, in one file"),
            hint: "Z-Image is read from safetensors files in the names of diffusers or ComfyUI, see `zimage inspect`"
                .to_owned(),
        });
    }
    let is_held = |component: &Component| Naming::find(*component, container).is_some();
    let held: Vec<Component> = Component::ALL.into_iter().filter(is_held).collect();
    for component in &held {
        if let Some(kind) = Reading::of(*component, container).quantization() {
            return Err(Error::NotACheckpoint {
                label: label.to_owned(),
                what: format!("{kind} weights are not in this build, and its {component} has them"),
                hint: "give a file with f32, bf16 or f16 weights".to_owned(),
            });
        }
    }
    Ok(held)
}

/// The config of a part in a container: the one beside it, else what its shapes say. Also the path of its file, if it
/// is in one.
pub(crate) fn config_of(label: &str, container: &Container, component: Component) -> Result<(Value, Option<String>)> {
    let directory = container.files().first().and_then(|file| file.path()).and_then(Path::parent);
    for candidate in ["config.json", component.config_file()] {
        let Some(path) = directory.map(|directory| directory.join(candidate)).filter(|path| path.is_file()) else {
            continue;
        };
        let text = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let file = path.display().to_string();
        let value = serde_json::from_slice(&text).map_err(|source| Error::Json { file: file.clone(), source })?;
        if belongs(component, &value) {
            return Ok((value, Some(file)));
        }
    }
    let config = infer::config(component, label, &Reading::of(component, container))?;
    Ok((config, None))
}

/// Whether a config is one of this part: several files may share a directory, and so a `config.json`.
fn belongs(component: Component, config: &Value) -> bool {
    let key = match component {
        Component::Transformer => "n_refiner_layers",
        Component::TextEncoder => "num_hidden_layers",
        Component::Vae => "block_out_channels",
    };
    config.get(key).is_some()
}

/// The weights in the directory of one part: the file that diffusers writes, else the only one there is.
fn weights_in(directory: &Path, component: Component) -> Result<PathBuf> {
    let usual = format!("{}.safetensors", component.weights_stem());
    let usual = [format!("{usual}.index.json"), usual].map(|file| directory.join(file));
    if let Some(path) = usual.into_iter().find(|path| path.is_file()) {
        return Ok(path);
    }
    let entries = std::fs::read_dir(directory).map_err(Error::io("read", directory))?;
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut files: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "safetensors")).collect();
    match (files.pop(), files.len()) {
        (Some(only), 0) => Ok(only),
        (first, others) => Err(Error::NotACheckpoint {
            label: directory.display().to_string(),
            what: format!("it holds {} safetensors files", first.map_or(0, |_| others + 1)),
            hint: format!("give the file of the {component}"),
        }),
    }
}

/// A tokenizer or a scheduler config: what was given, else what lies beside the weights. `file` is its place in the
/// layout of diffusers; the answer is a directory and the file's place in it.
fn companion(given: Option<&Path>, sources: &[&Source], file: &'static str) -> Result<Option<(Files, String)>> {
    let name = file.rsplit_once('/').map_or(file, |(_, name)| name);
    let within = |directory: &Path| {
        let found = [file, name].into_iter().find(|place| directory.join(place).is_file())?;
        Some((Files::directory(directory), found.to_owned()))
    };
    let Some(path) = given else {
        let directories = sources.iter().flat_map(|source| source.directories());
        return Ok(directories.into_iter().find_map(|directory| within(&directory)));
    };
    if !path.exists() {
        return Err(Error::io("open", path)(std::io::ErrorKind::NotFound.into()));
    }
    if path.is_dir() {
        let missing = || Error::MissingFiles { label: path.display().to_string(), missing: vec![name.to_owned()] };
        return within(path).ok_or_else(missing).map(Some);
    }
    let directory = path.parent().unwrap_or(Path::new(""));
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(name.map(|name| (Files::directory(directory), name)))
}

/// The tokenizer's place, if there is one.
pub(super) fn tokenizer(parts: &Parts, sources: &[&Source]) -> Result<Option<(Files, String)>> {
    companion(parts.tokenizer.as_deref(), sources, TOKENIZER)
}

/// The scheduler's config and where it comes from.
pub(super) fn scheduler(parts: &Parts, transformer: &Source) -> Result<(Value, String)> {
    match companion(parts.scheduler.as_deref(), &[transformer], SCHEDULER_CONFIG)? {
        Some((files, file)) => Ok((files.json(&file)?, files.display(&file))),
        None => {
            let config = json!({
                "_class_name": "FlowMatchEulerDiscreteScheduler",
                "num_train_timesteps": 1000,
                "shift": 3.0,
                "use_dynamic_shifting": false,
            });
            Ok((config, "shift 3, the default where there is no scheduler_config.json".to_owned()))
        }
    }
}
