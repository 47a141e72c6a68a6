//! A band's patches are laid out as a matrix, some input channels at a time, and multiplied with
//! the weights; the copy is a few megabytes whatever the size of the image.

use super::Conv2d;
use crate::Level;
use crate::gemm::gemm_nn;
use crate::tile::{MatrixRef, TileMut};

/// Values of the patch matrix at a time (4 MB).
const PATCH_VALUES: usize = 1 << 20;

pub(super) fn conv2d_band(
    level: Level,
    conv: &Conv2d,
    out: &mut TileMut,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    scratch: &mut Vec<f32>,
) {
    let (channel0, channels, columns) = (out.row0(), out.rows(), out.cols());
    for r in 0..channels {
        out.row_mut(r).fill(bias[channel0 + r]);
    }
    let taps = conv.kh * conv.kw;
    let weight = MatrixRef::contiguous(weight, conv.cout, conv.cin * taps).row_range(channel0, channels);
    if is_pointwise(conv) {
        let x = MatrixRef::contiguous(x, conv.cin, conv.height * conv.width).col_range(out.col0(), columns);
        return gemm_nn(level, out, weight, x, true);
    }
    let at_once = (PATCH_VALUES / (taps * columns).max(1)).clamp(1, conv.cin.max(1));
    let needed = at_once * taps * columns;
    if scratch.len() < needed {
        scratch.resize(needed, 0.0);
    }
    for first in (0..conv.cin).step_by(at_once) {
        let count = at_once.min(conv.cin - first);
        let patches = &mut scratch[..count * taps * columns];
        lay_out(conv, patches, x, first, out.col0() / conv.out_width(), columns);
        let patches = MatrixRef::contiguous(patches, count * taps, columns);
        gemm_nn(level, out, weight.col_range(first * taps, count * taps), patches, true);
    }
}

/// A convolution that is a matrix product as it stands.
fn is_pointwise(conv: &Conv2d) -> bool {
    let pads = [conv.pad_left, conv.pad_right, conv.pad_top, conv.pad_bottom];
    conv.kh == 1 && conv.kw == 1 && conv.stride == 1 && pads == [0; 4]
}

/// Fills `patches`, `(channels * kh * kw, columns)`, from input channel `first` and output row
/// `row0` on.
fn lay_out(conv: &Conv2d, patches: &mut [f32], x: &[f32], first: usize, row0: usize, columns: usize) {
    let (taps, out_width, plane) = (conv.kh * conv.kw, conv.out_width(), conv.height * conv.width);
    for (i, line) in patches.chunks_exact_mut(columns).enumerate() {
        let (channel, tap) = (first + i / taps, i % taps);
        let (ky, kx) = (tap / conv.kw, tap % conv.kw);
        let x = &x[channel * plane..][..plane];
        for (row, line) in line.chunks_exact_mut(out_width).enumerate() {
            let y = (row0 + row) * conv.stride + ky;
            match y.checked_sub(conv.pad_top).filter(|y| *y < conv.height) {
                Some(y) => shifted_row(conv, line, &x[y * conv.width..][..conv.width], kx),
                None => line.fill(0.0),
            }
        }
    }
}

/// `line[i] = x[i * stride + kx - pad_left]`, 0 outside the row.
fn shifted_row(conv: &Conv2d, line: &mut [f32], x: &[f32], kx: usize) {
    // The first and the last + 1 output column whose input column lies inside the row.
    let start = conv.pad_left.saturating_sub(kx).div_ceil(conv.stride).min(line.len());
    let end = (x.len() + conv.pad_left).saturating_sub(kx).div_ceil(conv.stride).clamp(start, line.len());
    line[..start].fill(0.0);
    line[end..].fill(0.0);
    if start == end {
        return;
    }
    let source = &x[start * conv.stride + kx - conv.pad_left..];
    let line = &mut line[start..end];
    if conv.stride == 1 {
        line.copy_from_slice(&source[..line.len()]);
    } else {
        for (value, source) in line.iter_mut().zip(source.iter().step_by(conv.stride)) {
            *value = *source;
        }
    }
}
