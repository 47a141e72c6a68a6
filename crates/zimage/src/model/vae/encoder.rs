//! Picture -> the distribution of its latents.
//!
//! Source: diffusers `Encoder`, `DownEncoderBlock2D`.

use super::super::{Parameters, Watch};
use super::blocks::{Conv, MidBlock, Resnet, load_norm};
use crate::Result;
use zimage_tensor::Tensor;
use zimage_tensor::ops::GroupNorm;
use zimage_weights::schema::VaeConfig;

const STAGE: &str = "vae encoder";

/// The encoder.
pub struct Encoder {
    conv_in: Conv,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    conv_norm_out: GroupNorm,
    conv_out: Conv,
}

struct DownBlock {
    resnets: Vec<Resnet>,
    downsampler: Option<Conv>,
}

impl Encoder {
    /// Reads `encoder`.
    pub fn load(config: &VaeConfig, p: &Parameters) -> Result<Encoder> {
        let channels = &config.block_out_channels;
        let last = channels.len() - 1;
        let down_blocks = (0..=last).map(|i| {
            let cin = channels[i.saturating_sub(1)];
            DownBlock::load(config, cin, channels[i], i < last, &p.below("down_blocks").below(i))
        });
        Ok(Encoder {
            conv_in: Conv::load(&p.below("conv_in"))?,
            down_blocks: down_blocks.collect::<Result<_>>()?,
            mid_block: MidBlock::load(config, channels[last], &p.below("mid_block"))?,
            conv_norm_out: load_norm(config, &p.below("conv_norm_out"))?,
            conv_out: Conv::load(&p.below("conv_out"))?,
        })
    }

    /// `(3, 8h, 8w)` from -1 to 1 -> the moments `(2 latent_channels, h, w)`: means, then log variances.
    ///
    /// # Errors
    /// [`crate::Error::NonFinite`] with the layer's name.
    pub fn forward(&self, image: &Tensor) -> Result<Tensor> {
        let mut watch = Watch::new(STAGE);
        let mut h = self.conv_in.forward(image);
        for (i, block) in self.down_blocks.iter().enumerate() {
            h = block.forward(h);
            watch.look(&h, || format!("down_blocks.{i}"))?;
        }
        h = self.mid_block.forward(h);
        watch.look(&h, || "mid_block".into())?;
        h = self.conv_out.forward_activated(&h, &self.conv_norm_out);
        watch.look(&h, || "conv_out".into())?;
        watch.finish(h.device())?;
        Ok(h)
    }
}

impl DownBlock {
    fn load(config: &VaeConfig, cin: usize, cout: usize, downsample: bool, p: &Parameters) -> Result<DownBlock> {
        let resnets = (0..config.layers_per_block)
            .map(|j| Resnet::load(config, if j == 0 { cin } else { cout }, cout, &p.below("resnets").below(j)));
        let downsampler = || Conv::load(&p.below("downsamplers.0.conv"));
        Ok(DownBlock {
            resnets: resnets.collect::<Result<_>>()?,
            downsampler: downsample.then(downsampler).transpose()?,
        })
    }

    fn forward(&self, x: Tensor) -> Tensor {
        let h = self.resnets.iter().fold(x, |h, resnet| resnet.forward(h));
        match &self.downsampler {
            Some(conv) => conv.forward_halved(&h),
            None => h,
        }
    }
}
