//! The names of the original application's MLX directories, where every list of layers is called `layers`.
//!
//! The text encoder keeps its names. The transformer of these directories has no pad tokens: the application drops them.

use super::{Rule, VaeSizes, prefix, rename};
use crate::schema::Component;

/// The tensors that the original application does not keep.
pub const DROPPED: [&str; 2] = ["x_pad_token", "cap_pad_token"];

/// The file in which this program keeps them for such a directory.
pub const PAD_TOKENS: &str = "pad_tokens.safetensors";

/// The table of one part. `transposed` says whether kernels have their input channels last, as MLX computes with them;
/// some files keep them as they were.
pub fn rules(component: Component, sizes: VaeSizes, transposed: bool) -> Vec<Rule> {
    let mut rules = match component {
        Component::Transformer => transformer(),
        Component::TextEncoder => Vec::new(),
        Component::Vae => vae(sizes),
    };
    if component == Component::Vae && transposed {
        rules.push(Rule::Transpose);
    }
    rules
}

fn transformer() -> Vec<Rule> {
    vec![
        rename(".adaLN_modulation.0.weight", ".adaLN_modulation.weight"),
        rename(".adaLN_modulation.0.bias", ".adaLN_modulation.bias"),
        prefix("all_final_layer.2-1.adaLN_modulation.1.", "final_layer.adaLN_modulation."),
        prefix("all_final_layer.2-1.linear.", "final_layer.linear."),
        prefix("all_x_embedder.2-1.", "x_embedder."),
        prefix("t_embedder.mlp.", "t_embedder.mlp.layers."),
        prefix("cap_embedder.", "cap_embedder.layers."),
        rename(".to_out.0.", ".to_out."),
    ]
}

/// The samplers are the last layers of their levels; the middle is a block, an attention, a block.
fn vae(sizes: VaeSizes) -> Vec<Rule> {
    let mut rules = vec![rename(".to_out.0.", ".to_out."), rename(".resnets.", ".layers.")];
    for level in 0..sizes.levels {
        let sampler = |half: &str, sampler: &str, place: usize| {
            prefix(format!("{half}.{level}.{sampler}.0."), format!("{half}.{level}.layers.{place}."))
        };
        rules.push(sampler("encoder.down_blocks", "downsamplers", sizes.layers));
        rules.push(sampler("decoder.up_blocks", "upsamplers", sizes.layers + 1));
    }
    rules.push(rename(".mid_block.layers.1.", ".mid_block.layers.2."));
    rules.push(rename(".mid_block.attentions.0.", ".mid_block.layers.1."));
    rules
}
