//! Convolutions and group norms. MLX keeps the channels of a pixel together, we keep planes: what is made here lies as
//! MLX has it and is seen with its axes in our order, so that nothing moves between two convolutions.

use super::port::Array;
use super::{Buffer, Mlx};
use crate::backend::{Conv, Norm};

impl Mlx {
    pub(super) fn convolution(&self, x: &Array, weight: &Buffer, bias: &Buffer, conv: &Conv) -> Array {
        let kernel = weight.kernel.get_or_init(|| {
            let Conv { cin, cout, kh, kw, .. } = *conv;
            let kernel = self.port.transpose(&self.input(weight, &[cout, cin, kh, kw]), &[0, 2, 3, 1]);
            let kernel = self.port.contiguous(&kernel);
            self.port.evaluate(&kernel);
            kernel
        });
        let Conv { stride, pad_top, pad_left, pad_bottom, pad_right, .. } = *conv;
        let kernel = self.port.cast(kernel, self.element());
        let y = self.port.convolve(x, &kernel, stride, [pad_top, pad_left], [pad_bottom, pad_right]);
        let (height, width) = (conv.out_height(), conv.out_width());
        let y = self.port.add(&y, &self.input(bias, &[conv.cout]));
        self.port.transpose(&self.port.reshape(&y, &[height, width, conv.cout]), &[2, 0, 1])
    }

    /// Planes as pixels: `(channels, height, width)` as `(1, height, width, channels)`.
    pub(super) fn pixels(&self, x: &Array, [channels, height, width]: [usize; 3]) -> Array {
        let x = self.port.transpose(&self.port.reshape(x, &[channels, height, width]), &[1, 2, 0]);
        self.port.reshape(&x, &[1, height, width, channels])
    }

    /// Each pixel four times: the picture `(1, 2 height, 2 width, channels)`.
    pub(super) fn doubled(&self, x: &Array, [channels, height, width]: [usize; 3]) -> Array {
        let x = self.port.reshape(x, &[height, 1, width, 1, channels]);
        let x = self.port.broadcast(&x, &[height, 2, width, 2, channels]);
        self.port.reshape(&x, &[1, 2 * height, 2 * width, channels])
    }

    /// `(channels, values)`.
    pub(super) fn group_norm_of(&self, x: &Buffer, norm: &Norm<Buffer>) -> Array {
        let channels = norm.weight.len;
        let groups = self.port.layer_norm(&self.input(x, &[norm.groups, x.len / norm.groups]), norm.eps);
        let planes = self.port.reshape(&groups, &[channels, x.len / channels]);
        let [weight, bias] = [norm.weight, norm.bias].map(|values| self.input(values, &[channels, 1]));
        self.port.add(&self.port.multiply(&planes, &weight), &bias)
    }
}
