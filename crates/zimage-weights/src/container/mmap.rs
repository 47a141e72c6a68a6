//! The memory map of a file: the one `unsafe` block of this crate.

use std::fs::File;
use std::path::Path;

use bytes::Bytes;

use crate::{Error, Result};

/// Maps a whole file read-only. Pages are read from disk when first touched; the map ends when the last clone or slice
/// of the returned bytes is dropped.
///
/// The file must not be truncated while it is mapped: a read beyond its new end would kill the process (`SIGBUS`).
pub fn map_file(path: &Path) -> Result<Bytes> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let metadata = file.metadata().map_err(Error::io("open", path))?;
    if metadata.is_dir() {
        let source = std::io::Error::from(std::io::ErrorKind::IsADirectory);
        return Err(Error::Io { action: "map", path: path.to_path_buf(), source });
    }
    if metadata.len() == 0 {
        return Ok(Bytes::new()); // an empty map is refused by some systems
    }
    // SAFETY: the map is read-only and private to this process. Bytes that another process writes meanwhile could change
    // under us; they are only ever copied out as numbers, never trusted as an index after validation, because the
    // header is parsed into owned values first. Truncation by another process is the documented limit above.
    #[allow(unsafe_code)]
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io("map", path))?;
    Ok(Bytes::from_owner(map))
}
