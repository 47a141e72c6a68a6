//! The VAE's convolutions and group norms, at the sizes of its decoder for a picture of 1024x1024.

use crate::gauge::Case;
use crate::inputs::{activations, group_norm, parameters};
use crate::sizes::Sizes;
use zimage_tensor::Device;
use zimage_tensor::ops::{self, ConvGeometry};

/// How pixels are convolved.
#[derive(Clone, Copy, PartialEq)]
enum How {
    /// With a kernel of 3x3 as they are.
    Plain,
    /// The same, every second row and column.
    Halved,
    /// With a kernel of 1x1.
    Pointwise,
    /// With a kernel of 3x3, and each pixel stands for four.
    Doubled,
    /// With a kernel of 3x3, after norm and SiLU.
    Normed,
    /// The same, and the result is added to what is there.
    Added,
}

/// Channels in and out, and the side of the result, with the real sizes.
const CONVOLUTIONS: [(How, &str, usize, usize, usize); 16] = [
    (How::Plain, "conv2d 3x3", 16, 512, 128),
    (How::Plain, "conv2d 3x3", 128, 128, 1024),
    (How::Halved, "conv2d 3x3 by 2", 128, 128, 512),
    (How::Pointwise, "conv2d 1x1", 512, 256, 512),
    (How::Pointwise, "conv2d 1x1", 256, 128, 1024),
    (How::Doubled, "upsample_conv2d", 512, 512, 256),
    (How::Doubled, "upsample_conv2d", 512, 512, 512),
    (How::Doubled, "upsample_conv2d", 256, 256, 1024),
    (How::Normed, "norm_silu_conv2d", 512, 512, 128),
    (How::Normed, "norm_silu_conv2d", 512, 512, 256),
    (How::Normed, "norm_silu_conv2d", 512, 256, 512),
    (How::Normed, "norm_silu_conv2d", 256, 256, 512),
    (How::Normed, "norm_silu_conv2d", 256, 128, 1024),
    (How::Normed, "norm_silu_conv2d", 128, 128, 1024),
    (How::Normed, "norm_silu_conv2d", 128, 3, 1024),
    (How::Added, "add_norm_silu_conv2d", 128, 128, 1024),
];

/// All of them.
pub fn cases(device: &Device, sizes: &Sizes) -> Vec<Case> {
    let mut cases: Vec<Case> = CONVOLUTIONS
        .map(|(how, name, cin, cout, side)| {
            let channels = [sizes.channels(cin), sizes.channels(cout)];
            convolution(device, how, name, channels, sizes.side(side))
        })
        .into();
    for (channels, side) in [(512, 128), (128, 1024)] {
        cases.push(norm(device, sizes.channels(channels), sizes.side(side)));
    }
    cases
}

/// Both pictures are moved once, and the weight in f32. What is added to is read as well; what is normed must be read
/// for its moments first, which counts where it is larger than a cache.
fn convolution(device: &Device, how: How, name: &str, [cin, cout]: [usize; 2], side: usize) -> Case {
    let source = match how {
        How::Doubled => side / 2,
        How::Halved => 2 * side,
        _ => side,
    };
    let kernel = if how == How::Pointwise { 1 } else { 3 };
    let width = device.activation_bytes() as f64;
    let [from, to] = [cin * source * source, cout * side * side].map(|values| values as f64 * width);
    let weight = cin * cout * kernel * kernel;
    let moments = if matches!(how, How::Normed | How::Added) && from > 50e6 { from } else { 0.0 };
    let before = if how == How::Added { to } else { 0.0 };
    let floor = (from + to + moments + before + 4.0 * weight as f64, 2.0 * (weight * side * side) as f64);
    let name = format!("{name} {cin} -> {cout}, {side}x{side}");
    Case::new(name, device.natural_compute(), floor, move |device| {
        let x = activations(device, &[cin, source, source])?;
        let (w, b) = (parameters(device, &[cout, cin, kernel, kernel])?, parameters(device, &[cout])?);
        let norm = group_norm(device, cin)?;
        let halved = ConvGeometry { stride: 2, left: 0, right: 1, top: 0, bottom: 1 };
        Ok(match how {
            How::Plain => Box::new(move || drop(ops::conv2d(&x, &w, &b, ConvGeometry::padded(1)))),
            How::Halved => Box::new(move || drop(ops::conv2d(&x, &w, &b, halved))),
            How::Pointwise => Box::new(move || drop(ops::conv2d(&x, &w, &b, ConvGeometry::padded(0)))),
            How::Doubled => Box::new(move || drop(ops::upsample_conv2d(&x, &w, &b))),
            How::Normed => Box::new(move || drop(ops::norm_silu_conv2d(&x, &norm, &w, &b))),
            How::Added => {
                let mut sum = activations(device, &[cout, side, side])?;
                Box::new(move || ops::add_norm_silu_conv2d(&mut sum, &x, &norm, &w, &b))
            }
        })
    })
}

/// A picture is read and written, and read before where it is larger than a cache.
fn norm(device: &Device, channels: usize, side: usize) -> Case {
    let bytes = (channels * side * side) as f64 * device.activation_bytes() as f64;
    let times = if bytes > 50e6 { 3.0 } else { 2.0 };
    let name = format!("group_norm {channels}, {side}x{side}");
    Case::new(name, device.natural_compute(), (times * bytes, 0.0), move |device| {
        let (x, norm) = (activations(device, &[channels, side, side])?, group_norm(device, channels)?);
        Ok(Box::new(move || drop(ops::group_norm(&x, &norm))))
    })
}
