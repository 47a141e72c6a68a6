//! Pictures as clients of several dialects send and get them: base64, data URLs, masks.

use std::io::Cursor;

use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use image::{DynamicImage, GrayImage, ImageDecoder, ImageFormat, ImageReader, Luma};

use crate::limits::Limits;
use crate::refusal::Refusal;
use crate::service::Service;
use zimage::pipeline::request::SIZE_MULTIPLE;

/// Some clients leave the padding away.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Base64, as all dialects write it.
pub fn to_base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// A picture in base64, with or without the head of a data URL. Addresses are refused: the server fetches nothing.
///
/// # Errors
/// [`Refusal::Invalid`] under `param`; [`Refusal::TooLarge`].
pub fn from_base64(param: &'static str, text: &str, limits: &Limits) -> Result<Vec<u8>, Refusal> {
    let text = text.trim();
    let digits = match text.strip_prefix("data:") {
        Some(rest) => rest.split_once(";base64,").map(|(_, digits)| digits),
        None if text.contains("://") => None,
        None => Some(text),
    };
    let unusable = || {
        let message = "a picture is base64 or a data URL with base64; addresses are not fetched";
        Refusal::invalid(param, format!("{param}: {message}"))
    };
    let digits = digits.ok_or_else(unusable)?;
    if digits.len() / 4 * 3 > limits.max_upload_bytes {
        return Err(Refusal::TooLarge { limit_bytes: limits.max_upload_bytes });
    }
    LENIENT.decode(digits).map_err(|_| unusable())
}

/// How a dialect marks where to paint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskKind {
    /// OpenAI's: where the mask is transparent.
    Transparent,
    /// The web UI's: where the mask is white; one with transparency counts where it is opaque.
    WhiteOrOpaque,
    /// The same, the other way round.
    BlackOrTransparent,
}

/// A client's mask as ours: a PNG, white where to paint, black elsewhere.
///
/// # Errors
/// [`Refusal::Invalid`] for pictures that cannot be read, and for masks that leave nothing to paint.
pub fn mask(bytes: &[u8], kind: MaskKind, limits: &Limits) -> Result<Vec<u8>, Refusal> {
    let picture = decode(bytes, limits)?;
    if kind == MaskKind::Transparent && !picture.color().has_alpha() {
        return Err(Refusal::invalid("mask", "mask: it has no alpha channel; transparent marks what is painted anew"));
    }
    let mask = painted(&picture, kind);
    if mask.pixels().all(|&Luma([grey])| grey < 128) {
        let what = if kind == MaskKind::Transparent { "transparent" } else { "white" };
        return Err(Refusal::invalid("mask", format!("mask: no pixel of it is {what}, so nothing would be painted")));
    }
    let mut png = Cursor::new(Vec::new());
    mask.write_to(&mut png, ImageFormat::Png).map_err(Refusal::internal)?;
    Ok(png.into_inner())
}

fn painted(picture: &DynamicImage, kind: MaskKind) -> GrayImage {
    let alpha = picture.to_rgba8();
    let is_transparent = alpha.pixels().any(|pixel| pixel.0[3] < 255);
    let binary = |paint: bool| Luma([if paint { 255 } else { 0 }]);
    let grey = picture.to_luma8();
    GrayImage::from_fn(picture.width(), picture.height(), |x, y| {
        let opacity = alpha.get_pixel(x, y).0[3];
        let grey = *grey.get_pixel(x, y);
        match kind {
            MaskKind::Transparent => binary(opacity == 0),
            MaskKind::WhiteOrOpaque if is_transparent => binary(opacity > 128),
            MaskKind::BlackOrTransparent if is_transparent => binary(opacity <= 128),
            MaskKind::WhiteOrOpaque => grey,
            MaskKind::BlackOrTransparent => Luma([255 - grey.0[0]]),
        }
    })
}

/// Reads a picture with its alpha channel, looking at its size before any pixel.
fn decode(bytes: &[u8], limits: &Limits) -> Result<DynamicImage, Refusal> {
    let damaged = |_| Refusal::invalid("mask", "mask: the picture is damaged, or of a kind that is not read");
    let unknown = || Refusal::invalid("mask", "mask: it is not a PNG, JPEG or WebP picture");
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|_| unknown())?;
    reader.format().ok_or_else(unknown)?;
    let mut bounds = image::Limits::no_limits();
    bounds.max_alloc = Some(limits.max_upload_pixels * 8);
    reader.limits(bounds);
    let decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > limits.max_upload_pixels {
        let message = format!("mask: {width}x{height} is more than the {} pixels allowed", limits.max_upload_pixels);
        return Err(Refusal::invalid("mask", message));
    }
    DynamicImage::from_decoder(decoder).map_err(damaged)
}

/// The size at which a model (the default one if unnamed) draws over a picture when a request leaves it open.
///
/// # Errors
/// [`Refusal::UnknownModel`], and those of opening it.
pub fn drawn_size(service: &Service, model: Option<&str>, own: (u32, u32)) -> Result<(u32, u32), Refusal> {
    let models = service.capabilities()?.models;
    let found = models.iter().find(|info| model.is_none_or(|name| info.name == name));
    let unknown = || Refusal::UnknownModel { name: model.unwrap_or_default().into() };
    Ok(scaled_to_native(own, found.ok_or_else(unknown)?.native_size))
}

/// The picture's own shape in multiples of what the model draws, and no larger than its native square.
fn scaled_to_native((width, height): (u32, u32), native: u32) -> (u32, u32) {
    let (width, height) = (f64::from(width), f64::from(height));
    let scale = (f64::from(native) / (width * height).sqrt()).min(1.0);
    let multiple = SIZE_MULTIPLE as u32;
    let side = |side: f64| ((side * scale / f64::from(multiple)).round() as u32).max(1) * multiple;
    (side(width), side(height))
}

#[cfg(test)]
mod tests;
