//! The quantized weights of ComfyUI: values under the weight's own name, and beside it scales and a note of the format.

use std::collections::BTreeMap;

use serde_json::Value;
use zimage_kernels::blocks::{Element, Group, ScaleType, Scaled};

use super::{Kind, Packed};
use crate::Dtype;
use crate::container::{Container, TensorInfo};

/// Ends of the names of tensors that only programs need which compute in 8 bits: scales of activations, and the notes.
const NOTES: [&str; 5] = [".comfy_quant", ".input_scale", ".scale_input", ".weight_scale_2", ".pre_quant_scale"];

/// Values that ConvRot rotates together.
const ROTATED: u64 = zimage_kernels::blocks::ROTATED as u64;

/// Whether a tensor tells about a weight, and is none.
pub(super) fn is_note(name: &str) -> bool {
    NOTES.iter().any(|end| name.ends_with(end)) || name == "scaled_fp8" || name.ends_with(".scaled_fp8")
}

/// What a container says about its quantized layers.
pub(super) struct Notes {
    /// By the names of the layers.
    layers: BTreeMap<String, Value>,
    /// Whether the notes of the header cannot be read: without them, rotated weights look like others.
    unreadable: bool,
}

impl Notes {
    /// Reads the notes beside the weights and those in the header. What is no JSON object is kept as `null`, and refused
    /// with its weight.
    pub(super) fn read(container: &Container) -> Self {
        let header = container.metadata().get("_quantization_metadata");
        let noted = |text: &String| match serde_json::from_str::<Value>(text).ok()?.get_mut("layers")?.take() {
            Value::Object(layers) => Some(layers),
            _ => None,
        };
        let found = header.and_then(noted);
        let unreadable = header.is_some() && found.is_none();
        let mut layers: BTreeMap<String, Value> = found.into_iter().flatten().collect();
        let beside = container.names().filter_map(|name| Some((name, name.strip_suffix(".comfy_quant")?)));
        for (name, base) in beside {
            let text = container.tensor(name).map(|tensor| tensor.data);
            let note = text.ok().and_then(|text| serde_json::from_slice(&text).ok());
            layers.insert(base.to_owned(), note.unwrap_or(Value::Null));
        }
        Self { layers, unreadable }
    }

    /// A weight with scales, and the tensors that belong to it.
    pub(super) fn packed(&self, container: &Container, name: &str, info: &TensorInfo) -> Option<(Packed, Vec<String>)> {
        let base = name.strip_suffix(".weight")?;
        let beside = |end: &str| Some(format!("{base}.{end}")).filter(|name| container.info(name).is_some());
        let scales = beside("weight_scale").or_else(|| beside("scale_weight"));
        let note = self.layers.get(base);
        if note.is_none() && scales.is_none() {
            return None;
        }
        let factor = beside("weight_scale_2");
        let parts: Vec<String> = scales.iter().chain(&factor).cloned().collect();
        let size: usize = parts.iter().filter_map(|part| container.info(part)).map(TensorInfo::size_bytes).sum();
        let weight = Weight { info, scales: scales.as_ref().and_then(|name| container.info(name)), factor: &factor };
        let scaled = match note {
            None if self.unreadable => Err("the _quantization_metadata of its file has no layers".to_owned()),
            _ if beside("pre_quant_scale").is_some() => Err("it has a pre_quant_scale, which is not read".to_owned()),
            Some(note) => weight.noted(note),
            None => weight.unnoted(),
        };
        let mut shape = info.shape.clone();
        let kind = match (scaled, scales) {
            (Err(reason), _) => Kind::Refused(reason),
            (Ok(_), None) => Kind::Refused("it has no weight_scale".to_owned()),
            (Ok(scaled), Some(scales)) => {
                if let (4, Some(cols)) = (scaled.element.bits(), shape.last_mut()) {
                    // Two values in a byte. A weight without rows may claim any number of columns.
                    *cols = cols.saturating_mul(2);
                }
                Kind::Scaled { scaled, scales, factor }
            }
        };
        let size_bytes = info.size_bytes() + size;
        Some((Packed { name: name.to_owned(), dtype: info.dtype, shape, size_bytes, kind }, parts))
    }
}

/// The tensors of one weight.
struct Weight<'a> {
    info: &'a TensorInfo,
    scales: Option<&'a TensorInfo>,
    factor: &'a Option<String>,
}

impl Weight<'_> {
    /// By the note: `{"format": "nvfp4", ...}`; some writers put the rest under "params".
    fn noted(&self, note: &Value) -> Result<Scaled, String> {
        let setting = |key: &str| note.get(key).or_else(|| note.get("params")?.get(key));
        let Some(format) = setting("format").and_then(Value::as_str) else {
            return Err("its comfy_quant names no format".to_owned());
        };
        let rotated = setting("convrot").and_then(Value::as_bool).unwrap_or(format == "convrot_w4a4");
        let size = setting("convrot_groupsize").and_then(Value::as_u64).unwrap_or(ROTATED);
        if rotated && size != ROTATED {
            return Err(format!("it is rotated in groups of {size}, and only {ROTATED} are read"));
        }
        let scaled = match format {
            "float8_e4m3fn" => self.per_tensor_or_row(Element::E4M3)?,
            "float8_e5m2" => self.per_tensor_or_row(Element::E5M2)?,
            "int8_tensorwise" => Scaled { rotated, ..self.per_tensor_or_row(Element::I8)? },
            "convrot_w4a4" => Scaled { rotated, ..self.per_tensor_or_row(Element::I4)? },
            "mxfp8" => self.swizzled(Element::E4M3, 32, ScaleType::E8M0)?,
            "nvfp4" if self.factor.is_none() => return Err("it has no weight_scale_2".to_owned()),
            "nvfp4" => Scaled { high_first: true, ..self.swizzled(Element::E2M1, 16, ScaleType::E4M3)? },
            other => return Err(format!("its format {other} is not read")),
        };
        self.check(scaled)
    }

    /// By the types alone, as older files have it.
    fn unnoted(&self) -> Result<Scaled, String> {
        match self.info.dtype {
            Dtype::F8E4M3 => self.per_tensor_or_row(Element::E4M3),
            Dtype::F8E5M2 => self.per_tensor_or_row(Element::E5M2),
            Dtype::I8 => self.per_tensor_or_row(Element::I8),
            other => Err(format!("it has scales and is stored as {other}")),
        }
    }

    fn per_tensor_or_row(&self, element: Element) -> Result<Scaled, String> {
        let Some(info) = self.scales else { return Err("it has no weight_scale".to_owned()) };
        let scale = match info.dtype {
            Dtype::F32 => ScaleType::F32,
            Dtype::F16 => ScaleType::F16,
            Dtype::BF16 => ScaleType::BF16,
            other => return Err(format!("its scales are stored as {other}")),
        };
        let rows = self.info.shape.first().copied().unwrap_or(1);
        let group = match info.elements() {
            1 => Group::Tensor,
            n if n == rows => Group::Row,
            n => return Err(format!("it has {n} scales for {rows} rows")),
        };
        let (high_first, biased, swizzled, rotated) = (false, false, false, false);
        Ok(Scaled { element, high_first, group, scale, biased, swizzled, rotated })
    }

    /// Scales of one byte, whose type the file may or may not tell.
    fn swizzled(&self, element: Element, group: usize, scale: ScaleType) -> Result<Scaled, String> {
        let Some(info) = self.scales else { return Err("it has no weight_scale".to_owned()) };
        if info.size_bytes() != info.elements() {
            return Err(format!("its scales are stored as {}", info.dtype));
        }
        let group = Group::Columns(group);
        Ok(Scaled { element, high_first: false, group, scale, biased: false, swizzled: true, rotated: false })
    }

    /// The values must be bytes; how many is compared with the schema later.
    fn check(&self, scaled: Scaled) -> Result<Scaled, String> {
        let bytes = matches!(self.info.dtype, Dtype::U8 | Dtype::I8 | Dtype::F8E4M3 | Dtype::F8E5M2);
        bytes
            .then_some(scaled)
            .ok_or_else(|| format!("its format is {scaled}, and it is stored as {}", self.info.dtype))
    }
}
