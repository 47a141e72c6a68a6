//! Small chores on the file system: files that are whole or not there, and lists of a directory's files.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Result};

/// How deep a model's directory may be; keeps loops of links finite.
const MAX_DEPTH: usize = 4;

/// Writes a file at once: readers see the old contents or the new ones.
pub(crate) fn write_at_once(path: &Path, bytes: &[u8]) -> Result<()> {
    make_parent(path)?;
    let temporary = temporary_beside(path);
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&temporary))).map_err(Error::io("write", path))
}

/// Copies a file or the files of a directory to a place where nothing is; it appears there whole.
pub(crate) fn copy_at_once(from: &Path, files: &[String], to: &Path) -> Result<()> {
    let temporary = temporary_beside(to);
    let copy = || {
        if !from.is_dir() {
            return copy_file(from, &temporary);
        }
        files.iter().try_for_each(|file| copy_file(&from.join(file), &temporary.join(file)))
    };
    let renamed = copy().and_then(|()| fs::rename(&temporary, to).map_err(Error::io("write", to)));
    renamed.inspect_err(|_| drop(remove_all(&temporary)))
}

fn copy_file(from: &Path, to: &Path) -> Result<()> {
    make_parent(to)?;
    fs::copy(from, to).map_err(Error::io("copy", from))?;
    File::open(to).and_then(|file| file.sync_all()).map_err(Error::io("write", to))
}

/// A name beside a file that nobody else uses, for what is not finished yet.
pub(crate) fn temporary_beside(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}-{count}.tmp", std::process::id()))
}

/// Makes the directory of a file.
pub(crate) fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(Error::io("make the directory", parent))
}

/// Removes a file, a link or a directory with all in it.
pub(crate) fn remove_all(path: &Path) -> Result<()> {
    let metadata = fs::symlink_metadata(path).map_err(Error::io("remove", path))?;
    let removed = if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(Error::io("remove", path))
}

/// Paths of all files below a directory, with `/` between their parts, sorted. Hidden ones are left out.
pub(crate) fn list(directory: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    walk(directory, "", 0, &mut found)?;
    found.sort();
    Ok(found)
}

fn walk(directory: &Path, prefix: &str, depth: usize, found: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(directory).map_err(Error::io("read", directory))? {
        let entry = entry.map_err(Error::io("read", directory))?;
        let name = entry.file_name();
        // A name that is no text cannot be in a checkpoint's layout.
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        let path = entry.path();
        if path.is_file() {
            found.push(format!("{prefix}{name}"));
        } else if path.is_dir() && depth < MAX_DEPTH {
            walk(&path, &format!("{prefix}{name}/"), depth + 1, found)?;
        }
    }
    Ok(())
}

/// Whether a path with `/` between its parts stays below the directory that it is joined to, on every system.
pub(crate) fn is_below(path: &str) -> bool {
    let part = |part: &str| {
        !matches!(part, "" | "." | "..") && !part.contains(['\\', ':']) && !part.chars().any(char::is_control)
    };
    path.len() <= 512 && path.split('/').all(part)
}
