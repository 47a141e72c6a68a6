//! Plain loops with f64 sums.

pub(super) fn group_norm(out: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32], eps: f32) {
    apply(out, x, weight, bias, eps, |v| v);
}

pub(super) fn group_norm_silu(out: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32], eps: f32) {
    apply(out, x, weight, bias, eps, |v| v / (1.0 + (-v).exp()));
}

fn apply(out: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32], eps: f32, then: impl Fn(f64) -> f64) {
    let n = x.len() as f64;
    let mean = x.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let variance = x.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
    let root = (variance + f64::from(eps)).sqrt();
    let pixels = x.len() / weight.len().max(1);
    for (i, (out, v)) in out.iter_mut().zip(x).enumerate() {
        let channel = i / pixels;
        let normalized = (f64::from(*v) - mean) / root;
        *out = then(normalized * f64::from(weight[channel]) + f64::from(bias[channel])) as f32;
    }
}
