//! Where the parts of a checkpoint lie: in one directory, in one file, or each somewhere else.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    Files, MODEL_INDEX, SCHEDULER_CONFIG, SCHEDULER_KEY, TOKENIZER, check_pipeline, collect, index_file, weights_file,
};
use crate::container::Container;
use crate::dialect::Naming;
use crate::inspect::Dialect;
use crate::llama_cpp;
use crate::schema::Component;
use crate::{Error, Result};

/// The paths that a checkpoint is put together from.
///
/// A path of weights may be a safetensors or GGUF file (or the index of its shards), the directory of that part, or the
/// directory of a model, from which the part is taken.
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
    /// A model whose pad tokens are used where the transformer has none, as in the original application's directories.
    pub pad_tokens_from: Option<PathBuf>,
    /// Models that lend a text encoder, a VAE or a tokenizer that is neither given nor there, the first one first.
    pub lenders: Vec<PathBuf>,
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
    /// In shards that no index lists.
    Shards(Vec<PathBuf>),
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
            return weights_in(path, component);
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
        let Source::Layout(files) = self else { return collect::open(self) };
        let index = index_file(component);
        if files.exists(&index) {
            let text = files.read(&index)?;
            return Container::from_index(&files.display(&index), &text, &files.folder(component.folder()));
        }
        files.open(&weights_file(component)).map(Container::from)
    }

    /// Whether the part is there.
    pub(super) fn holds(&self, component: Component) -> Result<bool> {
        match self {
            Source::Layout(_) => Ok(true),
            Source::File(_) | Source::Shards(_) => {
                Ok(held(&self.label(), &self.container(component)?)?.contains(&component))
            }
        }
    }

    /// The path in messages.
    pub(super) fn label(&self) -> String {
        match self {
            Source::Layout(files) => files.label().to_owned(),
            Source::File(path) => path.display().to_string(),
            Source::Shards(paths) => paths[0].parent().unwrap_or(Path::new("")).display().to_string(),
        }
    }

    /// The directories where the files that belong to this one may be: its own, and the one around a part's folder.
    fn directories(&self) -> Vec<PathBuf> {
        let first = match self {
            Source::Layout(files) => return files.root().map(Path::to_path_buf).into_iter().collect(),
            Source::File(path) => path,
            Source::Shards(paths) => &paths[0],
        };
        let own = first.parent().map(Path::to_path_buf);
        let around = own.as_deref().and_then(Path::parent).map(Path::to_path_buf);
        own.into_iter().chain(around).collect()
    }
}

/// The parts of Z-Image that a container holds. Refuses what is not Z-Image by its name.
pub(crate) fn held(label: &str, container: &Container) -> Result<Vec<Component>> {
    let (dialect, _) = Dialect::of(container);
    if !dialect.is_read() {
        return Err(Error::NotACheckpoint {
            label: label.to_owned(),
            what: format!("this is {dialect}"),
            hint: "see `zimage inspect` for what it holds, and `zimage inspect --help` for what is read".to_owned(),
        });
    }
    let is_held = |component: &Component| Naming::find(*component, container).is_some();
    Ok(Component::ALL.into_iter().filter(is_held).collect())
}

/// The weights in the directory of one part, or of a whole model.
fn weights_in(directory: &Path, component: Component) -> Result<Source> {
    let mut sources = collect::of_folder(directory)?;
    if let [_] = &*sources {
        return Ok(sources.remove(0));
    }
    let parts = collect::parts_in(directory)?;
    match parts.as_ref().and_then(|parts| parts.given(component)).filter(|path| *path != directory) {
        Some(path) => Source::find(path, component),
        None => Err(Error::NotACheckpoint {
            label: directory.display().to_string(),
            what: format!("no {component} was found in it"),
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

/// A tokenizer, and where it was found.
#[derive(Clone, Debug)]
pub(super) enum Tokenizer {
    /// A `tokenizer.json`: a directory and the file's place in it.
    File(Files, String),
    /// Made of the metadata of a GGUF file, which is named.
    Made(Bytes, String),
}

impl Tokenizer {
    /// The place in messages.
    pub(super) fn place(&self) -> String {
        match self {
            Tokenizer::File(files, file) => files.display(file),
            Tokenizer::Made(_, place) => format!("metadata of {place}"),
        }
    }
}

/// The tokenizer: the one that was given, else one beside the weights, in the text encoder's GGUF file, or with a lender.
pub(super) fn tokenizer(
    parts: &Parts,
    transformer: &Source,
    text_encoder: Option<&Source>,
) -> Result<Option<Tokenizer>> {
    let sources: Vec<&Source> = std::iter::once(transformer).chain(text_encoder).collect();
    let file = |(files, file)| Tokenizer::File(files, file);
    if let Some(found) = companion(parts.tokenizer.as_deref(), &sources, TOKENIZER)? {
        return Ok(Some(file(found)));
    }
    let container = text_encoder.map(|source| source.container(Component::TextEncoder)).transpose()?;
    if let Some(gguf) = container.as_ref().and_then(Container::gguf)
        && gguf.metadata().contains_key("tokenizer.ggml.model")
    {
        let json = llama_cpp::tokenizer_json(gguf)?;
        return Ok(Some(Tokenizer::Made(json.into(), gguf.label().to_owned())));
    }
    // A lender that is a file lends weights: it is no tokenizer.
    let lent = parts
        .lenders
        .iter()
        .filter(|path| path.is_dir())
        .find_map(|path| companion(Some(path), &[], TOKENIZER).ok().flatten());
    Ok(lent.map(file))
}

/// The scheduler's config and where it comes from.
pub(super) fn scheduler(parts: &Parts, transformer: &Source) -> Result<(Value, String)> {
    if let Some(path) = &parts.scheduler
        && let Some((files, file)) = companion(Some(path), &[], SCHEDULER_CONFIG)?
    {
        return Ok((files.json(&file)?, files.display(&file)));
    }
    if let Some(text) = transformer.container(Component::Transformer)?.metadata().get(SCHEDULER_KEY) {
        let file = format!("{SCHEDULER_KEY} of {}", transformer.label());
        let json = |source| Error::Json { file: file.clone(), source };
        return Ok((serde_json::from_str(text).map_err(json)?, file.clone()));
    }
    if let Some((files, file)) = companion(None, &[transformer], SCHEDULER_CONFIG)? {
        return Ok((files.json(&file)?, files.display(&file)));
    }
    let config = json!({
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "num_train_timesteps": 1000,
        "shift": 3.0,
        "use_dynamic_shifting": false,
    });
    Ok((config, "shift 3, the default where there is no scheduler_config.json".to_owned()))
}
