//! Plain loops.

pub(super) fn add(out: &mut [f32], y: &[f32]) {
    for (out, y) in out.iter_mut().zip(y) {
        *out = (f64::from(*out) + f64::from(*y)) as f32;
    }
}

pub(super) fn subtract_from(out: &mut [f32], y: &[f32]) {
    for (out, y) in out.iter_mut().zip(y) {
        *out = (f64::from(*y) - f64::from(*out)) as f32;
    }
}

pub(super) fn first_non_finite(x: &[f32]) -> Option<usize> {
    x.iter().position(|value| !value.is_finite())
}
