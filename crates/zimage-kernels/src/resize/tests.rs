use super::*;

#[test]
fn every_pixel_becomes_four() {
    for (height, width) in [(1, 1), (1, 3), (2, 3), (5, 17), (0, 4)] {
        let x: Vec<f32> = (0..height * width).map(|i| i as f32).collect();
        let mut out = vec![f32::NAN; 4 * x.len()];
        upsample_nearest_2x(&mut out, &x, height, width);
        for row in 0..2 * height {
            for col in 0..2 * width {
                assert_eq!(out[row * 2 * width + col], x[row / 2 * width + col / 2]);
            }
        }
    }
}
