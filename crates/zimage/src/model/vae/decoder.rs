//! Latents -> picture.
//!
//! Source: diffusers `Decoder`, `UpDecoderBlock2D`.

use super::super::{Parameters, Watch};
use super::blocks::{Conv, MidBlock, Resnet, load_norm};
use crate::Result;
use zimage_tensor::Tensor;
use zimage_tensor::ops::GroupNorm;
use zimage_weights::schema::VaeConfig;

const STAGE: &str = "vae decoder";

/// The decoder.
pub struct Decoder {
    conv_in: Conv,
    mid_block: MidBlock,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv,
}

struct UpBlock {
    resnets: Vec<Resnet>,
    upsampler: Option<Conv>,
}

impl Decoder {
    /// Reads `decoder`.
    pub fn load(config: &VaeConfig, p: &Parameters) -> Result<Decoder> {
        let channels: Vec<usize> = config.block_out_channels.iter().rev().copied().collect();
        let last = channels.len() - 1;
        let up_blocks = (0..=last).map(|i| {
            let cin = channels[i.saturating_sub(1)];
            UpBlock::load(config, cin, channels[i], i < last, &p.below("up_blocks").below(i))
        });
        Ok(Decoder {
            conv_in: Conv::load(&p.below("conv_in"))?,
            mid_block: MidBlock::load(config, channels[0], &p.below("mid_block"))?,
            up_blocks: up_blocks.collect::<Result<_>>()?,
            conv_norm_out: load_norm(config, &p.below("conv_norm_out"))?,
            conv_out: Conv::load(&p.below("conv_out"))?,
        })
    }

    /// `(latent_channels, h, w)`, scaled as the VAE makes them -> `(3, 8h, 8w)`, about -1 to 1.
    ///
    /// # Errors
    /// [`crate::Error::NonFinite`] with the layer's name.
    pub fn forward(&self, z: &Tensor) -> Result<Tensor> {
        let mut watch = Watch::new(STAGE);
        let mut h = self.mid_block.forward(self.conv_in.forward(z));
        watch.look(&h, || "mid_block".into())?;
        for (i, block) in self.up_blocks.iter().enumerate() {
            h = block.forward(h);
            watch.look(&h, || format!("up_blocks.{i}"))?;
        }
        h = self.conv_out.forward_activated(&h, &self.conv_norm_out);
        watch.look(&h, || "conv_out".into())?;
        watch.finish(h.device())?;
        Ok(h)
    }
}

impl UpBlock {
    fn load(config: &VaeConfig, cin: usize, cout: usize, upsample: bool, p: &Parameters) -> Result<UpBlock> {
        // The decoder has one resnet more per level than the encoder.
        let resnets = (0..=config.layers_per_block)
            .map(|j| Resnet::load(config, if j == 0 { cin } else { cout }, cout, &p.below("resnets").below(j)));
        let upsampler = || Conv::load(&p.below("upsamplers.0.conv"));
        Ok(UpBlock { resnets: resnets.collect::<Result<_>>()?, upsampler: upsample.then(upsampler).transpose()? })
    }

    fn forward(&self, x: Tensor) -> Tensor {
        let h = self.resnets.iter().fold(x, |h, resnet| resnet.forward(h));
        match &self.upsampler {
            Some(conv) => conv.forward_doubled(&h),
            None => h,
        }
    }
}
