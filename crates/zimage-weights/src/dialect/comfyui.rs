//! The names of Z-Image's authors and of ComfyUI: the native transformer and the VAE of latent diffusion.
//!
//! The text encoder keeps its names, with or without `model.` before them.

use super::{Rule, VaeSizes, prefix, rename, squeeze};
use crate::schema::Component;

/// The table of one part.
pub fn rules(component: Component, sizes: VaeSizes) -> Vec<Rule> {
    match component {
        Component::Transformer => transformer(),
        Component::TextEncoder => Vec::new(),
        Component::Vae => vae(sizes),
    }
}

/// The matrices of queries, keys and values are one, in this order. 521 tensors are 453.
fn transformer() -> Vec<Rule> {
    vec![
        prefix("all_x_embedder.2-1.", "x_embedder."),
        prefix("all_final_layer.2-1.", "final_layer."),
        Rule::SplitRows {
            canonical: &[".attention.to_q.", ".attention.to_k.", ".attention.to_v."],
            file: ".attention.qkv.",
        },
        rename(".attention.to_out.0.", ".attention.out."),
        rename(".attention.norm_q.", ".attention.q_norm."),
        rename(".attention.norm_k.", ".attention.k_norm."),
    ]
}

/// Levels are counted from the finest in the file, also those of the decoder, which begins with the coarsest.
fn vae(sizes: VaeSizes) -> Vec<Rule> {
    let last = sizes.levels.saturating_sub(1);
    vec![
        prefix("encoder.down_blocks.", "encoder.down."),
        Rule::ReverseIndex { canonical: "decoder.up_blocks.".into(), file: "decoder.up.".into(), last },
        rename(".mid_block.resnets.0.", ".mid.block_1."),
        rename(".mid_block.resnets.1.", ".mid.block_2."),
        rename(".mid_block.attentions.0.group_norm.", ".mid.attn_1.norm."),
        squeeze(".mid_block.attentions.0.to_q.", ".mid.attn_1.q."),
        squeeze(".mid_block.attentions.0.to_k.", ".mid.attn_1.k."),
        squeeze(".mid_block.attentions.0.to_v.", ".mid.attn_1.v."),
        squeeze(".mid_block.attentions.0.to_out.0.", ".mid.attn_1.proj_out."),
        rename(".resnets.", ".block."),
        rename(".conv_shortcut.", ".nin_shortcut."),
        rename(".downsamplers.0.", ".downsample."),
        rename(".upsamplers.0.", ".upsample."),
        rename(".conv_norm_out.", ".norm_out."),
    ]
}
