//! The loops that are compiled once per level.

#[inline(always)]
pub(super) fn rope_interleaved(x: &mut [f32], heads: usize, head_dim: usize, cos: &[f32], sin: &[f32]) {
    let half = head_dim / 2;
    let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half));
    for (token, (cos, sin)) in x.chunks_exact_mut(heads * head_dim).zip(angles) {
        for head in token.chunks_exact_mut(head_dim) {
            for ((pair, cos), sin) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
                let [a, b] = *pair;
                *pair = [a * cos - b * sin, a * sin + b * cos];
            }
        }
    }
}

#[inline(always)]
pub(super) fn rope_halves(x: &mut [f32], heads: usize, head_dim: usize, cos: &[f32], sin: &[f32]) {
    let half = head_dim / 2;
    let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half));
    for (token, (cos, sin)) in x.chunks_exact_mut(heads * head_dim).zip(angles) {
        for head in token.chunks_exact_mut(head_dim) {
            let (first, second) = head.split_at_mut(half);
            for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
            }
        }
    }
}
