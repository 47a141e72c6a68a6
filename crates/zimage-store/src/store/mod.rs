//! The store: `<home>/models`.
//!
//! ```text
//! <home>/models/NAME            a file or directory put there by its user, or copied there by an import
//! <home>/models/.store/NAME.json  the record of a model that was imported or pulled
//! <home>/models/.store/active     the name of the default model
//! ```

mod import;
mod pull;
mod remove;
mod verify;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::files::{remove_all, write_at_once};
use crate::{Error, Name, Record, Result, Source, Standing};

pub use import::Import;
pub use pull::Pulled;
pub use remove::Removed;
pub use verify::{Check, Verdict};

const RECORDS: &str = ".store";
const ACTIVE: &str = "active";
/// Endings of files that are models or claim to be; others in the models directory belong to them.
const ENDINGS: [&str; 9] = ["safetensors", "sft", "gguf", "ckpt", "pt", "pth", "bin", "zip", "npz"];

/// The models of a home directory. Nothing is read before it is asked for.
#[derive(Debug, Clone)]
pub struct Store {
    models: PathBuf,
}

/// An installed model.
#[derive(Debug, Clone)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// What is opened: a directory or a file.
    pub path: PathBuf,
    /// How it came here; none for what its user put into the models directory.
    pub record: Option<Record>,
    /// Whether it is the default.
    pub active: bool,
    /// Why its record cannot be used.
    damage: Option<String>,
}

impl Model {
    /// What it is good for.
    pub fn standing(&self) -> Standing {
        match (&self.damage, &self.record) {
            (Some(damage), _) => Standing::broken(damage.clone()),
            (None, Some(record)) if !record.complete => Standing::broken("it was not fetched to the end".to_owned()),
            _ => Standing::of(&self.path),
        }
    }
}

impl Store {
    /// The store of a home directory, which need not exist.
    pub fn new(home: &Path) -> Self {
        let home = std::path::absolute(home).unwrap_or_else(|_| home.to_path_buf());
        Self { models: home.join("models") }
    }

    /// All models, by name.
    pub fn models(&self) -> Result<Vec<Model>> {
        let active = self.active()?;
        let is_active = |name: &str| active.as_deref() == Some(name);
        let mut models: Vec<Model> = Vec::new();
        for file in entries(&self.models.join(RECORDS))? {
            let Some(name) = file.strip_suffix(".json").and_then(|name| Name::new(name).ok()) else { continue };
            models.push(self.recorded(&name, is_active(name.as_str())));
        }
        for name in entries(&self.models)? {
            let path = self.models.join(&name);
            let ends = |ending: &std::ffi::OsStr| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known));
            let is_model =
                path.is_dir() || path.extension().is_some_and(ends) || name.ends_with(".safetensors.index.json");
            let is_new = models.iter().all(|model| model.name != name && model.path != path);
            if is_model && !name.starts_with('.') && is_new {
                models.push(Model { active: is_active(&name), name, path, record: None, damage: None });
            }
        }
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(models)
    }

    fn recorded(&self, name: &Name, active: bool) -> Model {
        let place = self.record_place(name);
        let (path, record, damage) = match Record::read(&place) {
            Ok(record) => (record.path.clone(), Some(record), None),
            Err(error) => (place, None, Some(error.to_string())),
        };
        Model { name: name.to_string(), path, record, active, damage }
    }

    /// A model by its name, or by the repository that it was pulled from.
    ///
    /// Errors: [`Error::Unknown`], [`Error::Record`] for a damaged record, [`Error::Incomplete`].
    pub fn find(&self, name: &str) -> Result<Model> {
        let model = self.named(name)?;
        if let Some(reason) = model.damage {
            return Err(Error::Record { path: model.path, reason });
        }
        match &model.record {
            Some(Record { complete: false, source: Source::Hub { repo, .. }, .. }) => {
                Err(Error::Incomplete { name: model.name, repo: repo.clone() })
            }
            _ => Ok(model),
        }
    }

    /// The same without a look at its state.
    fn named(&self, name: &str) -> Result<Model> {
        let mut models = self.models()?;
        let from = |model: &Model| match &model.record {
            Some(Record { source: Source::Hub { repo, .. }, .. }) => repo == name,
            _ => false,
        };
        let at = models.iter().position(|model| model.name == name).or_else(|| models.iter().position(from));
        match at {
            Some(at) => Ok(models.swap_remove(at)),
            None => Err(Error::Unknown { name: name.to_owned(), hint: hint(&models) }),
        }
    }

    /// The name of the default model, if one was chosen.
    pub fn active(&self) -> Result<Option<String>> {
        let path = self.active_place();
        match fs::read_to_string(&path) {
            Ok(name) => Ok(Some(name.trim().to_owned()).filter(|name| !name.is_empty())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }

    /// Makes an installed model the default. Errors are those of [`Store::find`].
    pub fn set_active(&self, name: &str) -> Result<Model> {
        let model = self.find(name)?;
        write_at_once(&self.active_place(), model.name.as_bytes())?;
        Ok(Model { active: true, ..model })
    }

    /// From here on no model is the default.
    pub fn clear_active(&self) -> Result<()> {
        let path = self.active_place();
        if path.exists() { remove_all(&path) } else { Ok(()) }
    }

    fn active_place(&self) -> PathBuf {
        self.models.join(RECORDS).join(ACTIVE)
    }

    fn record_place(&self, name: &Name) -> PathBuf {
        self.models.join(RECORDS).join(format!("{name}.json"))
    }

    /// Refuses a name that another model has; `same` says whether a record is an earlier one of the same model.
    fn check_free(&self, name: &Name, same: impl Fn(&Record) -> bool) -> Result<Option<Record>> {
        let taken = |what: String| Error::Taken { name: name.to_string(), what };
        let Some(model) = self.models()?.into_iter().find(|model| model.name == name.as_str()) else {
            return Ok(None);
        };
        match model.record {
            Some(record) if same(&record) => Ok(Some(record)),
            Some(record) => Err(taken(record.origin())),
            None => Err(taken(model.path.display().to_string())),
        }
    }
}

/// How to go on when a model is not there.
fn hint(models: &[Model]) -> String {
    const PULL: &str = "`zimage models pull Tongyi-MAI/Z-Image-Turbo` fetches the real one (33 GB)";
    let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
    match names.is_empty() {
        true => format!("nothing is installed; {PULL}"),
        false => format!("installed are {}; {PULL}", names.join(", ")),
    }
}

/// Names in a directory; none where it does not exist.
fn entries(directory: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", directory)(error)),
    };
    // A name that is no text cannot be given on a command line or in a request.
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}
