//! Pictures in and out: 8-bit RGB, masks, and their way to and from the model's tensors.
//!
//! Every conversion follows what diffusers does through Pillow and numpy, down to the rounding, so that an
//! image-to-image run starts from the same numbers.

mod encode;
mod open;
mod resize;

use std::path::PathBuf;

use thiserror::Error;

pub use encode::{ImageFormat, JPEG_QUALITY};
pub(crate) use open::read_file;
pub use open::{InitImage, MAX_FILE_BYTES, MAX_MEGAPIXELS, Mask};

/// Why a picture could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The file is larger than any picture of the permitted size.
    #[error("{label} is {bytes} bytes long, more than the {MAX_FILE_BYTES} an image may have")]
    FileTooLarge {
        /// The file.
        label: String,
        /// Its length.
        bytes: u64,
    },
    /// The bytes are no picture this program reads.
    #[error("{label} is not a PNG, JPEG or WebP image\nhint: convert it to PNG first")]
    UnknownFormat {
        /// The file.
        label: String,
    },
    /// The picture has too many pixels.
    #[error(
        "{label} is {width}x{height} pixels, more than the {} megapixels an image may have\nhint: scale it down first",
        max_pixels / 1_000_000
    )]
    TooLarge {
        /// The file.
        label: String,
        /// Width that its header states, in pixels.
        width: u32,
        /// Height that its header states, in pixels.
        height: u32,
        /// How many pixels it may have.
        max_pixels: u64,
    },
    /// The picture is damaged, truncated, or of an unsupported kind.
    #[error("{label} cannot be decoded: {reason}")]
    Decode {
        /// The file.
        label: String,
        /// The decoder's reason.
        reason: String,
    },
    /// The file name says nothing about the format to write.
    #[error("{} does not end in .png, .jpg, .jpeg or .webp\nhint: the file name selects the image format", path.display())]
    Extension {
        /// The file name asked for.
        path: PathBuf,
    },
    /// The picture could not be encoded.
    #[error("the picture cannot be encoded as {format}: {reason}")]
    Encode {
        /// The format asked for.
        format: ImageFormat,
        /// The encoder's reason.
        reason: String,
    },
    /// The metadata is longer than the format allows.
    #[error(
        "the metadata takes {bytes} bytes, and {format} holds at most {limit}\nhint: write a .png, or shorten the prompt"
    )]
    MetadataTooLong {
        /// The format asked for.
        format: ImageFormat,
        /// Length of the metadata.
        bytes: usize,
        /// The format's limit.
        limit: usize,
    },
    /// The picture carries metadata that is not ours to understand.
    #[error("the metadata in {label} is not readable: {reason}")]
    Metadata {
        /// The file.
        label: String,
        /// What is wrong.
        reason: String,
    },
}

/// An 8-bit RGB picture, row-major, three bytes a pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl RgbImage {
    /// Wraps pixels in row-major order, three bytes each.
    ///
    /// # Panics
    /// When `pixels` is not `width * height * 3` long: the caller made it for this size.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Self {
        assert_eq!(pixels.len(), width * height * 3, "pixels do not fill the picture: this is a bug");
        Self { width, height, pixels }
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The pixels in row-major order, three bytes each.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// What the VAE encoder takes: `(3, height, width)`, f32 in -1..=1, each value `2 * (byte / 255) - 1`.
    ///
    /// Source: diffusers `VaeImageProcessor.pil_to_numpy` and `normalize`.
    pub fn to_chw(&self) -> Vec<f32> {
        let channel = |index: usize| self.pixels.iter().skip(index).step_by(3);
        (0..3).flat_map(channel).map(|&byte| 2.0 * (f32::from(byte) / 255.0) - 1.0).collect()
    }

    /// Resamples with Pillow's Lanczos filter, bit for bit; the aspect ratio is not kept.
    pub fn resize(&self, width: usize, height: usize) -> Self {
        resize::lanczos(self, width, height)
    }

    /// Pillow's grey value of each pixel: `(19595 R + 38470 G + 7471 B + 32768) / 65536`.
    fn luma(&self) -> impl Iterator<Item = u8> {
        self.pixels.chunks_exact(3).map(|pixel| {
            let [r, g, b] = [0, 1, 2].map(|channel| u32::from(pixel[channel]));
            ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
        })
    }
}

/// Turns the VAE decoder's output into a picture.
///
/// `output` is `(3, height, width)`, f32, nominally in -1..=1. A value `x` becomes
/// `round(clamp(x / 2 + 1 / 2, 0, 1) * 255)` with halves to even, as numpy rounds.
///
/// # Panics
/// When `output` is not `3 * height * width` long.
///
/// Source: diffusers `VaeImageProcessor.denormalize` and `numpy_to_pil`.
pub fn from_model_output(output: &[f32], width: usize, height: usize) -> RgbImage {
    let area = width * height;
    assert_eq!(output.len(), 3 * area, "decoded values do not fill the picture: this is a bug");
    let byte = |x: f32| ((x * 0.5 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
    let pixels = (0..area).flat_map(|pixel| [0, 1, 2].map(|channel| byte(output[channel * area + pixel])));
    RgbImage::new(width, height, pixels.collect())
}

#[cfg(test)]
mod tests;
