//! Which linear layers a module name means.
//!
//! Trainers write a layer's name with dots, with underscores, or with some of both, under a dozen prefixes. Underscores
//! cannot be taken apart again (`to_q`, `layers_0`), so the names of the model are written with underscores instead,
//! and looked up.

use std::collections::BTreeMap;

use crate::audit::most_similar;
use crate::dialect::{VaeSizes, comfyui, layout};
use crate::schema::{Component, Role, TensorSpec};

/// A linear layer of the model.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub component: Component,
    /// Canonical, without `.weight`.
    pub name: String,
    pub out: usize,
    pub cols: usize,
}

/// What a module name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Linear layers whose rows the module stacks, mostly one; `fused` where they are several in one.
    Layers { layers: Vec<usize>, canonical: bool },
    /// A tensor of the model that is no linear layer.
    Other,
}

/// All names of the linear layers of a model.
pub(super) struct Dictionary {
    pub layers: Vec<Layer>,
    transformer: BTreeMap<String, Target>,
    text_encoder: BTreeMap<String, Target>,
}

/// What stands before a name of the transformer.
const TRANSFORMER: [&str; 9] = [
    "base_model_model_",
    "transformer_",
    "diffusion_model_",
    "model_",
    "lora_unet_",
    "lora_transformer_",
    "lycoris_",
    "unet_",
    "lora_",
];

/// What stands before a name of the text encoder, and only there.
const TEXT_ENCODER: [&str; 9] = [
    "text_encoders_qwen3_4b_",
    "text_encoders_",
    "text_encoder_",
    "lora_te1_",
    "lora_te2_",
    "lora_te_",
    "qwen3_4b_",
    "te1_",
    "te_",
];

impl Dictionary {
    pub fn new(transformer: &[TensorSpec], text_encoder: &[TensorSpec]) -> Dictionary {
        let mut dictionary =
            Dictionary { layers: Vec::new(), transformer: BTreeMap::new(), text_encoder: BTreeMap::new() };
        let mut places = BTreeMap::new();
        for (component, specs) in [(Component::Transformer, transformer), (Component::TextEncoder, text_encoder)] {
            for spec in specs {
                dictionary.add(component, spec, &mut places);
            }
        }
        dictionary.add_native(transformer, &places);
        dictionary
    }

    fn add<'a>(&mut self, component: Component, spec: &'a TensorSpec, places: &mut BTreeMap<&'a str, usize>) {
        let Some(name) = spec.name.strip_suffix(".weight") else { return };
        let target = match (spec.role, &spec.shape[..]) {
            (Role::Linear, &[out, cols]) => {
                self.layers.push(Layer { component, name: name.to_owned(), out, cols });
                let at = self.layers.len() - 1;
                if component == Component::Transformer {
                    places.insert(&spec.name, at);
                }
                Target::Layers { layers: vec![at], canonical: true }
            }
            _ => Target::Other,
        };
        let names = self.names_mut(component);
        if let Some(bare) = name.strip_suffix(".to_out.0")
            && let Target::Layers { layers, .. } = &target
        {
            let target = Target::Layers { layers: layers.clone(), canonical: false };
            names.insert(plain(&format!("{bare}.to_out")), target);
        }
        names.insert(plain(name), target);
    }

    /// The names of the model's authors, in which queries, keys and values are one layer.
    fn add_native(&mut self, transformer: &[TensorSpec], places: &BTreeMap<&str, usize>) {
        let no_vae = VaeSizes { levels: 0, layers: 0 };
        for tensor in layout(&comfyui::rules(Component::Transformer, no_vae), transformer) {
            let layers: Option<Vec<usize>> =
                tensor.made_of.iter().map(|name| places.get(name.as_str()).copied()).collect();
            let (Some(layers), Some(name)) = (layers, tensor.name.strip_suffix(".weight")) else { continue };
            self.transformer.entry(plain(name)).or_insert(Target::Layers { layers, canonical: false });
        }
    }

    fn names_mut(&mut self, component: Component) -> &mut BTreeMap<String, Target> {
        match component {
            Component::TextEncoder => &mut self.text_encoder,
            Component::Transformer | Component::Vae => &mut self.transformer,
        }
    }

    /// What a module of a file means; `None` where the model has nothing of this name.
    pub fn find(&self, module: &str) -> Option<&Target> {
        let (names, bare) = self.unwrapped(module);
        bare.iter().find_map(|name| names.get(name))
    }

    /// The linear layer whose name resembles an unknown module's most.
    pub fn nearest(&self, module: &str) -> Option<&str> {
        let (names, bare) = self.unwrapped(module);
        let candidates = || names.keys().map(String::as_str);
        let name = bare.iter().rev().find_map(|name| most_similar(name, candidates()))?;
        let Target::Layers { layers, .. } = names.get(name)? else { return None };
        layers.first().map(|&at| self.layers[at].name.as_str())
    }

    /// The names to look in, and the module's name with ever fewer prefixes.
    fn unwrapped(&self, module: &str) -> (&BTreeMap<String, Target>, Vec<String>) {
        let (mut names, mut bare) = (&self.transformer, vec![plain(module)]);
        // No file puts more than four prefixes before a name; the limit is against names made of prefixes.
        while bare.len() < 6 {
            let name = &bare[bare.len() - 1];
            let text = TEXT_ENCODER.iter().find_map(|prefix| name.strip_prefix(prefix));
            let rest = text.or_else(|| TRANSFORMER.iter().find_map(|prefix| name.strip_prefix(prefix)));
            let Some(rest) = rest.map(str::to_owned) else { break };
            if text.is_some() {
                names = &self.text_encoder;
            }
            bare.push(rest);
        }
        (names, bare)
    }
}

/// A name with underscores alone.
fn plain(name: &str) -> String {
    name.replace(['.', '-'], "_")
}
