//! Models drawn from bytes: a part of a small model in some dialect and packing, with a few things wrong.
//!
//! Bytes at random are never a whole model, so that nothing behind the audit would ever run. Here they choose what to
//! begin with and what to break.

use arbitrary::{Result, Unstructured};
use zimage_weights::dialect::{VaeSizes, comfyui, layout, llama, mflux, mlx};
use zimage_weights::schema::{text_encoder, transformer, vae};
use zimage_weights::{Component, Dtype};

use crate::checkpoint::{self, as_model};
use crate::write::{self, Claim};

/// Reads the model that the bytes draw.
pub fn model(bytes: &[u8]) {
    if let Ok((component, file)) = draw(&mut Unstructured::new(bytes)) {
        as_model(file.into(), &[component]);
    }
}

/// What programs put before names.
const PREFIXES: [&str; 8] = [
    "",
    "model.",
    "model.diffusion_model.",
    "transformer.",
    "vae.",
    "first_stage_model.",
    "text_encoder.",
    "text_encoders.qwen3_4b.transformer.",
];

/// Words that decide about a file, or that name a part of a weight.
const WORDS: [&str; 24] = [
    ".scales",
    ".biases",
    ".weight_scale",
    ".weight_scale_2",
    ".scale_weight",
    ".pre_quant_scale",
    ".comfy_quant",
    ".input_scale",
    ".lora_A.weight",
    ".weight",
    ".bias",
    "scaled_fp8",
    "logit_scale",
    "x_pad_token",
    "layers.1023.attention.norm_q.weight",
    "layers.18446744073709551615.mlp.x",
    "encoder.down_blocks.0.layers.18446744073709551615.norm1.weight",
    "encoder.down_blocks.18446744073709551615.resnets.0.conv1.weight",
    "decoder.up.18446744073709551615.block.0.conv1.weight",
    "decoder.conv_in.weight",
    "cap_embedder.1.weight",
    "token_embd.weight",
    "blk.18446744073709551615.attn_q.weight",
    "noise_refiner.4294967296.x",
];

/// Keys that programs read.
const KEYS: [&str; 8] = [
    "_quantization_metadata",
    "mflux_version",
    "quantization_config",
    "model_class",
    "general.architecture",
    "general.alignment",
    "split.count",
    "comfy.gguf.orig_shape.token_embd.weight",
];

/// Formats that `comfy_quant` names.
const NOTES: [&str; 7] =
    ["float8_e4m3fn", "float8_e5m2", "int8_tensorwise", "convrot_w4a4", "mxfp8", "nvfp4", "asym_w4a8_int8"];

fn draw(u: &mut Unstructured<'_>) -> Result<(Component, Vec<u8>)> {
    let (component, mut claims) = part(u)?;
    let prefix = *u.choose(&PREFIXES)?;
    let dtype = *u.choose(Dtype::ALL)?;
    let pattern = u.bytes(2)?.to_vec();
    for claim in &mut claims {
        claim.name.insert_str(0, prefix);
        claim.pattern.clone_from(&pattern);
        if dtype.size_of(&claim.shape).is_some() {
            claim.dtype = dtype;
        }
    }
    pack(u, &mut claims)?;
    let mut keys = Vec::new();
    for _ in 0..u.int_in_range(0..=12)? {
        edit(u, &mut claims, &mut keys)?;
    }
    let gguf = u.arbitrary()?;
    let file = if gguf { write::gguf(&keys, &claims) } else { write::safetensors(&keys, &claims) };
    Ok((component, file))
}

/// A whole part of a small model under the names of some dialect.
fn part(u: &mut Unstructured<'_>) -> Result<(Component, Vec<Claim>)> {
    let component = *u.choose(&Component::ALL)?;
    let specs = match component {
        Component::Transformer => transformer::tensors(&checkpoint::transformer()),
        Component::TextEncoder => text_encoder::tensors(&checkpoint::text_encoder()),
        Component::Vae => vae::tensors(&checkpoint::vae()),
    };
    let sizes = VaeSizes::from(&checkpoint::vae());
    let rules = match u.int_in_range(0..=5)? {
        0 => Vec::new(),
        1 => comfyui::rules(component, sizes),
        2 => mlx::rules(component, sizes, true),
        3 => mlx::rules(component, sizes, false),
        4 => mflux::rules(component),
        _ if component == Component::TextEncoder => llama::text_encoder(),
        _ => Vec::new(),
    };
    let claim = |name, shape| Claim { name, dtype: Dtype::F32, shape, pattern: Vec::new() };
    let claims = layout(&rules, &specs).into_iter().map(|tensor| claim(tensor.name, tensor.shape)).collect();
    Ok((component, claims))
}

/// Packs the matrices as some program does.
fn pack(u: &mut Unstructured<'_>, claims: &mut Vec<Claim>) -> Result<()> {
    let (way, note) = (u.int_in_range(0..=3)?, *u.choose(&NOTES)?);
    let (bits, group) = (*u.choose(&[2, 3, 4, 5, 6, 8])?, *u.choose(&[16, 32, 64, 128])?);
    let scale = *u.choose(&[Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::U8, Dtype::F8E4M3, Dtype::F8E8M0])?;
    let mut parts = Vec::new();
    for claim in claims.iter_mut().filter(|claim| claim.name.ends_with(".weight") && claim.shape.len() == 2) {
        let base = claim.name.trim_end_matches(".weight").to_owned();
        let (rows, cols) = (claim.shape[0], claim.shape[1]);
        let beside = |end: &str, dtype, shape: &[usize], pattern: &[u8]| Claim {
            name: format!("{base}.{end}"),
            dtype,
            shape: shape.to_vec(),
            pattern: pattern.to_vec(),
        };
        match way {
            1 if cols % group == 0 && cols * bits % 32 == 0 => {
                (claim.dtype, claim.shape[1]) = (Dtype::U32, cols * bits / 32);
                parts.push(beside("scales", scale, &[rows, cols / group], &[]));
                if scale != Dtype::U8 {
                    parts.push(beside("biases", scale, &[rows, cols / group], &[]));
                }
            }
            2 => {
                let text = format!(r#"{{"format":"{note}"}}"#);
                if matches!(note, "convrot_w4a4" | "nvfp4") {
                    claim.shape[1] = cols / 2;
                }
                claim.dtype = Dtype::U8;
                let scales = match note {
                    "mxfp8" => vec![rows.next_multiple_of(128), (cols / 32).next_multiple_of(4)],
                    "nvfp4" => vec![rows.next_multiple_of(128), (cols / 16).next_multiple_of(4)],
                    _ => vec![rows],
                };
                parts.push(beside("weight_scale", scale, &scales, &[]));
                parts.push(beside("comfy_quant", Dtype::U8, &[text.len()], text.as_bytes()));
            }
            3 => parts.push(beside("scale_weight", scale, &[1], &[])),
            _ => {}
        }
    }
    claims.extend(parts);
    Ok(())
}

/// Breaks something.
fn edit(u: &mut Unstructured<'_>, claims: &mut Vec<Claim>, keys: &mut Vec<(String, String)>) -> Result<()> {
    if claims.is_empty() {
        return Ok(());
    }
    let at = u.choose_index(claims.len())?;
    match u.int_in_range(0..=11)? {
        0 => drop(claims.remove(at)),
        1 => claims[at].name = (*u.choose(&WORDS)?).to_owned(),
        2 => claims[at].name.push_str(u.choose(&WORDS)?),
        3 => claims[at].name.insert_str(0, u.choose(&PREFIXES)?),
        4 => claims[at].dtype = *u.choose(Dtype::ALL)?,
        5 => claims[at].shape.insert(0, size(u)?),
        6 => drop(claims[at].shape.pop()),
        7 => {
            let value = size(u)?;
            let axis = u.choose_index(claims[at].shape.len().max(1))?;
            if let Some(axis) = claims[at].shape.get_mut(axis) {
                *axis = value;
            }
        }
        8 => {
            let claim = Claim { name: word(u, &claims[at].name)?, ..claims[at].clone() };
            claims.push(claim);
        }
        9 => claims[at].pattern = u.arbitrary::<Vec<u8>>()?,
        10 => keys.push(((*u.choose(&KEYS)?).to_owned(), u.arbitrary::<String>()?)),
        _ => {
            let text: Vec<u8> = u.arbitrary()?;
            let name = format!("{}.comfy_quant", claims[at].name.trim_end_matches(".weight"));
            claims.push(Claim { name, dtype: Dtype::U8, shape: vec![text.len()], pattern: text });
        }
    }
    Ok(())
}

/// A name beside another one, with one of the words at its end.
fn word(u: &mut Unstructured<'_>, name: &str) -> Result<String> {
    Ok(format!("{}{}", name.trim_end_matches(".weight"), u.choose(&WORDS)?))
}

/// A number that a shape may have, or that breaks arithmetic.
pub(crate) fn size(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok(match u.int_in_range(0..=3)? {
        0 => *u.choose(&[0, 1, 2, 3, 4, 16, 32, 128, 256])?,
        1 => 1 << u.int_in_range(0..=63)?,
        2 => usize::MAX >> u.int_in_range(0..=63)?,
        _ => usize::from(u.arbitrary::<u8>()?),
    })
}
