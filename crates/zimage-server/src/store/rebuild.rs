//! `zimage db rebuild`: the gallery from the files.

use std::path::Path;
use std::time::UNIX_EPOCH;
use std::{fs, io};

use zimage::pipeline::metadata::{Embedded, Metadata};

use crate::job::{Format, ImageRecord, Millis, Sha256};
use crate::queue::QueueError;
use crate::store::{Files, Gallery};

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Pictures that were added.
    pub added: u64,
    /// Pictures that were known.
    pub known: u64,
    /// Files that are no pictures of ours, or not what their names say.
    pub skipped: u64,
}

/// Adds every picture in `files` that the gallery lacks, by its own metadata.
///
/// What the files do not say is lost with the database: which job a picture is of and its place there, which pictures
/// are favourites or were deleted. The time of a picture becomes that of its file.
///
/// # Errors
/// Those of the database and of the file system.
pub fn rebuild(files: &Files, gallery: &Gallery) -> Result<Rebuilt, QueueError> {
    let mut rebuilt = Rebuilt::default();
    for file in files.images()? {
        let Some(image) = file.name.and_then(|(sha256, format)| record(&file.path, sha256, format)) else {
            rebuilt.skipped += 1;
            continue;
        };
        match gallery.restore_record(&image)? {
            true => rebuilt.added += 1,
            false => rebuilt.known += 1,
        }
    }
    Ok(rebuilt)
}

/// A file that can't be read is none of ours; the others are still worth having.
fn record(path: &Path, sha256: Sha256, format: Format) -> Option<ImageRecord> {
    let (bytes, created_ms) = read(path).ok()?;
    if Sha256::of(&bytes) != sha256 {
        return None;
    }
    let Metadata { seed, width, height, prompt, .. } =
        Embedded::from_image_bytes(sha256.as_str(), &bytes).ok()??.metadata?;
    Some(ImageRecord {
        sha256,
        job: None,
        index: 0,
        seed,
        width: width.try_into().ok()?,
        height: height.try_into().ok()?,
        format,
        size_bytes: bytes.len() as u64,
        created_ms,
        favourite: false,
        prompt,
    })
}

fn read(path: &Path) -> io::Result<(Vec<u8>, Millis)> {
    let modified = fs::metadata(path)?.modified()?;
    let age = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok((fs::read(path)?, age.as_millis() as Millis))
}
