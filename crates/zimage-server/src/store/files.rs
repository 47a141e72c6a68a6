//! Files named by the SHA-256 of their bytes.
//!
//! No name ever comes from a client: a [`Sha256`] is 64 digits and nothing else.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageReader, Limits};

use crate::job::{Format, Sha256};

/// The longer side of a thumbnail.
const THUMBNAIL_SIDE: u32 = 320;
const THUMBNAIL_QUALITY: u8 = 85;
/// What a picture may need to be decoded for its thumbnail: more than any of ours, less than a bomb.
const MAX_SIDE: u32 = 8192;
const MAX_DECODE_BYTES: u64 = 256 << 20;
/// Files that are being written end like this.
const TEMPORARY: &str = "part";
/// Its writer locks a temporary file; an unlocked one may still be a moment old.
const MIN_LEFTOVER_AGE: Duration = Duration::from_secs(60);
const FORMATS: [Format; 3] = [Format::Png, Format::Jpeg, Format::Webp];

/// Pictures in `<home>/images`, uploads in `<home>/inputs`, thumbnails in `<home>/cache/thumbnails`.
pub struct Files {
    images: PathBuf,
    inputs: PathBuf,
    thumbnails: PathBuf,
}

/// A file that was found.
#[derive(Clone, Debug)]
pub struct StoredFile {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its format.
    pub format: Format,
}

/// A file among the finished pictures.
pub(super) struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// What its name says, if it is one that we give.
    pub name: Option<(Sha256, Format)>,
}

impl Files {
    /// Makes the folders, and removes what writers that died have left.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(home: &Path) -> io::Result<Files> {
        let files = Files {
            images: home.join("images"),
            inputs: home.join("inputs"),
            thumbnails: home.join("cache").join("thumbnails"),
        };
        for folder in [&files.images, &files.inputs, &files.thumbnails] {
            fs::create_dir_all(folder)?;
            remove_leftovers(folder)?;
        }
        Ok(files)
    }

    /// Stores a finished picture: whole or not at all, and on the disk when this returns.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_image(&self, bytes: &[u8], format: Format) -> io::Result<Sha256> {
        let sha256 = Sha256::of(bytes);
        store(&self.images, &sha256, format.extension(), bytes)?;
        Ok(sha256)
    }

    /// A finished picture.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn image(&self, sha256: &Sha256, format: Format) -> io::Result<Option<Vec<u8>>> {
        read(&place(&self.images, sha256, format.extension()))
    }

    /// Stores an upload, which has been decoded and encoded anew as PNG.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_input(&self, png: &[u8]) -> io::Result<Sha256> {
        let sha256 = Sha256::of(png);
        store(&self.inputs, &sha256, Format::Png.extension(), png)?;
        Ok(sha256)
    }

    /// An upload, else a finished picture of any format.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn find(&self, sha256: &Sha256) -> io::Result<Option<StoredFile>> {
        if let Some(bytes) = read(&place(&self.inputs, sha256, Format::Png.extension()))? {
            return Ok(Some(StoredFile { bytes, format: Format::Png }));
        }
        for format in FORMATS {
            if let Some(bytes) = self.image(sha256, format)? {
                return Ok(Some(StoredFile { bytes, format }));
            }
        }
        Ok(None)
    }

    /// A JPEG of at most 320 pixels a side of a finished picture, made when it is first asked for.
    ///
    /// # Errors
    /// Those of the file system; [`io::ErrorKind::InvalidData`] if the picture cannot be decoded.
    pub fn thumbnail(&self, sha256: &Sha256, format: Format) -> io::Result<Option<Vec<u8>>> {
        let made = read(&place(&self.thumbnails, sha256, Format::Jpeg.extension()))?;
        if made.is_some() {
            return Ok(made);
        }
        let Some(bytes) = self.image(sha256, format)? else { return Ok(None) };
        let thumbnail = shrink(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        store(&self.thumbnails, sha256, Format::Jpeg.extension(), &thumbnail)?;
        Ok(Some(thumbnail))
    }

    /// Removes a finished picture and its thumbnail; what is not there need not be removed.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove_image(&self, sha256: &Sha256, format: Format) -> io::Result<()> {
        for path in
            [place(&self.thumbnails, sha256, Format::Jpeg.extension()), place(&self.images, sha256, format.extension())]
        {
            present(fs::remove_file(path))?;
        }
        Ok(())
    }

    /// Removes uploads that are older than `age` and that nothing uses; says how many there were.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove_inputs(&self, age: Duration, is_used: impl Fn(&Sha256) -> bool) -> io::Result<usize> {
        let mut removed = 0;
        for Found { path, name } in listing(&self.inputs)? {
            let modified = fs::metadata(&path)?.modified()?;
            let is_old = SystemTime::now().duration_since(modified).is_ok_and(|past| past >= age);
            if is_old && name.is_some_and(|(sha256, _)| !is_used(&sha256)) {
                present(fs::remove_file(path))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// What lies among the finished pictures, in order of its names.
    pub(super) fn images(&self) -> io::Result<Vec<Found>> {
        listing(&self.images)
    }
}

/// What lies in the folders of a root, in order of its names.
fn listing(root: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for folder in fs::read_dir(root)? {
        let folder = folder?;
        if !folder.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(folder.path())? {
            let path = file?.path();
            let name = parse_name(&path);
            let is_ours = |(sha256, format): &(Sha256, Format)| path == place(root, sha256, format.extension());
            found.push(Found { name: name.filter(is_ours), path });
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

fn place(root: &Path, sha256: &Sha256, extension: &str) -> PathBuf {
    root.join(&sha256.as_str()[..2]).join(format!("{sha256}.{extension}"))
}

fn parse_name(path: &Path) -> Option<(Sha256, Format)> {
    let extension = path.extension()?.to_str()?;
    let format = FORMATS.into_iter().find(|format| format.extension() == extension)?;
    let sha256 = path.file_stem()?.to_str()?.to_owned().try_into().ok()?;
    Some((sha256, format))
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    present(fs::read(path))
}

/// A file that is not there is no error.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes beside the target and renames, so that nobody ever sees half a file. One of the same name has the same bytes.
fn store(root: &Path, sha256: &Sha256, extension: &str, bytes: &[u8]) -> io::Result<()> {
    let target = place(root, sha256, extension);
    if target.try_exists()? {
        return Ok(());
    }
    let folder = target.parent().expect("a file has a folder: this is a bug");
    if !folder.try_exists()? {
        fs::create_dir_all(folder)?;
        sync_folder(root)?;
    }
    let temporary = temporary_name(root);
    let written = write_locked(&temporary, bytes).and_then(|_lock| fs::rename(&temporary, &target));
    if let Err(error) = written {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_folder(folder)
}

/// The lock lasts as long as the file that is returned, or until the process dies.
fn write_locked(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    // A file system without locks loses only the cleaning up.
    let _ = file.try_lock();
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(file)
}

fn temporary_name(root: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    // Two containers on one volume may both be process 1.
    root.join(format!("{}-{count}-{}.{TEMPORARY}", std::process::id(), uuid::Uuid::now_v7().simple()))
}

fn remove_leftovers(root: &Path) -> io::Result<()> {
    for file in fs::read_dir(root)? {
        let path = file?.path();
        if path.extension() == Some(OsStr::new(TEMPORARY)) && is_leftover(&path) {
            present(fs::remove_file(path))?;
        }
    }
    Ok(())
}

/// Whether nobody writes it any more.
fn is_leftover(path: &Path) -> bool {
    let Ok(file) = OpenOptions::new().write(true).open(path) else { return false };
    let modified = file.metadata().and_then(|metadata| metadata.modified());
    let age = modified.ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
    let is_locked = matches!(file.try_lock(), Err(TryLockError::WouldBlock | TryLockError::Error(_)));
    !is_locked && age.is_some_and(|age| age >= MIN_LEFTOVER_AGE)
}

/// A new name is on the disk when its folder is.
fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    #[cfg(not(unix))] // where folders cannot be opened as files
    let _ = folder;
    Ok(())
}

fn shrink(bytes: &[u8]) -> image::ImageResult<Vec<u8>> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODE_BYTES);
    reader.limits(limits);
    let picture = reader.decode()?;
    let is_small = picture.width() <= THUMBNAIL_SIDE && picture.height() <= THUMBNAIL_SIDE;
    let small = if is_small { picture } else { picture.thumbnail(THUMBNAIL_SIDE, THUMBNAIL_SIDE) };
    let mut jpeg = Vec::new();
    let rgb = DynamicImage::ImageRgb8(small.into_rgb8());
    rgb.write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, THUMBNAIL_QUALITY))?;
    Ok(jpeg)
}

#[cfg(test)]
mod tests;
