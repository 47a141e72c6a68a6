//! What the server can run: the model of the command line, the installed ones, the embedded one, and the LoRAs of the home
//! directory.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use zimage::pipeline::metadata::FileRecord;
use zimage::{Device, Pipeline};
use zimage_server::models::{DEMO, LoraInfo, Models};
use zimage_weights::inspect::inspect;

use crate::args::PartArgs;
use crate::digests::Digests;
use crate::env::Environment;
use crate::failure::Failure;
use crate::loras;
use crate::progress::Progress;
use crate::request;

/// The disk is looked at again after this time, so that new models and LoRAs appear.
const FRESH: Duration = Duration::from_secs(5);

/// See the module.
pub struct Served {
    environment: Environment,
    /// The model that was asked for by name or path, and what it is called here.
    chosen: Option<(String, String)>,
    parts: PartArgs,
    models: Cached<Vec<String>>,
    loras: Cached<Vec<LoraInfo>>,
}

/// A value that is made anew once it is old.
struct Cached<T>(Mutex<Option<(Instant, T)>>);

impl<T: Clone> Cached<T> {
    fn get(&self, make: impl FnOnce() -> T) -> T {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((made, value)) if made.elapsed() < FRESH => value.clone(),
            _ => known.insert((Instant::now(), make())).1.clone(),
        }
    }
}

impl Served {
    /// Checks that the default model is there. None is the embedded one.
    pub fn new(model: Option<String>, parts: PartArgs, environment: Environment) -> Result<Self, Failure> {
        let name = model.map_or_else(|| environment.default_model(), |name| Ok(Some(name)))?;
        let chosen = match name {
            Some(name) if name != DEMO => {
                let path = environment.find_model(&name)?;
                let label = path.file_name().map_or_else(|| name.clone(), |name| name.to_string_lossy().into_owned());
                // An installed model is called as it was installed.
                let label = if path == Path::new(&name) { label } else { name.clone() };
                Some((name, label))
            }
            _ => None,
        };
        let (models, loras) = (Cached(Mutex::default()), Cached(Mutex::default()));
        Ok(Self { environment, chosen, parts, models, loras })
    }

    /// The default model's name.
    pub fn default_name(&self) -> &str {
        self.chosen.as_ref().map_or(DEMO, |(_, label)| label)
    }

    fn find_names(&self) -> Vec<String> {
        let installed = self.environment.store().models().unwrap_or_default();
        let usable = installed.into_iter().filter(|model| {
            let standing = model.standing();
            standing.problem.is_none() && standing.components.contains(&zimage_weights::Component::Transformer)
        });
        let mut names = vec![self.default_name().to_owned()];
        for name in usable.map(|model| model.name).chain([DEMO.to_owned()]) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    fn find_loras(&self) -> Vec<LoraInfo> {
        let names = loras::installed(&self.lora_root());
        let known = names.into_iter().filter_map(|name| {
            let report = inspect(&self.lora_root().join(&name)).ok()?;
            let notes = report.parts.into_iter().find_map(|part| part.lora)?.notes;
            let id = name.strip_suffix(".safetensors").unwrap_or(&name).to_owned();
            Some(LoraInfo { id, trigger_words: notes.trigger_words, recommended_weight: notes.recommended_weight })
        });
        known.collect()
    }

    fn lora_root(&self) -> PathBuf {
        self.environment.home.join("loras")
    }
}

impl Models for Served {
    fn names(&self) -> Vec<String> {
        self.models.get(|| self.find_names())
    }

    fn open(&self, name: &str, device: Device) -> zimage::Result<Pipeline> {
        let (name, parts) = match &self.chosen {
            Some((asked, label)) if label == name => (asked.as_str(), self.parts.clone()),
            _ if name == DEMO => return Pipeline::demo(device),
            _ => (name, PartArgs::default()),
        };
        let progress = Progress::new(true);
        let checkpoint = request::open(name, &parts, &self.environment, &progress);
        let checkpoint = checkpoint.map_err(|failure| zimage::Error::Request {
            what: failure.to_string(),
            hint: "`zimage doctor` tells more".into(),
        })?;
        Pipeline::from_checkpoint(checkpoint, device)
    }

    fn files(&self, pipeline: &Pipeline) -> zimage::Result<Vec<FileRecord>> {
        let files = Digests::load(&self.environment.home).of_checkpoint(pipeline.checkpoint());
        files.map_err(|failure| zimage::Error::Request {
            what: failure.to_string(),
            hint: "the model's files must be readable".into(),
        })
    }

    fn loras(&self) -> Vec<LoraInfo> {
        self.loras.get(|| self.find_loras())
    }

    fn lora_path(&self, id: &str) -> Option<PathBuf> {
        // Only what the scan found has a path.
        self.loras().iter().any(|lora| lora.id == id).then(|| self.lora_root().join(format!("{id}.safetensors")))
    }
}
