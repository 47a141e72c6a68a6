//! Models from a hub.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use zimage_weights::digest::sha256_file;

use super::import::tell;
use super::{Model, Store};
use crate::files::make_parent;
use crate::hub::{Cache, Fetch, Http, Hub, Listing, RemoteFile, Repo, choose, fetch};
use crate::{Error, Event, FileRecord, Name, Older, PlannedFile, Record, Result, Source, Standing};

/// Space that is left free on a disk, for everything else that goes on there.
const SPARE_BYTES: u64 = 64 << 20;

/// A model that was pulled.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The model.
    pub model: Model,
    /// What it is good for; a repository may hold anything.
    pub standing: Standing,
    /// Bytes that came over the network.
    pub fetched_bytes: u64,
}

impl Store {
    /// Fetches what Z-Image needs of a repository, as far as the hub's cache does not have it, and makes a record of it.
    ///
    /// A pull that is stopped, by an error or by the caller, goes on where it was when it is repeated. With
    /// [`Hub::offline`], the record is made from what the cache has. Errors beside those of the network: a name that is
    /// taken, several models in one repository ([`Error::Choose`]), too little space ([`Error::Space`]).
    pub fn pull(
        &self,
        hub: &Hub,
        repo: &Repo,
        name: Option<Name>,
        on: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Pulled> {
        let name = name.map_or_else(|| default_name(repo), Ok)?;
        let earlier = self.check_free(&name, |record| is_of(record, repo))?;
        let cache = Cache::new(hub, repo.id());
        let http = Http::new(hub)?;
        let listing = if hub.offline { Listing::cached(&cache, repo)? } else { Listing::fetch(&http, repo, on)? };
        let commit = listing.commit;
        let choice = choose(listing.files, repo, &hub.endpoint)?;
        let mut files = choice.wanted;
        files.sort_by_key(|file| std::cmp::Reverse(file.size));

        let plan: Vec<PlannedFile> = files.iter().map(|file| planned(file, &cache, &commit)).collect();
        let missing = plan.iter().map(|file| file.size_bytes.saturating_sub(file.present_bytes));
        let needed = missing.fold(0, u64::saturating_add);
        if needed > 0 {
            check_space(cache.directory(), needed)?;
        }
        let root = cache.snapshot(&commit);
        let path = repo.file().map_or_else(|| root.clone(), |file| root.join(file));
        let source = Source::Hub {
            endpoint: hub.endpoint.clone(),
            repo: repo.id().to_owned(),
            revision: repo.revision().to_owned(),
            commit: commit.clone(),
        };
        let (now, older): (Vec<Older>, Vec<Older>) =
            earlier.iter().flat_map(Record::owned).partition(|owned| owned.root == root);
        let records = files.iter().map(|file| recorded(file, &root, &now)).collect();
        let mut record = Record::new(path, root, source, false, records);
        record.older = older;
        // Written before anything is fetched, so that what an interrupted pull left can be removed.
        record.write(&self.record_place(&name))?;
        tell(on, Event::Planned { commit: commit.clone(), files: plan, skipped: choice.skipped })?;

        fetch(&Fetch { http: &http, repo, cache: &cache, commit: &commit, files: &files }, on)?;
        cache.write_ref(repo.revision(), &commit)?;
        finish(&mut record)?;
        record.write(&self.record_place(&name))?;
        let model = self.recorded(&name, self.active()?.as_deref() == Some(name.as_str()));
        Ok(Pulled { standing: model.standing(), model, fetched_bytes: needed })
    }
}

/// The name that a repository gives a model: its own, or that of the file.
fn default_name(repo: &Repo) -> Result<Name> {
    match repo.file() {
        Some(file) => Name::of_file(file),
        None => Name::new(repo.id().rsplit_once('/').map_or(repo.id(), |(_, name)| name)),
    }
}

/// Whether a record is of the same repository, and of the same file of it where it is of a file.
fn is_of(record: &Record, repo: &Repo) -> bool {
    let Source::Hub { repo: id, .. } = &record.source else { return false };
    let file = record.path.strip_prefix(&record.root).ok().filter(|file| !file.as_os_str().is_empty());
    id == repo.id() && file == repo.file().map(Path::new)
}

fn planned(file: &RemoteFile, cache: &Cache, commit: &str) -> PlannedFile {
    PlannedFile { path: file.path.clone(), size_bytes: file.size, present_bytes: cache.present_bytes(file, commit) }
}

/// What was in the snapshot before the first pull belongs to whoever put it there.
fn recorded(file: &RemoteFile, root: &Path, earlier: &[Older]) -> FileRecord {
    let was_owned = earlier.iter().any(|older| older.paths.contains(&file.path));
    let owned = was_owned || std::fs::symlink_metadata(root.join(&file.path)).is_err();
    FileRecord { path: file.path.clone(), size_bytes: file.size, sha256: None, owned }
}

/// Fills in the digests: large files were checked against them, small ones are read.
fn finish(record: &mut Record) -> Result<()> {
    let root: PathBuf = record.root.clone();
    for file in &mut record.files {
        let place = root.join(&file.path);
        let blob = place.canonicalize().map_err(Error::io("open", &place))?;
        let name = blob.file_name().unwrap_or_default().to_string_lossy();
        let is_digest = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        file.sha256 = Some(if is_digest { name.into_owned() } else { sha256_file(&blob)? });
    }
    record.complete = true;
    Ok(())
}

/// Refuses to begin what the disk has no room for.
pub(super) fn check_space(directory: &Path, needed: u64) -> Result<()> {
    make_parent(&directory.join("x"))?;
    let available = fs4::available_space(directory).map_err(Error::io("read", directory))?;
    if needed.saturating_add(SPARE_BYTES) > available {
        return Err(Error::Space { path: directory.to_path_buf(), needed, available });
    }
    Ok(())
}
