//! Classifier-free guidance, in diffusers' meaning.
//!
//! Source: diffusers `ZImagePipeline.__call__`.

/// `positive + guidance (positive - negative)`. With `normalization` above 0 the result is scaled down where its norm
/// is over `normalization` times that of `positive`.
pub fn guide(positive: &[f32], negative: &[f32], guidance: f32, normalization: f32) -> Vec<f32> {
    let mut guided: Vec<f32> = positive.iter().zip(negative).map(|(p, n)| p + guidance * (p - n)).collect();
    if normalization > 0.0 {
        let (limit, found) = (norm(positive) * normalization, norm(&guided));
        if found > limit {
            guided.iter_mut().for_each(|v| *v *= limit / found);
        }
    }
    guided
}

fn norm(x: &[f32]) -> f32 {
    x.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::guide;

    #[test]
    fn guidance_is_added_to_the_positive_prediction() {
        assert_eq!(guide(&[1.0, 2.0], &[0.0, 4.0], 2.0, 0.0), [3.0, -2.0]);
    }

    #[test]
    fn normalization_caps_the_norm_and_never_raises_it() {
        assert_eq!(guide(&[3.0, 4.0], &[0.0, 0.0], 1.0, 1.0), [3.0, 4.0]);
        assert_eq!(guide(&[3.0, 4.0], &[3.0, 4.0], 1.0, 2.0), [3.0, 4.0]);
    }
}
