//! The autoencoder, diffusers' `AutoencoderKL` as in FLUX.1.

use serde_json::{Value, json};

use super::fields::Fields;
use super::{Component, Specs, TensorSpec};
use crate::Result;

/// Sizes of the autoencoder. Every instance satisfies the constraints that [`VaeConfig::from_json`] lists.
#[derive(Clone, Debug, PartialEq)]
pub struct VaeConfig {
    /// Channels per level, the finest first. Every level but the last halves the resolution.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks per level of the encoder; the decoder has one more.
    pub layers_per_block: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Groups of every group norm.
    pub norm_num_groups: usize,
    /// Latents of the transformer = (latents of the encoder - `shift_factor`) * `scaling_factor`.
    pub scaling_factor: f64,
    /// See [`VaeConfig::scaling_factor`].
    pub shift_factor: f64,
    /// Side of the pictures that it was trained on, in pixels.
    pub sample_size: usize,
}

impl VaeConfig {
    /// Reads a `vae/config.json`.
    ///
    /// Refuses ([`crate::Error::Config`]) another class, pictures that are not RGB, block types other than the plain ones, quant
    /// convolutions, per-channel latent statistics, no attention in the middle, activations other than SiLU, and channels
    /// that the groups do not divide.
    pub fn from_json(value: &Value) -> Result<Self> {
        let fields = Fields::new(Component::Vae.config_file(), value)?;
        fields.if_there_must_be("_class_name", "AutoencoderKL")?;
        fields.must_be("act_fn", "silu")?;
        fields.must_be("in_channels", 3)?;
        fields.must_be("out_channels", 3)?;
        // Both default to true in diffusers, so a config that does not mention them has them.
        fields.must_be("use_quant_conv", false)?;
        fields.must_be("use_post_quant_conv", false)?;
        fields.if_there_must_be("mid_block_add_attention", true)?;
        fields.must_be_absent("latents_mean")?;
        fields.must_be_absent("latents_std")?;
        let config = Self {
            block_out_channels: fields.counts("block_out_channels")?,
            layers_per_block: fields.count("layers_per_block")?,
            latent_channels: fields.count("latent_channels")?,
            norm_num_groups: fields.count("norm_num_groups")?,
            scaling_factor: fields.positive("scaling_factor")?,
            shift_factor: fields.number("shift_factor")?,
            sample_size: fields.count("sample_size")?,
        };
        config.check(&fields)?;
        Ok(config)
    }

    fn check(&self, fields: &Fields<'_>) -> Result<()> {
        let levels = self.block_out_channels.len();
        let channels = json!(self.block_out_channels);
        fields.check((1..=8).contains(&levels), "block_out_channels", channels.clone(), "1 to 8 levels")?;
        fields.must_be("down_block_types", vec!["DownEncoderBlock2D"; levels])?;
        fields.must_be("up_block_types", vec!["UpDecoderBlock2D"; levels])?;
        let groups = self.norm_num_groups;
        let divided = self.block_out_channels.iter().all(|n| n % groups == 0);
        let expected = format_args!("multiples of norm_num_groups, {groups}");
        fields.check(divided, "block_out_channels", channels, expected)?;
        let (layers, most) = (self.layers_per_block, super::MAX_LAYERS);
        fields.check(layers <= most, "layers_per_block", layers, format_args!("at most {most}"))
    }

    /// The config as diffusers writes it; [`VaeConfig::from_json`] reads it back.
    pub fn to_json(&self) -> Value {
        let levels = self.block_out_channels.len();
        json!({
            "_class_name": "AutoencoderKL",
            "act_fn": "silu",
            "block_out_channels": self.block_out_channels,
            "down_block_types": vec!["DownEncoderBlock2D"; levels],
            "force_upcast": true,
            "in_channels": 3,
            "latent_channels": self.latent_channels,
            "latents_mean": null,
            "latents_std": null,
            "layers_per_block": self.layers_per_block,
            "mid_block_add_attention": true,
            "norm_num_groups": self.norm_num_groups,
            "out_channels": 3,
            "sample_size": self.sample_size,
            "scaling_factor": self.scaling_factor,
            "shift_factor": self.shift_factor,
            "up_block_types": vec!["UpDecoderBlock2D"; levels],
            "use_post_quant_conv": false,
            "use_quant_conv": false,
        })
    }

    /// Pixels per latent along height and width.
    pub fn downscale(&self) -> usize {
        1 << (self.block_out_channels.len() - 1)
    }

    /// Channels of the middle, the coarsest level.
    pub fn mid_channels(&self) -> usize {
        *self.block_out_channels.last().expect("a VAE has a level: this is a bug")
    }
}

/// Every tensor of the autoencoder: the encoder, then the decoder.
pub fn tensors(config: &VaeConfig) -> Vec<TensorSpec> {
    let mut specs = Specs::default();
    encoder(&mut specs, config);
    decoder(&mut specs, config);
    specs.0
}

fn encoder(specs: &mut Specs, config: &VaeConfig) {
    let channels = &config.block_out_channels;
    let mut width = channels[0];
    specs.conv("encoder.conv_in", width, 3, 3);
    for (level, &next) in channels.iter().enumerate() {
        let prefix = format!("encoder.down_blocks.{level}");
        resnets(specs, &prefix, config.layers_per_block, width, next);
        width = next;
        if level + 1 < channels.len() {
            specs.conv(&format!("{prefix}.downsamplers.0.conv"), width, width, 3);
        }
    }
    middle(specs, "encoder.mid_block", width);
    specs.group_norm("encoder.conv_norm_out", width);
    specs.conv("encoder.conv_out", 2 * config.latent_channels, width, 3); // mean and log variance
}

fn decoder(specs: &mut Specs, config: &VaeConfig) {
    let channels = &config.block_out_channels;
    let mut width = config.mid_channels();
    specs.conv("decoder.conv_in", width, config.latent_channels, 3);
    for (level, &next) in channels.iter().rev().enumerate() {
        let prefix = format!("decoder.up_blocks.{level}");
        resnets(specs, &prefix, config.layers_per_block + 1, width, next);
        width = next;
        if level + 1 < channels.len() {
            specs.conv(&format!("{prefix}.upsamplers.0.conv"), width, width, 3);
        }
    }
    middle(specs, "decoder.mid_block", config.mid_channels());
    specs.group_norm("decoder.conv_norm_out", width);
    specs.conv("decoder.conv_out", 3, width, 3);
}

/// Residual blocks of one level; the first goes from `input` to `output` channels.
fn resnets(specs: &mut Specs, prefix: &str, n: usize, input: usize, output: usize) {
    for at in 0..n {
        resnet(specs, &format!("{prefix}.resnets.{at}"), if at == 0 { input } else { output }, output);
    }
}

fn resnet(specs: &mut Specs, prefix: &str, input: usize, output: usize) {
    specs.group_norm(&format!("{prefix}.norm1"), input);
    specs.conv(&format!("{prefix}.conv1"), output, input, 3);
    specs.group_norm(&format!("{prefix}.norm2"), output);
    specs.conv(&format!("{prefix}.conv2"), output, output, 3);
    if input != output {
        specs.conv(&format!("{prefix}.conv_shortcut"), output, input, 1);
    }
}

/// Residual block, attention with one head, residual block.
fn middle(specs: &mut Specs, prefix: &str, width: usize) {
    let attention = format!("{prefix}.attentions.0");
    specs.group_norm(&format!("{attention}.group_norm"), width);
    for linear in ["to_q", "to_k", "to_v", "to_out.0"] {
        specs.linear_bias(&format!("{attention}.{linear}"), width, width);
    }
    for at in 0..2 {
        resnet(specs, &format!("{prefix}.resnets.{at}"), width, width);
    }
}
