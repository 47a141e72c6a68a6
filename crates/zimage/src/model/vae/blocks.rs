//! The parts that encoder and decoder are made of.
//!
//! Source: diffusers `ResnetBlock2D`, `Attention` (VAE settings), `Downsample2D`, `Upsample2D`.

use super::super::Parameters;
use crate::Result;
use zimage_tensor::ops::{self, ConvGeometry};
use zimage_tensor::{Linear, Mask, Tensor};
use zimage_weights::schema::VaeConfig;

/// Epsilon of every group norm.
const NORM_EPS: f32 = 1e-6;

/// A 3x3 (or, for shortcuts, 1x1) convolution with a bias.
pub struct Conv {
    weight: Tensor,
    bias: Tensor,
    geometry: ConvGeometry,
}

/// A group norm.
pub struct Norm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
}

/// Two convolutions, each after a norm and SiLU, beside a shortcut.
pub struct Resnet {
    norm1: Norm,
    conv1: Conv,
    norm2: Norm,
    conv2: Conv,
    conv_shortcut: Option<Conv>,
}

/// Self-attention over all pixels, one head as wide as the channels.
pub struct Attention {
    group_norm: Norm,
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
    /// Reads a convolution with these strides and paddings.
    pub fn load(geometry: ConvGeometry, p: &Parameters) -> Result<Conv> {
        Ok(Conv { weight: p.tensor("weight")?, bias: p.tensor("bias")?, geometry })
    }

    /// Reads a 3x3 convolution that keeps the size.
    pub fn load_3x3(p: &Parameters) -> Result<Conv> {
        Conv::load(ConvGeometry::padded(1), p)
    }

    /// Reads the 3x3 convolution that halves the size: the padding is on the right and at the bottom only.
    pub fn load_downsample(p: &Parameters) -> Result<Conv> {
        Conv::load(ConvGeometry { stride: 2, left: 0, right: 1, top: 0, bottom: 1 }, p)
    }

    /// `(in, height, width)` -> `(out, height', width')`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        ops::conv2d(x, &self.weight, &self.bias, self.geometry)
    }
}

impl Norm {
    /// Reads a group norm.
    pub fn load(config: &VaeConfig, p: &Parameters) -> Result<Norm> {
        Ok(Norm { weight: p.tensor("weight")?, bias: p.tensor("bias")?, groups: config.norm_num_groups })
    }

    /// The norm alone.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        ops::group_norm(x, &self.weight, &self.bias, self.groups, NORM_EPS)
    }

    /// The norm, then SiLU.
    pub fn forward_silu(&self, x: &Tensor) -> Tensor {
        ops::group_norm_silu(x, &self.weight, &self.bias, self.groups, NORM_EPS)
    }
}

impl Resnet {
    /// Reads a block from `cin` to `cout` channels; only a change of channels has a shortcut convolution.
    pub fn load(config: &VaeConfig, cin: usize, cout: usize, p: &Parameters) -> Result<Resnet> {
        let shortcut = || Conv::load(ConvGeometry::padded(0), &p.below("conv_shortcut"));
        Ok(Resnet {
            norm1: Norm::load(config, &p.below("norm1"))?,
            conv1: Conv::load_3x3(&p.below("conv1"))?,
            norm2: Norm::load(config, &p.below("norm2"))?,
            conv2: Conv::load_3x3(&p.below("conv2"))?,
            conv_shortcut: (cin != cout).then(shortcut).transpose()?,
        })
    }

    /// Takes `x` by value, so that its memory is free or reused as soon as it can be.
    pub fn forward(&self, x: Tensor) -> Tensor {
        let mut h = self.norm1.forward_silu(&x);
        h = self.conv1.forward(&h);
        h = self.norm2.forward_silu(&h);
        h = self.conv2.forward(&h);
        match &self.conv_shortcut {
            Some(shortcut) => ops::add(&mut h, &shortcut.forward(&x)),
            None => ops::add(&mut h, &x),
        }
        h
    }
}

impl Attention {
    fn load(config: &VaeConfig, p: &Parameters) -> Result<Attention> {
        Ok(Attention {
            group_norm: Norm::load(config, &p.below("group_norm"))?,
            to_q: p.linear_with_bias("to_q")?,
            to_k: p.linear_with_bias("to_k")?,
            to_v: p.linear_with_bias("to_v")?,
            to_out: p.linear_with_bias("to_out.0")?,
        })
    }

    fn forward(&self, mut x: Tensor) -> Tensor {
        let [_, height, width] = x.shape()[..] else { panic!("pixels of {:?}", x.shape()) };
        let h = ops::channels_to_tokens(&self.group_norm.forward(&x));
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
