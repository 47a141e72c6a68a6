//! What is this file? The reports behind `zimage inspect` and `zimage doctor`.

mod dialect;
mod doctor;

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::container::{Container, Gguf, Kind, Metadata, sniff};
use crate::open::{self, Checkpoint, Precision};
use crate::schema::Component;
use crate::{Error, Result};

pub use dialect::Dialect;
pub use doctor::{Diagnosis, PartDiagnosis, doctor};

/// What a path is.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The path as it was given.
    pub path: String,
    /// How the bytes are arranged: "diffusers directory", "safetensors", "sharded safetensors", "gguf", ...
    pub container: &'static str,
    /// Whose names the tensors carry.
    pub dialect: Dialect,
    /// Whether this program can open it.
    pub supported: bool,
    /// Its parts.
    pub parts: Vec<Part>,
}

/// One part of a checkpoint, or the whole of a single file.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// Which part of Z-Image it is, if any.
    pub component: Option<Component>,
    /// What a GGUF file says it is: "lumina2", "qwen3".
    pub architecture: Option<String>,
    /// Its files.
    pub files: Vec<FileReport>,
    /// Number of tensors.
    pub tensors: usize,
    /// Number of elements of all tensors.
    pub parameters: u64,
    /// Bytes of all tensors.
    pub size_bytes: u64,
    /// How many tensors are stored in which element type.
    pub precision: Precision,
    /// Its config, where there is one.
    pub config: Option<Value>,
    /// Free text of the headers.
    pub metadata: Metadata,
    /// Why it could not be read.
    pub problem: Option<String>,
    /// The opened files, for a closer look.
    #[serde(skip)]
    container: Option<Container>,
}

/// A file on disk.
#[derive(Clone, Debug, Serialize)]
pub struct FileReport {
    /// Its path.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
}

/// Looks at a file or a directory without loading weights.
///
/// Errors only where there is nothing to report: the path does not exist, or is a directory without any weights.
pub fn inspect(path: &Path) -> Result<Report> {
    let metadata = std::fs::metadata(path).map_err(Error::io("open", path))?;
    if !metadata.is_dir() {
        return inspect_file(path);
    }
    if path.join(open::MODEL_INDEX).is_file() {
        return inspect_diffusers(path);
    }
    match weights_of(path)? {
        Some(weights) => {
            let mut report = inspect_container(path, &weights)?;
            report.path = path.display().to_string();
            Ok(report)
        }
        None => Err(Error::NotACheckpoint {
            label: path.display().to_string(),
            what: "the directory has neither a model_index.json nor safetensors files".to_owned(),
            hint: "give a checkpoint directory or one of its files".to_owned(),
        }),
    }
}

/// A file by its first bytes, then by the names of its tensors.
fn inspect_file(path: &Path) -> Result<Report> {
    let bytes = crate::container::map_file(path)?;
    let (container, dialect, part) = match sniff(&bytes) {
        Kind::Zip | Kind::Pickle => ("pickle", Dialect::Pickle, Part::empty(None)),
        Kind::Gguf => ("gguf", Dialect::Gguf, Part::of_gguf(path)),
        Kind::Safetensors | Kind::GitLfsPointer | Kind::Html | Kind::Json | Kind::Unknown => {
            return inspect_container(path, path);
        }
    };
    let part = Part { files: vec![file_report(path)?], ..part };
    Ok(Report { path: path.display().to_string(), container, dialect, supported: false, parts: vec![part] })
}

/// A safetensors file or an index.
fn inspect_container(path: &Path, weights: &Path) -> Result<Report> {
    let container = Container::open(weights)?;
    let (dialect, component) = Dialect::of(&container);
    let config = weights.with_file_name("config.json");
    let config = if config.is_file() { Some(read_json(&config)?) } else { None };
    let kind = if container.files().len() > 1 { "sharded safetensors" } else { "safetensors" };
    let part = Part::of(component, container, config)?;
    let verdicts = doctor::of_part(&part);
    let supported = !verdicts.is_empty() && verdicts.iter().all(PartDiagnosis::fits);
    Ok(Report { path: path.display().to_string(), container: kind, dialect, supported, parts: vec![part] })
}

/// A directory with a `model_index.json`: every part is looked at, and one that cannot be read does not hide the others.
fn inspect_diffusers(path: &Path) -> Result<Report> {
    let label = path.display().to_string();
    let index = read_json(&path.join(open::MODEL_INDEX))?;
    let class = index.get("_class_name").and_then(Value::as_str).unwrap_or_default();
    let dialect = Dialect::of_pipeline(class);
    let parts = Component::ALL.into_iter().map(|component| inspect_part(path, component)).collect();
    let supported = Checkpoint::open(path).is_ok();
    Ok(Report { path: label, container: "diffusers directory", dialect, supported, parts })
}

fn inspect_part(root: &Path, component: Component) -> Part {
    let read = || -> Result<Part> {
        let config = read_json(&root.join(component.config_file())).ok();
        let index = root.join(open::index_file(component));
        let weights = if index.is_file() { index } else { root.join(open::weights_file(component)) };
        Part::of(Some(component), Container::open(&weights)?, config)
    };
    read().unwrap_or_else(|error| Part { problem: Some(error.to_string()), ..Part::empty(Some(component)) })
}

impl Part {
    fn empty(component: Option<Component>) -> Self {
        Self {
            component,
            architecture: None,
            files: Vec::new(),
            tensors: 0,
            parameters: 0,
            size_bytes: 0,
            precision: Precision { counts: Vec::new() },
            config: None,
            metadata: Metadata::new(),
            problem: None,
            container: None,
        }
    }

    /// The tensors and the metadata of a GGUF file, or what is wrong with it.
    fn of_gguf(path: &Path) -> Self {
        let gguf = match Gguf::open(path) {
            Ok(gguf) => gguf,
            Err(error) => return Self { problem: Some(error.to_string()), ..Self::empty(None) },
        };
        Self {
            architecture: gguf.architecture().map(str::to_owned),
            metadata: gguf.metadata().iter().map(|(key, value)| (key.clone(), value.to_string())).collect(),
            ..Self::counted(None, Precision::of(gguf.iter().map(|(_, info)| info)))
        }
    }

    /// Counts of the tensors.
    fn counted(component: Option<Component>, precision: Precision) -> Self {
        Self {
            tensors: precision.counts.iter().map(|count| count.tensors).sum(),
            parameters: precision.counts.iter().map(|count| count.parameters).sum(),
            size_bytes: precision.counts.iter().map(|count| count.size_bytes).sum(),
            precision,
            ..Self::empty(component)
        }
    }

    fn of(component: Option<Component>, container: Container, config: Option<Value>) -> Result<Self> {
        let precision = Precision::of(container.iter().map(|(_, info)| info));
        let files = container.files().iter().filter_map(|file| file.path()).map(file_report).collect::<Result<_>>()?;
        Ok(Self {
            files,
            config,
            metadata: container.metadata().clone(),
            container: Some(container),
            ..Self::counted(component, precision)
        })
    }
}

fn file_report(path: &Path) -> Result<FileReport> {
    let size_bytes = std::fs::metadata(path).map_err(Error::io("open", path))?.len();
    Ok(FileReport { path: path.display().to_string(), size_bytes })
}

fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&text).map_err(|source| Error::Json { file: path.display().to_string(), source })
}

/// The weights in a directory that holds one part: an index, or the only (else the first) safetensors file.
fn weights_of(directory: &Path) -> Result<Option<std::path::PathBuf>> {
    let entries = std::fs::read_dir(directory).map_err(Error::io("read", directory))?;
    let mut files: Vec<_> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    files.sort();
    let ends = |path: &&std::path::PathBuf, end: &str| path.to_string_lossy().ends_with(end);
    let index = files.iter().find(|path| ends(path, ".safetensors.index.json"));
    Ok(index.or_else(|| files.iter().find(|path| ends(path, ".safetensors"))).cloned())
}
