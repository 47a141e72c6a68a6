//! The rotation of ConvRot.
//!
//! Source: `_build_hadamard` and `_rotate_weight` of comfy-kitchen.

use super::ROTATED;

/// Multiplies a block by the regular Hadamard matrix `H4 x H4 x H4 x H4 / 16`, which is its own inverse.
///
/// `H4` has the rows (1,1,1,-1), (1,1,-1,1), (1,-1,1,1), (-1,1,1,1): every output is half the sum of four less one of
/// them, `H4 x / 2 = sum(x) / 2 - reversed(x)`, and a product over one axis of the 4 x 4 x 4 x 4 block follows the other.
#[inline(always)]
pub(super) fn rotate(block: &mut [f32; ROTATED]) {
    for quad in block.as_chunks_mut::<4>().0 {
        *quad = product(*quad);
    }
    axis::<4>(block);
    axis::<16>(block);
    axis::<64>(block);
}

/// The axis whose neighbours are `STRIDE` apart.
#[inline(always)]
fn axis<const STRIDE: usize>(block: &mut [f32; ROTATED]) {
    for part in block.chunks_exact_mut(4 * STRIDE) {
        for at in 0..STRIDE {
            let x = product([0, 1, 2, 3].map(|step| part[at + step * STRIDE]));
            x.into_iter().enumerate().for_each(|(step, value)| part[at + step * STRIDE] = value);
        }
    }
}

#[inline(always)]
fn product([a, b, c, d]: [f32; 4]) -> [f32; 4] {
    let half = 0.5 * ((a + b) + (c + d));
    [half - d, half - c, half - b, half - a]
}
