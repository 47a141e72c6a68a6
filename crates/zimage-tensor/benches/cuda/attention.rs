//! Attention of every part of the model.

use crate::gauge::Case;
use crate::inputs::activations;
use crate::sizes::{HEAD, Sizes};
use zimage_tensor::{Device, Mask, ops};

/// Who attends.
#[derive(Clone, Copy)]
struct Heads {
    name: &'static str,
    tokens: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    mask: Mask,
}

/// The main layers, both refiners, the text encoder and the VAE's one wide head.
pub fn cases(device: &Device, sizes: &Sizes) -> Vec<Case> {
    let heads = sizes.dim / HEAD;
    let main = Heads { name: "main", tokens: sizes.tokens(), heads, kv_heads: heads, head_dim: HEAD, mask: Mask::None };
    let [text_heads, kv_heads] = sizes.text_heads;
    let all = [
        main,
        Heads { name: "picture's refiner", tokens: sizes.picture, ..main },
        Heads { name: "caption's refiner", tokens: sizes.caption, ..main },
        Heads { name: "text", tokens: sizes.caption, heads: text_heads, kv_heads, mask: Mask::Causal, ..main },
        // Scores are computed in strips, whose tests have the same width.
        Heads { name: "VAE", tokens: sizes.side(128).pow(2), heads: 1, kv_heads: 1, head_dim: 512, ..main },
    ];
    all.map(|heads| case(device, heads)).into()
}

/// Queries, keys and values are read once, and as many results as queries written.
fn case(device: &Device, shape: Heads) -> Case {
    let Heads { name, tokens, heads, kv_heads, head_dim, mask } = shape;
    let values = 2 * tokens * head_dim * (heads + kv_heads);
    let pairs = match mask {
        Mask::None => tokens * tokens,
        Mask::Causal => tokens * (tokens + 1) / 2,
    };
    let flop = 4.0 * (pairs * heads * head_dim) as f64;
    let bytes = values as f64 * device.activation_bytes() as f64;
    let name = format!("attention {name}, {tokens} tokens, {heads} of {head_dim}");
    Case::new(name, device.natural_compute(), (bytes, flop), move |device| {
        let q = activations(device, &[tokens, heads * head_dim])?;
        let [k, v] = [(); 2].map(|()| activations(device, &[tokens, kv_heads * head_dim]));
        let (k, v) = (k?, v?);
        Ok(Box::new(move || drop(ops::attention(&q, &k, &v, heads, mask))))
    })
}
