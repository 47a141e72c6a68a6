//! The parts that encoder and decoder are made of.
//!
//! Source: diffusers `ResnetBlock2D`, `Attention` (VAE settings), `Downsample2D`, `Upsample2D`.

use super::super::Parameters;
use crate::Result;
use zimage_tensor::ops::{self, ConvGeometry, GroupNorm};
use zimage_tensor::{Linear, Mask, Tensor};
use zimage_weights::schema::VaeConfig;

/// Epsilon of every group norm.
const NORM_EPS: f32 = 1e-6;

/// A convolution with a bias: 3x3, or 1x1 for shortcuts.
pub struct Conv {
    weight: Tensor,
    bias: Tensor,
}

/// Two convolutions, each after a norm and SiLU, beside a shortcut.
pub struct Resnet {
    norm1: GroupNorm,
    conv1: Conv,
    norm2: GroupNorm,
    conv2: Conv,
    conv_shortcut: Option<Conv>,
}

/// Self-attention over all pixels, one head as wide as the channels.
pub struct Attention {
    group_norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
}

/// Resnet, attention, resnet.
pub struct MidBlock {
    resnet_0: Resnet,
    attention: Attention,
    resnet_1: Resnet,
}

impl Conv {
    /// Reads a convolution.
    pub fn load(p: &Parameters) -> Result<Conv> {
        Ok(Conv { weight: p.tensor("weight")?, bias: p.tensor("bias")? })
    }

    /// 3x3, of the same size: `(in, height, width)` -> `(out, height, width)`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        ops::conv2d(x, &self.weight, &self.bias, ConvGeometry::padded(1))
    }

    /// 3x3, after a norm and SiLU.
    pub fn forward_activated(&self, x: &Tensor, norm: &GroupNorm) -> Tensor {
        ops::norm_silu_conv2d(x, norm, &self.weight, &self.bias)
    }

    /// `x` plus the 3x3 convolution of `h` after a norm and SiLU.
    pub fn add_activated(&self, mut x: Tensor, h: &Tensor, norm: &GroupNorm) -> Tensor {
        ops::add_norm_silu_conv2d(&mut x, h, norm, &self.weight, &self.bias);
        x
    }

    /// 3x3, of half the size: the padding is on the right and at the bottom only.
    pub fn forward_halved(&self, x: &Tensor) -> Tensor {
        let geometry = ConvGeometry { stride: 2, left: 0, right: 1, top: 0, bottom: 1 };
        ops::conv2d(x, &self.weight, &self.bias, geometry)
    }

    /// 3x3, of the picture doubled in size.
    pub fn forward_doubled(&self, x: &Tensor) -> Tensor {
        ops::upsample_conv2d(x, &self.weight, &self.bias)
    }

    /// 1x1.
    pub fn forward_pointwise(&self, x: Tensor) -> Tensor {
        ops::conv1x1(x, &self.weight, &self.bias)
    }
}

/// Reads a group norm.
pub fn load_norm(config: &VaeConfig, p: &Parameters) -> Result<GroupNorm> {
    let (weight, bias) = (p.tensor("weight")?, p.tensor("bias")?);
    Ok(GroupNorm { weight, bias, groups: config.norm_num_groups, eps: NORM_EPS })
}

impl Resnet {
    /// Reads a block from `cin` to `cout` channels; only a change of channels has a shortcut convolution.
    pub fn load(config: &VaeConfig, cin: usize, cout: usize, p: &Parameters) -> Result<Resnet> {
        let shortcut = || Conv::load(&p.below("conv_shortcut"));
        Ok(Resnet {
            norm1: load_norm(config, &p.below("norm1"))?,
            conv1: Conv::load(&p.below("conv1"))?,
            norm2: load_norm(config, &p.below("norm2"))?,
            conv2: Conv::load(&p.below("conv2"))?,
            conv_shortcut: (cin != cout).then(shortcut).transpose()?,
        })
    }

    /// Takes `x` by value: the shortcut and the sum are made where it lies.
    pub fn forward(&self, x: Tensor) -> Tensor {
        let h = self.conv1.forward_activated(&x, &self.norm1);
        let x = match &self.conv_shortcut {
            Some(shortcut) => shortcut.forward_pointwise(x),
            None => x,
        };
        self.conv2.add_activated(x, &h, &self.norm2)
    }
}

impl Attention {
    fn load(config: &VaeConfig, p: &Parameters) -> Result<Attention> {
        Ok(Attention {
            group_norm: load_norm(config, &p.below("group_norm"))?,
            to_q: p.linear_with_bias("to_q")?,
            to_k: p.linear_with_bias("to_k")?,
            to_v: p.linear_with_bias("to_v")?,
            to_out: p.linear_with_bias("to_out.0")?,
        })
    }

    fn forward(&self, mut x: Tensor) -> Tensor {
        let [_, height, width] = x.shape()[..] else { panic!("pixels of {:?}", x.shape()) };
        let h = ops::channels_to_tokens(&ops::group_norm(&x, &self.group_norm));
        let (q, k, v) = (ops::linear(&h, &self.to_q), ops::linear(&h, &self.to_k), ops::linear(&h, &self.to_v));
        let attended = ops::attention(&q, &k, &v, 1, Mask::None);
        let out = ops::linear(&attended, &self.to_out);
        ops::add(&mut x, &ops::tokens_to_channels(&out, height, width));
        x
    }
}

impl MidBlock {
    /// Reads `mid_block`, which has the channels of the last level.
    pub fn load(config: &VaeConfig, channels: usize, p: &Parameters) -> Result<MidBlock> {
        let resnets = p.below("resnets");
        Ok(MidBlock {
            resnet_0: Resnet::load(config, channels, channels, &resnets.below(0))?,
            attention: Attention::load(config, &p.below("attentions.0"))?,
            resnet_1: Resnet::load(config, channels, channels, &resnets.below(1))?,
        })
    }

    /// `(channels, height, width)`, unchanged in shape.
    pub fn forward(&self, x: Tensor) -> Tensor {
        let h = self.resnet_0.forward(x);
        let h = self.attention.forward(h);
        self.resnet_1.forward(h)
    }
}
