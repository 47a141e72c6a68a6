//! Models from elsewhere on the disk.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use zimage_weights::digest::sha256_file;

use super::{Model, Store};
use crate::files::{copy_at_once, list, remove_all};
use crate::{Error, Event, FileRecord, Name, Record, Result, Source, Standing};

/// What to import, and how.
#[derive(Debug, Clone)]
pub struct Import {
    /// A file or a directory that is a model, or a part of one.
    pub path: PathBuf,
    /// Its name; without it, that of the path.
    pub name: Option<Name>,
    /// Whether the files are copied into the store, and not only referred to.
    pub copy: bool,
}

impl Store {
    /// Makes a record of a model that is on the disk already, with the digests of its files, which are all read for it.
    ///
    /// Refuses what this program cannot use at all ([`Error::NotUsable`]) and names that are taken ([`Error::Taken`]).
    pub fn import(&self, import: &Import, on: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<Model> {
        // Links are kept: their names have the ending, and the files beside them belong to the model.
        let path = place_of(&import.path).map_err(Error::io("open", &import.path))?;
        let name = import.name.clone().map_or_else(|| default_name(&path), Ok)?;
        if let Some(reason) = Standing::of(&path).problem {
            return Err(Error::NotUsable { path, reason });
        }
        // What lies in the models directory under this name is the very model that gets a record.
        if path != self.models.join(name.as_str()) {
            self.check_free(&name, |record| record.path == path && record.source == Source::Link && !import.copy)?;
        }
        let (root, files) = files_of(&path)?;
        let mut records =
            files.iter().map(|file| record_file(&root, file, import.copy, on)).collect::<Result<Vec<_>>>()?;
        let record = if import.copy {
            self.copy(&path, &root, &name, &mut records, on)?
        } else {
            Record::new(path, root, Source::Link, true, records)
        };
        record.write(&self.record_place(&name))?;
        Ok(self.recorded(&name, self.active()?.as_deref() == Some(name.as_str())))
    }

    fn copy(
        &self,
        path: &Path,
        root: &Path,
        name: &Name,
        files: &mut [FileRecord],
        on: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Record> {
        let total = files.iter().map(|file| file.size_bytes).sum();
        super::pull::check_space(&self.models, total)?;
        tell(on, Event::Reading { path: path.to_path_buf(), size_bytes: total })?;
        let source = Source::Copy { from: path.to_path_buf() };
        let paths: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
        let (from, target) = match path.is_dir() {
            true => (root.to_path_buf(), self.models.join(name.as_str())),
            false => {
                let ending = path.extension().map(|ending| format!(".{}", ending.to_string_lossy()));
                (path.to_path_buf(), self.models.join(format!("{name}{}", ending.unwrap_or_default())))
            }
        };
        if target.exists() {
            return Err(Error::Taken { name: name.to_string(), what: target.display().to_string() });
        }
        copy_at_once(&from, &paths, &target)?;
        if let Some(reason) = Standing::of(&target).problem {
            remove_all(&target)?;
            let reason = format!("without the files beside it, it is of no use: {reason}");
            return Err(Error::NotUsable { path: path.to_path_buf(), reason });
        }
        if path.is_dir() {
            return Ok(Record::new(target.clone(), target, source, true, files.to_vec()));
        }
        let file_name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.iter_mut().for_each(|file| file.path.clone_from(&file_name));
        Ok(Record::new(target, self.models.clone(), source, true, files.to_vec()))
    }
}

/// The absolute path of a file or directory, by its own name: only what is above it is looked up.
fn place_of(path: &Path) -> std::io::Result<PathBuf> {
    let Some(name) = path.file_name() else { return path.canonicalize() };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok(parent.unwrap_or(Path::new(".")).canonicalize()?.join(name))
}

fn default_name(path: &Path) -> Result<Name> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if path.is_dir() { Name::new(&name) } else { Name::of_file(&name) }
}

/// The files of a model, and the directory that their paths begin at. Of an index, the shards beside it belong to it.
fn files_of(path: &Path) -> Result<(PathBuf, Vec<String>)> {
    if path.is_dir() {
        return Ok((path.to_path_buf(), list(path)?.into_iter().filter(|file| belongs(file)).collect()));
    }
    let root = path.parent().unwrap_or(Path::new("/")).to_path_buf();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(stem) = name.strip_suffix(".safetensors.index.json") else { return Ok((root, vec![name])) };
    let is_shard = |entry: &String| entry.starts_with(&format!("{stem}-")) && entry.ends_with(".safetensors");
    let shards = super::entries(&root)?.into_iter().filter(is_shard);
    Ok((root, shards.chain([name.clone()]).collect()))
}

/// Whether a file of a directory is part of a model, and not a picture or a text about it.
fn belongs(path: &str) -> bool {
    let ending = path.rsplit_once('.').map_or("", |(_, ending)| ending);
    matches!(ending, "safetensors" | "gguf" | "json" | "txt" | "jinja" | "model")
}

fn record_file(
    root: &Path,
    file: &str,
    owned: bool,
    on: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<FileRecord> {
    let path = root.join(file);
    let size_bytes = fs::metadata(&path).map_err(Error::io("open", &path))?.len();
    tell(on, Event::Reading { path: path.clone(), size_bytes })?;
    Ok(FileRecord { path: file.to_owned(), size_bytes, sha256: Some(sha256_file(&path)?), owned })
}

/// Tells the caller, who may stop the work.
pub(super) fn tell(on: &mut dyn FnMut(Event) -> ControlFlow<()>, event: Event) -> Result<()> {
    if on(event).is_break() { Err(Error::Cancelled) } else { Ok(()) }
}
