use zimage::pipeline::image::{ImageFormat, InitImage, RgbImage};

use super::preview;

#[test]
fn previews_fit_into_what_clients_take() {
    // Noise is what JPEG is worst at.
    let mut state = 1_u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let noise = RgbImage::new(300, 200, (0..300 * 200 * 3).map(|_| byte()).collect());
    let file = noise.encode(ImageFormat::Png, None).expect("it is encoded");
    for budget in [100_000, 20_000, 4_000] {
        let jpeg = preview(&file, budget).expect("a preview");
        assert!(jpeg.len() <= budget, "{} bytes", jpeg.len());
        let shown = InitImage::from_bytes("the preview", &jpeg).expect("a picture");
        let (width, height) = (shown.image().width(), shown.image().height());
        assert!((width * 2).abs_diff(height * 3) <= 3, "{width}x{height} is no longer three to two");
    }
}
