//! The config of a part from the shapes of its tensors, for files that come without one.
//!
//! Only rows are counted: quantized weights have fewer columns than values. Shapes tell the sizes and nothing else, so the rest is that of the published models, and a part that is not cut like
//! them is refused: its config.json has to lie beside it.
//!
//! Source: the configs of Tongyi-MAI/Z-Image-Turbo; all its relatives in the wild have the same constants.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::dialect::Reading;
use crate::schema::{Component, TextEncoderConfig, TransformerConfig, VaeConfig};
use crate::{Error, Result};

/// Numbers per attention head, for which the axes of the positions are known.
const HEAD_DIM: usize = 128;
/// Groups of the group norms.
const GROUPS: usize = 32;
/// Channels of the latents, for which scale and shift are known.
const LATENT_CHANNELS: usize = 16;

/// The config of a part that is stored in `label`. It is not yet validated.
pub(super) fn config(component: Component, label: &str, reading: &Reading) -> Result<Value> {
    let map = reading.entries.iter().map(|entry| (&*entry.name, &*entry.shape)).collect();
    let shapes = Shapes { label, component, map };
    match component {
        Component::Transformer => transformer(&shapes),
        Component::TextEncoder => text_encoder(&shapes),
        Component::Vae => vae(&shapes),
    }
}

fn transformer(shapes: &Shapes<'_>) -> Result<Value> {
    shapes.must_be("layers.0.attention.norm_q.weight", 0, HEAD_DIM, "numbers per attention head")?;
    let dim = shapes.axis("cap_embedder.1.weight", 0)?;
    let patch_size = 2;
    let config = TransformerConfig {
        in_channels: shapes.axis("all_final_layer.2-1.linear.weight", 0)? / (patch_size * patch_size),
        patch_size,
        dim,
        n_layers: shapes.numbered("layers."),
        n_refiner_layers: shapes.numbered("noise_refiner."),
        n_heads: dim / HEAD_DIM,
        norm_eps: 1e-5,
        cap_feat_dim: shapes.axis("cap_embedder.0.weight", 0)?,
        rope_theta: 256.0,
        t_scale: 1000.0,
        axes_dims: [32, 48, 48],
        axes_lens: [1536, 512, 512],
    };
    Ok(config.to_json())
}

fn text_encoder(shapes: &Shapes<'_>) -> Result<Value> {
    shapes.must_be("layers.0.self_attn.q_norm.weight", 0, HEAD_DIM, "numbers per attention head")?;
    let config = TextEncoderConfig {
        vocab_size: shapes.axis("embed_tokens.weight", 0)?,
        hidden_size: shapes.axis("layers.0.input_layernorm.weight", 0)?,
        intermediate_size: shapes.axis("layers.0.mlp.gate_proj.weight", 0)?,
        n_layers: shapes.numbered("layers."),
        n_heads: shapes.axis("layers.0.self_attn.q_proj.weight", 0)? / HEAD_DIM,
        n_kv_heads: shapes.axis("layers.0.self_attn.k_proj.weight", 0)? / HEAD_DIM,
        head_dim: HEAD_DIM,
        max_positions: 40960,
        rms_norm_eps: 1e-6,
        rope_theta: 1e6,
    };
    Ok(config.to_json())
}

fn vae(shapes: &Shapes<'_>) -> Result<Value> {
    shapes.must_be("decoder.conv_in.weight", 1, LATENT_CHANNELS, "latent channels")?;
    let levels = shapes.numbered("encoder.down_blocks.");
    let channels = |level| shapes.axis(&format!("encoder.down_blocks.{level}.resnets.0.conv1.weight"), 0);
    let block_out_channels = (0..levels).map(channels).collect::<Result<Vec<usize>>>()?;
    if let Some(odd) = block_out_channels.iter().find(|&n| n % GROUPS != 0) {
        return Err(shapes.refuse(&format!("it has {odd} channels, which {GROUPS} groups do not divide")));
    }
    let config = VaeConfig {
        block_out_channels,
        layers_per_block: shapes.numbered("encoder.down_blocks.0.resnets."),
        latent_channels: LATENT_CHANNELS,
        norm_num_groups: GROUPS,
        scaling_factor: 0.3611,
        shift_factor: 0.1159,
        sample_size: 1024,
    };
    Ok(config.to_json())
}

/// Canonical names and shapes of one part.
struct Shapes<'a> {
    label: &'a str,
    component: Component,
    map: BTreeMap<&'a str, &'a [usize]>,
}

impl Shapes<'_> {
    fn axis(&self, name: &str, axis: usize) -> Result<usize> {
        let size = self.map.get(name).and_then(|shape| shape.get(axis)).copied();
        size.ok_or_else(|| self.refuse(&format!("it has no {name}, or not in the expected shape")))
    }

    fn must_be(&self, name: &str, axis: usize, expected: usize, what: &str) -> Result<()> {
        match self.axis(name, axis)? {
            found if found == expected => Ok(()),
            found => Err(self.refuse(&format!("it has {found} {what}, and only {expected} are known"))),
        }
    }

    /// How many numbers follow `prefix`, from 0 to the highest.
    fn numbered(&self, prefix: &str) -> usize {
        let number = |name: &&str| name.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
        self.map.keys().filter_map(number).max().map_or(0, |last| last.saturating_add(1))
    }

    fn refuse(&self, why: &str) -> Error {
        Error::NotACheckpoint {
            label: self.label.to_owned(),
            what: format!(
                "there is no config.json beside it, and the {}'s cannot be told from its shapes: {why}",
                self.component
            ),
            hint: format!("put the model's {} beside it", self.component.config_file()),
        }
    }
}

#[cfg(test)]
mod tests;
