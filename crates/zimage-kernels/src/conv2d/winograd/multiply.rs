//! The matrix products of a block: `M[p] = U[p] V[p]`.

use super::band::{Block, Panel};
use super::{Conv3x3, PRODUCTS};
use crate::vector::Vector;

/// Multiplies all places of a block.
///
/// Of each place the input stays in the second-level cache, while the weight passes once.
///
/// # Safety
/// The caller has the CPU features of `V`; the buffers of the block have the sizes that it states, `packed` has all
/// channels, blocks of `ROWS`.
#[inline(always)]
pub(super) unsafe fn multiply<V: Vector, const ROWS: usize, const VECTORS: usize>(
    conv: &Conv3x3,
    block: &Block,
    packed: &[f32],
) {
    let row_blocks = conv.cout.div_ceil(ROWS);
    for p in 0..PRODUCTS {
        for rows in 0..row_blocks {
            let a = packed[(p * row_blocks + rows) * conv.cin * ROWS..][..conv.cin * ROWS].as_ptr();
            for Panel { start, vectors } in block.panels(VECTORS) {
                // SAFETY: the panel's columns of the inputs and its rows of the products lie within the buffers.
                unsafe {
                    let b = block.inputs.add(p * block.input_stride + start * conv.cin * V::LANES);
                    let c = (rows * block.vectors() + start) * ROWS * V::LANES;
                    let c = block.products.add(p * block.product_stride + c);
                    match vectors {
                        1 => product::<V, ROWS, 1>(conv.cin, a, b, c),
                        2 => product::<V, ROWS, 2>(conv.cin, a, b, c),
                        _ => product::<V, ROWS, 3>(conv.cin, a, b, c),
                    }
                }
            }
        }
    }
}

/// `c = a b`: `c` is `(ROWS, N)` vectors, `a` `(count, ROWS)` values, `b` `(count, N)` vectors.
///
/// # Safety
/// The caller has the CPU features of `V`, and all pointers are good for what is said above.
#[inline(always)]
unsafe fn product<V: Vector, const ROWS: usize, const N: usize>(
    count: usize,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut sums = [[V::splat(0.0); N]; ROWS];
        for i in 0..count {
            let mut right = [V::splat(0.0); N];
            for (n, vector) in right.iter_mut().enumerate() {
                *vector = V::load(b.add((i * N + n) * V::LANES));
            }
            for (r, row) in sums.iter_mut().enumerate() {
                let left = V::splat(*a.add(i * ROWS + r));
                for (n, sum) in row.iter_mut().enumerate() {
                    *sum = V::mul_add(left, right[n], *sum);
                }
            }
        }
        for (r, row) in sums.iter().enumerate() {
            for (n, sum) in row.iter().enumerate() {
                V::store(*sum, c.add((r * N + n) * V::LANES));
            }
        }
    }
}
