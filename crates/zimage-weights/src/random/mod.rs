//! Checkpoints with random weights, for tests at a tiny size and for measurements of speed at the real one.
//!
//! The files are those of a real diffusers checkpoint in names, shapes, shards and configs; only the numbers mean nothing.

mod memory;
mod noise;
mod shapes;

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use zimage_kernels::blocks::{Encoder, Format};

use crate::container::{Metadata, TensorSource, write_safetensors};
use crate::open;
use crate::schema::{self, Component, TensorSpec, TextEncoderConfig, TransformerConfig, VaeConfig};
use crate::{Dtype, Error, Result};

pub use memory::RandomWeights;
pub use shapes::vocabulary_of;
pub(crate) use shapes::{model_index, tokenizer_config};

/// What to write. [`RandomCheckpoint::turbo`] and [`RandomCheckpoint::tiny`] are starting points.
#[derive(Clone, Debug, PartialEq)]
pub struct RandomCheckpoint {
    /// Sizes of the transformer.
    pub transformer: TransformerConfig,
    /// Sizes of the text encoder.
    pub text_encoder: TextEncoderConfig,
    /// Sizes of the autoencoder.
    pub vae: VaeConfig,
    /// How transformer and text encoder are stored: a float, since safetensors has no blocks.
    pub format: Format,
    /// How the autoencoder is stored, a float too.
    pub vae_format: Format,
    /// A transformer with more bytes is split into shards of at most this size.
    pub transformer_shard_bytes: u64,
    /// The same for the text encoder.
    pub text_encoder_shard_bytes: u64,
    /// Equal seeds give equal files.
    pub seed: u64,
}

impl RandomCheckpoint {
    /// Writes the checkpoint into `directory`, which must not exist or be empty; `tokenizer` is a `tokenizer.json`.
    ///
    /// Weights are made and written in small pieces, so the memory needed does not grow with the size. Refuses a
    /// tokenizer with more tokens than the text encoder's table ([`Error::Config`]) and quantized formats
    /// ([`Error::UnwritableFormat`]).
    pub fn write(&self, directory: &Path, tokenizer: &Path) -> Result<()> {
        let (weights, vae) = (Stored::of(self.format)?, Stored::of(self.vae_format)?);
        fs::create_dir_all(directory).map_err(Error::io("create", directory))?;
        let mut entries = fs::read_dir(directory).map_err(Error::io("read", directory))?;
        if entries.next().is_some() {
            let source = std::io::Error::from(std::io::ErrorKind::DirectoryNotEmpty);
            return Err(Error::Io { action: "write a checkpoint to", path: directory.to_path_buf(), source });
        }
        self.check_vocabulary(tokenizer)?;
        for component in Component::ALL {
            let stored = if component == Component::Vae { vae } else { weights };
            self.write_component(directory, component, stored)?;
        }
        write_json(directory, "scheduler/scheduler_config.json", &shapes::scheduler_config())?;
        write_json(directory, "tokenizer/tokenizer_config.json", &shapes::tokenizer_config())?;
        let text = fs::read(tokenizer).map_err(Error::io("read", tokenizer))?;
        let copy = directory.join("tokenizer/tokenizer.json");
        fs::write(&copy, text).map_err(Error::io("write", &copy))?; // `fs::copy` would copy a write protection too
        // The index comes last: without it an interrupted directory is not taken for a checkpoint.
        write_json(directory, open::MODEL_INDEX, &shapes::model_index())
    }

    fn check_vocabulary(&self, tokenizer: &Path) -> Result<()> {
        let (tokens, rows) = (vocabulary_of(tokenizer)?, self.text_encoder.vocab_size);
        if tokens <= rows {
            return Ok(());
        }
        Err(Error::Config {
            file: Component::TextEncoder.config_file().to_owned(),
            key: "vocab_size".to_owned(),
            found: rows.to_string(),
            expected: format!("at least the {tokens} tokens of {}", tokenizer.display()),
        })
    }

    fn write_component(&self, directory: &Path, component: Component, stored: Stored) -> Result<()> {
        let (config, specs, limit) = match component {
            Component::Transformer => (
                self.transformer.to_json(),
                schema::transformer::tensors(&self.transformer),
                self.transformer_shard_bytes,
            ),
            Component::TextEncoder => (
                self.text_encoder.to_json(),
                schema::text_encoder::tensors(&self.text_encoder),
                self.text_encoder_shard_bytes,
            ),
            Component::Vae => (self.vae.to_json(), schema::vae::tensors(&self.vae), u64::MAX),
        };
        write_json(directory, component.config_file(), &config)?;
        let shards = split(&specs, stored.dtype, limit);
        if let [whole] = &*shards {
            return self.write_file(&directory.join(open::weights_file(component)), component, whole, stored);
        }
        let mut weight_map = Map::new();
        for (at, shard) in shards.iter().enumerate() {
            let file = format!("{}-{:05}-of-{:05}.safetensors", component.weights_stem(), at + 1, shards.len());
            self.write_file(&directory.join(component.folder()).join(&file), component, shard, stored)?;
            weight_map.extend(shard.iter().map(|spec| (file_name(component, spec), Value::from(&*file))));
        }
        let total: u64 = specs.iter().map(|spec| size_bytes(spec, stored.dtype)).sum();
        let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
        write_json(directory, &open::index_file(component), &index)
    }

    fn write_file(&self, path: &Path, component: Component, specs: &[TensorSpec], stored: Stored) -> Result<()> {
        let sources = specs.iter().map(|spec| {
            TensorSource::new(file_name(component, spec), stored.dtype, &spec.shape, move |out| {
                noise::write(spec, stored.encoder, self.seed, out)
            })
        });
        let metadata = Metadata::from([("format".to_owned(), "pt".to_owned())]);
        write_safetensors(path, &metadata, sources.collect())
    }
}

/// The name in the file: the official text encoder was saved with its output layer's class, hence the prefix.
fn file_name(component: Component, spec: &TensorSpec) -> String {
    match component {
        Component::TextEncoder => format!("model.{}", spec.name),
        Component::Transformer | Component::Vae => spec.name.clone(),
    }
}

/// How numbers become the bytes of a file.
#[derive(Clone, Copy)]
struct Stored {
    dtype: Dtype,
    encoder: Encoder,
}

impl Stored {
    fn of(format: Format) -> Result<Self> {
        let holds = |dtype: &&Dtype| dtype.format() == Some(format) && dtype.in_safetensors();
        let dtype = Dtype::ALL.iter().copied().find(|dtype| holds(&dtype));
        let refused = || Error::UnwritableFormat { format: format.name().to_owned() };
        let (dtype, encoder) = dtype.zip(format.encoder()).ok_or_else(refused)?;
        Ok(Self { dtype, encoder })
    }
}

/// Bytes of a tensor; the types that random weights are stored in have no blocks.
fn size_bytes(spec: &TensorSpec, dtype: Dtype) -> u64 {
    spec.elements() as u64 * dtype.block_bytes() as u64
}

/// Fills shards in order, each with at most `limit` bytes, or one tensor where that is larger.
fn split(specs: &[TensorSpec], dtype: Dtype, limit: u64) -> Vec<&[TensorSpec]> {
    let mut shards = Vec::new();
    let (mut begin, mut filled) = (0, 0);
    for (at, spec) in specs.iter().enumerate() {
        let size = size_bytes(spec, dtype);
        if at > begin && filled + size > limit {
            shards.push(&specs[begin..at]);
            (begin, filled) = (at, 0);
        }
        filled += size;
    }
    shards.push(&specs[begin..]);
    shards
}

fn write_json(directory: &Path, file: &str, value: &Value) -> Result<()> {
    let path = directory.join(file);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    }
    fs::write(&path, format!("{value:#}\n")).map_err(Error::io("write", &path))
}
