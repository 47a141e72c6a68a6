//! The definition, with f64 sums.

use super::Conv2d;
use crate::tile::TileMut;

pub(super) fn conv2d_band(conv: &Conv2d, out: &mut TileMut, x: &[f32], weight: &[f32], bias: &[f32]) {
    let (first, out_width) = (out.col0(), conv.out_width());
    for r in 0..out.rows() {
        let channel = out.row0() + r;
        let weight = &weight[channel * conv.cin * conv.kh * conv.kw..][..conv.cin * conv.kh * conv.kw];
        for (i, value) in out.row_mut(r).iter_mut().enumerate() {
            let (row, col) = ((first + i) / out_width, (first + i) % out_width);
            *value = (f64::from(bias[channel]) + at(conv, x, weight, row, col)) as f32;
        }
    }
}

/// The sum over the kernel at one place of the output.
fn at(conv: &Conv2d, x: &[f32], weight: &[f32], row: usize, col: usize) -> f64 {
    let mut sum = 0.0;
    for c in 0..conv.cin {
        for i in 0..conv.kh {
            for j in 0..conv.kw {
                let (y, x_) = (row * conv.stride + i, col * conv.stride + j);
                let inside = (conv.pad_top..conv.pad_top + conv.height).contains(&y)
                    && (conv.pad_left..conv.pad_left + conv.width).contains(&x_);
                if inside {
                    let (y, x_) = (y - conv.pad_top, x_ - conv.pad_left);
                    let value = x[(c * conv.height + y) * conv.width + x_];
                    sum += f64::from(value) * f64::from(weight[(c * conv.kh + i) * conv.kw + j]);
                }
            }
        }
    }
    sum
}
