//! Pillow's Lanczos resampling of 8-bit pictures, bit for bit.
//!
//! Two passes, one per side, each rounding to bytes. The weights are computed in double precision and then fixed to 22
//! fractional bits; a pass that does not change its side is left out. Because the weights are integers the result does
//! not depend on the order of the sums, but the rounding between the passes makes it depend on the order of the
//! passes: horizontal first, unless the width grows while the height shrinks.
//!
//! Source: Pillow 13 `src/libImaging/Resample.c`; earlier versions always go horizontally first.

use super::RgbImage;

/// Fractional bits of a weight: 32, less 8 for the byte, less 2 for the sign and the negative lobes.
const PRECISION_BITS: u32 = 32 - 8 - 2;
/// The filter reaches three source pixels to each side.
const SUPPORT: f64 = 3.0;
const CHANNELS: usize = 3;

/// Resamples `image` to `width` x `height`.
pub(super) fn lanczos(image: &RgbImage, width: usize, height: usize) -> RgbImage {
    if width > image.width() && height < image.height() {
        horizontal(&vertical(image, height), width)
    } else {
        vertical(&horizontal(image, width), height)
    }
}

/// The source pixels that make one output pixel.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

/// One window per output pixel of a side that goes from `input` to `output` pixels.
fn windows(input: usize, output: usize) -> Vec<Window> {
    let scale = input as f64 / output as f64;
    let stretch = scale.max(1.0); // Shrinking widens the filter, so that every source pixel counts.
    let support = SUPPORT * stretch;
    let window = |index: usize| {
        let center = (index as f64 + 0.5) * scale;
        // Truncation towards zero is the original's, and so is clamping after it.
        let first = ((center - support + 0.5) as i64).max(0) as usize;
        let end = ((center + support + 0.5) as i64).min(input as i64) as usize;
        let raw: Vec<f64> =
            (first..end).map(|source| filter((source as f64 - center + 0.5) * (1.0 / stretch))).collect();
        let total: f64 = raw.iter().sum();
        let weights = raw.iter().map(|&weight| fixed(if total == 0.0 { weight } else { weight / total })).collect();
        Window { first, weights }
    };
    (0..output).map(window).collect()
}

fn filter(x: f64) -> f64 {
    if (-SUPPORT..SUPPORT).contains(&x) { sinc(x) * sinc(x / SUPPORT) } else { 0.0 }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

fn fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION_BITS);
    (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

fn byte(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Half a unit in the last place: a sum starts here so that the final shift rounds.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

fn horizontal(image: &RgbImage, width: usize) -> RgbImage {
    if width == image.width() {
        return image.clone();
    }
    let windows = windows(image.width(), width);
    let row_of = |row: &[u8]| -> Vec<u8> {
        let pixel = |window: &Window| {
            let mut sums = [HALF; CHANNELS];
            let source = row[window.first * CHANNELS..].chunks_exact(CHANNELS);
            for (&weight, source) in window.weights.iter().zip(source) {
                for (sum, &value) in sums.iter_mut().zip(source) {
                    *sum += i32::from(value) * weight;
                }
            }
            sums.map(byte)
        };
        windows.iter().flat_map(pixel).collect()
    };
    let pixels = image.pixels().chunks_exact(image.width() * CHANNELS).flat_map(row_of).collect();
    RgbImage::new(width, image.height(), pixels)
}

fn vertical(image: &RgbImage, height: usize) -> RgbImage {
    if height == image.height() {
        return image.clone();
    }
    let stride = image.width() * CHANNELS;
    let mut sums = vec![0i32; stride];
    let mut pixels = Vec::with_capacity(height * stride);
    for window in windows(image.height(), height) {
        sums.fill(HALF);
        let rows = image.pixels()[window.first * stride..].chunks_exact(stride);
        for (&weight, row) in window.weights.iter().zip(rows) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        pixels.extend(sums.iter().map(|&sum| byte(sum)));
    }
    RgbImage::new(image.width(), height, pixels)
}
