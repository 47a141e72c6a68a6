use super::Preview;
use crate::pipeline::image::RgbImage;
use crate::pipeline::rng::TorchGenerator;
use crate::pipeline::{Latents, Pipeline};
use crate::{GenerateRequest, Result};
use zimage_tensor::Device;

/// Mean absolute difference of two pictures of one size, in levels.
fn difference(a: &RgbImage, b: &RgbImage) -> f64 {
    let sum: u64 = a.pixels().iter().zip(b.pixels()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.pixels().len() as f64
}

#[test]
fn a_linear_decoder_is_found_to_the_bit() {
    let (channels, side) = (4, 8);
    let data = TorchGenerator::new(1).randn(channels * side * side);
    let latents = Latents { data, channels, height: side, width: side };
    let colour = |pixel: usize, weights: [f32; 4]| {
        let value: f32 = (0..4).map(|c| weights[c] * latents.data[c * 64 + pixel]).sum();
        (255.0 * (0.5 + 0.05 * value)).clamp(0.0, 255.0).round() as u8
    };
    let pixels = (0..64).flat_map(|pixel| {
        [[1.0, 0.0, 0.5, 0.0], [0.0, -1.0, 0.0, 0.2], [0.3, 0.3, 0.3, 0.3]].map(|weights| colour(pixel, weights))
    });
    let image = RgbImage::new(side, side, pixels.collect());
    let mut preview = Preview::new(channels);
    preview.learn(&latents, &image);
    assert!(difference(&preview.render(&latents), &image) < 1.0);
}

#[test]
fn previews_of_the_demo_model_look_like_its_pictures_and_come_nearer_with_each() -> Result<()> {
    let pipeline = Pipeline::demo(Device::cpu(2)?)?;
    let mut preview = pipeline.preview()?;
    let mut differences = Vec::new();
    for (seed, prompt) in ["a red balloon over the sea", "a yellow house on a green hill"].iter().enumerate() {
        let request = GenerateRequest::text_to_image(prompt, 128, 128, 4, seed as u64)?;
        let picture = pipeline.generate(&request)?;
        let small = picture.image.resize(16, 16);
        let grey = RgbImage::new(16, 16, vec![128; 16 * 16 * 3]);
        let shown = difference(&preview.render(&picture.latents), &small);
        assert!(shown < difference(&grey, &small) / 2.0, "{prompt}: {shown} levels from its picture");
        preview.learn(&picture.latents, &picture.image);
        differences.push((shown, difference(&preview.render(&picture.latents), &small)));
    }
    assert!(differences.iter().all(|(before, after)| after < before), "{differences:?}");
    Ok(())
}
