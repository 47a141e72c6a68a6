//! What is slow to find out and stays true: compiled kernels, and which algorithm multiplies fastest.
//!
//! Everything here can be lost, and is then found out again; so no failure of the disk is an error. Whether a file is
//! whole is known by its hash, which stands in front of its content.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Names the folder, in place of the user's.
const FOLDER: &str = "ZIMAGE_CUDA_CACHE";

/// A folder of the user, or none, where there is none.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    /// The user's: `ZIMAGE_CUDA_CACHE`, or `zimage/cuda` in the system's folder for what can be made again.
    pub fn of_user() -> Cache {
        let named = |variable| env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
        let caches = match cfg!(windows) {
            true => named("LOCALAPPDATA"),
            false => named("XDG_CACHE_HOME").or_else(|| named("HOME").map(|home| home.join(".cache"))),
        };
        Cache { folder: named(FOLDER).or_else(|| caches.map(|caches| caches.join("zimage").join("cuda"))) }
    }

    /// In this folder.
    #[cfg(test)]
    pub fn at(folder: &Path) -> Cache {
        Cache { folder: Some(folder.to_owned()) }
    }

    /// What was stored under a name, if it is whole.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        let mut bytes = fs::read(self.path(name)?).ok()?;
        let (hash, content) = bytes.split_first_chunk::<16>()?;
        if u128::from_le_bytes(*hash) != hash_of(&[content]) {
            return None;
        }
        bytes.drain(..16);
        Some(bytes)
    }

    /// Stores something. Others see all of it or nothing: it is written beside and renamed.
    pub fn write(&self, name: &str, content: &[u8]) {
        static WRITTEN: AtomicU32 = AtomicU32::new(0);
        let Some(path) = self.path(name) else { return };
        let count = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let beside = path.with_extension(format!("{}.{count}.part", std::process::id()));
        let hash = hash_of(&[content]).to_le_bytes();
        let written = self.create().and_then(|()| fs::write(&beside, [&hash[..], content].concat()));
        if written.and_then(|()| fs::rename(&beside, &path)).is_err() {
            // Nothing is left behind of a full disk, as far as it lets us.
            let _ = fs::remove_file(&beside);
        }
    }

    /// The lines that were added under a name.
    pub fn lines(&self, name: &str) -> Vec<String> {
        let text = self.path(name).and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Adds a line, in one write: several processes may do so at the same time.
    pub fn add_line(&self, name: &str, line: &str) {
        let Some(path) = self.path(name) else { return };
        let file = self.create().and_then(|()| OpenOptions::new().create(true).append(true).open(path));
        if let Ok(mut file) = file {
            // See above: a line that is not stored is found out again.
            let _ = file.write_all(format!("{line}\n").as_bytes());
        }
    }

    fn create(&self) -> std::io::Result<()> {
        self.folder.as_deref().map_or(Ok(()), fs::create_dir_all)
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.folder.as_deref().map(|folder: &Path| folder.join(name))
    }
}

/// FNV-1a of 128 bits over parts, each with its length. It is the same in each version and on each machine, which the
/// standard library's are not; nobody is kept from making two texts of one hash, but then it is their own cache.
pub fn hash_of(parts: &[&[u8]]) -> u128 {
    const PRIME: u128 = (1 << 88) + 0x13b;
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for part in parts {
        for byte in (part.len() as u64).to_le_bytes().iter().chain(*part) {
            hash = (hash ^ u128::from(*byte)).wrapping_mul(PRIME);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::{Cache, hash_of};
    use std::fs;
    use std::path::PathBuf;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("zimage-cuda-cache-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn what_was_stored_is_read_again() {
        let folder = folder("read");
        let cache = Cache::at(&folder);
        assert_eq!(cache.read("kernels"), None);
        cache.write("kernels", b"code");
        cache.write("kernels", b"better code");
        assert_eq!(cache.read("kernels").as_deref(), Some(&b"better code"[..]));
        assert_eq!(fs::read_dir(&folder).expect("the folder").count(), 1, "nothing else is left there");
        fs::remove_dir_all(&folder).expect("the folder");
    }

    #[test]
    fn a_broken_file_is_as_none() {
        let folder = folder("broken");
        let cache = Cache::at(&folder);
        cache.write("kernels", b"code");
        let whole = fs::read(folder.join("kernels")).expect("the file");
        for broken in [&whole[..whole.len() - 1], &whole[..10], &[&whole[..], b"!"].concat(), b""] {
            fs::write(folder.join("kernels"), broken).expect("the file");
            assert_eq!(cache.read("kernels"), None, "{broken:?}");
        }
        fs::remove_dir_all(&folder).expect("the folder");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_no_error() {
        let file = folder("file");
        fs::write(&file, "not a folder").expect("the file");
        let cache = Cache::at(&file.join("inner"));
        cache.write("kernels", b"code");
        cache.add_line("fastest", "line");
        assert_eq!((cache.read("kernels"), cache.lines("fastest").len()), (None, 0));
        fs::remove_file(&file).expect("the file");
    }

    #[test]
    fn lines_are_added() {
        let folder = folder("lines");
        let cache = Cache::at(&folder);
        cache.add_line("fastest", "one");
        cache.add_line("fastest", "two");
        assert_eq!(cache.lines("fastest"), ["one", "two"]);
        fs::remove_dir_all(&folder).expect("the folder");
    }

    #[test]
    fn parts_are_told_apart() {
        assert_ne!(hash_of(&[b"ab", b"c"]), hash_of(&[b"a", b"bc"]));
        assert_ne!(hash_of(&[b""]), hash_of(&[]));
    }
}
