//! Finds out how a part of Z-Image is named in a container, and reads it under canonical names.

use super::{Rows, Rule, VaeSizes, comfyui, llama, mflux, mlx, origins};
use crate::Audit;
use crate::container::Container;
use crate::packing::{self, Kind, Packed};
use crate::schema::{Component, TensorSpec};

/// What programs put before the names of a transformer. It is stripped once, at the start of a name.
const TRANSFORMER_PREFIXES: [&str; 5] = ["", "model.diffusion_model.", "diffusion_model.", "transformer.", "model."];
/// The same for the VAE.
const VAE_PREFIXES: [&str; 3] = ["", "vae.", "first_stage_model."];

/// Whose names they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    Diffusers,
    Comfyui,
    Mlx,
    Mflux,
    Llama,
}

/// How one part is named in one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Naming {
    component: Component,
    prefix: String,
    names: Names,
    rules: Vec<Rule>,
}

impl Naming {
    /// The naming of a part, or `None` where the container does not hold it.
    pub(crate) fn find(component: Component, container: &Container) -> Option<Self> {
        let begins = |prefix: &str, words: &[&str]| {
            words.iter().any(|word| {
                let start = format!("{prefix}{word}");
                container.names().any(|name| name.starts_with(&start))
            })
        };
        let (prefix, names) = match component {
            Component::Transformer => {
                let is_here = |prefix: &&str| begins(prefix, &["cap_embedder.", "noise_refiner."]);
                let prefix = TRANSFORMER_PREFIXES.into_iter().find(is_here)?;
                // These words first: the native ones are parts of them.
                let names = match () {
                    _ if begins(prefix, &["t_embedder.linear1."]) => Names::Mflux,
                    _ if begins(prefix, &["all_x_embedder.", "all_final_layer."]) => Names::Diffusers,
                    _ if begins(prefix, &["t_embedder.mlp.layers.", "cap_embedder.layers."]) => Names::Mlx,
                    _ => Names::Comfyui,
                };
                (prefix.to_owned(), names)
            }
            Component::TextEncoder if begins("", &["token_embd.", "blk."]) => (String::new(), Names::Llama),
            Component::TextEncoder => (text_encoder_prefix(container)?, Names::Diffusers),
            Component::Vae => {
                let is_here = |prefix: &&str| begins(prefix, &["decoder.conv_in.", "encoder.conv_in."]);
                let prefix = VAE_PREFIXES.into_iter().find(is_here)?;
                let names = match () {
                    _ if begins(prefix, &["decoder.up.", "encoder.down.", "decoder.mid."]) => Names::Comfyui,
                    _ if begins(prefix, &["decoder.mid_block.layers.", "encoder.mid_block.layers."]) => Names::Mlx,
                    _ if begins(prefix, &["decoder.conv_in.conv.", "encoder.conv_in.conv2d."]) => Names::Mflux,
                    _ => Names::Diffusers,
                };
                (prefix.to_owned(), names)
            }
        };
        let rules = rules(component, names, &prefix, container);
        Some(Self { component, prefix, names, rules })
    }

    /// The naming of a part, or the canonical one where the container seems not to hold it, so that an audit can say
    /// what is there instead.
    fn of(component: Component, container: &Container) -> Self {
        let canonical = || Self { component, prefix: String::new(), names: Names::Diffusers, rules: Vec::new() };
        Self::find(component, container).unwrap_or_else(canonical)
    }

    /// In words.
    pub(crate) fn describe(&self) -> &'static str {
        match self.names {
            Names::Diffusers => "names of diffusers",
            Names::Comfyui => "names of ComfyUI",
            Names::Mlx => "names of the MLX application",
            Names::Mflux => "names of mflux",
            Names::Llama => "names of llama.cpp",
        }
    }

    /// Whether a name belongs to no model at all, and is known to be left over by the programs that save it.
    fn is_stray(&self, name: &str) -> bool {
        let known = match self.component {
            Component::Transformer => name == "norm_final.weight",
            // The output layer, which repeats the table of tokens or is never used; and tables of llama.cpp.
            // The frequencies of the rotary embedding are computed; mflux and older transformers save them.
            Component::TextEncoder => {
                const LEFT_OVER: [&str; 4] =
                    ["lm_head.weight", "output.weight", "rope_freqs.weight", "rotary_emb.inv_freq"];
                LEFT_OVER.contains(&name.strip_prefix("model.").unwrap_or(name))
            }
            Component::Vae => false,
        };
        known || name == "logit_scale" || name.ends_with(".logit_scale")
    }

    /// The canonical tensors of one weight of the file.
    fn read(&self, packed: &Packed, entries: &mut Vec<Entry>) {
        let Some(mut bare) = packed.name.strip_prefix(&self.prefix) else {
            if !self.is_stray(&packed.name) {
                entries.push(Entry::foreign(packed));
            }
            return;
        };
        if self.is_stray(bare) {
            return;
        }
        if self.component == Component::TextEncoder {
            bare = bare.strip_prefix("model.").unwrap_or(bare);
        }
        for place in origins(&self.rules, bare) {
            let mut shape = packed.shape.clone();
            place.to_canonical(&mut shape);
            let transposed = place.transposed && packed.shape.len() == 4;
            // A tensor that cannot be cut stays whole, and so does not fit the schema.
            let rows = place.rows.filter(|rows| shape.first().is_some_and(|n| n % rows.of == 0));
            if let (Some(rows), Some(first)) = (rows, shape.first_mut()) {
                *first /= rows.of;
            }
            entries.push(Entry { name: place.name, shape, rows, transposed, packed: packed.clone(), container: 0 });
        }
    }
}

/// The table of a part; what it depends on beside the dialect is told by the names and shapes.
fn rules(component: Component, names: Names, prefix: &str, container: &Container) -> Vec<Rule> {
    let sizes = vae_sizes(prefix, container);
    match names {
        Names::Diffusers => Vec::new(),
        Names::Comfyui => comfyui::rules(component, sizes),
        Names::Mlx => {
            // The first convolution of the decoder tells the layout: those of 3 channels have the same shape in both.
            let kernel = container.info(&format!("{prefix}decoder.conv_in.weight"));
            let kept = kernel.is_some_and(|info| matches!(*info.shape, [_, _, 3, 3]));
            mlx::rules(component, sizes, !kept)
        }
        Names::Mflux => mflux::rules(component),
        Names::Llama => llama::text_encoder(),
    }
}

/// Levels and layers of a VAE by the numbers in its names.
fn vae_sizes(prefix: &str, container: &Container) -> VaeSizes {
    let count = |start: &str, end: &str| {
        let number = |name: &str| {
            let (number, rest) = name.strip_prefix(prefix)?.strip_prefix(start)?.split_once('.')?;
            rest.contains(end).then(|| number.parse::<usize>().ok())?
        };
        container.names().filter_map(number).max().map_or(0, |last| last.saturating_add(1))
    };
    let levels = ["encoder.down.", "encoder.down_blocks.", "decoder.up.", "decoder.up_blocks."];
    let layers = count("encoder.down_blocks.0.layers.", "norm1.").min(MAX_LAYERS);
    VaeSizes { levels: levels.into_iter().map(|start| count(start, "")).max().unwrap_or(0).min(MAX_LEVELS), layers }
}

/// More levels than any picture can be halved; names are hostile.
const MAX_LEVELS: usize = 32;
/// More layers than a config may ask for.
const MAX_LAYERS: usize = 1024;

/// The beginning of the text encoder's names up to `model.`, which they may have or not.
fn text_encoder_prefix(container: &Container) -> Option<String> {
    container.names().find_map(|name| {
        let scope = match name.strip_prefix("text_encoders.") {
            Some(rest) => &name[..name.len() - rest.split_once(".transformer.")?.1.len()],
            None if name.starts_with("text_encoder.") => "text_encoder.",
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
    /// Canonical shape; see [`Reading::fit`] for that of packed words.
    pub(crate) shape: Vec<usize>,
    /// The rows of the stored weight that are this tensor; `None` is all of them.
    pub(crate) rows: Option<Rows>,
    /// Whether the file has the input channels last.
    pub(crate) transposed: bool,
    /// The stored weight.
    pub(crate) packed: Packed,
    /// Which of the containers of the part has it.
    pub(crate) container: usize,
}

impl Entry {
    /// A tensor that is no part of the model.
    fn foreign(packed: &Packed) -> Self {
        let (name, shape) = (packed.name.clone(), packed.shape.clone());
        Self { name, shape, rows: None, transposed: false, packed: packed.clone(), container: 0 }
    }

    /// Elements of the tensor.
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().fold(1, |product, &n| product.saturating_mul(n))
    }

    /// Bytes of the tensor, its share of those of a fused one.
    pub(crate) fn size_bytes(&self) -> usize {
        self.packed.size_bytes / self.rows.map_or(1, |rows| rows.of)
    }

    /// How it is stored, in words; "unknown" where it cannot be read.
    pub(crate) fn format(&self) -> String {
        match self.packed.layout(self.shape.last().copied().unwrap_or(1)) {
            Ok(layout) => layout.to_string(),
            Err(_) => self.packed.dtype.name().to_ascii_lowercase(),
        }
    }

    /// Why it cannot be read as a tensor of this shape, if so.
    pub(crate) fn unreadable(&self, shape: &[usize]) -> Option<String> {
        self.packed.layout(shape.last().copied().unwrap_or(1)).err()
    }

    /// Takes the shape that the schema gives it, where that is the same tensor: words of 32 bits hold more values than
    /// there are words, and axes of one element in front are not kept by GGUF.
    fn fit(&mut self, spec: &TensorSpec) {
        let fits = match (&self.packed.kind, &*self.shape, &*spec.shape) {
            (Kind::Words { .. }, [rows, _], [expected, cols]) => rows == expected && self.packed.layout(*cols).is_ok(),
            (Kind::Plain, found, expected) => without_ones(found) == without_ones(expected),
            _ => false,
        };
        if fits {
            self.shape.clone_from(&spec.shape);
        }
    }
}

/// A shape without the axes of one element that it begins with.
fn without_ones(shape: &[usize]) -> &[usize] {
    let ones = shape.iter().take_while(|axis| **axis == 1).count();
    &shape[ones..]
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
        for packed in packing::gather(container) {
            let owner = all.iter().filter(|naming| claims(naming, &packed.name));
            let owner = owner.max_by_key(|naming| naming.prefix.len()).unwrap_or(&all[0]);
            if *owner == own {
                own.read(&packed, &mut entries);
            }
        }
        Self { entries }
    }

    /// Whether a container holds a part at all.
    pub(crate) fn is_of(component: Component, container: &Container) -> bool {
        Naming::find(component, container).is_some()
    }

    /// Takes the tensors of these names from another reading, whose container is number `container` of the part.
    pub(crate) fn adopt(&mut self, names: &[&str], other: Reading, container: usize) {
        let wanted = other.entries.into_iter().filter(|entry| names.contains(&&*entry.name));
        let absent: Vec<Entry> = wanted.filter(|new| !self.entries.iter().any(|own| own.name == new.name)).collect();
        self.entries.extend(absent.into_iter().map(|entry| Entry { container, ..entry }));
    }

    /// Gives every tensor the shape that the schema has for it, where the file leaves it open.
    pub(crate) fn fit(&mut self, specs: &[TensorSpec]) {
        let specs: std::collections::BTreeMap<&str, &TensorSpec> =
            specs.iter().map(|spec| (&*spec.name, spec)).collect();
        for entry in &mut self.entries {
            if let Some(spec) = specs.get(&*entry.name) {
                entry.fit(spec);
            }
        }
    }

    /// Compares the part with a schema.
    pub(crate) fn audit(&self, specs: &[TensorSpec]) -> Audit {
        Audit::compare(specs, self.entries.iter().map(|entry| (&*entry.name, &*entry.shape)))
    }
}
