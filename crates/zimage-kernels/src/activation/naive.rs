//! Plain loops in f64.

fn silu_of(x: f32) -> f64 {
    let x = f64::from(x);
    x / (1.0 + (-x).exp())
}

pub(super) fn silu_mul(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = (silu_of(*gate) * f64::from(*up)) as f32;
    }
}

pub(super) fn silu(x: &mut [f32]) {
    for value in x {
        *value = silu_of(*value) as f32;
    }
}
