//! Reading pictures that a user supplies: bounded, by what the file says first, and as Pillow would show them.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use ::image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::{ImageError, RgbImage};
use zimage_weights::digest::sha256_bytes;

/// A picture with more pixels than this (in millions) is refused before any of it is decoded.
pub const MAX_MEGAPIXELS: u64 = 100;
/// A file longer than this is refused before it is read: 100 megapixels of 16-bit RGBA take less.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// 16-bit RGBA.
const MOST_BYTES_PER_PIXEL: u64 = 8;
/// What a decoder may take beside the pixels.
const SLACK_BYTES: u64 = 16 << 20;

/// A picture to start from, with the digest that the metadata records for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitImage {
    image: RgbImage,
    sha256: String,
}

impl InitImage {
    /// Reads a PNG, JPEG or WebP file.
    ///
    /// The EXIF orientation is applied and transparency is dropped, as diffusers' `load_image` does.
    ///
    /// # Errors
    /// Files that are missing, too long, of another format, damaged, or larger than [`MAX_MEGAPIXELS`].
    pub fn open(path: &Path) -> Result<Self, ImageError> {
        Self::from_bytes(&path.display().to_string(), &read_file(path)?)
    }

    /// The same for bytes in memory; `label` names them in errors.
    ///
    /// # Errors
    /// As [`InitImage::open`].
    pub fn from_bytes(label: &str, bytes: &[u8]) -> Result<Self, ImageError> {
        Self::from_bytes_within(label, bytes, MAX_MEGAPIXELS * 1_000_000)
    }

    /// The same, refusing pictures of more than `max_pixels` before any of it is decoded.
    ///
    /// # Errors
    /// As [`InitImage::open`].
    pub fn from_bytes_within(label: &str, bytes: &[u8], max_pixels: u64) -> Result<Self, ImageError> {
        Ok(Self { image: decode(label, bytes, max_pixels)?, sha256: sha256_bytes(bytes) })
    }

    /// The picture as it is in the file, upright.
    pub fn image(&self) -> &RgbImage {
        &self.image
    }

    /// SHA-256 of the file's bytes, in lower case hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// What the VAE encoder takes: the picture resized to `width` x `height`, as `(3, height, width)`, f32 in -1..=1.
    ///
    /// Source: diffusers `VaeImageProcessor.preprocess`.
    pub fn to_model_input(&self, width: usize, height: usize) -> Vec<f32> {
        self.image.resize(width, height).to_chw()
    }
}

/// A picture that says where to inpaint: white is painted anew, black is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    source: InitImage,
}

impl Mask {
    /// Reads a PNG, JPEG or WebP file.
    ///
    /// # Errors
    /// As [`InitImage::open`].
    pub fn open(path: &Path) -> Result<Self, ImageError> {
        Ok(Self { source: InitImage::open(path)? })
    }

    /// The same for bytes in memory; `label` names them in errors.
    ///
    /// # Errors
    /// As [`InitImage::open`].
    pub fn from_bytes(label: &str, bytes: &[u8]) -> Result<Self, ImageError> {
        Ok(Self { source: InitImage::from_bytes(label, bytes)? })
    }

    /// SHA-256 of the file's bytes, in lower case hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.source.sha256
    }

    /// The mask at the size of the output, `(height, width)`: 1 where the resized picture's grey value is at least
    /// one half, else 0.
    ///
    /// Source: diffusers `ZImageInpaintPipeline.mask_processor`.
    pub fn to_pixels(&self, width: usize, height: usize) -> Vec<f32> {
        self.source.image.resize(width, height).luma().map(|grey| if grey >= 128 { 1.0 } else { 0.0 }).collect()
    }

    /// The mask at latent size, `(latent_height, latent_width)`, each value 0 or 1.
    ///
    /// It is first made at the size of the output, then the nearest pixel is taken as torch takes it:
    /// `floor(index * (side / latent_side))`, the quotient in f32.
    ///
    /// Source: diffusers `ZImageInpaintPipeline.prepare_mask_latents`, torch `upsample_nearest2d`.
    pub fn to_latent_size(&self, width: usize, height: usize, latent_width: usize, latent_height: usize) -> Vec<f32> {
        let pixels = self.to_pixels(width, height);
        let nearest = |index: usize, side: usize, latent_side: usize| {
            let scale = side as f32 / latent_side as f32;
            ((index as f32 * scale) as usize).min(side - 1)
        };
        let row = |y: usize| nearest(y, height, latent_height) * width;
        let column = |x: usize| nearest(x, width, latent_width);
        (0..latent_height * latent_width)
            .map(|index| pixels[row(index / latent_width) + column(index % latent_width)])
            .collect()
    }
}

/// Reads a whole file that claims to be a picture.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, ImageError> {
    let io = |source| ImageError::Io { path: path.to_path_buf(), source };
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    if length > MAX_FILE_BYTES {
        return Err(ImageError::FileTooLarge { label: path.display().to_string(), bytes: length });
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}

fn decode(label: &str, bytes: &[u8], max_pixels: u64) -> Result<RgbImage, ImageError> {
    let failed = |error: ::image::ImageError| ImageError::Decode { label: label.into(), reason: error.to_string() };
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|_| ImageError::UnknownFormat { label: label.into() })?;
    let Some(format) = reader.format() else {
        return Err(ImageError::UnknownFormat { label: label.into() });
    };
    let mut limits = Limits::no_limits();
    // Colour profiles are compressed as well, and not bounded by the size of the picture.
    limits.max_alloc = Some(MAX_FILE_BYTES.min(max_pixels.saturating_mul(MOST_BYTES_PER_PIXEL) + SLACK_BYTES));
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > max_pixels {
        return Err(ImageError::TooLarge { label: label.into(), width, height, max_pixels });
    }
    let most_pixels = (bytes.len() as u64).saturating_mul(pixels_per_byte(format));
    if u64::from(width) * u64::from(height) > most_pixels {
        let reason = format!("its {} bytes cannot hold {width}x{height} pixels", bytes.len());
        return Err(ImageError::Decode { label: label.into(), reason });
    }
    let orientation = decoder.orientation().map_err(failed)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    image.apply_orientation(orientation);
    Ok(without_alpha(image))
}

/// The most pixels that a byte of a file can stand for, so that memory is only taken for pixels that may be there.
///
/// PNG packs at most 8 pixels into a byte, and deflate at most 1032 bytes into one. JPEG spends a bit or more on each
/// block of 8x8 pixels; the limit is twice that. A WebP of one colour is as short at any size.
fn pixels_per_byte(format: ImageFormat) -> u64 {
    match format {
        ImageFormat::Png => 8 * 1032,
        ImageFormat::Jpeg => 2 * 8 * 64,
        _ => u64::MAX,
    }
}

/// Eight bits a channel, transparency dropped rather than blended.
///
/// 16-bit channels keep their high byte. Pillow does that for colour too, but for 16-bit grey it cuts every value at
/// 255, which turns almost any such picture white; that defect is not repeated.
fn without_alpha(image: DynamicImage) -> RgbImage {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let high = |value: u16| (value >> 8) as u8;
    let pixels = match image {
        DynamicImage::ImageLuma16(grey) => grey.pixels().flat_map(|pixel| [high(pixel.0[0]); 3]).collect(),
        DynamicImage::ImageLumaA16(grey) => grey.pixels().flat_map(|pixel| [high(pixel.0[0]); 3]).collect(),
        DynamicImage::ImageRgb16(colour) => colour.into_raw().into_iter().map(high).collect(),
        DynamicImage::ImageRgba16(colour) => {
            colour.pixels().flat_map(|pixel| [0, 1, 2].map(|channel| high(pixel.0[channel]))).collect()
        }
        other => other.into_rgb8().into_raw(),
    };
    RgbImage::new(width, height, pixels)
}
