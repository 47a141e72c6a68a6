//! Pictures in and out of tools.

use rmcp::model::{ContentBlock, Resource};
use zimage::pipeline::image::{ImageFormat, InitImage, RgbImage};

use crate::http::mcp::results::IMAGES;
use crate::http::picture::{self, MaskKind, to_base64};
use crate::job::{ImageRecord, Sha256};
use crate::refusal::Refusal;
use crate::service::Service;

/// Clients take about a megabyte for one result, and there is more in it than the pictures.
const MAX_BASE64_BYTES: usize = 700_000;
const PREVIEW_SIDE: usize = 1024;
const PREVIEW_QUALITY: u8 = 85;

/// Stores a picture that a tool was given, or finds it.
///
/// # Errors
/// [`Refusal::Invalid`] for anything but an id, an address of ours, or a data URL.
pub fn stored(service: &Service, param: &'static str, text: &str) -> Result<Sha256, Refusal> {
    match known(service, param, text)? {
        Some(sha256) => Ok(sha256),
        None => Ok(service.upload(&picture::from_base64(param, text, service.limits())?)?.sha256),
    }
}

/// The same for a mask, white where to paint.
///
/// # Errors
/// As [`stored`]; also when nothing would be painted.
pub fn stored_mask(service: &Service, text: &str) -> Result<Sha256, Refusal> {
    let limits = service.limits();
    let bytes = match known(service, "mask", text)? {
        Some(sha256) => bytes(service, &sha256)?,
        None => picture::from_base64("mask", text, limits)?,
    };
    Ok(service.upload(&picture::mask(&bytes, MaskKind::WhiteOrOpaque, limits)?)?.sha256)
}

/// The id of a picture that is here already; none for a data URL.
fn known(service: &Service, param: &'static str, text: &str) -> Result<Option<Sha256>, Refusal> {
    if text.starts_with("data:") {
        return Ok(None);
    }
    let id = text.strip_prefix(IMAGES).unwrap_or(text);
    let unusable = |_| {
        let message = "it is neither the id of a picture nor a data URL; files and addresses are not read";
        Refusal::invalid(param, format!("{param}: {message}"))
    };
    let sha256 = Sha256::try_from(id.to_owned()).map_err(unusable)?;
    bytes(service, &sha256)?;
    Ok(Some(sha256))
}

fn bytes(service: &Service, sha256: &Sha256) -> Result<Vec<u8>, Refusal> {
    let file = service.files().find(sha256).map_err(Refusal::internal)?;
    file.map(|file| file.bytes).ok_or(Refusal::NotFound { what: "picture" })
}

/// The size of a stored picture.
///
/// # Errors
/// [`Refusal::NotFound`].
pub fn size(service: &Service, sha256: &Sha256) -> Result<(u32, u32), Refusal> {
    let image = InitImage::from_bytes("the picture", &bytes(service, sha256)?).map_err(Refusal::internal)?;
    Ok((image.image().width() as u32, image.image().height() as u32))
}

/// What a client shows of finished pictures: for each a small JPEG, and a link to the file.
///
/// # Errors
/// Those of reading the files.
pub fn content(images: &[ImageRecord], files: &[Vec<u8>]) -> Result<Vec<ContentBlock>, Refusal> {
    let budget = MAX_BASE64_BYTES / images.len().max(1) / 4 * 3;
    let mut blocks = Vec::new();
    for (image, file) in images.iter().zip(files) {
        let jpeg = preview(file, budget)?;
        blocks.push(ContentBlock::image(to_base64(&jpeg), "image/jpeg"));
        let name = format!("{}.{}", &image.sha256.as_str()[..8], image.format.extension());
        let link = Resource::new(format!("{IMAGES}{}", image.sha256), name)
            .with_description(format!("{}x{}, seed {}", image.width, image.height, image.seed))
            .with_mime_type(image.format.media_type())
            .with_size(image.size_bytes);
        blocks.push(ContentBlock::resource_link(link));
    }
    Ok(blocks)
}

/// A JPEG of at most so many bytes.
fn preview(file: &[u8], budget: usize) -> Result<Vec<u8>, Refusal> {
    let image = InitImage::from_bytes("the picture", file).map_err(Refusal::internal)?;
    let mut small = within(image.image(), PREVIEW_SIDE);
    loop {
        let jpeg = small.encode_at(PREVIEW_QUALITY, ImageFormat::Jpeg, None).map_err(Refusal::internal)?;
        let longest = small.width().max(small.height());
        if jpeg.len() <= budget || longest == 1 {
            return Ok(jpeg);
        }
        small = within(&small, longest * 3 / 4);
    }
}

fn within(image: &RgbImage, side: usize) -> RgbImage {
    let longest = image.width().max(image.height());
    if longest <= side {
        return image.clone();
    }
    let scaled = |length: usize| (length * side / longest).max(1);
    image.resize(scaled(image.width()), scaled(image.height()))
}

#[cfg(test)]
mod tests;
