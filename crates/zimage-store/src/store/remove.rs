//! Taking a model off the machine, and only what the store brought there.

use std::path::{Path, PathBuf};

use super::Store;
use crate::files::remove_all;
use crate::hub::release;
use crate::{Error, Name, Record, Result, Source};

/// What was removed, and what was not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// The name of the model.
    pub name: String,
    /// Bytes that are free now.
    pub freed_bytes: u64,
    /// Files and directories that stay, each with the reason.
    pub left: Vec<(PathBuf, String)>,
    /// Whether it was the default model; nothing is now.
    pub was_active: bool,
}

impl Store {
    /// Removes a model's record, and those of its files that the store copied or fetched and no other model needs.
    ///
    /// Errors: [`Error::Unknown`], and [`Error::ByHand`] for a model that its user put into the models directory.
    pub fn remove(&self, name: &str) -> Result<Removed> {
        let model = self.named(name)?;
        let mut removed = Removed { name: model.name.clone(), was_active: model.active, ..Removed::default() };
        match &model.record {
            None if model.damage.is_none() => return Err(Error::ByHand { name: model.name, path: model.path }),
            // What a damaged record stood for is not known any more.
            None => {}
            Some(record) => match &record.source {
                Source::Link => removed.left.push((record.path.clone(), "it was imported without a copy".to_owned())),
                Source::Copy { .. } => self.remove_copy(record, &mut removed)?,
                Source::Hub { .. } => self.remove_pulled(&model.name, record, &mut removed)?,
            },
        }
        // The record goes last: whatever failed before can be tried again.
        remove_all(&self.record_place(&Name::new(&model.name)?))?;
        if model.active {
            self.clear_active()?;
        }
        Ok(removed)
    }

    fn remove_copy(&self, record: &Record, removed: &mut Removed) -> Result<()> {
        // Whatever a record says, nothing outside of the store is removed for it.
        if record.path.parent() != Some(self.models.as_path()) {
            removed.left.push((record.path.clone(), "it is not in the models directory".to_owned()));
        } else if record.path.exists() {
            removed.freed_bytes += record.files.iter().map(|file| size(&record.place(file))).sum::<u64>();
            remove_all(&record.path)?;
        }
        Ok(())
    }

    fn remove_pulled(&self, name: &str, record: &Record, removed: &mut Removed) -> Result<()> {
        let others: Vec<Record> =
            self.models()?.into_iter().filter(|model| model.name != name).filter_map(|model| model.record).collect();
        let is_needed = |root: &Path, path: &str| {
            others.iter().any(|other| other.root == root && other.files.iter().any(|file| file.path == path))
        };
        for owned in record.owned() {
            let (kept, gone): (Vec<&str>, Vec<&str>) =
                owned.paths.iter().map(String::as_str).partition(|path| is_needed(&owned.root, path));
            let released = release(&owned.root, &gone)?;
            removed.freed_bytes += released.freed_bytes;
            let kept = kept.into_iter().map(|path| (owned.root.join(path), "another model needs it".to_owned()));
            let shared = released.shared.into_iter().map(|blob| (blob, "another snapshot needs it".to_owned()));
            removed.left.extend(kept.chain(shared));
        }
        // An earlier commit of this very model may have needed them.
        removed.left.retain(|(path, _)| path.exists());
        let others = record.files.iter().filter(|file| !file.owned);
        removed.left.extend(others.map(|file| (record.place(file), "it was in the cache before".to_owned())));
        Ok(())
    }
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}
