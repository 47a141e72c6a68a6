//! The loops that are compiled once per level.

use crate::exp;

#[inline(always)]
pub(super) fn silu_mul(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = exp::silu(*gate) * up;
    }
}

#[inline(always)]
pub(super) fn silu(x: &mut [f32]) {
    for value in x {
        *value = exp::silu(*value);
    }
}
