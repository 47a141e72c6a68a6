//! One file from the hub into a blob: resumed where an earlier run stopped, tried again where the network fails, checked
//! against its digest, and only then given its name.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::Digest;
use ureq::Body;
use ureq::http::{Response, StatusCode};

use super::http::{Http, Trouble};
use super::listing::BlobId;
use super::{RemoteFile, Repo};
use crate::files::make_parent;
use crate::{Error, Result};

const PIECE_BYTES: usize = 256 << 10;

/// What a transfer tells, and asks.
pub(super) trait Watcher {
    /// Bytes of the file that are on the disk.
    fn received(&self, bytes: u64);
    /// A failure that is not the last one; returns after the pause.
    fn retrying(&self, reason: String, pause: std::time::Duration);
    /// Whether the user has had enough.
    fn is_stopped(&self) -> bool;
}

/// A file to fetch.
pub(super) struct Transfer<'a> {
    pub(super) http: &'a Http,
    pub(super) repo: &'a Repo,
    pub(super) url: String,
    pub(super) file: &'a RemoteFile,
    pub(super) incomplete: PathBuf,
    pub(super) blob: PathBuf,
}

impl Transfer<'_> {
    /// Fetches the rest of the file, checks it and gives it its name. Nobody else may write to it meanwhile.
    pub(super) fn run(&self, watcher: &dyn Watcher) -> Result<()> {
        let mut partial = Partial::open(&self.incomplete, self.file)?;
        let mut is_patchwork = partial.len > 0;
        let mut second_chance = true;
        let mut failures = 0;
        loop {
            let before = partial.len;
            watcher.received(before);
            let (reason, pause) = match self.attempt(&mut partial, watcher) {
                Ok(()) => match partial.finish(&self.file.id, &self.blob)? {
                    None => return Ok(()),
                    // The beginning may be from another time and another file; a second copy is made from one piece.
                    Some(_) if is_patchwork && second_chance => {
                        second_chance = false;
                        partial = Partial::open(&self.incomplete, self.file)?;
                        continue;
                    }
                    Some(found) => return Err(self.damaged(found)),
                },
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Passing { reason, pause }) => (reason, pause),
                Err(Trouble::Range) => {
                    partial.restart()?;
                    ("the server has no rest of it".to_owned(), None)
                }
            };
            is_patchwork |= partial.len > 0;
            failures = if partial.len > before { 1 } else { failures + 1 };
            if failures >= self.http.hub.retry.attempts {
                return Err(Error::Transfer { what: self.file.path.clone(), reason, attempts: failures });
            }
            watcher.retrying(reason, self.http.hub.retry.pause(failures, pause));
            if watcher.is_stopped() {
                return Err(Error::Cancelled);
            }
        }
    }

    fn damaged(&self, found: String) -> Error {
        Error::Damaged { what: self.file.path.clone(), expected: self.file.id.to_string(), found }
    }

    /// Asks once, and takes what comes, up to the end of the file.
    fn attempt(&self, partial: &mut Partial, watcher: &dyn Watcher) -> Result<(), Trouble> {
        if partial.len == self.file.size {
            return Ok(());
        }
        let from = Some(partial.len).filter(|from| *from > 0);
        let response = self.http.get(&self.url, self.repo, from)?;
        match (from, response.status()) {
            (Some(from), StatusCode::PARTIAL_CONTENT) => self.check_range(&response, from)?,
            // The server does not know ranges, and begins anew.
            (Some(_), _) => partial.restart()?,
            (None, StatusCode::PARTIAL_CONTENT) => return Err(Trouble::passing("a part came, and all was asked for")),
            (None, _) => {}
        }
        let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut piece = vec![0; PIECE_BYTES];
        while partial.len < self.file.size {
            if watcher.is_stopped() {
                return Err(Error::Cancelled.into());
            }
            // What comes after the end by the repository's list is not looked at.
            let room = (self.file.size - partial.len).min(PIECE_BYTES as u64) as usize;
            let count = match body.read(&mut piece[..room]) {
                Ok(0) => return Err(self.cut(partial.len, "")),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.cut(partial.len, &format!(" ({error})"))),
            };
            partial.write(&piece[..count])?;
            watcher.received(partial.len);
        }
        Ok(())
    }

    /// A part must begin where the last one ended, and belong to a file of the right size.
    fn check_range(&self, response: &Response<Body>, from: u64) -> Result<(), Trouble> {
        let header = response.headers().get("Content-Range").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let parsed = || {
            let (range, total) = header.strip_prefix("bytes ")?.split_once('/')?;
            Some((
                range.split_once('-')?.0.parse().ok()?,
                total.parse().ok().or((total == "*").then_some(self.file.size))?,
            ))
        };
        let parsed: Option<(u64, u64)> = parsed();
        if parsed == Some((from, self.file.size)) {
            return Ok(());
        }
        let expected = format!("bytes {from}- of {}", self.file.size);
        Err(Trouble::passing(format!("the server sent the range {header:?}, expected {expected}")))
    }

    fn cut(&self, at: u64, error: &str) -> Trouble {
        Trouble::passing(format!("the connection ended at {at} of {} bytes{error}", self.file.size))
    }
}

/// The beginning of a file on disk, and the digest of it.
struct Partial {
    path: PathBuf,
    file: File,
    len: u64,
    size: u64,
    digest: Running,
}

impl Partial {
    /// Opens what is there and reads it, since a digest has no other way to begin.
    fn open(path: &Path, wanted: &RemoteFile) -> Result<Self> {
        make_parent(path)?;
        let open = File::options().create(true).truncate(false).read(true).write(true).open(path);
        let file = open.map_err(Error::io("open", path))?;
        let digest = Running::new(&wanted.id, wanted.size);
        let mut partial = Self { path: path.to_path_buf(), file, len: 0, size: wanted.size, digest };
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match partial.file.read(&mut piece).map_err(Error::io("read", path))? {
                0 => return Ok(partial),
                count => {
                    partial.digest.update(&piece[..count]);
                    partial.len += count as u64;
                }
            }
            if partial.len > wanted.size {
                partial.restart()?;
                return Ok(partial);
            }
        }
    }

    /// Begins anew in a new file: another program may still have the old one under its final name.
    fn restart(&mut self) -> Result<()> {
        fs::remove_file(&self.path).map_err(Error::io("remove", &self.path))?;
        let open = File::options().create(true).truncate(true).read(true).write(true).open(&self.path);
        self.file = open.map_err(Error::io("open", &self.path))?;
        self.len = 0;
        self.digest.reset(self.size);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.seek(SeekFrom::Start(self.len)).and_then(|_| self.file.write_all(bytes));
        written.map_err(Error::io("write", &self.path))?;
        self.digest.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Gives a file with the right digest its name; any other is removed, and its digest returned.
    fn finish(&mut self, id: &BlobId, blob: &Path) -> Result<Option<String>> {
        let found = self.digest.take(self.size);
        if found != id.to_string() {
            fs::remove_file(&self.path).map_err(Error::io("remove", &self.path))?;
            return Ok(Some(found));
        }
        let named = self.file.sync_all().and_then(|()| fs::rename(&self.path, blob));
        named.map(|()| None).map_err(Error::io("write", blob))
    }
}

/// A digest under way.
enum Running {
    Sha256(sha2::Sha256),
    Git(sha1::Sha1),
}

impl Running {
    fn new(id: &BlobId, size: u64) -> Self {
        let mut running = match id {
            BlobId::Sha256(_) => Self::Sha256(sha2::Sha256::new()),
            BlobId::Git(_) => Self::Git(sha1::Sha1::new()),
        };
        running.reset(size);
        running
    }

    /// Begins anew; git puts a header before the bytes of a file.
    fn reset(&mut self, size: u64) {
        match self {
            Self::Sha256(digest) => digest.reset(),
            Self::Git(digest) => {
                digest.reset();
                Digest::update(digest, format!("blob {size}\0"));
            }
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(digest) => Digest::update(digest, bytes),
            Self::Git(digest) => Digest::update(digest, bytes),
        }
    }

    /// The digest in lower-case hexadecimal; begins anew.
    fn take(&mut self, size: u64) -> String {
        let text = match self {
            Self::Sha256(digest) => hex(&digest.finalize_reset()),
            Self::Git(digest) => hex(&digest.finalize_reset()),
        };
        self.reset(size);
        text
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
