//! One file, or several with or without an index (`*.safetensors.index.json`), behind the same interface.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{File, Gguf, Metadata, SafeTensors, TensorInfo, TensorView, Value};
use crate::{Error, Result};

/// Longest text of a GGUF file that is kept with the free text of headers. What is longer is a template or a licence,
/// and has its place in [`Container::gguf`].
const MAX_TEXT_BYTES: usize = 1024;

/// The tensors of one file or of all shards of an index.
#[derive(Clone, Debug)]
pub struct Container {
    label: String,
    shards: Vec<File>,
    /// Which shard has the tensor.
    homes: BTreeMap<String, usize>,
    metadata: Metadata,
}

/// How the container reads its shards: from a directory, or from files in memory.
pub(crate) trait Shards {
    /// Opens a file that lies beside the index, or `None` where there is none.
    fn open(&self, name: &str) -> Result<Option<File>>;
}

/// Shards in a directory.
struct Directory<'a>(&'a Path);

impl Shards for Directory<'_> {
    fn open(&self, name: &str) -> Result<Option<File>> {
        let path = self.0.join(name);
        if !path.exists() {
            return Ok(None);
        }
        File::open(&path).map(Some)
    }
}

/// The index of a sharded checkpoint; `metadata.total_size` is of no use here, since every shard is measured.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl From<SafeTensors> for Container {
    fn from(file: SafeTensors) -> Self {
        File::from(file).into()
    }
}

impl From<Gguf> for Container {
    fn from(file: Gguf) -> Self {
        File::from(file).into()
    }
}

impl From<File> for Container {
    fn from(file: File) -> Self {
        Self::from_shards(file.label().to_owned(), vec![file])
    }
}

impl Container {
    /// Opens a safetensors or a GGUF file, told apart by their first bytes, or a `.index.json` with the shards beside it.
    /// Refusals are those of [`File::open`], and [`Error::Index`].
    pub fn open(path: &Path) -> Result<Self> {
        if path.extension().is_none_or(|extension| extension != "json") {
            return File::open(path).map(Self::from);
        }
        let text = std::fs::read(path).map_err(Error::io("read", path))?;
        let parent = path.parent().unwrap_or(Path::new(""));
        Self::from_index(&path.display().to_string(), &text, &Directory(parent))
    }

    /// Opens files that belong together and have no index; messages about all of them name the directory of the first.
    /// Refuses two tensors of one name ([`Error::SharedTensor`]).
    pub fn open_shards(paths: &[PathBuf]) -> Result<Self> {
        let shards = paths.iter().map(|path| File::open(path)).collect::<Result<Vec<File>>>()?;
        let mut homes: BTreeMap<&str, &str> = BTreeMap::new();
        for shard in &shards {
            for (tensor, _) in shard.iter() {
                if let Some(other) = homes.insert(tensor, shard.label()) {
                    let (file, other) = (shard.label().to_owned(), other.to_owned());
                    return Err(Error::SharedTensor { file, other, tensor: tensor.to_owned() });
                }
            }
        }
        let directory = paths.first().and_then(|path| path.parent()).unwrap_or(Path::new(""));
        Ok(Self::from_shards(directory.display().to_string(), shards))
    }

    /// Opens the shards that an index names, and compares what they hold with what it says.
    pub(crate) fn from_index(label: &str, text: &[u8], shards: &impl Shards) -> Result<Self> {
        let index: Index =
            serde_json::from_slice(text).map_err(|source| Error::Json { file: label.to_owned(), source })?;
        let fail = |problems| Err(Error::Index { file: label.to_owned(), problems });
        let files: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
        let bad: Vec<String> = files.iter().filter(|name| !is_plain_name(name)).map(|name| bad_name(name)).collect();
        if !bad.is_empty() {
            return fail(bad);
        }
        let mut problems = Vec::new();
        let mut opened = Vec::new();
        for name in files {
            match shards.open(name)? {
                Some(file) => opened.push((name, file)),
                None => problems.push(format!("shard {name} is missing")),
            }
        }
        problems.extend(disagreements(&index, &opened));
        if !problems.is_empty() {
            return fail(problems);
        }
        Ok(Self::from_shards(label.to_owned(), opened.into_iter().map(|(_, file)| file).collect()))
    }

    fn from_shards(label: String, shards: Vec<File>) -> Self {
        let mut homes = BTreeMap::new();
        let mut metadata = Metadata::new();
        for (at, shard) in shards.iter().enumerate() {
            homes.extend(shard.iter().map(|(name, _)| (name.to_owned(), at)));
            metadata.extend(texts(shard));
        }
        Self { label, shards, homes, metadata }
    }

    /// The file or index, for messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.homes.keys().map(String::as_str)
    }

    /// Names and kinds of all tensors, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.homes.iter().map(|(name, &at)| {
            let info = self.shards[at].info(name).expect("a tensor is in its home shard: this is a bug");
            (name.as_str(), info)
        })
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.homes.len()
    }

    /// True where there is no tensor at all.
    pub fn is_empty(&self) -> bool {
        self.homes.is_empty()
    }

    /// Type and shape of a tensor.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.shards[*self.homes.get(name)?].info(name)
    }

    /// A tensor's bytes with its type and shape, or [`Error::NoTensor`].
    pub fn tensor(&self, name: &str) -> Result<TensorView> {
        match self.homes.get(name) {
            Some(&at) => self.shards[at].tensor(name),
            None => Err(Error::NoTensor { file: self.label.clone(), tensor: name.to_owned() }),
        }
    }

    /// The free text of all headers together. Of GGUF files these are the numbers, truth values and short texts;
    /// [`Container::gguf`] has the rest.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The files, in order.
    pub fn files(&self) -> &[File] {
        &self.shards
    }

    /// The GGUF file with its typed values, where this is one.
    pub fn gguf(&self) -> Option<&Gguf> {
        match &*self.shards {
            [only] => only.as_gguf(),
            _ => None,
        }
    }
}

/// The free text of one header.
fn texts(file: &File) -> Metadata {
    let short = |value: &Value| match value {
        Value::Array(_) => None,
        Value::String(text) if text.len() > MAX_TEXT_BYTES => None,
        scalar => Some(scalar.to_string()),
    };
    match file {
        File::SafeTensors(file) => file.metadata().clone(),
        File::Gguf(file) => {
            file.metadata().iter().filter_map(|(key, value)| Some((key.clone(), short(value)?))).collect()
        }
    }
}

/// What index and shards say differently.
fn disagreements(index: &Index, opened: &[(&str, File)]) -> Vec<String> {
    let shard = |name: &str| opened.iter().find(|(file, _)| *file == name).map(|(_, shard)| shard);
    let absent = index.weight_map.iter().filter_map(|(tensor, file)| match shard(file) {
        Some(shard) if shard.info(tensor).is_none() => Some(format!("tensor {tensor} is not in {file}")),
        _ => None,
    });
    let unlisted = opened.iter().flat_map(|(file, shard)| {
        let listed = move |tensor: &str| index.weight_map.get(tensor).is_some_and(|home| home == file);
        shard
            .iter()
            .filter(move |(tensor, _)| !listed(tensor))
            .map(move |(tensor, _)| format!("tensor {tensor} of {file} is not listed for it"))
    });
    absent.chain(unlisted).collect()
}

/// A shard lies beside its index: a name with a separator could read any file of this machine.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', ':', '\0'])
}

fn bad_name(name: &str) -> String {
    format!("shard name {name:?} is not the name of a file beside the index")
}
