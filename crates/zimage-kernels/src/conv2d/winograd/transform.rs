//! The transforms of F(4, 3) in one direction, at the points 0, ±3/4, ±3/2 and infinity.
//!
//! The points decide how large the numbers in between grow. Beside the usual 0, ±1, ±2 these halve the error
//! (at 512 channels its root mean square is 3.0e-7 of the largest output, not 6.3e-7, and the most 2.2e-6, not 8.9e-6;
//! a direct sum has 0.7e-7 and 3.3e-7), and their powers are exact.

use super::{PLACES, TILE};
use crate::vector::Vector;

const A: f64 = 0.75;
const B: f64 = 1.5;
const A2: f64 = A * A;
const B2: f64 = B * B;

/// `G`: the kernel's three values at each point, divided by the differences to the others.
pub(super) const KERNEL: [[f64; 3]; PLACES] = {
    let (a, b) = (2.0 * A2 * (A2 - B2), 2.0 * B2 * (B2 - A2));
    [
        [1.0 / (A2 * B2), 0.0, 0.0],
        [1.0 / a, A / a, A2 / a],
        [1.0 / a, -A / a, A2 / a],
        [1.0 / b, B / b, B2 / b],
        [1.0 / b, -B / b, B2 / b],
        [0.0, 0.0, 1.0],
    ]
};

/// A constant in all lanes.
///
/// A function like those below, not a closure: a closure has no CPU features of its own, and the compiler may call
/// each instruction in it as a function then.
///
/// # Safety
/// The caller has the CPU features of `V`.
#[inline(always)]
unsafe fn at<V: Vector>(value: f64) -> V {
    // SAFETY: as the caller promises.
    unsafe { V::splat(value as f32) }
}

/// Six vectors that lie `stride` values apart.
///
/// # Safety
/// The caller has the CPU features of `V`, and the pointer is good for them.
#[inline(always)]
pub(super) unsafe fn loaded<V: Vector>(from: *const f32, stride: usize) -> [V; PLACES] {
    // SAFETY: as the caller promises.
    unsafe {
        let mut vectors = [V::splat(0.0); PLACES];
        for (i, vector) in vectors.iter_mut().enumerate() {
            *vector = V::load(from.add(i * stride));
        }
        vectors
    }
}

/// `Bᵀ d`.
///
/// # Safety
/// The caller has the CPU features of `V`.
#[inline(always)]
pub(super) unsafe fn inputs<V: Vector>(d: [V; PLACES]) -> [V; PLACES] {
    // SAFETY: as the caller promises.
    unsafe {
        let (product, sum) = (at(A2 * B2), at(-(A2 + B2)));
        let even_a = V::mul_add(at(-B2), d[2], d[4]);
        let odd_a = V::mul_add(at(-B2), d[1], d[3]);
        let even_b = V::mul_add(at(-A2), d[2], d[4]);
        let odd_b = V::mul_add(at(-A2), d[1], d[3]);
        [
            V::mul_add(product, d[0], V::mul_add(sum, d[2], d[4])),
            V::mul_add(at(A), odd_a, even_a),
            V::mul_add(at(-A), odd_a, even_a),
            V::mul_add(at(B), odd_b, even_b),
            V::mul_add(at(-B), odd_b, even_b),
            V::mul_add(product, d[1], V::mul_add(sum, d[3], d[5])),
        ]
    }
}

/// `Aᵀ m`.
///
/// # Safety
/// The caller has the CPU features of `V`.
#[inline(always)]
pub(super) unsafe fn outputs<V: Vector>(m: [V; PLACES]) -> [V; TILE] {
    // SAFETY: as the caller promises.
    unsafe {
        let (sum_a, difference_a) = (V::add(m[1], m[2]), V::sub(m[1], m[2]));
        let (sum_b, difference_b) = (V::add(m[3], m[4]), V::sub(m[3], m[4]));
        [
            V::add(m[0], V::add(sum_a, sum_b)),
            V::mul_add(at(A), difference_a, V::mul(at(B), difference_b)),
            V::mul_add(at(A2), sum_a, V::mul(at(B2), sum_b)),
            V::mul_add(at(A * A2), difference_a, V::mul_add(at(B * B2), difference_b, m[5])),
        ]
    }
}
