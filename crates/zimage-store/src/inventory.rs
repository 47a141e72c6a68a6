//! What an installed model is good for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use zimage_weights::inspect::{Diagnosis, Dialect, doctor};
use zimage_weights::{Audit, Component};

use crate::{Result, Store};

/// Whether this program can use a model, and what it is. Told from headers alone: no weights are read.
#[derive(Debug, Clone, Serialize)]
pub struct Standing {
    /// "diffusers directory", "safetensors", ...; none where the path cannot be read.
    pub container: Option<&'static str>,
    /// Whose names its tensors carry.
    pub dialect: Option<Dialect>,
    /// Element types, the one with the most bytes first: "bf16", "bf16+f32".
    pub precision: String,
    /// Bytes of all tensors.
    pub size_bytes: u64,
    /// The parts of Z-Image in it that can be used.
    pub components: Vec<Component>,
    /// Whether it is a whole model.
    pub whole: bool,
    /// Why it can be used neither as a model nor as a part of one.
    pub problem: Option<String>,
}

impl Standing {
    /// Looks at a path.
    pub fn of(path: &Path) -> Self {
        match doctor(path) {
            Ok(diagnosis) => Self::from_diagnosis(&diagnosis),
            Err(error) => Self::broken(error.to_string()),
        }
    }

    pub(crate) fn broken(problem: String) -> Self {
        Self {
            container: None,
            dialect: None,
            precision: String::new(),
            size_bytes: 0,
            components: Vec::new(),
            whole: false,
            problem: Some(problem),
        }
    }

    fn from_diagnosis(diagnosis: &Diagnosis) -> Self {
        let report = &diagnosis.report;
        let components: Vec<Component> =
            diagnosis.parts.iter().filter(|part| part.fits()).map(|part| part.component).collect();
        // A directory in the layout of diffusers is meant to be whole; a file may be one part of a model.
        let fits = !components.is_empty() && components.len() == diagnosis.parts.len();
        let usable = diagnosis.usable || fits && !Path::new(&report.path).join("model_index.json").is_file();
        Self {
            container: Some(report.container),
            dialect: Some(report.dialect),
            precision: precision(diagnosis),
            size_bytes: report.parts.iter().map(|part| part.size_bytes).sum(),
            components,
            whole: diagnosis.usable,
            problem: (!usable).then(|| problem(diagnosis)),
        }
    }
}

fn precision(diagnosis: &Diagnosis) -> String {
    let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
    for count in diagnosis.report.parts.iter().flat_map(|part| &part.precision.counts) {
        *bytes.entry(count.format.clone()).or_default() += count.size_bytes;
    }
    let mut names: Vec<(String, u64)> = bytes.into_iter().collect();
    names.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    names.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join("+")
}

/// The first thing that is wrong, in one line.
fn problem(diagnosis: &Diagnosis) -> String {
    let of_audit = |component: Component, audit: &Audit| {
        let Audit { missing, unknown, misshapen, .. } = audit;
        let counts = [(missing.len(), "missing"), (unknown.len(), "unknown"), (misshapen.len(), "misshapen")];
        let wrong = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        format!("the {component} has {} tensors", wrong.collect::<Vec<_>>().join(", "))
    };
    let broken = diagnosis.parts.iter().find(|part| !part.fits());
    let reason = broken.and_then(|part| {
        let audit = part.audit.as_ref().filter(|audit| !audit.is_clean());
        part.problem.clone().or_else(|| audit.map(|audit| of_audit(part.component, audit)))
    });
    let of_report = || diagnosis.report.parts.iter().find_map(|part| part.problem.clone());
    let reason = reason.or_else(of_report).or_else(|| diagnosis.problem.clone());
    reason.unwrap_or_else(|| format!("this is {}", diagnosis.report.dialect))
}

/// What installed models can lend to one that lacks parts: paths that [`zimage_weights::Parts`] takes, the default
/// model's first, then by name. Whether the sizes go together is for the one who opens them to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lenders {
    /// Models and files with a text encoder.
    pub text_encoders: Vec<PathBuf>,
    /// Models and files with a VAE.
    pub vaes: Vec<PathBuf>,
    /// Directories with a tokenizer.
    pub tokenizers: Vec<PathBuf>,
}

/// The installed text encoders, VAEs and tokenizers. Models that cannot be read lend nothing.
pub fn components(home: &Path) -> Result<Lenders> {
    let mut models = Store::new(home).models()?;
    models.sort_by_key(|model| !model.active);
    let mut lenders = Lenders::default();
    for model in models {
        let held = model.standing().components;
        if held.contains(&Component::TextEncoder) {
            lenders.text_encoders.push(model.path.clone());
        }
        if held.contains(&Component::Vae) {
            lenders.vaes.push(model.path.clone());
        }
        let directory = if model.path.is_dir() { Some(model.path.as_path()) } else { model.path.parent() };
        let tokenizer = directory.filter(|directory| has_tokenizer(directory)).map(Path::to_path_buf);
        lenders.tokenizers.extend(tokenizer.filter(|found| !lenders.tokenizers.contains(found)));
    }
    Ok(lenders)
}

fn has_tokenizer(directory: &Path) -> bool {
    ["tokenizer/tokenizer.json", "tokenizer.json"].iter().any(|file| directory.join(file).is_file())
}
