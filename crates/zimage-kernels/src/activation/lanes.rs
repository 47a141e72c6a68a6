//! The loops that are compiled once per level.

use crate::exp;

#[inline(always)]
pub(super) fn silu_mul(out: &mut [f32], gate: &[f32], up: &[f32]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = exp::silu(*gate) * up;
    }
}

#[inline(always)]
pub(super) fn silu(x: &mut [f32]) {
    for value in x {
        *value = exp::silu(*value);
    }
}
