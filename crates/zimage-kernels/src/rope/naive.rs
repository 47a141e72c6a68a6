//! Plain loops in f64.

pub(super) fn rope_interleaved(x: &mut [f32], heads: usize, head_dim: usize, cos: &[f32], sin: &[f32]) {
    rotate(x, heads, head_dim, cos, sin, |k| (2 * k, 2 * k + 1));
}

pub(super) fn rope_halves(x: &mut [f32], heads: usize, head_dim: usize, cos: &[f32], sin: &[f32]) {
    rotate(x, heads, head_dim, cos, sin, |k| (k, k + head_dim / 2));
}

fn rotate(
    x: &mut [f32],
    heads: usize,
    head_dim: usize,
    cos: &[f32],
    sin: &[f32],
    pair: impl Fn(usize) -> (usize, usize),
) {
    for (i, head) in x.chunks_mut(head_dim).enumerate() {
        let token = i / heads;
        for k in 0..head_dim / 2 {
            let angle = token * (head_dim / 2) + k;
            let (cos, sin) = (f64::from(cos[angle]), f64::from(sin[angle]));
            let (first, second) = pair(k);
            let (a, b) = (f64::from(head[first]), f64::from(head[second]));
            head[first] = (a * cos - b * sin) as f32;
            head[second] = (a * sin + b * cos) as f32;
        }
    }
}
