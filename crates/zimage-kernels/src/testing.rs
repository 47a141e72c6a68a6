//! Random inputs and comparisons for the tests of all kernels.

/// `n` values, roughly normal, from a fixed seed.
pub(crate) fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..n).map(|_| (next() + next() + next() + next()) * 1.73).collect()
}

/// Panics when two values differ by more than `tolerance` times the largest expected magnitude
/// of the slice (at least 1e-30), or when only one of them is NaN or infinite.
#[track_caller]
pub(crate) fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}: lengths");
    let largest = expected.iter().filter(|v| v.is_finite()).fold(1e-30f32, |m, v| m.max(v.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let same = f == e || f.is_nan() && e.is_nan();
        let close = f.is_finite() && e.is_finite() && (f - e).abs() <= tolerance * largest;
        assert!(
            same || close,
            "{what}: value {i} is {f}, expected {e} (error {:e} of the largest {largest}, allowed {tolerance:e})",
            (f - e).abs() / largest
        );
    }
}
