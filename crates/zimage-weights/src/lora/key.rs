//! A tensor's name, split into the module that it changes and what it is of that change.

/// What a tensor is of an adapter's module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// `A` of a LoRA, `(rank, in)`.
    Down,
    /// `B` of a LoRA, `(out, rank)`.
    Up,
    /// The number that is divided by the rank.
    Alpha,
    /// The magnitudes of a DoRA.
    Magnitude,
    /// A LoKr's first factor, whole or as a product.
    W1,
    W1A,
    W1B,
    /// A LoKr's second factor, whole or as a product.
    W2,
    W2A,
    W2B,
    /// The two products of a LoHa.
    Hada1A,
    Hada1B,
    Hada2A,
    Hada2B,
    /// The whole difference of a weight.
    Diff,
    /// Something that is known and cannot be applied.
    Unsupported(&'static str),
}

const TUCKER: Part = Part::Unsupported("the Tucker core of a convolution");
const GLORA: Part = Part::Unsupported("a GLoRA tensor");
const OFT: Part = Part::Unsupported("an orthogonal finetune (OFT, BOFT)");
const BIAS: Part = Part::Unsupported("a change of a bias");
const SET: Part = Part::Unsupported("a weight that replaces the model's own");

/// How the parts are called, with what stands between them and the module's name.
const MARKS: [(&str, Part); 43] = [
    (".lora_A", Part::Down),
    (".lora_B", Part::Up),
    (".lora_down", Part::Down),
    (".lora_up", Part::Up),
    (".lora.down", Part::Down),
    (".lora.up", Part::Up),
    ("_lora.down", Part::Down),
    ("_lora.up", Part::Up),
    (".lora_linear_layer.down", Part::Down),
    (".lora_linear_layer.up", Part::Up),
    (".alpha", Part::Alpha),
    (".dora_scale", Part::Magnitude),
    (".lora_magnitude_vector", Part::Magnitude),
    (".lokr_w1", Part::W1),
    (".lokr_w1_a", Part::W1A),
    (".lokr_w1_b", Part::W1B),
    (".lokr_w2", Part::W2),
    (".lokr_w2_a", Part::W2A),
    (".lokr_w2_b", Part::W2B),
    (".hada_w1_a", Part::Hada1A),
    (".hada_w1_b", Part::Hada1B),
    (".hada_w2_a", Part::Hada2A),
    (".hada_w2_b", Part::Hada2B),
    (".diff", Part::Diff),
    (".lora_mid", TUCKER),
    (".lokr_t1", TUCKER),
    (".lokr_t2", TUCKER),
    (".hada_t1", TUCKER),
    (".hada_t2", TUCKER),
    (".a1", GLORA),
    (".a2", GLORA),
    (".b1", GLORA),
    (".b2", GLORA),
    (".oft_blocks", OFT),
    (".oft_diag", OFT),
    (".oft_R", OFT),
    (".diff_b", BIAS),
    (".b_norm", Part::Unsupported("a change of a norm")),
    (".w_norm", Part::Unsupported("a change of a norm")),
    (".set_weight", SET),
    (".reshape_weight", SET),
    (".on_input", Part::Unsupported("an IA3 tensor")),
    (".bias_values", BIAS),
];

/// The module and the part; `None` where the name is not of an adapter.
///
/// Behind a part may stand `.weight`, the adapter's name (`.default`), or both.
pub(super) fn split(key: &str) -> Option<(&str, Part)> {
    MARKS.iter().find_map(|(mark, part)| {
        let at = key.rfind(mark)?;
        let (module, rest) = (&key[..at], &key[at + mark.len()..]);
        (!module.is_empty()).then_some((module, tail(rest, *part)?))
    })
}

fn tail(rest: &str, part: Part) -> Option<Part> {
    let name = rest.strip_suffix(".weight").unwrap_or(rest);
    match name.strip_prefix('.') {
        None => name.is_empty().then_some(part),
        Some("bias") => Some(BIAS),
        Some(adapter) if adapter.ends_with(".bias") => Some(BIAS),
        Some(adapter) => (!adapter.is_empty() && !adapter.contains('.')).then_some(part),
    }
}
