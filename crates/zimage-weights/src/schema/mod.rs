//! What a Z-Image checkpoint consists of: the single source of truth for configs, names, shapes and roles.
//!
//! Canonical names are the names of the diffusers checkpoint (those of the text encoder without their `model.` prefix).

mod fields;
pub mod text_encoder;
pub mod transformer;
pub mod vae;

use std::fmt;

use serde::Serialize;
use serde_json::Value;

pub use text_encoder::TextEncoderConfig;
pub use transformer::TransformerConfig;
pub use vae::VaeConfig;

use crate::Result;

/// Most layers that a config may ask for: names are listed in memory, and a hostile config must not fill it.
const MAX_LAYERS: usize = 1024;

/// A part of a checkpoint that has weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// `ZImageTransformer2DModel`: the denoiser.
    Transformer,
    /// `Qwen3Model`: prompt to caption features.
    TextEncoder,
    /// `AutoencoderKL`: latents to picture and back.
    Vae,
}

impl Component {
    /// All parts.
    pub const ALL: [Component; 3] = [Component::Transformer, Component::TextEncoder, Component::Vae];

    /// Its folder in a diffusers checkpoint.
    pub fn folder(self) -> &'static str {
        match self {
            Component::Transformer => "transformer",
            Component::TextEncoder => "text_encoder",
            Component::Vae => "vae",
        }
    }

    /// Its config file, relative to the checkpoint.
    pub fn config_file(self) -> &'static str {
        match self {
            Component::Transformer => "transformer/config.json",
            Component::TextEncoder => "text_encoder/config.json",
            Component::Vae => "vae/config.json",
        }
    }

    /// How its weight files begin: diffusers and transformers name them differently.
    pub fn weights_stem(self) -> &'static str {
        match self {
            Component::Transformer | Component::Vae => "diffusion_pytorch_model",
            Component::TextEncoder => "model",
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Component::Transformer => "transformer",
            Component::TextEncoder => "text encoder",
            Component::Vae => "VAE",
        })
    }
}

/// The tensors that a part must have by its config, as JSON.
pub fn tensors(component: Component, config: &Value) -> Result<Vec<TensorSpec>> {
    Ok(match component {
        Component::Transformer => transformer::tensors(&TransformerConfig::from_json(config)?),
        Component::TextEncoder => text_encoder::tensors(&TextEncoderConfig::from_json(config)?),
        Component::Vae => vae::tensors(&VaeConfig::from_json(config)?),
    })
}

/// What a tensor does. It decides what may be quantized and how random weights are scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Matrix of a linear layer, `(out, in)`.
    Linear,
    /// Added to the output of a linear layer, a convolution or a group norm.
    Bias,
    /// Scale of an RMS norm or a group norm.
    Norm,
    /// Kernel of a convolution, `(out, in, height, width)`.
    Conv,
    /// Table of token vectors, `(vocabulary, hidden)`.
    Embedding,
    /// A learned token that fills the padding, `(1, dim)`.
    Token,
}

/// A tensor that a component must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Canonical name.
    pub name: String,
    /// Sizes of the axes, outermost first.
    pub shape: Vec<usize>,
    /// What it does.
    pub role: Role,
}

impl TensorSpec {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Collects the tensors of a component, layer by layer.
#[derive(Default)]
struct Specs(Vec<TensorSpec>);

impl Specs {
    fn push(&mut self, name: String, shape: &[usize], role: Role) {
        self.0.push(TensorSpec { name, shape: shape.to_vec(), role });
    }

    /// `name.weight`, `(output, input)`.
    fn linear(&mut self, name: &str, output: usize, input: usize) {
        self.push(format!("{name}.weight"), &[output, input], Role::Linear);
    }

    /// `name.weight`, `(output, input)`, and `name.bias`.
    fn linear_bias(&mut self, name: &str, output: usize, input: usize) {
        self.linear(name, output, input);
        self.push(format!("{name}.bias"), &[output], Role::Bias);
    }

    /// `name.weight` of an RMS norm.
    fn norm(&mut self, name: &str, size: usize) {
        self.push(format!("{name}.weight"), &[size], Role::Norm);
    }

    /// `name.weight` and `name.bias` of a group norm.
    fn group_norm(&mut self, name: &str, channels: usize) {
        self.norm(name, channels);
        self.push(format!("{name}.bias"), &[channels], Role::Bias);
    }

    /// `name.weight`, `(output, input, size, size)`, and `name.bias`.
    fn conv(&mut self, name: &str, output: usize, input: usize, size: usize) {
        self.push(format!("{name}.weight"), &[output, input, size, size], Role::Conv);
        self.push(format!("{name}.bias"), &[output], Role::Bias);
    }
}
