//! The two texts inside image files: reading them back, and the EXIF block that carries them.

use std::io::Cursor;
use std::path::Path;

use exif::experimental::Writer;
use exif::{Exif, Field, In, Tag, Value};

use super::{Metadata, PARAMETERS_KEYWORD, ZIMAGE_KEYWORD};
use crate::pipeline::image::{ImageError, read_file};

/// The longest text that is inflated from a compressed PNG chunk; a small file can claim gigabytes.
const MAX_TEXT_BYTES: usize = 16 << 20;
/// `UserComment` starts with eight bytes that name its encoding.
const UNICODE_PREFIX: &[u8] = b"UNICODE\0";
const ASCII_PREFIX: &[u8] = b"ASCII\0\0\0";

/// The metadata found in an image file. At least one of the two is present.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// This program's own record.
    pub metadata: Option<Metadata>,
    /// The web UI text, from this program or from another.
    pub parameters: Option<String>,
}

impl Embedded {
    /// Reads the metadata of a PNG, JPEG or WebP file; `None` when it carries neither text.
    ///
    /// A file that cannot be read, or whose `zimage` text is not a record, is an error.
    pub fn from_image_file(path: &Path) -> Result<Option<Self>, ImageError> {
        Self::from_image_bytes(&path.display().to_string(), &read_file(path)?)
    }

    /// The same for bytes in memory; `label` names them in errors.
    pub fn from_image_bytes(label: &str, bytes: &[u8]) -> Result<Option<Self>, ImageError> {
        let texts = match ::image::guess_format(bytes) {
            Ok(::image::ImageFormat::Png) => png_texts(label, bytes)?,
            Ok(::image::ImageFormat::Jpeg | ::image::ImageFormat::WebP) => exif_texts(label, bytes)?,
            _ => return Err(ImageError::UnknownFormat { label: label.into() }),
        };
        let unreadable = |reason| ImageError::Metadata { label: label.into(), reason };
        let metadata = texts.json.as_deref().map(Metadata::from_json).transpose().map_err(unreadable)?;
        let found = metadata.is_some() || texts.parameters.is_some();
        Ok(found.then_some(Self { metadata, parameters: texts.parameters }))
    }
}

#[derive(Default)]
struct Texts {
    json: Option<String>,
    parameters: Option<String>,
}

impl Texts {
    fn take(&mut self, keyword: &str, text: impl FnOnce() -> Option<String>) {
        let slot = match keyword {
            ZIMAGE_KEYWORD => &mut self.json,
            PARAMETERS_KEYWORD => &mut self.parameters,
            _ => return,
        };
        if slot.is_none() {
            *slot = text();
        }
    }
}

/// Texts of a PNG file: `iTXt` and `zTXt`, compressed or not, and the plain `tEXt` that the web UI writes.
fn png_texts(label: &str, bytes: &[u8]) -> Result<Texts, ImageError> {
    let failed = |error: png::DecodingError| ImageError::Decode { label: label.into(), reason: error.to_string() };
    let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().map_err(failed)?;
    reader.finish().map_err(failed)?; // Texts may follow the pixels.
    let info = reader.info();
    let mut texts = Texts::default();
    for chunk in &info.utf8_text {
        let mut chunk = chunk.clone();
        texts.take(&chunk.keyword.clone(), move || {
            chunk.decompress_text_with_limit(MAX_TEXT_BYTES).ok()?;
            chunk.get_text().ok()
        });
    }
    for chunk in &info.uncompressed_latin1_text {
        texts.take(&chunk.keyword, || Some(chunk.text.clone()));
    }
    for chunk in &info.compressed_latin1_text {
        let mut chunk = chunk.clone();
        texts.take(&chunk.keyword.clone(), move || {
            chunk.decompress_text_with_limit(MAX_TEXT_BYTES).ok()?;
            chunk.get_text().ok()
        });
    }
    Ok(texts)
}

/// Texts of a JPEG or WebP file. A file without an EXIF block, or with a damaged one, has none.
fn exif_texts(label: &str, bytes: &[u8]) -> Result<Texts, ImageError> {
    let exif = match exif::Reader::new().read_from_container(&mut Cursor::new(bytes)) {
        Ok(exif) => exif,
        Err(exif::Error::NotFound(_)) => return Ok(Texts::default()),
        Err(error) => return Err(ImageError::Metadata { label: label.into(), reason: error.to_string() }),
    };
    let json = field(&exif, Tag::ImageDescription).and_then(|value| match value {
        // Another program's description is a sentence, not a record.
        Value::Ascii(parts) => parts.first().and_then(|part| String::from_utf8(part.clone()).ok()),
        _ => None,
    });
    let json = json.filter(|text| text.starts_with('{') && text.contains("\"schema_version\""));
    let parameters = field(&exif, Tag::UserComment).and_then(|value| match value {
        Value::Undefined(bytes, _) => user_comment(bytes, exif.little_endian()),
        _ => None,
    });
    Ok(Texts { json, parameters })
}

fn field(exif: &Exif, tag: Tag) -> Option<&Value> {
    exif.get_field(tag, In::PRIMARY).map(|field| &field.value)
}

fn user_comment(bytes: &[u8], little_endian: bool) -> Option<String> {
    if let Some(ascii) = bytes.strip_prefix(ASCII_PREFIX) {
        return String::from_utf8(ascii.to_vec()).ok();
    }
    let unicode = bytes.strip_prefix(UNICODE_PREFIX)?;
    let unit = |pair: &[u8]| {
        let pair = [pair[0], pair[1]];
        if little_endian { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) }
    };
    let units: Vec<u16> = unicode.chunks_exact(2).map(unit).collect();
    String::from_utf16(&units).ok()
}

/// An EXIF block (a TIFF header and its fields, big endian) with both texts.
pub(crate) fn exif_block(metadata: &Metadata) -> Result<Vec<u8>, exif::Error> {
    let json = Field {
        tag: Tag::ImageDescription,
        ifd_num: In::PRIMARY,
        value: Value::Ascii(vec![ascii_json(&metadata.to_canonical_json()).into_bytes()]),
    };
    let mut comment = UNICODE_PREFIX.to_vec();
    comment.extend(metadata.to_parameters().encode_utf16().flat_map(u16::to_be_bytes));
    let parameters = Field { tag: Tag::UserComment, ifd_num: In::PRIMARY, value: Value::Undefined(comment, 0) };
    let mut writer = Writer::new();
    writer.push_field(&json);
    writer.push_field(&parameters);
    let mut block = Cursor::new(Vec::new());
    writer.write(&mut block, false)?;
    Ok(block.into_inner())
}

/// The same JSON in ASCII: EXIF descriptions have no other encoding. Such characters only occur inside strings.
fn ascii_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            text.push(character);
        } else {
            let mut units = [0; 2];
            text.extend(character.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    text
}
