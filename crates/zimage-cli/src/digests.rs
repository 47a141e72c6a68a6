//! SHA-256 of the model's weight files, remembered, so that 20 GB are not read anew for every picture.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use zimage::pipeline::metadata::FileRecord;
use zimage_weights::digest::{sha256_bytes, sha256_file};
use zimage_weights::{Checkpoint, Component};

use crate::failure::Failure;
use crate::output;

/// What was known of a file when it was hashed. Another size or time of change means another file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    size_bytes: u64,
    changed_ns: u128,
    sha256: String,
}

/// The part that has no weights.
const TOKENIZER: &str = "tokenizer";

/// Digests by absolute path, kept in `<home>/cache/digests.json`.
pub struct Digests {
    path: PathBuf,
    known: BTreeMap<String, Known>,
    changed: bool,
}

impl Digests {
    /// Reads the cache; one that is missing or damaged is empty.
    pub fn load(home: &Path) -> Self {
        let path = home.join("cache").join("digests.json");
        let known = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Self { path, known, changed: false }
    }

    /// The files of a checkpoint that pictures depend on, with their digests and what was taken from each.
    pub fn of_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<Vec<FileRecord>, Failure> {
        let root = Path::new(checkpoint.label());
        let mut records: Vec<FileRecord> = Vec::new();
        for (part, container) in checkpoint.containers().map_err(zimage::Error::from)? {
            for path in container.files().iter().filter_map(|file| file.path()) {
                add(&mut records, recorded(path, root), self.of_file(path)?, &part);
            }
        }
        for (path, bytes) in checkpoint.embedded_files().filter(|(path, _)| path.ends_with(".safetensors")) {
            let part = Component::ALL.into_iter().find(|part| path.starts_with(part.folder()));
            let part = part.map_or_else(String::new, |part| part.to_string());
            add(&mut records, path.into(), sha256_bytes(bytes), &part);
        }
        let tokenizer = checkpoint.tokenizer_json().map_err(zimage::Error::from)?;
        match checkpoint.tokenizer_path() {
            Some(path) => add(&mut records, recorded(&path, root), sha256_bytes(&tokenizer), TOKENIZER),
            None => add(&mut records, "tokenizer.json".into(), sha256_bytes(&tokenizer), TOKENIZER),
        }
        self.save();
        Ok(records)
    }

    fn of_file(&mut self, path: &Path) -> Result<String, Failure> {
        let io = |error| Failure::model(format!("cannot read {}: {error}", path.display()));
        let absolute = path.canonicalize().map_err(io)?;
        let metadata = fs::metadata(&absolute).map_err(io)?;
        let changed = metadata.modified().map_err(io)?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let key = absolute.display().to_string();
        let (size_bytes, changed_ns) = (metadata.len(), changed.as_nanos());
        if let Some(known) = self.known.get(&key)
            && (known.size_bytes, known.changed_ns) == (size_bytes, changed_ns)
        {
            return Ok(known.sha256.clone());
        }
        tracing::info!("hashing {key}");
        let sha256 = sha256_file(&absolute).map_err(zimage::Error::from)?;
        self.known.insert(key, Known { size_bytes, changed_ns, sha256: sha256.clone() });
        self.changed = true;
        Ok(sha256)
    }

    /// A cache that cannot be written costs time at the next run, and nothing else.
    fn save(&mut self) {
        if !self.changed {
            return;
        }
        let text = serde_json::to_vec(&self.known).expect("the cache is plain data: this is a bug");
        if let Err(failure) = output::replace(&self.path, &text) {
            tracing::warn!("digests are not remembered: {failure}");
        }
        self.changed = false;
    }
}

/// Adds a file, or a part to a file that is there: one file may hold several.
fn add(records: &mut Vec<FileRecord>, path: String, sha256: String, part: &str) {
    match records.iter_mut().find(|record| record.path == path && record.sha256 == sha256) {
        Some(record) if record.parts.iter().any(|known| known == part) => {}
        Some(record) => record.parts.push(part.to_owned()),
        None => records.push(FileRecord { path, sha256, parts: vec![part.to_owned()] }),
    }
}

/// A file's path in a model's directory; elsewhere its name and its folder's, which tell files apart without telling
/// where their owner keeps them.
fn recorded(path: &Path, root: &Path) -> String {
    let full;
    let shown = match path.strip_prefix(root) {
        Ok(relative) if root.join("model_index.json").is_file() => relative,
        _ => {
            // A link has the name that its user gave it.
            full = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
            let folder = full.parent().and_then(Path::parent).unwrap_or(Path::new(""));
            full.strip_prefix(folder).unwrap_or(&full)
        }
    };
    let names: Vec<_> = shown.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    names.join("/")
}
