//! The names of models that mflux saves: those of diffusers with a few layers renamed, and kernels as MLX computes with
//! them.

use super::{Rule, prefix, rename};
use crate::schema::Component;

/// The table of one part.
pub fn rules(component: Component) -> Vec<Rule> {
    match component {
        Component::Transformer => vec![
            prefix("t_embedder.mlp.0.", "t_embedder.linear1."),
            prefix("t_embedder.mlp.2.", "t_embedder.linear2."),
            prefix("all_final_layer.2-1.adaLN_modulation.1.", "all_final_layer.2-1.adaLN_modulation.0."),
        ],
        Component::TextEncoder => Vec::new(),
        Component::Vae => vec![
            prefix("encoder.conv_in.", "encoder.conv_in.conv2d."),
            prefix("encoder.conv_out.", "encoder.conv_out.conv2d."),
            prefix("decoder.conv_in.", "decoder.conv_in.conv."),
            prefix("decoder.conv_out.", "decoder.conv_out.conv."),
            rename(".conv_norm_out.", ".conv_norm_out.norm."),
            Rule::Transpose,
        ],
    }
}
