//! Plain loops with f64 sums.

fn normalized(x: &[f32], weight: &[f32], eps: f32) -> Vec<f64> {
    let squares: f64 = x.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
    let root = (squares / x.len() as f64 + f64::from(eps)).sqrt();
    x.iter().zip(weight).map(|(v, w)| f64::from(*v) / root * f64::from(*w)).collect()
}

pub(super) fn rms_norm(out: &mut [f32], x: &[f32], weight: &[f32], eps: f32) {
    for (out, x) in out.chunks_mut(weight.len().max(1)).zip(x.chunks(weight.len().max(1))) {
        for (out, v) in out.iter_mut().zip(normalized(x, weight, eps)) {
            *out = v as f32;
        }
    }
}

pub(super) fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) {
    for x in x.chunks_mut(weight.len().max(1)) {
        let normalized = normalized(x, weight, eps);
        x.iter_mut().zip(normalized).for_each(|(x, v)| *x = v as f32);
    }
}

pub(super) fn rms_norm_scaled(out: &mut [f32], x: &[f32], weight: &[f32], scale: &[f32], eps: f32) {
    for (out, x) in out.chunks_mut(weight.len().max(1)).zip(x.chunks(weight.len().max(1))) {
        for ((out, v), scale) in out.iter_mut().zip(normalized(x, weight, eps)).zip(scale) {
            *out = (v * f64::from(*scale)) as f32;
        }
    }
}

pub(super) fn add_rms_norm_gated(x: &mut [f32], y: &[f32], weight: &[f32], gate: &[f32], eps: f32) {
    for (x, y) in x.chunks_mut(weight.len().max(1)).zip(y.chunks(weight.len().max(1))) {
        for ((x, v), gate) in x.iter_mut().zip(normalized(y, weight, eps)).zip(gate) {
            *x = (f64::from(*x) + f64::from(*gate) * v) as f32;
        }
    }
}

pub(super) fn add_rms_norm(x: &mut [f32], y: &[f32], weight: &[f32], eps: f32) {
    for (x, y) in x.chunks_mut(weight.len().max(1)).zip(y.chunks(weight.len().max(1))) {
        for (x, v) in x.iter_mut().zip(normalized(y, weight, eps)) {
            *x = (f64::from(*x) + v) as f32;
        }
    }
}
