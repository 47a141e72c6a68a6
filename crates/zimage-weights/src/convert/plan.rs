//! Which files a target has, and which tensors they hold.

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use zimage_kernels::blocks::{Format, Layout, ScaleType, Scaled};

use super::precision::{Policy, dtype_of};
use super::{Conversion, Model, Precision, Target};
use crate::container::{Metadata, Value as Key};
use crate::dialect::{self, Rule, VaeSizes, comfyui, layout, llama, mlx, place};
use crate::open::{self, CONFIG_KEYS, SCHEDULER_KEY};
use crate::schema::Component;
use crate::{Dtype, Error, Result, TensorSpec, llama_cpp};

/// Most bytes of a shard of the transformer, as diffusers writes them.
const TRANSFORMER_SHARD: u64 = 10_000_000_000;
/// Most bytes of a shard of the text encoder, as transformers writes them.
const TEXT_ENCODER_SHARD: u64 = 5_000_000_000;

/// A file with tensors.
pub(super) struct FilePlan {
    /// Its place in the target; empty where the target is one file.
    pub(super) path: PathBuf,
    /// The free text of a safetensors file.
    pub(super) metadata: Metadata,
    /// The keys of a GGUF file, if it is one.
    pub(super) keys: Option<Vec<(String, Key)>>,
    pub(super) tensors: Vec<TensorPlan>,
}

/// A weight of a file: one tensor, or values, scales and biases.
#[derive(Clone, Debug)]
pub(super) struct TensorPlan {
    pub(super) component: Component,
    /// Its name in the file.
    pub(super) name: String,
    /// Shape of the values as numbers, in the file's order of axes.
    pub(super) shape: Vec<usize>,
    /// The canonical tensors whose rows it stacks.
    pub(super) made_of: Vec<TensorSpec>,
    /// Whether the file has the input channels of the kernel last.
    pub(super) transposed: bool,
    pub(super) layout: Layout,
}

/// A tensor of a file.
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
}

impl TensorPlan {
    /// The tensors that hold it: values, then scales and biases where its layout has them.
    pub(super) fn stored(&self) -> Vec<Stored> {
        let scaled = match self.layout {
            Layout::Rows(format) => {
                let dtype = dtype_of(format).expect("every format is one of an element type: this is a bug");
                return vec![Stored { name: self.name.clone(), dtype, shape: self.shape.clone() }];
            }
            Layout::Scaled(scaled) => scaled,
        };
        let base = self.name.strip_suffix(".weight").unwrap_or(&self.name);
        let (rows, cols) = (self.shape[0], self.shape[1]);
        let words =
            Stored { name: self.name.clone(), dtype: Dtype::U32, shape: vec![rows, scaled.row_bytes(cols) / 4] };
        let beside = |name: &str| {
            let shape = vec![rows, scaled.row_scales(cols)];
            Stored { name: format!("{base}.{name}"), dtype: scale_dtype(scaled), shape }
        };
        let biases = scaled.biased.then(|| beside("biases"));
        [words, beside("scales")].into_iter().chain(biases).collect()
    }

    /// Bytes of all its tensors.
    pub(super) fn size_bytes(&self) -> u64 {
        let size = |stored: Stored| stored.dtype.size_of(&stored.shape).unwrap_or(0) as u64;
        self.stored().into_iter().map(size).sum()
    }
}

fn scale_dtype(scaled: Scaled) -> Dtype {
    match scaled.scale {
        ScaleType::F32 => Dtype::F32,
        ScaleType::F16 => Dtype::F16,
        ScaleType::BF16 => Dtype::BF16,
        ScaleType::E4M3 | ScaleType::E8M0 => Dtype::U8,
    }
}

/// All files with tensors of a conversion, and the index files of shards.
pub(super) struct Plan {
    pub(super) files: Vec<FilePlan>,
    pub(super) texts: Vec<(PathBuf, Vec<u8>)>,
}

impl Plan {
    pub(super) fn new(model: &dyn Model, conversion: &Conversion) -> Result<Self> {
        let policy = Policy {
            target: conversion.target,
            precision: conversion.precision,
            // The original application quantizes every linear layer or none, and cannot load a mixture.
            reach: super::Reach {
                embedders: conversion.reach.embedders || conversion.target == Target::Mlx,
                ..conversion.reach
            },
        };
        check(conversion)?;
        let planner = Planner { model, policy };
        let mut plan = match conversion.target {
            Target::Diffusers => planner.diffusers()?,
            Target::Mlx => planner.mlx()?,
            Target::Comfyui => planner.comfyui()?,
            Target::ComfyuiSplit => planner.comfyui_split()?,
            Target::Gguf => planner.gguf()?,
        };
        plan.texts.extend(planner.companions()?);
        Ok(plan)
    }
}

/// Refuses precisions that files of the target cannot hold.
fn check(conversion: &Conversion) -> Result<()> {
    let fits = match (conversion.precision, conversion.target) {
        (Precision::Keep, _) => true,
        (Precision::Float(format), _) => matches!(format, Format::F32 | Format::F16 | Format::BF16),
        (Precision::Affine { .. }, target) => target == Target::Mlx,
        (Precision::Blocks(_), target) => target == Target::Gguf,
    };
    let (precision, target) = (conversion.precision.to_string(), conversion.target.name());
    if fits { Ok(()) } else { Err(Error::PrecisionOfTarget { precision, target }) }
}

struct Planner<'a> {
    model: &'a dyn Model,
    policy: Policy,
}

impl Planner<'_> {
    /// The tensors of a component in the names of a dialect, after a prefix.
    fn tensors(&self, component: Component, rules: &[Rule], prefix: &str) -> Result<Vec<TensorPlan>> {
        let specs = self.model.specs(component);
        let plan = |tensor: dialect::FileTensor| {
            let find = |name: &String| specs.iter().find(|spec| spec.name == *name).cloned();
            let made_of: Vec<TensorSpec> = tensor.made_of.iter().filter_map(find).collect();
            let mut layouts = made_of.iter().map(|spec| {
                let stored = self.model.stored(component, &spec.name)?;
                Ok(self.policy.layout(component, spec, stored.layout))
            });
            let first = layouts.next().expect("a tensor is made of some: this is a bug")?;
            // Parts of a fused tensor that differ have only numbers in common.
            let layout = layouts.try_fold(first, |layout, other: Result<Layout>| {
                other.map(|other| if other == layout { layout } else { Layout::Rows(Format::BF16) })
            })?;
            Ok(TensorPlan {
                component,
                name: format!("{prefix}{}", tensor.name),
                transposed: place(rules, &made_of[0].name).transposed && tensor.shape.len() == 4,
                shape: tensor.shape,
                made_of,
                layout,
            })
        };
        layout(rules, &specs).into_iter().map(plan).collect()
    }

    fn sizes(&self) -> VaeSizes {
        self.model.checkpoint().vae_config().into()
    }

    fn config(&self, component: Component) -> Value {
        let checkpoint = self.model.checkpoint();
        match component {
            Component::Transformer => checkpoint.transformer_config().to_json(),
            Component::TextEncoder => checkpoint.text_encoder_config().to_json(),
            Component::Vae => checkpoint.vae_config().to_json(),
        }
    }

    /// Shards in a folder per part, with their index.
    fn diffusers(&self) -> Result<Plan> {
        let mut plan = Plan { files: Vec::new(), texts: Vec::new() };
        for component in Component::ALL {
            let (prefix, limit) = match component {
                Component::Transformer => ("", TRANSFORMER_SHARD),
                Component::TextEncoder => ("model.", TEXT_ENCODER_SHARD),
                Component::Vae => ("", u64::MAX),
            };
            let shards = split(self.tensors(component, &[], prefix)?, limit);
            let count = shards.len();
            let mut weight_map = Map::new();
            let mut total = 0;
            for (at, tensors) in shards.into_iter().enumerate() {
                let file = match count {
                    1 => format!("{}.safetensors", component.weights_stem()),
                    _ => format!("{}-{:05}-of-{count:05}.safetensors", component.weights_stem(), at + 1),
                };
                weight_map.extend(tensors.iter().map(|tensor| (tensor.name.clone(), Value::from(&*file))));
                total += tensors.iter().map(TensorPlan::size_bytes).sum::<u64>();
                let path = PathBuf::from(component.folder()).join(file);
                let metadata = Metadata::from([("format".to_owned(), "pt".to_owned())]);
                plan.files.push(FilePlan { path, metadata, keys: None, tensors });
            }
            if count > 1 {
                let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
                plan.texts.push(json_file(&open::index_file(component), &index));
            }
            plan.texts.push(json_file(component.config_file(), &self.config(component)));
        }
        plan.texts.push(json_file(open::MODEL_INDEX, &crate::random::model_index()));
        Ok(plan)
    }

    /// The layout of the original application. It refuses tensors that it does not know, so that the pad tokens, which
    /// pictures need, are in a file of their own.
    fn mlx(&self) -> Result<Plan> {
        let file = |path: &str, tensors| {
            let metadata = Metadata::from([("format".to_owned(), "mlx".to_owned())]);
            FilePlan { path: path.into(), metadata, keys: None, tensors }
        };
        let rules = |component| mlx::rules(component, self.sizes(), true);
        let transformer = self.tensors(Component::Transformer, &rules(Component::Transformer), "")?;
        let (pads, weights) = transformer.into_iter().partition(|tensor| mlx::DROPPED.contains(&&*tensor.name));
        let files = vec![
            file("weights.safetensors", weights),
            file(mlx::PAD_TOKENS, pads),
            file("text_encoder.safetensors", self.tensors(Component::TextEncoder, &[], "model.")?),
            file("vae.safetensors", self.tensors(Component::Vae, &rules(Component::Vae), "")?),
        ];
        let mut config = open::to_mlx(self.model.checkpoint().transformer_config());
        // What the file holds, in the words of the application; "FP8" are its 8-bit numbers.
        let holds = |layout: fn(&Layout) -> bool| files[0].tensors.iter().any(|tensor| layout(&tensor.layout));
        config["precision"] = match () {
            _ if holds(|layout| matches!(layout, Layout::Scaled(_))) => "FP8".into(),
            _ if holds(|layout| matches!(layout, Layout::Rows(Format::BF16 | Format::F16))) => "FP16".into(),
            _ => "Original".into(),
        };
        let texts = vec![
            json_file("config.json", &config),
            json_file("text_encoder_config.json", &self.config(Component::TextEncoder)),
            json_file("vae_config.json", &self.config(Component::Vae)),
        ];
        Ok(Plan { files, texts })
    }

    /// What files of ComfyUI do not say of themselves.
    fn configs(&self, components: &[Component]) -> Metadata {
        let key =
            |component: &Component| (CONFIG_KEYS[*component as usize].to_owned(), self.config(*component).to_string());
        let mut metadata: Metadata = components.iter().map(key).collect();
        if components.contains(&Component::Transformer) {
            metadata.insert(SCHEDULER_KEY.to_owned(), self.model.checkpoint().scheduler_config().to_string());
        }
        metadata
    }

    fn comfyui_tensors(&self, component: Component, prefix: &str) -> Result<Vec<TensorPlan>> {
        self.tensors(component, &comfyui::rules(component, self.sizes()), prefix)
    }

    fn comfyui(&self) -> Result<Plan> {
        let mut tensors = self.comfyui_tensors(Component::Transformer, "model.diffusion_model.")?;
        let text = "text_encoders.qwen3_4b.transformer.model.";
        tensors.extend(self.comfyui_tensors(Component::TextEncoder, text)?);
        tensors.extend(self.comfyui_tensors(Component::Vae, "vae.")?);
        let metadata = self.configs(&Component::ALL);
        Ok(Plan { files: vec![FilePlan { path: PathBuf::new(), metadata, keys: None, tensors }], texts: Vec::new() })
    }

    fn comfyui_split(&self) -> Result<Plan> {
        let file = |component, path: &str, prefix| {
            let (metadata, tensors) = (self.configs(&[component]), self.comfyui_tensors(component, prefix)?);
            Ok(FilePlan { path: path.into(), metadata, keys: None, tensors })
        };
        let files = vec![
            file(Component::Transformer, "diffusion_models/z_image.safetensors", "")?,
            file(Component::TextEncoder, "text_encoders/qwen_3_4b.safetensors", "model.")?,
            file(Component::Vae, "vae/ae.safetensors", "")?,
        ];
        Ok(Plan { files, texts: Vec::new() })
    }

    fn gguf(&self) -> Result<Plan> {
        let checkpoint = self.model.checkpoint();
        let text = |key: &str, value: &str| (key.to_owned(), Key::String(value.to_owned()));
        let version = ("general.quantization_version".to_owned(), Key::U32(2));
        let mut transformer_keys = vec![text("general.architecture", "lumina2"), version.clone()];
        transformer_keys.extend(self.configs(&[Component::Transformer]).iter().map(|(key, value)| text(key, value)));
        let config = checkpoint.text_encoder_config();
        let mut text_keys = llama_cpp::text_encoder_keys(config);
        text_keys.push(version);
        let template = checkpoint.tokenizer_config()?;
        let template = template.as_ref().and_then(|config| config.get("chat_template")).and_then(Value::as_str);
        let tokenizer = checkpoint.tokenizer_json()?;
        text_keys.extend(llama_cpp::tokenizer_keys("tokenizer.json", &tokenizer, config.vocab_size, template)?);
        let file = |path: &str, keys, tensors| FilePlan {
            path: path.into(),
            metadata: Metadata::new(),
            keys: Some(keys),
            tensors,
        };
        let text_encoder = self.tensors(Component::TextEncoder, &llama::text_encoder(), "")?;
        let vae = FilePlan {
            path: "vae.safetensors".into(),
            metadata: self.configs(&[Component::Vae]),
            keys: None,
            tensors: self.comfyui_tensors(Component::Vae, "")?,
        };
        let transformer = self.comfyui_tensors(Component::Transformer, "")?;
        let files = vec![
            file("transformer.gguf", transformer_keys, transformer),
            file("text_encoder.gguf", text_keys, text_encoder),
            vae,
        ];
        Ok(Plan { files, texts: Vec::new() })
    }

    /// The tokenizer and the scheduler, which every target has in files of their own.
    fn companions(&self) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let checkpoint = self.model.checkpoint();
        let mut files: Vec<(PathBuf, Vec<u8>)> = checkpoint
            .tokenizer_files()?
            .into_iter()
            .map(|(name, bytes)| (PathBuf::from("tokenizer").join(name), bytes.to_vec()))
            .collect();
        if self.policy.target == Target::Diffusers && checkpoint.tokenizer_config()?.is_none() {
            files.push(json_file("tokenizer/tokenizer_config.json", &crate::random::tokenizer_config()));
        }
        files.push(json_file(open::SCHEDULER_CONFIG, checkpoint.scheduler_config()));
        if self.policy.target == Target::Comfyui {
            // Beside a file that others may lie beside; the scheduler is in its header.
            files.retain(|(path, _)| path.ends_with("tokenizer.json"));
            files.iter_mut().for_each(|(path, _)| *path = "tokenizer.json".into());
        }
        Ok(files)
    }
}

fn json_file(path: &str, value: &Value) -> (PathBuf, Vec<u8>) {
    (path.into(), format!("{value:#}\n").into_bytes())
}

/// Fills shards in order, each with at most `limit` bytes, or one weight where that is larger.
fn split(tensors: Vec<TensorPlan>, limit: u64) -> Vec<Vec<TensorPlan>> {
    let mut shards: Vec<Vec<TensorPlan>> = vec![Vec::new()];
    let mut filled = 0;
    for tensor in tensors {
        let size = tensor.size_bytes();
        if filled > 0 && filled + size > limit {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += size;
        shards.last_mut().expect("there is one: this is a bug").push(tensor);
    }
    shards
}
