//! Plain loops in f64.

use super::Moments;

pub(super) fn moments(x: &[f32]) -> Moments {
    let count = x.len() as f64;
    let mean = x.iter().map(|v| f64::from(*v)).sum::<f64>() / count.max(1.0);
    Moments { count, mean, squares: x.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum() }
}

pub(super) fn normalize(out: &mut [f32], x: &[f32], mean: f32, factor: f32, bias: f32) {
    for (out, v) in out.iter_mut().zip(x) {
        *out = ((f64::from(*v) - f64::from(mean)) * f64::from(factor) + f64::from(bias)) as f32;
    }
}
