//! Adapters drawn from bytes: whole modules in some naming and of some kind, with a few things wrong.

use arbitrary::{Result, Unstructured};
use zimage_weights::dialect::{VaeSizes, comfyui, layout};
use zimage_weights::{Component, Dtype};

use crate::lora::SPECS;
use crate::sketch::size;
use crate::write::{self, Claim};

/// What trainers put before names.
const PREFIXES: [&str; 15] = [
    "",
    "transformer.",
    "diffusion_model.",
    "model.diffusion_model.",
    "base_model.model.",
    "base_model.model.transformer.",
    "lora_unet_",
    "lora_transformer_",
    "lycoris_",
    "text_encoder.",
    "base_model.model.text_encoder.model.",
    "lora_te_",
    "lora_te1_",
    "text_encoders.qwen3_4b.transformer.model.",
    "lora_lora_lora_lora_lora_lora_lora_",
];

/// What a pair of matrices is called.
const PAIRS: [[&str; 2]; 8] = [
    [".lora_A.weight", ".lora_B.weight"],
    [".lora_A.default.weight", ".lora_B.default.weight"],
    [".lora_A.default", ".lora_B.default"],
    [".lora_A", ".lora_B"],
    [".lora_down.weight", ".lora_up.weight"],
    [".lora.down.weight", ".lora.up.weight"],
    ["_lora.down.weight", "_lora.up.weight"],
    [".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"],
];

/// Ends of names, and names, that decide about a file.
const WORDS: [&str; 28] = [
    ".alpha",
    ".dora_scale",
    ".lora_magnitude_vector",
    ".lora_magnitude_vector.default.weight",
    ".lora_A.weight",
    ".lora_up.weight",
    ".lora_mid.weight",
    ".lora_A.bias",
    ".lokr_w1",
    ".lokr_w1_a",
    ".lokr_w2",
    ".lokr_w2_b",
    ".lokr_t2",
    ".hada_w1_a",
    ".hada_w2_b",
    ".hada_t1",
    ".diff",
    ".diff_b",
    ".oft_blocks",
    ".a1.weight",
    ".set_weight",
    ".on_input",
    "layers.0.attention.norm_q.lora_A.weight",
    "layers.18446744073709551615.attention.to_q.lora_A.weight",
    "x_pad_token.diff",
    "double_blocks.0.img_attn.qkv.lora_up.weight",
    "alpha",
    "\u{1b}[31m.lora_A.weight",
];

/// What headers tell.
const NOTES: [(&str, &str); 14] = [
    ("ss_network_alpha", "1e308"),
    ("ss_network_alpha", "nan"),
    ("ss_network_dim", "1e-308"),
    ("ss_network_dim", "0"),
    ("ss_tag_frequency", r#"{"1_a":{"b":1e308,"c":-1},"2_a":{"b":1e308}}"#),
    ("trigger_words", r#"["a","\u001b[31m"]"#),
    ("recommended_weight", "inf"),
    ("modelspec.title", "\u{9b}31m"),
    (
        "lora_adapter_metadata",
        r#"{"transformer.lora_alpha":8,"text_encoder.lora_alpha":4,"transformer.use_rslora":true}"#,
    ),
    ("lora_adapter_metadata", r#"{"lora_alpha":1e300}"#),
    ("lora_adapter_metadata", r#"{"lora_alpha":-0.0,"alpha_pattern":{"to_q":1e39,"":2}}"#),
    ("lora_adapter_metadata", r#"{"alpha_pattern":{"^layers\\.0\\.attention":3,"(a|b)*":1}}"#),
    ("lora_adapter_metadata", "[]"),
    ("format", "pt"),
];

/// What PEFT writes beside the weights.
const SETTINGS: [&str; 5] = [
    "{}",
    r#"{"peft_type":"LORA","lora_alpha":16,"r":4,"use_rslora":true}"#,
    r#"{"lora_alpha":1e300}"#,
    r#"{"alpha":null,"alpha_pattern":{"q":"x"}}"#,
    "[",
];

/// Values that do not come by chance.
const PATTERNS: [&[u8]; 6] =
    [&[], &[0, 0, 0x80, 0x3f], &[0, 0, 0xc0, 0x7f], &[0, 0, 0x80, 0x7f], &[0xff, 0xff, 0x7f, 0x7f], &[1, 0, 0, 0]];

/// The file, and the settings beside it.
pub(crate) fn draw(bytes: &[u8]) -> Result<(Vec<u8>, &'static str)> {
    let u = &mut Unstructured::new(bytes);
    let (mut claims, mut keys) = (Vec::new(), Vec::new());
    let layers = layers(u)?;
    let (prefix, underscores) = (*u.choose(&PREFIXES)?, u.arbitrary()?);
    for _ in 0..u.int_in_range(1..=4)? {
        let (name, out, cols) = u.choose(&layers)?;
        let name = if underscores { name.replace('.', "_") } else { name.clone() };
        module(u, &format!("{prefix}{name}"), *out, *cols, &mut claims)?;
    }
    let settings = *u.choose(&SETTINGS)?;
    for _ in 0..u.int_in_range(0..=8)? {
        edit(u, &mut claims, &mut keys)?;
    }
    Ok((write::safetensors(&keys, &claims), settings))
}

/// Matrices of the model by their names, canonical or the authors' own.
fn layers(u: &mut Unstructured<'_>) -> Result<Vec<(String, usize, usize)>> {
    let (way, [transformer, text_encoder]) = (u.int_in_range(0..=2)?, &*SPECS);
    let tensors = match way {
        0 => layout(&[], transformer),
        1 => layout(&comfyui::rules(Component::Transformer, VaeSizes { levels: 0, layers: 0 }), transformer),
        _ => layout(&[], text_encoder),
    };
    let matrix = |name: &str, shape: &[usize]| match (name.strip_suffix(".weight"), shape) {
        (Some(name), &[out, cols]) => Some((name.to_owned(), out, cols)),
        _ => None,
    };
    Ok(tensors.iter().filter_map(|tensor| matrix(&tensor.name, &tensor.shape)).collect())
}

/// The tensors of one module.
fn module(u: &mut Unstructured<'_>, name: &str, out: usize, cols: usize, claims: &mut Vec<Claim>) -> Result<()> {
    let dtype = *u.choose(&[Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F64])?;
    let (rank, pattern) = (rank(u)?, u.choose(&PATTERNS)?.to_vec());
    let mut add = |end: &str, shape: &[usize]| {
        claims.push(Claim { name: format!("{name}{end}"), dtype, shape: shape.to_vec(), pattern: pattern.clone() });
    };
    match u.int_in_range(0..=3)? {
        0 => {
            let [down, up] = *u.choose(&PAIRS)?;
            let ones: &[usize] = if u.arbitrary()? { &[1, 1] } else { &[] };
            add(down, &[&[rank, cols], ones].concat());
            add(up, &[&[out, rank], ones].concat());
        }
        1 => {
            let second = self::rank(u)?;
            for (factor, rank) in [("w1", rank), ("w2", second)] {
                add(&format!(".hada_{factor}_a"), &[out, rank]);
                add(&format!(".hada_{factor}_b"), &[rank, cols]);
            }
        }
        2 => {
            let [a, c] = [*u.choose(&[1, 2, 4, 8, 16, 64])?, *u.choose(&[1, 2, 4, 8, 16, 64])?];
            for (factor, rows, cols) in [("w1", a, c), ("w2", out / a, cols / c)] {
                if u.arbitrary()? {
                    add(&format!(".lokr_{factor}"), &[rows, cols]);
                } else {
                    let inner = self::rank(u)?;
                    add(&format!(".lokr_{factor}_a"), &[rows, inner]);
                    add(&format!(".lokr_{factor}_b"), &[inner, cols]);
                }
            }
        }
        _ => add(".diff", &[out, cols]),
    }
    match u.int_in_range(0..=5)? {
        0 => add(".dora_scale", &[out, 1]),
        1 => add(".dora_scale", &[1, cols]),
        2 => add(".lora_magnitude_vector", &[out]),
        _ => {}
    }
    if u.arbitrary()? {
        let (dtype, shape) = (*u.choose(Dtype::ALL)?, if u.arbitrary()? { vec![] } else { vec![1] });
        claims.push(Claim { name: format!("{name}.alpha"), dtype, shape, pattern: u.bytes(4)?.to_vec() });
    }
    Ok(())
}

fn rank(u: &mut Unstructured<'_>) -> Result<usize> {
    if u.ratio(1, 8)? { size(u) } else { Ok(*u.choose(&[1, 2, 3, 4, 16])?) }
}

/// Breaks something.
fn edit(u: &mut Unstructured<'_>, claims: &mut Vec<Claim>, keys: &mut Vec<(String, String)>) -> Result<()> {
    if claims.is_empty() {
        return Ok(());
    }
    let at = u.choose_index(claims.len())?;
    let bare = |name: &str| name.find(".lo").or_else(|| name.find(".hada")).unwrap_or(name.len());
    match u.int_in_range(0..=10)? {
        0 => drop(claims.remove(at)),
        1 => claims[at].name = (*u.choose(&WORDS)?).to_owned(),
        2 => claims[at].name.push_str(u.choose(&WORDS)?),
        3 => claims[at].name.insert_str(0, u.choose(&PREFIXES)?),
        4 => claims[at].dtype = *u.choose(Dtype::ALL)?,
        5 => claims[at].shape.insert(0, size(u)?),
        6 => {
            let (axis, value) = (u.choose_index(claims[at].shape.len().max(1))?, size(u)?);
            if let Some(axis) = claims[at].shape.get_mut(axis) {
                *axis = value;
            }
        }
        7 => {
            let end = bare(&claims[at].name);
            let name = format!("{}{}", &claims[at].name[..end], u.choose(&WORDS)?);
            claims.push(Claim { name, ..claims[at].clone() });
        }
        8 => claims[at].pattern = u.arbitrary::<Vec<u8>>()?,
        9 => keys.push((u.choose(&NOTES)?.0.to_owned(), u.arbitrary::<String>()?)),
        _ => {
            let (key, value) = *u.choose(&NOTES)?;
            keys.push((key.to_owned(), value.to_owned()));
        }
    }
    Ok(())
}
