//! Finds the files of a checkpoint, parses its configs, and hands out audited weights.

mod files;
mod weights;

use std::path::Path;

use bytes::Bytes;
use serde_json::Value;

use crate::container::Container;
use crate::inspect::Dialect;
use crate::schema::{Component, TextEncoderConfig, TransformerConfig, VaeConfig};
use crate::{Error, Result};

use files::Files;
pub(crate) use weights::audit_container;
pub use weights::{Precision, PrecisionCount, Weights};

/// File that names the pipeline and its parts.
pub(crate) const MODEL_INDEX: &str = "model_index.json";
const SCHEDULER_CONFIG: &str = "scheduler/scheduler_config.json";
const TOKENIZER: &str = "tokenizer/tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer/tokenizer_config.json";

/// The pipelines whose checkpoints are the same files: text to image, image to image, inpainting.
const PIPELINES: [&str; 3] = ["ZImagePipeline", "ZImageImg2ImgPipeline", "ZImageInpaintPipeline"];

/// A checkpoint in the layout of diffusers, complete and with valid configs. No weights are read before
/// [`Checkpoint::weights`].
#[derive(Clone, Debug)]
pub struct Checkpoint {
    files: Files,
    transformer: TransformerConfig,
    text_encoder: TextEncoderConfig,
    vae: VaeConfig,
    scheduler: Value,
}

impl Checkpoint {
    /// Opens a diffusers directory: `model_index.json` and the folders of its parts.
    ///
    /// Refuses anything else by its name ([`Error::NotACheckpoint`]), a checkpoint with missing files, all of which are
    /// listed ([`Error::MissingFiles`]), and configs that this program cannot run ([`Error::Config`]).
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Err(not_a_directory(path));
        }
        Self::from_source(Files::directory(path))
    }

    /// Opens a checkpoint whose files are in memory, each under its path in the directory,
    /// `("transformer/config.json", bytes)`.
    pub fn from_files(files: Vec<(&'static str, Bytes)>) -> Result<Self> {
        Self::from_source(Files::embedded("embedded demo model", files))
    }

    fn from_source(files: Files) -> Result<Self> {
        check_pipeline(&files)?;
        let missing = missing_files(&files);
        if !missing.is_empty() {
            return Err(Error::MissingFiles { label: files.label().to_owned(), missing });
        }
        let place = |error: Error| error.in_checkpoint(|file| files.display(file));
        let config = |component: Component| files.json(component.config_file());
        Ok(Self {
            transformer: TransformerConfig::from_json(&config(Component::Transformer)?).map_err(place)?,
            text_encoder: TextEncoderConfig::from_json(&config(Component::TextEncoder)?).map_err(place)?,
            vae: VaeConfig::from_json(&config(Component::Vae)?).map_err(place)?,
            scheduler: files.json(SCHEDULER_CONFIG)?,
            files,
        })
    }

    /// The directory, or "embedded demo model".
    pub fn label(&self) -> &str {
        self.files.label()
    }

    /// Sizes of the transformer.
    pub fn transformer_config(&self) -> &TransformerConfig {
        &self.transformer
    }

    /// Sizes of the text encoder.
    pub fn text_encoder_config(&self) -> &TextEncoderConfig {
        &self.text_encoder
    }

    /// Sizes of the autoencoder.
    pub fn vae_config(&self) -> &VaeConfig {
        &self.vae
    }

    /// `scheduler/scheduler_config.json`, as it is.
    pub fn scheduler_config(&self) -> &Value {
        &self.scheduler
    }

    /// The bytes of `tokenizer/tokenizer.json`.
    pub fn tokenizer_json(&self) -> Result<Bytes> {
        self.files.read(TOKENIZER)
    }

    /// `tokenizer/tokenizer_config.json`, where there is one.
    pub fn tokenizer_config(&self) -> Result<Option<Value>> {
        if self.files.exists(TOKENIZER_CONFIG) { self.files.json(TOKENIZER_CONFIG).map(Some) } else { Ok(None) }
    }

    /// The files of an embedded checkpoint by their paths; none for a directory.
    pub fn embedded_files(&self) -> impl Iterator<Item = (&'static str, &Bytes)> {
        self.files.in_memory()
    }

    /// The weights of one part, mapped and audited: every tensor of its schema is there, in its shape, in a format that
    /// the kernels read, and nothing else is.
    ///
    /// Errors: [`Error::Audit`] with all names that do not fit, [`Error::UnsupportedFormat`], and those of the container.
    pub fn weights(&self, component: Component) -> Result<Weights> {
        let container = self.container(component)?;
        Weights::audited(self.label(), component, &self.specs(component), container)
    }

    /// The tensors that a part must have by its config.
    pub fn specs(&self, component: Component) -> Vec<crate::TensorSpec> {
        match component {
            Component::Transformer => crate::schema::transformer::tensors(&self.transformer),
            Component::TextEncoder => crate::schema::text_encoder::tensors(&self.text_encoder),
            Component::Vae => crate::schema::vae::tensors(&self.vae),
        }
    }

    /// The weight files of one part, opened and not yet compared with its config.
    pub fn container(&self, component: Component) -> Result<Container> {
        let folder = component.folder();
        let single = weights_file(component);
        let index = index_file(component);
        if self.files.exists(&index) {
            let text = self.files.read(&index)?;
            return Container::from_index(&self.files.display(&index), &text, &self.files.folder(folder));
        }
        self.files.open(&single).map(Container::from)
    }
}

/// `vae/diffusion_pytorch_model.safetensors`, the weights of a part in one file.
pub(crate) fn weights_file(component: Component) -> String {
    format!("{}/{}.safetensors", component.folder(), component.weights_stem())
}

/// `vae/diffusion_pytorch_model.safetensors.index.json`, the list of its shards.
pub(crate) fn index_file(component: Component) -> String {
    format!("{}.index.json", weights_file(component))
}

/// The model index must be there and name a Z-Image pipeline.
fn check_pipeline(files: &Files) -> Result<()> {
    let label = files.label().to_owned();
    if !files.exists(MODEL_INDEX) {
        let what = format!("it has no {MODEL_INDEX}, so it is not a checkpoint in the layout of diffusers");
        let hint = "give the directory that holds the folders transformer, text_encoder, vae and tokenizer".to_owned();
        return Err(Error::NotACheckpoint { label, what, hint });
    }
    let index = files.json(MODEL_INDEX)?;
    let class = index.get("_class_name").and_then(Value::as_str).unwrap_or("nameless");
    if PIPELINES.contains(&class) {
        return Ok(());
    }
    let what = format!("this is a {class} checkpoint, not Z-Image");
    let hint = "Z-Image checkpoints name ZImagePipeline in their model_index.json".to_owned();
    Err(Error::NotACheckpoint { label, what, hint })
}

/// Every file that the checkpoint should have and has not.
fn missing_files(files: &Files) -> Vec<String> {
    let configs = Component::ALL.map(|component| component.config_file().to_owned());
    let others = [SCHEDULER_CONFIG.to_owned(), TOKENIZER.to_owned()];
    let absent = configs.into_iter().chain(others).filter(|file| !files.exists(file));
    let weights = Component::ALL.into_iter().filter_map(|component| {
        let (single, index) = (weights_file(component), index_file(component));
        let found = files.exists(&single) || files.exists(&index);
        (!found).then(|| format!("{single} or its .index.json"))
    });
    absent.chain(weights).collect()
}

/// What to say about a path that is a file, or nothing.
fn not_a_directory(path: &Path) -> Error {
    if !path.exists() {
        return Error::io("open", path)(std::io::Error::from(std::io::ErrorKind::NotFound));
    }
    match crate::inspect::inspect(path) {
        Ok(report) if report.dialect == Dialect::Gguf => Error::NotACheckpoint {
            label: path.display().to_string(),
            what: "this is a GGUF file, and no model can be opened from one yet".to_owned(),
            hint: "`zimage inspect` says what is in it; to run the model give a directory in the layout of diffusers"
                .to_owned(),
        },
        Ok(report) => Error::NotACheckpoint {
            label: path.display().to_string(),
            what: format!("this is {}, in one file", report.dialect.describe()),
            hint: "only directories in the layout of diffusers can be opened, see `zimage inspect`".to_owned(),
        },
        Err(error) => error,
    }
}
