//! The names of Z-Image's authors and of ComfyUI: the native transformer and the VAE of latent diffusion.
//!
//! The text encoder keeps its names, with or without `model.` before them.

use super::Rule;
use crate::schema::Component;

/// The table of one part.
pub fn rules(component: Component) -> &'static [Rule] {
    match component {
        Component::Transformer => &TRANSFORMER,
        Component::TextEncoder => &[],
        Component::Vae => &VAE,
    }
}

/// The matrices of queries, keys and values are one, in this order. 521 tensors are 453.
const TRANSFORMER: [Rule; 6] = [
    Rule::Prefix { canonical: "all_x_embedder.2-1.", file: "x_embedder." },
    Rule::Prefix { canonical: "all_final_layer.2-1.", file: "final_layer." },
    Rule::SplitRows {
        canonical: &[".attention.to_q.", ".attention.to_k.", ".attention.to_v."],
        file: ".attention.qkv.",
    },
    Rule::Rename { canonical: ".attention.to_out.0.", file: ".attention.out." },
    Rule::Rename { canonical: ".attention.norm_q.", file: ".attention.q_norm." },
    Rule::Rename { canonical: ".attention.norm_k.", file: ".attention.k_norm." },
];

/// Levels are counted from the finest in the file, also those of the decoder, which begins with the coarsest. The VAE of
/// Z-Image has four of them.
const VAE: [Rule; 14] = [
    Rule::Prefix { canonical: "encoder.down_blocks.", file: "encoder.down." },
    Rule::ReverseIndex { canonical: "decoder.up_blocks.", file: "decoder.up.", last: 3 },
    Rule::Rename { canonical: ".mid_block.resnets.0.", file: ".mid.block_1." },
    Rule::Rename { canonical: ".mid_block.resnets.1.", file: ".mid.block_2." },
    Rule::Rename { canonical: ".mid_block.attentions.0.group_norm.", file: ".mid.attn_1.norm." },
    Rule::Squeeze { canonical: ".mid_block.attentions.0.to_q.", file: ".mid.attn_1.q." },
    Rule::Squeeze { canonical: ".mid_block.attentions.0.to_k.", file: ".mid.attn_1.k." },
    Rule::Squeeze { canonical: ".mid_block.attentions.0.to_v.", file: ".mid.attn_1.v." },
    Rule::Squeeze { canonical: ".mid_block.attentions.0.to_out.0.", file: ".mid.attn_1.proj_out." },
    Rule::Rename { canonical: ".resnets.", file: ".block." },
    Rule::Rename { canonical: ".conv_shortcut.", file: ".nin_shortcut." },
    Rule::Rename { canonical: ".downsamplers.0.", file: ".downsample." },
    Rule::Rename { canonical: ".upsamplers.0.", file: ".upsample." },
    Rule::Rename { canonical: ".conv_norm_out.", file: ".norm_out." },
];
