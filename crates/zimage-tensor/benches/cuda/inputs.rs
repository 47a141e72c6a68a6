//! Tensors and weights to compute with. A block of scattered values is repeated, which a device cannot tell.

use crate::Result;
use zimage_kernels::blocks::ScaledEncoder;
use zimage_tensor::ops::{self, GroupNorm};
use zimage_tensor::{Device, Format, Layout, Linear, Stored, Tensor, Weight};

/// Values before they repeat; odd, so that rows differ.
const BLOCK: usize = (1 << 20) - 1;
/// Rows of a weight before they repeat.
const ROWS: usize = 61;

/// Values scattered between -1/2 and 1/2.
fn values(len: usize) -> Vec<f32> {
    let bits = |i: usize| (i as u32).wrapping_mul(0x9e37_79b1) >> 8;
    let block: Vec<f32> = (0..len.min(BLOCK)).map(|i| bits(i) as f32 / (1u32 << 24) as f32 - 0.5).collect();
    repeated(&block, len)
}

/// So many values, a block again and again.
fn repeated<T: Copy>(block: &[T], len: usize) -> Vec<T> {
    let mut values = Vec::with_capacity(len);
    while values.len() < len {
        let more = block.len().min(len - values.len());
        values.extend_from_slice(&block[..more]);
    }
    values
}

/// Values that come from outside, as parameters do: in f32.
pub fn parameters(device: &Device, shape: &[usize]) -> Result<Tensor> {
    Ok(Tensor::from_vec(device, shape, values(shape.iter().product()))?)
}

/// Values that an operation made: in what activations lie in.
pub fn activations(device: &Device, shape: &[usize]) -> Result<Tensor> {
    let x = parameters(device, shape)?;
    let ones = Tensor::from_vec(device, &[x.cols()], vec![1.0; x.cols()])?;
    Ok(ops::rms_norm(&x, &ones, 1e-6))
}

/// The norm of the VAE's blocks.
pub fn group_norm(device: &Device, channels: usize) -> Result<GroupNorm> {
    let [weight, bias] = [parameters(device, &[channels])?, parameters(device, &[channels])?];
    Ok(GroupNorm { weight, bias, groups: channels.min(32), eps: 1e-6 })
}

/// The bytes of a weight in one of ggml's formats, or in floats.
pub fn stored(format: Format, rows: usize, cols: usize) -> Stored {
    let encoder = format.encoder().expect("a format that can be written: this is a bug");
    let some = rows.min(ROWS);
    let mut bytes = vec![0; some * format.row_bytes(cols)];
    encoder.encode(&values(some * cols), &mut bytes);
    let values = repeated(&bytes, rows * format.row_bytes(cols)).into();
    let (scales, biases) = Default::default();
    Stored { layout: Layout::Rows(format), rows, cols, values, scales, biases, factor: 1.0 }
}

/// The bytes of a weight whose scales lie apart.
pub fn stored_apart(encoder: ScaledEncoder, rows: usize, cols: usize) -> Stored {
    let layout = Layout::Scaled(encoder.format());
    let some = rows.min(ROWS);
    let [mut packed, mut scales, mut biases] = layout.plane_bytes(some, cols).map(|bytes| vec![0; bytes]);
    encoder.encode(&values(some * cols), &mut packed, &mut scales, &mut biases);
    let whole = layout.plane_bytes(rows, cols);
    let [values, scales, biases] =
        [(packed, whole[0]), (scales, whole[1]), (biases, whole[2])].map(|(plane, len)| repeated(&plane, len).into());
    Stored { layout, rows, cols, values, scales, biases, factor: 1.0 }
}

/// Bytes of what is stored.
pub fn stored_bytes(stored: &Stored) -> f64 {
    (stored.values.len() + stored.scales.len() + stored.biases.len()) as f64
}

/// A layer whose weight stays on the device from its first use on.
pub fn layer(device: &Device, stored: &Stored) -> Result<Linear> {
    Ok(Linear::new(Weight::new(device, stored.clone(), 0..stored.rows)?.resident(), None))
}
