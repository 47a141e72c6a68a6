//! Finds the files of a checkpoint, parses its configs, and hands out audited weights.

mod assemble;
mod collect;
mod configs;
mod files;
mod infer;
mod parts;
mod view;
mod weights;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::Value;

use crate::container::Container;
use crate::dialect::Naming;
use crate::schema::{Component, TextEncoderConfig, TransformerConfig, VaeConfig};
use crate::{Error, Result};

pub(crate) use configs::{CONFIG_KEYS, SCHEDULER_KEY, config_of, config_place, to_mlx};
use files::Files;
pub(crate) use parts::held;
pub use parts::{Origin, Parts};
use parts::{Source, Tokenizer};
pub use view::WeightView;
pub use weights::{Precision, PrecisionCount, Weights};

/// File that names the pipeline and its parts.
pub(crate) const MODEL_INDEX: &str = "model_index.json";
pub(crate) const SCHEDULER_CONFIG: &str = "scheduler/scheduler_config.json";
const TOKENIZER: &str = "tokenizer/tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// The pipelines whose checkpoints are the same files: text to image, image to image, inpainting.
const PIPELINES: [&str; 3] = ["ZImagePipeline", "ZImageImg2ImgPipeline", "ZImageInpaintPipeline"];

/// A checkpoint, complete and with valid configs. No weights are read before [`Checkpoint::weights`].
#[derive(Clone, Debug)]
pub struct Checkpoint {
    label: String,
    /// One per part, in the order of [`Component::ALL`].
    sources: [Source; 3],
    transformer: TransformerConfig,
    text_encoder: TextEncoderConfig,
    vae: VaeConfig,
    scheduler: Value,
    tokenizer: Tokenizer,
    /// Where the pad tokens of a transformer without them are.
    pads: Option<Source>,
    origins: Vec<Origin>,
}

impl Checkpoint {
    /// Opens a model: a diffusers directory (`model_index.json` and the folders of its parts), a directory of MLX, mflux,
    /// ComfyUI or GGUF files, or a file that has all parts, with the tokenizer beside it.
    ///
    /// Refuses anything else by its name ([`Error::NotACheckpoint`]), a checkpoint with missing files or parts, all of
    /// which are listed ([`Error::MissingFiles`], [`Error::MissingParts`]), and configs that this program cannot run
    /// ([`Error::Config`]).
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_parts(&Parts { transformer: path.to_path_buf(), ..Parts::default() })
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
            label: files.label().to_owned(),
            transformer: TransformerConfig::from_json(&config(Component::Transformer)?).map_err(place)?,
            text_encoder: TextEncoderConfig::from_json(&config(Component::TextEncoder)?).map_err(place)?,
            vae: VaeConfig::from_json(&config(Component::Vae)?).map_err(place)?,
            scheduler: files.json(SCHEDULER_CONFIG)?,
            sources: Component::ALL.map(|_| Source::Layout(files.clone())),
            tokenizer: Tokenizer::File(files, TOKENIZER.to_owned()),
            pads: None,
            origins: Vec::new(),
        })
    }

    /// Puts a checkpoint together from parts in several places; [`Checkpoint::origins`] says what was taken from where.
    ///
    /// A config is the `config.json` beside a file, else it is told from the shapes of the tensors. Errors are those of
    /// [`Checkpoint::open`].
    pub fn from_parts(parts: &Parts) -> Result<Self> {
        let label = parts.transformer.display().to_string();
        if parts.transformer.is_dir() {
            let alone = Parts { transformer: parts.transformer.clone(), ..Parts::default() };
            if *parts == alone && parts.transformer.join(MODEL_INDEX).is_file() {
                return Self::from_source(Files::directory(&parts.transformer));
            }
            if let Some(found) = Self::in_directory(parts)? {
                return Ok(Self { label, ..Self::of_files(&found)? });
            }
        }
        Self::of_files(parts)
    }

    /// The parts of a directory that is not in the layout of diffusers, with those that were given instead.
    fn in_directory(parts: &Parts) -> Result<Option<Parts>> {
        let directory = &parts.transformer;
        if directory.join(MODEL_INDEX).is_file() {
            return Ok(None);
        }
        let Some(found) = collect::parts_in(directory)? else { return Err(no_weights(directory)) };
        let given = parts.clone();
        Ok(Some(Parts {
            transformer: found.transformer,
            text_encoder: given.text_encoder.or(found.text_encoder),
            vae: given.vae.or(found.vae),
            tokenizer: given.tokenizer.or(found.tokenizer),
            scheduler: given.scheduler.or(found.scheduler),
            pad_tokens_from: given.pad_tokens_from.or(found.pad_tokens_from),
            ..given
        }))
    }

    fn of_files(parts: &Parts) -> Result<Self> {
        let label = parts.transformer.display().to_string();
        let sources = assemble::sources(parts, &label)?;
        let tokenizer = parts::tokenizer(parts, &sources[0], Some(&sources[1]))?;
        let Some(tokenizer) = tokenizer else { return Err(assemble::missing_parts(&label, &[], true)) };
        let (scheduler, scheduler_place) = parts::scheduler(parts, &sources[0])?;
        let find_pads = |path: &PathBuf| Source::find(path, Component::Transformer);
        let pads = parts.pad_tokens_from.as_ref().map(find_pads).transpose()?;

        let mut origins = Vec::new();
        let mut config = |component: Component| -> Result<(Value, String)> {
            let source = &sources[component as usize];
            let container = source.container(component)?;
            let label = container.files().first().map_or_else(|| source.label(), |file| file.label().to_owned());
            let (config, found) = config_of(&label, &container, component)?;
            let naming = Naming::find(component, &container).map_or("", |naming| naming.describe());
            let place = format!("{label} ({naming}; config {})", found.as_deref().unwrap_or("told from shapes"));
            origins.push(Origin { part: component.to_string(), place });
            Ok((config, config_place(&label, found)))
        };
        let [(transformer, at), (text_encoder, text_at), (vae, vae_at)] =
            [config(Component::Transformer)?, config(Component::TextEncoder)?, config(Component::Vae)?];
        let place = |at: String| move |error: Error| error.in_checkpoint(|_| at);
        let mut origin = |part: &str, place: String| origins.push(Origin { part: part.to_owned(), place });
        origin("tokenizer", tokenizer.place());
        origin("scheduler", scheduler_place);
        if let Some(pads) = &pads {
            origin("pad tokens", pads.label());
        }
        let checkpoint = Self {
            transformer: TransformerConfig::from_json(&transformer).map_err(place(at))?,
            text_encoder: TextEncoderConfig::from_json(&text_encoder).map_err(place(text_at))?,
            vae: VaeConfig::from_json(&vae).map_err(place(vae_at))?,
            label,
            sources,
            scheduler,
            tokenizer,
            pads,
            origins,
        };
        checkpoint.check_fit()?;
        Ok(checkpoint)
    }

    /// Parts from several places may be those of different models.
    fn check_fit(&self) -> Result<()> {
        let refuse = |part: Component, what: String| {
            let hint = format!("give the {part} of the same model");
            Err(Error::NotACheckpoint { label: self.source(part).label(), what, hint })
        };
        let (caption, hidden) = (self.transformer.cap_feat_dim, self.text_encoder.hidden_size);
        if caption != hidden {
            let what = format!("its captions have {hidden} features, and the transformer reads {caption}");
            return refuse(Component::TextEncoder, what);
        }
        let (input, latent) = (self.transformer.in_channels, self.vae.latent_channels);
        if input != latent {
            let what = format!("its latents have {latent} channels, and those of the transformer {input}");
            return refuse(Component::Vae, what);
        }
        Ok(())
    }

    /// The path that was opened, or "embedded demo model".
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What was taken from where; empty where everything is in one directory of its own.
    pub fn origins(&self) -> &[Origin] {
        &self.origins
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

    /// The bytes of the `tokenizer.json`.
    pub fn tokenizer_json(&self) -> Result<Bytes> {
        match &self.tokenizer {
            Tokenizer::File(files, file) => files.read(file),
            Tokenizer::Made(json, _) => Ok(json.clone()),
        }
    }

    /// The `tokenizer_config.json` beside the tokenizer, where there is one.
    pub fn tokenizer_config(&self) -> Result<Option<Value>> {
        let Tokenizer::File(files, file) = &self.tokenizer else { return Ok(None) };
        let folder = file.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        let config = format!("{folder}{TOKENIZER_CONFIG}");
        if files.exists(&config) { files.json(&config).map(Some) } else { Ok(None) }
    }

    /// The file of the tokenizer, unless it is embedded or made of the metadata of a GGUF file.
    pub fn tokenizer_path(&self) -> Option<PathBuf> {
        let Tokenizer::File(files, file) = &self.tokenizer else { return None };
        files.root().map(|root| root.join(file))
    }

    /// The tokenizer's files by their names: `tokenizer.json`, and what lies beside it for other programs.
    pub fn tokenizer_files(&self) -> Result<Vec<(&'static str, Bytes)>> {
        const BESIDE: [&str; 6] = [
            TOKENIZER_CONFIG,
            "vocab.json",
            "merges.txt",
            "special_tokens_map.json",
            "added_tokens.json",
            "chat_template.jinja",
        ];
        let mut found = vec![("tokenizer.json", self.tokenizer_json()?)];
        if let Tokenizer::File(files, file) = &self.tokenizer {
            let folder = file.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
            for name in BESIDE {
                let path = format!("{folder}{name}");
                if files.exists(&path) {
                    found.push((name, files.read(&path)?));
                }
            }
        }
        Ok(found)
    }

    /// The files of an embedded checkpoint by their paths; none for a directory.
    pub fn embedded_files(&self) -> impl Iterator<Item = (&'static str, &Bytes)> {
        let files = match self.source(Component::Transformer) {
            Source::Layout(files) => Some(files),
            Source::File(_) | Source::Shards(_) => None,
        };
        files.into_iter().flat_map(Files::in_memory)
    }

    /// The weights of one part, mapped and audited: every tensor of its schema is there, in its shape, in a format that
    /// the kernels read, and nothing else is.
    ///
    /// Errors: [`Error::Audit`] with all names that do not fit, [`Error::MissingPads`], [`Error::UnsupportedFormat`], and
    /// those of the container.
    pub fn weights(&self, component: Component) -> Result<Weights> {
        let container = self.container(component)?;
        let label = self.source(component).label();
        Weights::audited(&label, component, &self.specs(component), container, self.pads(component)?)
    }

    /// The weights that pad tokens are taken from.
    pub(crate) fn pads(&self, component: Component) -> Result<Option<Container>> {
        let pads = self.pads.as_ref().filter(|_| component == Component::Transformer);
        pads.map(|pads| pads.container(Component::Transformer)).transpose()
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
        self.source(component).container(component)
    }

    /// The weight files of all parts, each with the name of the part; pad tokens that are taken from elsewhere are one.
    pub fn containers(&self) -> Result<Vec<(String, Container)>> {
        let part = |component: Component| Ok((component.to_string(), self.container(component)?));
        let mut parts = Component::ALL.into_iter().map(part).collect::<Result<Vec<_>>>()?;
        parts.extend(self.pads(Component::Transformer)?.map(|pads| ("pad tokens".to_owned(), pads)));
        Ok(parts)
    }

    fn source(&self, component: Component) -> &Source {
        let [transformer, text_encoder, vae] = &self.sources;
        match component {
            Component::Transformer => transformer,
            Component::TextEncoder => text_encoder,
            Component::Vae => vae,
        }
    }
}

/// Every container of a directory that is not in the layout of diffusers, or `None` where it has none.
pub(crate) fn containers_in(directory: &Path) -> Result<Option<Vec<Container>>> {
    let sources = collect::sources_in(directory)?;
    let containers = sources.iter().map(collect::open).collect::<Result<Vec<_>>>()?;
    Ok((!containers.is_empty()).then_some(containers))
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
    absent.chain(Component::ALL.into_iter().flat_map(|component| missing_weights(files, component))).collect()
}

/// The weights of one part, where they are not there.
fn missing_weights(files: &Files, component: Component) -> Option<String> {
    let (single, index) = (weights_file(component), index_file(component));
    let found = files.exists(&single) || files.exists(&index);
    (!found).then(|| format!("{single} or its .index.json"))
}

/// A directory without anything to open.
fn no_weights(directory: &Path) -> Error {
    Error::NotACheckpoint {
        label: directory.display().to_string(),
        what: format!("it has no {MODEL_INDEX}, and no safetensors or GGUF files"),
        hint:
            "give the directory of a model: the one that holds the folders transformer, text_encoder and vae, or the \
               files of ComfyUI, MLX or GGUF"
                .to_owned(),
    }
}
