//! Plain loops with f64 sums.

pub(super) fn layer_norm_scaled(out: &mut [f32], x: &[f32], scale: &[f32], eps: f32) {
    let cols = scale.len().max(1);
    for (out, x) in out.chunks_mut(cols).zip(x.chunks(cols)) {
        let mean = x.iter().map(|v| f64::from(*v)).sum::<f64>() / cols as f64;
        let variance = x.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / cols as f64;
        let root = (variance + f64::from(eps)).sqrt();
        for ((out, v), scale) in out.iter_mut().zip(x).zip(scale) {
            *out = ((f64::from(*v) - mean) / root * f64::from(*scale)) as f32;
        }
    }
}
