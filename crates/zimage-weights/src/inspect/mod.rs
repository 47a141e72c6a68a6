//! What is this file? The reports behind `zimage inspect` and `zimage doctor`.

mod dialect;
mod doctor;

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::container::{Container, Kind, Metadata, sniff};
use crate::dialect::Reading;
use crate::open::{self, Checkpoint, Precision};
use crate::random::RandomCheckpoint;
use crate::schema::{self, Component};
use crate::{Error, Result, lora};

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
    /// What it is as a LoRA, and how it fits Z-Image-Turbo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<lora::Report>,
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
    let none = || Error::NotACheckpoint {
        label: path.display().to_string(),
        what: "the directory has neither a model_index.json nor safetensors or GGUF files".to_owned(),
        hint: "give a checkpoint directory or one of its files".to_owned(),
    };
    inspect_collection(path)?.ok_or_else(none)
}

/// A file by its first bytes, then by the names of its tensors.
fn inspect_file(path: &Path) -> Result<Report> {
    let bytes = crate::container::map_file(path)?;
    if !matches!(sniff(&bytes), Kind::Zip | Kind::Pickle) {
        return inspect_container(path);
    }
    let part = Part { files: vec![file_report(path)?], ..Part::empty(None) };
    let (path, dialect) = (path.display().to_string(), Dialect::Pickle);
    Ok(Report { path, container: "pickle", dialect, supported: false, parts: vec![part] })
}

/// A safetensors or GGUF file, or an index.
fn inspect_container(path: &Path) -> Result<Report> {
    match Container::open(path) {
        // What is broken is a GGUF file all the same, and the report says what is wrong with it.
        Err(error @ (Error::Gguf { .. } | Error::SplitGguf { .. })) => broken_gguf(path, &error),
        opened => report_of(path, opened?),
    }
}

/// The report of a file, or of the shards of one part.
fn report_of(path: &Path, container: Container) -> Result<Report> {
    let (dialect, component) = Dialect::of(&container);
    let kind = match (container.gguf(), container.files().len()) {
        (Some(_), _) => "gguf",
        (None, 0 | 1) => "safetensors",
        (None, _) => "sharded safetensors",
    };
    let mut part = Part::of(component, container, None)?;
    let supported = if dialect == Dialect::Lora {
        part.read_lora(path);
        part.lora.as_ref().is_some_and(lora::Report::is_usable)
    } else {
        let verdicts = doctor::of_part(&part);
        !verdicts.is_empty() && verdicts.iter().all(PartDiagnosis::is_read)
    };
    Ok(Report { path: path.display().to_string(), container: kind, dialect, supported, parts: vec![part] })
}

fn broken_gguf(path: &Path, error: &Error) -> Result<Report> {
    let part = Part { files: vec![file_report(path)?], problem: Some(error.to_string()), ..Part::empty(None) };
    let (path, dialect) = (path.display().to_string(), Dialect::Unknown);
    Ok(Report { path, container: "gguf", dialect, supported: false, parts: vec![part] })
}

/// A directory of files that are parts of one model.
fn inspect_collection(path: &Path) -> Result<Option<Report>> {
    let Some(mut sources) = open::containers_in(path)? else { return Ok(None) };
    if sources.len() == 1 {
        return report_of(path, sources.remove(0)).map(Some);
    }
    let mut parts = Vec::new();
    let mut dialects = Vec::new();
    for container in sources {
        let (dialect, component) = Dialect::of(&container);
        dialects.push((component, dialect));
        parts.push(Part::of(component, container, None)?);
    }
    // Files are found by their names; parts are told in the order in which they run.
    parts.sort_by_key(|part| part.component.map_or(usize::MAX, |component| component as usize));
    // The transformer's names are those that people know a model by, and not those of an adapter beside it.
    let place = |component: Option<Component>| component.map_or(0, |component| 1 + component as usize);
    dialects.sort_by_key(|(component, dialect)| (!dialect.is_read(), place(*component)));
    let dialect = dialects.first().map_or(Dialect::Unknown, |(_, dialect)| *dialect);
    let (label, supported) = (path.display().to_string(), Checkpoint::open(path).is_ok());
    Ok(Some(Report { path: label, container: "directory", dialect, supported, parts }))
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
            lora: None,
            problem: None,
            container: None,
        }
    }

    /// Looks at an adapter as one for the published model.
    fn read_lora(&mut self, path: &Path) {
        let turbo = RandomCheckpoint::turbo(0);
        let transformer = schema::transformer::tensors(&turbo.transformer);
        let text_encoder = schema::text_encoder::tensors(&turbo.text_encoder);
        match lora::report(path, &transformer, &text_encoder) {
            Ok(report) => self.lora = Some(report),
            Err(error) => self.problem = Some(error.to_string()),
        }
    }

    fn of(component: Option<Component>, container: Container, config: Option<Value>) -> Result<Self> {
        let label = container.files().first().map_or_else(String::new, |file| file.label().to_owned());
        let found = component.and_then(|component| open::config_of(&label, &container, component).ok());
        let config = config.or(found.map(|(config, _)| config));
        let precision = precision(component, &container, config.as_ref());
        let files = container.files().iter().filter_map(|file| file.path()).map(file_report).collect::<Result<_>>()?;
        Ok(Self {
            component,
            architecture: container.gguf().and_then(|gguf| gguf.architecture()).map(str::to_owned),
            files,
            tensors: precision.tensors(),
            parameters: precision.parameters(),
            size_bytes: precision.size_bytes(),
            precision,
            config,
            metadata: match container.gguf() {
                Some(gguf) => gguf.metadata().iter().map(|(key, value)| (key.clone(), value.to_string())).collect(),
                None => container.metadata().clone(),
            },
            lora: None,
            problem: None,
            container: Some(container),
        })
    }
}

/// How the tensors of a container are stored. Packed weights have as many values as the config says.
fn precision(component: Option<Component>, container: &Container, config: Option<&Value>) -> Precision {
    let components = component.map_or_else(|| Component::ALL.to_vec(), |component| vec![component]);
    let read = |component: Component| {
        let mut reading = Reading::of(component, container);
        let own = config.filter(|_| components.len() == 1).cloned();
        let config =
            own.or_else(|| open::config_of(container.label(), container, component).ok().map(|(config, _)| config));
        if let Some(specs) = config.and_then(|config| schema::tensors(component, &config).ok()) {
            reading.fit(&specs);
        }
        reading.entries
    };
    let held = components.iter().filter(|component| Reading::is_of(**component, container));
    let mut entries: Vec<_> = held.flat_map(|component| read(*component)).collect();
    if entries.is_empty() {
        entries = Reading::of(Component::Transformer, container).entries;
    }
    Precision::of(entries.iter())
}

fn file_report(path: &Path) -> Result<FileReport> {
    let size_bytes = std::fs::metadata(path).map_err(Error::io("open", path))?.len();
    Ok(FileReport { path: path.display().to_string(), size_bytes })
}

fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&text).map_err(|source| Error::Json { file: path.display().to_string(), source })
}
