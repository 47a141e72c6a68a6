//! Loops that the compiler vectorizes for whatever the target has.

use super::PANEL;
use super::micro::Block;

/// The product of a block of `ROWS` rows.
///
/// # Safety
/// `out` is good for `ROWS` rows of 64 values, `stride` apart.
pub(super) unsafe fn block<const ROWS: usize>(block: &Block, out: *mut f32, stride: usize) {
    for r in 0..ROWS {
        // SAFETY: as the caller promises.
        let out = unsafe { &mut *out.add(r * stride).cast::<[f32; PANEL]>() };
        let mut sums: [i32; PANEL] = std::array::from_fn(|n| block.weights.sum(n));
        let quads = block.weights.quads.as_chunks::<4>().0;
        for (a, lines) in block.a[r * block.stride..].as_chunks::<4>().0.iter().zip(quads) {
            for (sums, line) in sums.as_chunks_mut::<16>().0.iter_mut().zip(lines) {
                for (sum, w) in sums.iter_mut().zip(line.0.as_chunks::<4>().0) {
                    let products = [0, 1, 2, 3].map(|k| i32::from(a[k]) * i32::from(w[k] as i8));
                    *sum += products.iter().sum::<i32>();
                }
            }
        }
        for (n, (out, sum)) in out.iter_mut().zip(sums).enumerate() {
            let scaled = sum as f32 * (block.a_scales[r] * block.weights.scale(n));
            *out = if block.add { *out + scaled } else { scaled };
        }
    }
}
