//! The backends: one folder each, one implementation each of the private checklist [`Backend`].

pub mod cpu;
pub mod cuda;
mod host;
pub mod mlx;
pub mod reference;

use crate::tensor::Storage;
use crate::{Mask, Tensor, Weight};
pub use zimage_kernels::conv2d::Conv2d as Conv;
pub use zimage_kernels::conv2d::winograd::Conv3x3;

/// Shape of one attention call.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Rows of `q`.
    pub queries: usize,
    /// Rows of `k` and `v`.
    pub keys: usize,
    /// Heads of `q`.
    pub heads: usize,
    /// Heads of `k` and `v`; divides `heads`.
    pub kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
    /// What a query may see.
    pub mask: Mask,
}

impl Attention {
    /// Operations of both products over the keys that queries see.
    pub fn flop(&self) -> f64 {
        let seen = match self.mask {
            Mask::None => self.queries * self.keys,
            Mask::Causal => self.queries * (self.queries + 1) / 2,
        };
        4.0 * (seen * self.heads * self.head_dim) as f64
    }

    /// `1 / sqrt(head_dim)`.
    pub fn scale(&self) -> f32 {
        (1.0 / (self.head_dim as f64).sqrt()) as f32
    }
}

/// Parameters of a group norm; weight and bias have a value per channel.
pub struct Norm<'a, B> {
    pub weight: &'a B,
    pub bias: &'a B,
    pub groups: usize,
    pub eps: f32,
}

/// The checklist of a backend: the functions of `ops`, after shapes have been checked there.
pub trait Backend {
    /// Its kind of memory.
    type Buffer;

    fn host<'t>(&self, tensor: &'t Tensor) -> &'t Self::Buffer;
    fn host_mut<'t>(&self, tensor: &'t mut Tensor) -> &'t mut Self::Buffer;
    fn storage(buffer: Self::Buffer) -> Storage;

    fn linear(&self, x: &Self::Buffer, weight: &Weight, bias: Option<&Self::Buffer>) -> Self::Buffer;
    fn embedding(&self, table: &Weight, ids: &[u32]) -> Self::Buffer;
    fn rms_norm(&self, x: &Self::Buffer, weight: &Self::Buffer, eps: f32) -> Self::Buffer;
    fn rms_norm_scaled(&self, x: &Self::Buffer, w: &Self::Buffer, scale: &Self::Buffer, eps: f32) -> Self::Buffer;
    fn add_rms_norm(&self, x: &mut Self::Buffer, y: &Self::Buffer, weight: &Self::Buffer, eps: f32);
    fn add_rms_norm_gated(&self, x: &mut Self::Buffer, y: &Self::Buffer, w: &Self::Buffer, g: &Self::Buffer, eps: f32);
    fn layer_norm_scaled(&self, x: &Self::Buffer, scale: &Self::Buffer, eps: f32) -> Self::Buffer;
    fn add(&self, x: &mut Self::Buffer, y: &Self::Buffer);
    fn subtract_from(&self, x: &mut Self::Buffer, y: &Self::Buffer);
    fn add_scaled(&self, y: &mut Self::Buffer, z: &Self::Buffer, z_cols: usize, skip: usize, factors: &Self::Buffer);
    fn scale_columns(&self, x: &Self::Buffer, factors: &Self::Buffer) -> Self::Buffer;
    fn mix_rows(&self, x: &Self::Buffer, w: &Self::Buffer, groups: usize, inner: usize, cols: usize) -> Self::Buffer;
    fn silu(&self, x: &mut Self::Buffer);
    fn silu_mul(&self, gate: &mut Self::Buffer, up: &Self::Buffer);
    fn tanh(&self, x: &mut Self::Buffer);
    fn one_plus(&self, x: &mut Self::Buffer);
    fn rope_interleaved(&self, x: &mut Self::Buffer, cos: &Self::Buffer, sin: &Self::Buffer, head_dim: usize);
    fn rms_norm_rope(&self, x: &mut Self::Buffer, w: &Self::Buffer, eps: f32, cos: &Self::Buffer, sin: &Self::Buffer);
    fn rope_halves(&self, x: &mut Self::Buffer, cos: &Self::Buffer, sin: &Self::Buffer, head_dim: usize);
    fn attention(&self, q: &Self::Buffer, k: &Self::Buffer, v: &Self::Buffer, geometry: Attention) -> Self::Buffer;
    fn concat_rows(&self, a: &Self::Buffer, b: &Self::Buffer) -> Self::Buffer;
    fn slice(&self, x: &Self::Buffer, start: usize, end: usize) -> Self::Buffer;
    fn append_token(&self, x: &Self::Buffer, token: &Self::Buffer, count: usize) -> Self::Buffer;
    fn patchify(&self, x: &Self::Buffer, channels: usize, height: usize, width: usize) -> Self::Buffer;
    fn unpatchify(&self, x: &Self::Buffer, channels: usize, height: usize, width: usize) -> Self::Buffer;
    fn conv2d(&self, x: &Self::Buffer, weight: &Self::Buffer, bias: &Self::Buffer, conv: &Conv) -> Self::Buffer;
    /// A convolution of 1x1 into the first planes of `x`.
    fn conv1x1_in_place(&self, x: &mut Self::Buffer, weight: &Self::Buffer, bias: &Self::Buffer, conv: &Conv);
    fn upsample_conv3x3(
        &self,
        x: &Self::Buffer,
        weight: &Self::Buffer,
        bias: &Self::Buffer,
        conv: &Conv3x3,
    ) -> Self::Buffer;
    fn norm_silu_conv3x3(
        &self,
        x: &Self::Buffer,
        norm: &Norm<Self::Buffer>,
        weight: &Self::Buffer,
        bias: &Self::Buffer,
        conv: &Conv3x3,
    ) -> Self::Buffer;
    fn add_norm_silu_conv3x3(
        &self,
        x: &mut Self::Buffer,
        y: &Self::Buffer,
        norm: &Norm<Self::Buffer>,
        weight: &Self::Buffer,
        bias: &Self::Buffer,
        conv: &Conv3x3,
    );
    fn group_norm(&self, x: &Self::Buffer, norm: &Norm<Self::Buffer>) -> Self::Buffer;
    fn transpose(&self, x: &Self::Buffer, rows: usize, cols: usize) -> Self::Buffer;
}

/// Runs an expression on the backend of a tensor: the one place where devices are told apart.
///
/// `on_device!(x, b => result buffer, shape)` makes a tensor; `on_device!(mut x, b => ())` works in place.
macro_rules! on_device {
    (mut $x:ident, $b:ident => $body:expr) => {
        match $x.device.clone() {
            $crate::Device::Reference($b) => $body,
            $crate::Device::Cpu($b) => $body,
            $crate::Device::Cuda($b) => $body,
            $crate::Device::Mlx($b) => $body,
        }
    };
    ($x:ident, $b:ident => $body:expr, $shape:expr) => {{
        let storage = match &$x.device {
            $crate::Device::Reference($b) => $crate::backend::wrap($b, $body),
            $crate::Device::Cpu($b) => $crate::backend::wrap($b, $body),
            $crate::Device::Cuda($b) => $crate::backend::wrap($b, $body),
            $crate::Device::Mlx($b) => $crate::backend::wrap($b, $body),
        };
        $crate::Tensor { device: $x.device.clone(), shape: $shape.to_vec(), storage }
    }};
}
pub(crate) use on_device;

/// The storage of a buffer of this backend.
pub(crate) fn wrap<B: Backend>(_backend: &B, buffer: B::Buffer) -> Storage {
    B::storage(buffer)
}
