//! Doubling of an image plane.

#[cfg(test)]
mod tests;

/// Every pixel becomes 2 x 2 pixels. `x` is one channel, `(height, width)`; `out` is
/// `(2 * height, 2 * width)`.
///
/// # Panics
/// When the lengths do not fit each other.
///
/// Source: `torch.nn.functional.interpolate(scale_factor=2, mode="nearest")`.
pub fn upsample_nearest_2x(out: &mut [f32], x: &[f32], height: usize, width: usize) {
    assert_eq!(x.len(), height * width, "values of the plane");
    assert_eq!(out.len(), 4 * x.len(), "values of the doubled plane");
    if x.is_empty() {
        return;
    }
    for (out, x) in out.chunks_exact_mut(4 * width).zip(x.chunks_exact(width)) {
        let (first, second) = out.split_at_mut(2 * width);
        for (pair, value) in first.as_chunks_mut::<2>().0.iter_mut().zip(x) {
            *pair = [*value; 2];
        }
        second.copy_from_slice(first);
    }
}
