//! Gathers the tensors of a file that make up one weight: values, scales, biases.
//!
//! Programs that quantize store a weight as several tensors with related names. Here they become one [`Packed`] under
//! the name of the weight, so that dialects (names) and packings (bytes) know nothing of each other.
//!
//! Sources: the quantized linear layers of MLX (`.scales`, `.biases`); the `comfy_quant`, `scaled_fp8` and
//! `_quantization_metadata` conventions of ComfyUI.

mod comfy;

use std::collections::BTreeSet;

use zimage_kernels::blocks::{Element, Group, Layout, ScaleType, Scaled};

use crate::Dtype;
use crate::container::{Container, TensorInfo};

/// A weight as a file stores it, in one tensor or in several.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Packed {
    /// Name of the tensor that holds the values.
    pub(crate) name: String,
    /// Its element type.
    pub(crate) dtype: Dtype,
    /// Shape of the weight. That of [`Kind::Words`] counts words until the schema says how many values they hold.
    pub(crate) shape: Vec<usize>,
    /// Bytes of all its tensors.
    pub(crate) size_bytes: usize,
    /// How the values are stored.
    pub(crate) kind: Kind,
}

/// How the values of a weight are stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// In one tensor.
    Plain,
    /// In 32-bit words as MLX packs them. How many bits a value has depends on the number of values in a row.
    Words {
        scales: String,
        scale: Dtype,
        /// Scales of a row.
        groups: usize,
        biases: Option<String>,
    },
    /// In a tensor of small numbers, with their scales in another one, and maybe a factor on all scales in a third.
    Scaled { scaled: Scaled, scales: String, factor: Option<String> },
    /// In a way that is not read; the reason.
    Refused(String),
}

/// All weights of a container, in the order of their names.
pub(crate) fn gather(container: &Container) -> Vec<Packed> {
    let comfy = comfy::Notes::read(container);
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut weights = Vec::new();
    for (name, info) in container.iter() {
        let packed = words(container, name, info).or_else(|| comfy.packed(container, name, info));
        if let Some((packed, parts)) = packed {
            taken.extend(parts);
            weights.push(packed);
        } else {
            weights.push(Packed::plain(name, info));
        }
    }
    weights.retain(|packed| !taken.contains(&packed.name) && !comfy::is_note(&packed.name));
    weights
}

impl Packed {
    fn plain(name: &str, info: &TensorInfo) -> Self {
        let (dtype, shape) = (info.dtype, info.shape.clone());
        Self { name: name.to_owned(), dtype, shape, size_bytes: info.size_bytes(), kind: Kind::Plain }
    }

    /// How the bytes are laid out in a matrix of `cols` columns, or why they cannot be read.
    pub(crate) fn layout(&self, cols: usize) -> Result<Layout, String> {
        match &self.kind {
            Kind::Plain => {
                self.dtype.format().map(Layout::Rows).ok_or_else(|| format!("it is stored as {}", self.dtype))
            }
            Kind::Scaled { scaled, .. } => Ok(Layout::Scaled(*scaled)),
            Kind::Words { scale, groups, biases, .. } => {
                let words = self.shape.last().copied().unwrap_or(0);
                of_words(words, *groups, *scale, biases.is_some(), cols).map(Layout::Scaled)
            }
            Kind::Refused(reason) => Err(reason.clone()),
        }
    }
}

/// A weight of MLX: words, scales and maybe biases under `base.weight`, `base.scales`, `base.biases`.
fn words(container: &Container, name: &str, info: &TensorInfo) -> Option<(Packed, Vec<String>)> {
    let base = name.strip_suffix(".weight")?;
    let scales = format!("{base}.scales");
    let found = container.info(&scales)?;
    let biases = Some(format!("{base}.biases")).filter(|biases| container.info(biases).is_some());
    let parts: Vec<String> = std::iter::once(scales.clone()).chain(biases.clone()).collect();
    let size: usize = parts.iter().filter_map(|part| container.info(part)).map(TensorInfo::size_bytes).sum();
    let rows = |info: &TensorInfo| info.shape.split_last().map(|(_, rows)| rows.to_vec());
    let kind = match biases.as_ref().and_then(|biases| container.info(biases)) {
        _ if info.dtype != Dtype::U32 => Kind::Refused(format!("it has scales and is stored as {}", info.dtype)),
        _ if rows(info) != rows(found) => Kind::Refused(format!("its scales have the shape {:?}", found.shape)),
        Some(biases) if biases != found => {
            Kind::Refused(format!("its biases are {:?} of {}", biases.shape, biases.dtype))
        }
        _ => {
            let groups = found.shape.last().copied().unwrap_or(0);
            Kind::Words { scales, scale: found.dtype, groups, biases }
        }
    };
    let packed = Packed { size_bytes: info.size_bytes() + size, kind, ..Packed::plain(name, info) };
    Some((packed, parts))
}

/// The packing of MLX whose rows of `cols` values take so many words and scales. Labels in configs are not asked: they
/// are wrong in files that people have.
fn of_words(words: usize, groups: usize, scale: Dtype, biased: bool, cols: usize) -> Result<Scaled, String> {
    let refused = || {
        let biases = if biased { " and as many biases" } else { "" };
        format!("{words} words and {groups} scales of {scale}{biases} are no known packing of {cols} values")
    };
    let divided = |n: usize, by: usize| (by > 0 && n.is_multiple_of(by)).then(|| n / by).ok_or_else(refused);
    let bits = divided(words.checked_mul(32).ok_or_else(refused)?, cols)?;
    let group = divided(cols, groups)?;
    let float = match scale {
        Dtype::F32 => Some(ScaleType::F32),
        Dtype::F16 => Some(ScaleType::F16),
        Dtype::BF16 => Some(ScaleType::BF16),
        _ => None,
    };
    let (element, scale) = match (biased, bits, group, float) {
        (true, 2..=6 | 8, 32 | 64 | 128, Some(scale)) => return Ok(Scaled::affine(bits as u8, group, scale)),
        (false, 4, 32, None) if scale == Dtype::U8 => (Element::E2M1, ScaleType::E8M0),
        (false, 8, 32, None) if scale == Dtype::U8 => (Element::E4M3, ScaleType::E8M0),
        (false, 4, 16, None) if scale == Dtype::U8 => (Element::E2M1, ScaleType::E4M3),
        _ => return Err(refused()),
    };
    Ok(Scaled {
        element,
        high_first: false,
        group: Group::Columns(group),
        scale,
        biased: false,
        swizzled: false,
        rotated: false,
    })
}

#[cfg(test)]
mod tests;
