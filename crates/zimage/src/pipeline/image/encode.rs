//! Writing pictures, with the metadata inside.

use std::fmt;
use std::path::Path;

use ::image::codecs::{jpeg::JpegEncoder, webp::WebPEncoder};
use ::image::{ExtendedColorType, ImageEncoder};

use super::{ImageError, RgbImage};
use crate::pipeline::metadata::{Metadata, PARAMETERS_KEYWORD, ZIMAGE_KEYWORD, exif_block};

/// JPEG quality where none is asked for: artefacts are invisible at normal size, and files are a quarter of PNG's.
pub const JPEG_QUALITY: u8 = 95;
/// A JPEG segment holds 65535 bytes, of which two are its length and six the word `Exif`.
const JPEG_EXIF_LIMIT: usize = 65_535 - 2 - 6;

/// The formats that pictures are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFormat {
    /// Lossless; the metadata is in `iTXt` chunks.
    Png,
    /// Lossy, quality 95; the metadata is in the EXIF block.
    Jpeg,
    /// Lossless WebP; the metadata is in the EXIF block.
    WebP,
}

impl ImageFormat {
    /// The format that a file name asks for by its ending, in any case.
    pub fn from_path(path: &Path) -> Result<Self, ImageError> {
        let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
        match extension.as_deref() {
            Some("png") => Ok(Self::Png),
            Some("jpg" | "jpeg") => Ok(Self::Jpeg),
            Some("webp") => Ok(Self::WebP),
            _ => Err(ImageError::Extension { path: path.to_path_buf() }),
        }
    }
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::WebP => "WebP",
        })
    }
}

impl RgbImage {
    /// The bytes of an image file in `format`, with `metadata` inside when there is any.
    ///
    /// Refuses a side the format cannot hold (65535 pixels for JPEG, 16383 for WebP), and metadata that is too long
    /// for a JPEG.
    pub fn encode(&self, format: ImageFormat, metadata: Option<&Metadata>) -> Result<Vec<u8>, ImageError> {
        self.encode_at(JPEG_QUALITY, format, metadata)
    }

    /// The same with a quality for JPEG, from 1 to 100; the other formats lose nothing at any.
    pub fn encode_at(
        &self,
        quality: u8,
        format: ImageFormat,
        metadata: Option<&Metadata>,
    ) -> Result<Vec<u8>, ImageError> {
        match format {
            ImageFormat::Png => self.encode_png(metadata),
            ImageFormat::Jpeg => self.encode_jpeg(quality, metadata),
            ImageFormat::WebP => self.encode_webp(metadata),
        }
    }

    /// Writes the picture without metadata, in the format that the file name's ending asks for.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), ImageError> {
        let path = path.as_ref();
        let bytes = self.encode(ImageFormat::from_path(path)?, None)?;
        std::fs::write(path, bytes).map_err(|source| ImageError::Io { path: path.to_path_buf(), source })
    }

    fn encode_png(&self, metadata: Option<&Metadata>) -> Result<Vec<u8>, ImageError> {
        let failed = |error: png::EncodingError| encode_error(ImageFormat::Png, error);
        let (width, height) = self.sides(ImageFormat::Png)?;
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        if let Some(metadata) = metadata {
            // The A1111 text comes first, because simple readers take the first text they find.
            encoder.add_itxt_chunk(PARAMETERS_KEYWORD.into(), metadata.to_parameters()).map_err(failed)?;
            encoder.add_itxt_chunk(ZIMAGE_KEYWORD.into(), metadata.to_canonical_json()).map_err(failed)?;
        }
        let mut writer = encoder.write_header().map_err(failed)?;
        writer.write_image_data(self.pixels()).map_err(failed)?;
        writer.finish().map_err(failed)?;
        Ok(bytes)
    }

    fn encode_jpeg(&self, quality: u8, metadata: Option<&Metadata>) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, quality);
        if let Some(metadata) = metadata {
            let exif = exif_block(metadata).map_err(|error| encode_error(ImageFormat::Jpeg, error))?;
            if exif.len() > JPEG_EXIF_LIMIT {
                let format = ImageFormat::Jpeg;
                return Err(ImageError::MetadataTooLong { format, bytes: exif.len(), limit: JPEG_EXIF_LIMIT });
            }
            encoder.set_exif_metadata(exif).map_err(|error| encode_error(ImageFormat::Jpeg, error))?;
        }
        self.write(encoder, ImageFormat::Jpeg)?;
        Ok(bytes)
    }

    fn encode_webp(&self, metadata: Option<&Metadata>) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        let mut encoder = WebPEncoder::new_lossless(&mut bytes);
        if let Some(metadata) = metadata {
            let exif = exif_block(metadata).map_err(|error| encode_error(ImageFormat::WebP, error))?;
            encoder.set_exif_metadata(exif).map_err(|error| encode_error(ImageFormat::WebP, error))?;
        }
        self.write(encoder, ImageFormat::WebP)?;
        Ok(bytes)
    }

    fn write(&self, encoder: impl ImageEncoder, format: ImageFormat) -> Result<(), ImageError> {
        let (width, height) = self.sides(format)?;
        encoder
            .write_image(self.pixels(), width, height, ExtendedColorType::Rgb8)
            .map_err(|error| encode_error(format, error))
    }

    fn sides(&self, format: ImageFormat) -> Result<(u32, u32), ImageError> {
        let limit = match format {
            ImageFormat::Png => i32::MAX as usize,
            ImageFormat::Jpeg => 65_535,
            ImageFormat::WebP => 16_383,
        };
        let (width, height) = (self.width(), self.height());
        if width.max(height) > limit {
            return Err(encode_error(format, format!("{width}x{height} is over the limit of {limit} pixels a side")));
        }
        Ok((width as u32, height as u32))
    }
}

fn encode_error(format: ImageFormat, reason: impl fmt::Display) -> ImageError {
    ImageError::Encode { format, reason: reason.to_string() }
}
