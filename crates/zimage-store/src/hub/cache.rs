//! The cache on disk, in the layout of huggingface_hub, which shares it:
//!
//! ```text
//! models--Org--Name/
//!   blobs/<digest>             the bytes; <digest>.incomplete while they arrive
//!   refs/<revision>            the commit that a branch or tag stood for
//!   snapshots/<commit>/<path>  links to the blobs
//! .locks/models--Org--Name/<digest>.lock
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::Hub;
use super::listing::{BlobId, RemoteFile, is_commit};
use crate::files::{make_parent, remove_all, temporary_beside, write_at_once};
use crate::{Error, Result};

/// One repository in the cache.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    directory: PathBuf,
    folder: String,
}

impl Cache {
    pub(crate) fn new(hub: &Hub, id: &str) -> Self {
        Self { directory: hub.cache.clone(), folder: format!("models--{}", id.replace('/', "--")) }
    }

    /// The directory of all repositories.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn root(&self) -> PathBuf {
        self.directory.join(&self.folder)
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root().join("snapshots").join(commit)
    }

    pub(super) fn blob(&self, id: &BlobId) -> PathBuf {
        self.root().join("blobs").join(id.to_string())
    }

    pub(super) fn incomplete(&self, id: &BlobId) -> PathBuf {
        self.root().join("blobs").join(format!("{id}.incomplete"))
    }

    /// The commit that a revision stands for.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = fs::read_to_string(self.root().join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Remembers which commit a revision stands for.
    pub(crate) fn write_ref(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit {
            return Ok(());
        }
        write_at_once(&self.root().join("refs").join(revision), commit.as_bytes())
    }

    /// Bytes of a file that are here: all of them where it is whole, those of the partial file else.
    pub(crate) fn present_bytes(&self, file: &RemoteFile, commit: &str) -> u64 {
        if self.is_whole(file, commit) {
            return file.size;
        }
        let partial = fs::metadata(self.incomplete(&file.id)).map_or(0, |metadata| metadata.len());
        // The last byte is only trusted after the digest.
        partial.min(file.size.saturating_sub(1))
    }

    /// Whether the blob is here, or the file in its place where a system has no links. A blob of another size than the
    /// repository says is a damaged one.
    pub(crate) fn is_whole(&self, file: &RemoteFile, commit: &str) -> bool {
        let is_whole = |path: &Path| fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == file.size);
        is_whole(&self.blob(&file.id)) || self.in_place(file, commit) && is_whole(&self.place(file, commit))
    }

    fn place(&self, file: &RemoteFile, commit: &str) -> PathBuf {
        self.snapshot(commit).join(&file.path)
    }

    /// Whether a snapshot has a file itself and not a link.
    fn in_place(&self, file: &RemoteFile, commit: &str) -> bool {
        fs::symlink_metadata(self.place(file, commit)).is_ok_and(|found| found.is_file())
    }

    /// Puts a file whose blob is here into its snapshot.
    pub(crate) fn link(&self, file: &RemoteFile, commit: &str) -> Result<()> {
        let place = self.place(file, commit);
        let blob = self.blob(&file.id);
        if !blob.exists() || place.canonicalize().ok().is_some_and(|found| blob.canonicalize().ok() == Some(found)) {
            return Ok(());
        }
        make_parent(&place)?;
        // From `snapshots/<commit>` two steps lead up, and one more from each folder below it.
        let up = "../".repeat(2 + file.path.matches('/').count());
        let temporary = temporary_beside(&place);
        let linked = symlink(Path::new(&format!("{up}blobs/{}", file.id)), &temporary)
            // Where nobody may make symbolic links, a second name costs no space either, and a copy always works.
            .or_else(|_| fs::hard_link(&blob, &temporary))
            .or_else(|_| fs::copy(&blob, &temporary).map(drop))
            .and_then(|()| fs::rename(&temporary, &place));
        linked.map_err(Error::io("link", &place))
    }

    /// Takes the lock on a blob that huggingface_hub takes as well; `None` while another program has it. Held as long as
    /// the file lives.
    pub(super) fn lock(&self, id: &BlobId) -> Result<Option<File>> {
        let path = self.directory.join(".locks").join(&self.folder).join(format!("{id}.lock"));
        make_parent(&path)?;
        let open = File::options().create(true).truncate(false).write(true).open(&path);
        let file = open.map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            // A file system without locks. Two programs then write the same bytes to the same places.
            Err(TryLockError::Error(_)) => Ok(Some(file)),
        }
    }
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

/// What taking files out of a cache did.
#[derive(Debug, Default)]
pub(crate) struct Released {
    pub(crate) freed_bytes: u64,
    /// Blobs that another snapshot needs.
    pub(crate) shared: Vec<PathBuf>,
}

/// Takes files out of a snapshot, and with them the blobs that no other snapshot has; folders that become empty go as
/// well, and in the end the whole repository.
pub(crate) fn release(snapshot: &Path, paths: &[&str]) -> Result<Released> {
    let mut released = Released::default();
    let mut blobs = BTreeSet::new();
    // Whatever a record says, nothing is removed for it outside of a repository's folder.
    let Some(root) = repository_of(snapshot) else { return Ok(released) };
    for path in paths {
        let place = snapshot.join(path);
        let Ok(metadata) = fs::symlink_metadata(&place) else { continue };
        match metadata.is_symlink().then(|| place.canonicalize().ok()).flatten() {
            Some(blob) => drop(blobs.insert(blob)),
            None => released.freed_bytes += if metadata.is_file() { metadata.len() } else { 0 },
        }
        fs::remove_file(&place).map_err(Error::io("remove", &place))?;
        remove_empty_parents(&place, snapshot.parent().unwrap_or(snapshot));
    }
    let needed = linked_blobs(&root.join("snapshots"));
    let own_blobs = root.join("blobs").canonicalize().ok();
    for blob in blobs {
        // A link that leads out of the repository leads to a file of somebody else.
        if blob.parent().map(Path::to_path_buf) != own_blobs {
            continue;
        }
        if needed.contains(&blob) {
            released.shared.push(blob);
            continue;
        }
        released.freed_bytes += fs::metadata(&blob).map_or(0, |metadata| metadata.len());
        fs::remove_file(&blob).map_err(Error::io("remove", &blob))?;
    }
    forget_refs(root)?;
    Ok(released)
}

/// The folder `models--Org--Name` around `snapshots/<commit>`.
fn repository_of(snapshot: &Path) -> Option<&Path> {
    let is_named =
        |path: &Path, fits: &dyn Fn(&str) -> bool| path.file_name()?.to_str().filter(|name| fits(name)).map(drop);
    is_named(snapshot, &is_commit)?;
    let snapshots = snapshot.parent()?;
    is_named(snapshots, &|name| name == "snapshots")?;
    let root = snapshots.parent()?;
    is_named(root, &|name| name.starts_with("models--"))?;
    Some(root)
}

/// All blobs that links of the snapshots lead to.
fn linked_blobs(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(linked_blobs(&entry.path())),
            Ok(kind) if kind.is_symlink() => found.extend(entry.path().canonicalize()),
            _ => {}
        }
    }
    found
}

/// Removes the references to snapshots that are gone, and a repository without any.
fn forget_refs(root: &Path) -> Result<()> {
    let snapshots = root.join("snapshots");
    if fs::read_dir(&snapshots).is_ok_and(|mut entries| entries.next().is_some()) {
        for name in crate::files::list(&root.join("refs")).unwrap_or_default() {
            let path = root.join("refs").join(name);
            let commit = fs::read_to_string(&path).unwrap_or_default();
            if is_commit(commit.trim()) && !snapshots.join(commit.trim()).exists() {
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
        return Ok(());
    }
    if root.exists() { remove_all(root) } else { Ok(()) }
}

/// Removes the folders above a path that are empty, below `stop`.
fn remove_empty_parents(path: &Path, stop: &Path) {
    let parents = path.ancestors().skip(1).take_while(|parent| *parent != stop);
    // The first that is not empty ends it.
    let _ = parents.map(fs::remove_dir).take_while(Result::is_ok).count();
}
