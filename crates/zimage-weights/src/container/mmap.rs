//! The memory map of a file: the only `unsafe` of this crate.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Error, Result};

/// Maps a whole file read-only. Pages are read from disk when first touched; the map ends when the last clone or slice
/// of the returned bytes is dropped.
///
/// The file must not be truncated while it is mapped: a read beyond its new end would kill the process (`SIGBUS`).
pub fn map_file(path: &Path) -> Result<Bytes> {
    Ok(map_pages(path)?.0)
}

/// Maps a file as [`map_file`] does, with a handle to its pages.
pub(super) fn map_pages(path: &Path) -> Result<(Bytes, Pages)> {
    let metadata = std::fs::metadata(path).map_err(Error::io("open", path))?;
    let refused = |source| Error::Io { action: "map", path: path.to_path_buf(), source };
    if metadata.is_dir() {
        return Err(refused(std::io::ErrorKind::IsADirectory.into()));
    }
    if !metadata.is_file() {
        // To open a pipe would wait for someone to write to it.
        return Err(refused(std::io::Error::other("it is no regular file")));
    }
    let file = File::open(path).map_err(Error::io("open", path))?;
    if metadata.len() == 0 {
        return Ok((Bytes::new(), Pages(None))); // an empty map is refused by some systems
    }
    // SAFETY: the map is read-only and private to this process. Bytes that another process writes meanwhile could change
    // under us; they are only ever copied out as numbers, never trusted as an index after validation, because the
    // header is parsed into owned values first. Truncation by another process is the documented limit above.
    #[allow(unsafe_code)]
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io("map", path))?;
    let map = Arc::new(map);
    Ok((Bytes::from_owner(Owner(Arc::clone(&map))), Pages(Some(map))))
}

/// What keeps the map while bytes of it are in use.
struct Owner(Arc<memmap2::Mmap>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The pages of a mapped file.
#[derive(Clone, Debug)]
pub(super) struct Pages(Option<Arc<memmap2::Mmap>>);

impl Pages {
    /// Lets the system take back the memory of the pages that were read; they are read again when they are touched.
    pub(super) fn release(&self) {
        #[cfg(unix)]
        if let Some(map) = &self.0 {
            // SAFETY: the map is of a file and read-only, so that a page that is dropped comes back with the same bytes.
            #[allow(unsafe_code)]
            let released = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
            if let Err(error) = released {
                // The pages stay where they are, which costs memory and nothing else.
                debug_assert!(false, "madvise: {error}");
            }
        }
    }
}
