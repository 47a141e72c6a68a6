//! Finds out how a part of Z-Image is named in a container, and reads it under canonical names.

use std::collections::BTreeMap;

use super::{Rows, Rule, comfyui, origins};
use crate::container::{Container, TensorInfo, TensorView};
use crate::schema::{Component, TensorSpec};
use crate::{Audit, Dtype, Result};

/// What programs put before the names of a transformer. It is stripped once, at the start of a name.
const TRANSFORMER_PREFIXES: [&str; 5] = ["", "model.diffusion_model.", "diffusion_model.", "transformer.", "model."];
/// The same for the VAE.
const VAE_PREFIXES: [&str; 2] = ["", "vae."];

/// Ends of the names of tensors that quantized files of ComfyUI have beside their weights.
const QUANTIZED: [&str; 6] =
    [".comfy_quant", ".weight_scale", ".scale_weight", ".input_scale", ".scale_input", "scaled_fp8"];

/// How one part is named in one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Naming {
    component: Component,
    prefix: String,
    rules: &'static [Rule],
}

impl Naming {
    /// The naming of a part, or `None` where the container does not hold it.
    pub(crate) fn find(component: Component, container: &Container) -> Option<Self> {
        let any = |start: String| container.names().any(|name| name.starts_with(&start));
        let begins = |prefix: &str, words: &[&str]| words.iter().any(|word| any(format!("{prefix}{word}")));
        let (prefix, foreign) = match component {
            Component::Transformer => {
                let is_here = |prefix: &&str| begins(prefix, &["cap_embedder.", "noise_refiner."]);
                let prefix = TRANSFORMER_PREFIXES.into_iter().find(is_here)?;
                // These words first: the native ones are parts of them.
                (prefix.to_owned(), !begins(prefix, &["all_x_embedder.", "all_final_layer."]))
            }
            Component::TextEncoder => (text_encoder_prefix(container)?, false),
            Component::Vae => {
                let is_here = |prefix: &&str| begins(prefix, &["decoder.conv_in.", "encoder.conv_in."]);
                let prefix = VAE_PREFIXES.into_iter().find(is_here)?;
                (prefix.to_owned(), begins(prefix, &["decoder.up.", "encoder.down.", "decoder.mid."]))
            }
        };
        Some(Self { component, prefix, rules: if foreign { comfyui::rules(component) } else { &[] } })
    }

    /// The naming of a part, or the canonical one where the container seems not to hold it, so that an audit can say
    /// what is there instead.
    fn of(component: Component, container: &Container) -> Self {
        Self::find(component, container).unwrap_or(Self { component, prefix: String::new(), rules: &[] })
    }

    /// In words.
    pub(crate) fn describe(&self) -> &'static str {
        if self.rules.is_empty() { "names of diffusers" } else { "names of ComfyUI" }
    }

    /// Whether a name belongs to no model at all, and is known to be left over by the programs that save it.
    fn is_stray(&self, name: &str) -> bool {
        let known = match self.component {
            Component::Transformer => name == "norm_final.weight",
            Component::TextEncoder => name == "lm_head.weight",
            Component::Vae => false,
        };
        known || name == "logit_scale" || name.ends_with(".logit_scale")
    }
}

/// The beginning of the text encoder's names up to `model.`, which they may have or not.
fn text_encoder_prefix(container: &Container) -> Option<String> {
    container.names().find_map(|name| {
        let scope = match name.strip_prefix("text_encoders.") {
            Some(rest) => &name[..name.len() - rest.split_once(".transformer.")?.1.len()],
            None => "",
        };
        let bare = &name[scope.len()..];
        let bare = bare.strip_prefix("model.").unwrap_or(bare);
        (bare.starts_with("embed_tokens.") || bare.starts_with("layers.0.self_attn.")).then(|| scope.to_owned())
    })
}

/// A canonical tensor and where it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Canonical name.
    pub(crate) name: String,
    /// Type and canonical shape.
    pub(crate) info: TensorInfo,
    stored: String,
    rows: Option<Rows>,
}

impl Entry {
    /// The tensor's bytes, a window of the file.
    pub(crate) fn view(&self, container: &Container) -> Result<TensorView> {
        let view = container.tensor(&self.stored)?;
        let bytes = self.info.size_bytes();
        let begin = self.rows.map_or(0, |rows| rows.part * bytes);
        Ok(TensorView {
            name: self.name.clone(),
            dtype: view.dtype,
            shape: self.info.shape.clone(),
            data: view.data.slice(begin..begin + bytes),
        })
    }
}

/// One part of a container under canonical names. A name may be there twice: the audit says so.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) entries: Vec<Entry>,
}

impl Reading {
    /// Reads the names of one part. What no part of the container claims is listed with the first.
    pub(crate) fn of(component: Component, container: &Container) -> Self {
        let own = Naming::of(component, container);
        let mut all: Vec<Naming> = Component::ALL.into_iter().filter_map(|c| Naming::find(c, container)).collect();
        if !all.contains(&own) {
            all.insert(0, own.clone());
        }
        let claims = |naming: &&Naming, name: &str| name.starts_with(&naming.prefix);
        let mut entries = Vec::new();
        for (name, info) in container.iter() {
            let owner = all.iter().filter(|naming| claims(naming, name)).max_by_key(|naming| naming.prefix.len());
            let owner = owner.unwrap_or(&all[0]);
            if *owner == own {
                own.read(name, info, &mut entries);
            }
        }
        Self { entries }
    }

    /// Compares the part with a schema.
    pub(crate) fn audit(&self, specs: &[TensorSpec]) -> Audit {
        Audit::compare(specs, self.entries.iter().map(|entry| (&*entry.name, &*entry.info.shape)))
    }

    /// How the part is quantized, if it is: "fp8", "int8", ...
    pub(crate) fn quantization(&self) -> Option<&'static str> {
        let holds = |dtypes: &[Dtype]| self.entries.iter().any(|entry| dtypes.contains(&entry.info.dtype));
        let marked = self.entries.iter().any(|entry| QUANTIZED.iter().any(|end| entry.stored.ends_with(end)));
        match () {
            // The scales of 4-bit weights are of 8-bit floats, so the packed weights decide.
            _ if marked && holds(&[Dtype::U8]) && holds(&[Dtype::F8E4M3]) && self.is_packed() => Some("4-bit"),
            _ if holds(&[Dtype::F8E4M3, Dtype::F8E5M2]) => Some("fp8"),
            _ if holds(&[Dtype::I8]) => Some("int8"),
            _ if marked => Some("quantized"),
            _ => None,
        }
    }

    fn is_packed(&self) -> bool {
        self.entries.iter().any(|entry| entry.info.dtype == Dtype::U8 && entry.name.ends_with(".weight"))
    }

    /// The entries by canonical name.
    pub(crate) fn into_map(self) -> BTreeMap<String, Entry> {
        self.entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect()
    }
}

impl Naming {
    fn read(&self, name: &str, info: &TensorInfo, entries: &mut Vec<Entry>) {
        let Some(mut bare) = name.strip_prefix(&self.prefix) else {
            if !self.is_stray(name) {
                entries.push(Entry { name: name.to_owned(), info: info.clone(), stored: name.to_owned(), rows: None });
            }
            return;
        };
        if self.is_stray(bare) {
            return;
        }
        if self.component == Component::TextEncoder {
            bare = bare.strip_prefix("model.").unwrap_or(bare);
        }
        for place in origins(self.rules, bare) {
            let mut shape = info.shape.clone();
            if let (true, [rows, cols, 1, 1]) = (place.squeezed, &*shape) {
                shape = vec![*rows, *cols];
            }
            // A tensor that cannot be cut stays whole, and so does not fit the schema.
            let rows = place.rows.filter(|rows| shape.first().is_some_and(|n| n % rows.of == 0));
            if let (Some(rows), Some(first)) = (rows, shape.first_mut()) {
                *first /= rows.of;
            }
            let info = TensorInfo { dtype: info.dtype, shape };
            entries.push(Entry { name: place.name, info, stored: name.to_owned(), rows });
        }
    }
}
