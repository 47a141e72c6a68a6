//! What every tensor is stored as: what was asked for, bounded by what a tensor does and what a file can hold.

use std::fmt;
use std::str::FromStr;

use zimage_kernels::blocks::{Element, Format, Group, Layout, ScaleType, Scaled};

use super::Target;
use crate::schema::{Component, Role};
use crate::{Dtype, TensorSpec};

/// Values that share a scale in the affine formats, unless asked otherwise.
pub const GROUP: usize = 64;

/// What the weights of a model are to be stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As they are, where the target can hold that, else in bf16.
    Keep,
    /// All of them in a float.
    Float(Format),
    /// Linear layers as affine numbers of so many bits with a scale and a bias for each group, the rest in 16 bits.
    Affine {
        /// 2 to 6, or 8.
        bits: u8,
        /// 32, 64 or 128.
        group: usize,
    },
    /// Linear layers in a format of ggml, the rest in 16 bits.
    Blocks(Format),
}

/// The names of the precisions, for messages.
pub const PRECISIONS: &str = "keep, f32, bf16, f16, int8, int6, int5, int4, int3, int2, q8_0, q4_0, q4_1, q5_0, q5_1, q2_k, q3_k, q4_k, q5_k, q6_k";

impl Precision {
    /// Whether layers get fewer than 16 bits.
    pub fn is_quantized(self) -> bool {
        matches!(self, Precision::Affine { .. } | Precision::Blocks(_))
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.to_ascii_lowercase();
        let bits = text.strip_prefix("int").and_then(|bits| bits.parse().ok());
        let format = Format::ALL.into_iter().find(|format| format.name() == text && format.encoder().is_some());
        match (&*text, bits, format) {
            ("keep", ..) => Ok(Precision::Keep),
            (_, Some(bits @ (2..=6 | 8)), _) => Ok(Precision::Affine { bits, group: GROUP }),
            (_, _, Some(format)) if format.block_len() == 1 => Ok(Precision::Float(format)),
            (_, _, Some(format)) => Ok(Precision::Blocks(format)),
            _ => Err(format!("expected one of {PRECISIONS}")),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Precision::Keep => f.write_str("keep"),
            Precision::Float(format) | Precision::Blocks(format) => f.write_str(format.name()),
            Precision::Affine { bits, group } => write!(f, "int{bits}, group {group}"),
        }
    }
}

/// Which layers are quantized beside those of the transformer's blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The text encoder, its table of tokens included.
    pub text_encoder: bool,
    /// The transformer's embedders and its final layer.
    pub embedders: bool,
}

/// Decides what tensors are stored as in a target.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub(crate) target: Target,
    pub(crate) precision: Precision,
    pub(crate) reach: Reach,
}

impl Policy {
    /// What a tensor is stored as; `stored` is what it is now.
    pub(crate) fn layout(&self, component: Component, spec: &TensorSpec, stored: Layout) -> Layout {
        let wanted = match self.precision {
            Precision::Keep if self.holds(component, stored) => stored,
            Precision::Keep => Layout::Rows(Format::BF16),
            Precision::Float(format) => Layout::Rows(format),
            Precision::Affine { .. } | Precision::Blocks(_) => self.quantized(component, spec, half_of(stored)),
        };
        // Norms and biases of GGUF files are read as f32 by every program, and so are they that are not matrices.
        let narrow = spec.shape.len() < 2 || spec.role == Role::Token;
        if self.in_gguf(component) && narrow { Layout::Rows(Format::F32) } else { wanted }
    }

    /// A layer that is to be quantized, or its 16-bit form where the policy or its shape says no.
    fn quantized(&self, component: Component, spec: &TensorSpec, half: Format) -> Layout {
        let reached = match (component, spec.role) {
            (Component::Transformer, Role::Linear) => self.reach.embedders || is_in_block(&spec.name),
            (Component::TextEncoder, Role::Linear | Role::Embedding) => self.reach.text_encoder,
            _ => false,
        };
        let layout = match self.precision {
            Precision::Affine { bits, group } => Layout::Scaled(Scaled::affine(bits, group, scale_type(half))),
            Precision::Blocks(format) => Layout::Rows(format),
            Precision::Keep | Precision::Float(_) => return Layout::Rows(half),
        };
        let cols = spec.shape.last().copied().unwrap_or(1);
        if reached && cols.is_multiple_of(layout.block_len()) { layout } else { Layout::Rows(half) }
    }

    /// Whether files of the target can have such a tensor.
    fn holds(&self, component: Component, layout: Layout) -> bool {
        match layout {
            Layout::Rows(format) if self.in_gguf(component) => dtype_of(format).is_some_and(|d| d.to_ggml().is_some()),
            Layout::Rows(format) => matches!(format, Format::F32 | Format::F16 | Format::BF16),
            Layout::Scaled(scaled) => self.target == Target::Mlx && is_of_mlx(scaled),
        }
    }

    /// Whether the component is written into a GGUF file.
    pub(super) fn in_gguf(&self, component: Component) -> bool {
        self.target == Target::Gguf && component != Component::Vae
    }
}

/// The layers between embedders and final layer.
fn is_in_block(name: &str) -> bool {
    ["layers.", "noise_refiner.", "context_refiner."].iter().any(|start| name.starts_with(start))
}

/// The 16-bit form of a weight: what it is stored as, where that has 16 bits.
fn half_of(stored: Layout) -> Format {
    match stored {
        Layout::Rows(Format::F16) => Format::F16,
        Layout::Scaled(Scaled { scale: ScaleType::F16, .. }) => Format::F16,
        _ => Format::BF16,
    }
}

fn scale_type(half: Format) -> ScaleType {
    if half == Format::F16 { ScaleType::F16 } else { ScaleType::BF16 }
}

/// Whether MLX has this packing; ComfyUI's differ in the order of halves or scales.
fn is_of_mlx(scaled: Scaled) -> bool {
    let own = matches!(scaled.element, Element::Unsigned(_) | Element::E2M1 | Element::E4M3);
    own && matches!(scaled.group, Group::Columns(_)) && !scaled.high_first && !scaled.swizzled && !scaled.rotated
}

/// The element type with the bytes of a format.
pub(super) fn dtype_of(format: Format) -> Option<Dtype> {
    Dtype::ALL.iter().copied().find(|dtype| dtype.format() == Some(format))
}
