//! Reads rows of the input as the convolution sees them: made while they are read, zeros around them.

use super::quads::Quads;
use super::{Conv3x3, Input};
use crate::vector::{MOST_LANES, exp2};

/// `line[i]` = channel `channel` of the input at row `y - 1` and column `first - 1 + i`, 0 outside the picture.
///
/// # Safety
/// The caller has the CPU features of `V`.
#[inline(always)]
pub(super) unsafe fn read_row<V: Quads>(
    conv: &Conv3x3,
    input: &Input,
    channel: usize,
    y: usize,
    first: usize,
    line: &mut [f32],
) {
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
            let norm = [norm.mean[channel], norm.factor[channel], norm.bias[channel]];
            // SAFETY: as the caller promises.
            unsafe { norm_silu::<V>(line, &x[row..row + count], norm) };
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

/// `to = silu((x - mean) * factor + bias)`.
///
/// # Safety
/// The caller has the CPU features of `V`.
#[inline(always)]
unsafe fn norm_silu<V: Quads>(to: &mut [f32], x: &[f32], [mean, factor, bias]: [f32; 3]) {
    // SAFETY: as the caller promises; chunks have `LANES` values, and the row of the rest has them too.
    unsafe {
        let norm = [V::splat(mean), V::splat(factor), V::splat(bias)];
        let (mut chunks, rest) = (to.chunks_exact_mut(V::LANES), x.chunks_exact(V::LANES));
        let (last, count) = (rest.remainder(), rest.remainder().len());
        for (to, x) in (&mut chunks).zip(rest) {
            V::store(activated(V::load(x.as_ptr()), norm), to.as_mut_ptr());
        }
        let mut row = [0.0; MOST_LANES];
        row[..count].copy_from_slice(last);
        V::store(activated(V::load(row.as_ptr()), norm), row.as_mut_ptr());
        chunks.into_remainder().copy_from_slice(&row[..count]);
    }
}

/// `silu((v - mean) * factor + bias)`, where `silu(v) = v / (1 + e^-v)` within a few units in the last place.
///
/// # Safety
/// The caller has the CPU features of `V`.
#[inline(always)]
unsafe fn activated<V: Quads>(v: V, [mean, factor, bias]: [V; 3]) -> V {
    // SAFETY: as the caller promises.
    unsafe {
        let v = V::mul_add(V::sub(v, mean), factor, bias);
        // Beyond 100 binary digits the quotient is v or nothing, and the exponent stays in range.
        let exponent = V::mul(v, V::splat(-std::f32::consts::LOG2_E));
        let exponent = V::max(V::splat(-100.0), V::min(V::splat(100.0), exponent));
        V::mul(v, V::reciprocal(V::add(V::splat(1.0), exp2(exponent))))
    }
}
