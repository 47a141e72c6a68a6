//! Reads rows of the input as the convolution sees them: made while they are read, zeros around them.

use super::{Conv3x3, Input};
use crate::exp::silu;

/// `line[i]` = channel `channel` of the input at row `y - 1` and column `first - 1 + i`, 0 outside the picture.
#[inline(always)]
pub(super) fn read_row(conv: &Conv3x3, input: &Input, channel: usize, y: usize, first: usize, line: &mut [f32]) {
    if y == 0 || y > conv.height {
        line.fill(0.0);
        return;
    }
    let (y, skipped) = (y - 1, usize::from(first == 0));
    let begin = first + skipped - 1;
    let count = (line.len() - skipped).min(conv.width - begin);
    line[..skipped].fill(0.0);
    line[skipped + count..].fill(0.0);
    let line = &mut line[skipped..skipped + count];
    let row = (channel * conv.height + y) * conv.width + begin;
    match input {
        Input::Plain(x) => line.copy_from_slice(&x[row..row + count]),
        Input::NormSilu(x, norm) => {
            let (mean, factor, bias) = (norm.mean[channel], norm.factor[channel], norm.bias[channel]);
            for (to, v) in line.iter_mut().zip(&x[row..row + count]) {
                *to = silu((v - mean) * factor + bias);
            }
        }
        Input::Doubled(x) => {
            let width = conv.width / 2;
            let x = &x[(channel * (conv.height / 2) + y / 2) * width..][..width];
            doubled(line, x, begin);
        }
    }
}

/// `line[i] = x[(begin + i) / 2]`.
#[inline(always)]
fn doubled(line: &mut [f32], x: &[f32], begin: usize) {
    let (alone, rest) = line.split_at_mut((begin % 2).min(line.len()));
    alone.fill(x[begin / 2]);
    let x = &x[begin.div_ceil(2)..];
    let (pairs, last) = rest.as_chunks_mut::<2>();
    for (pair, value) in pairs.iter_mut().zip(x) {
        *pair = [*value; 2];
    }
    if let [last] = last {
        *last = x[pairs.len()];
    }
}
