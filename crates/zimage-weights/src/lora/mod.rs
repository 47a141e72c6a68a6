//! LoRA files, whatever they call their tensors: LoRA, LoCon, LoHa, LoKr and DoRA adapters of the transformer and of the
//! text encoder, as deltas of canonical linear layers.
//!
//! The way of a file: [`key`] splits a tensor's name into a module and what the tensor is of it; [`names`] finds the
//! linear layers that a module name means; [`assemble`] puts the tensors of a module together; [`metadata`] reads what
//! the header tells. [`apply`] does the arithmetic for those who change weights for good, as [`Fused`] does.
//!
//! Source: PEFT (`lora`, `loha`, `lokr`), LyCORIS, and diffusers' `lora_conversion_utils` for the names.

mod apply;
mod assemble;
mod delta;
mod fuse;
mod key;
mod metadata;
mod names;
mod problem;
mod report;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::container::SafeTensors;
use crate::digest::sha256_file;
use crate::schema::{Component, TensorSpec};
use crate::{Error, Result};

pub use apply::Gain;
pub use delta::{Delta, Factor, Magnitude, Matrix, Product};
pub use fuse::Fused;
pub use metadata::Notes;
pub use problem::LoraProblem;
pub use report::{Misfit, Report, Unmatched};

/// A LoRA file, matched with a model: a delta for each linear layer that it changes.
#[derive(Clone, Debug)]
pub struct Adapter {
    name: String,
    path: PathBuf,
    sha256: String,
    deltas: BTreeMap<(Component, String), Delta>,
    report: Report,
}

impl Adapter {
    /// Reads the adapter at `path`, a safetensors file or a directory of PEFT or diffusers with one, for a model with
    /// these tensors.
    ///
    /// # Errors
    /// [`Error::Lora`] when no tensor belongs to the model, when one is of a kind that cannot be applied, is damaged,
    /// or has a shape that does not fit; it names the tensors. Modules that the model does not have beside others that
    /// it has are no error: they are in the [`Report`].
    pub fn open(path: &Path, transformer: &[TensorSpec], text_encoder: &[TensorSpec]) -> Result<Adapter> {
        let path = file_of(path)?;
        let file = SafeTensors::open(&path)?;
        let settings = metadata::Settings::read(&file, &path)?;
        let (deltas, report) = assemble::read(&file, &settings, transformer, text_encoder)?;
        report.check(file.label())?;
        let name = path.file_stem().map_or_else(|| "lora".to_owned(), |stem| stem.to_string_lossy().into_owned());
        Ok(Adapter { name, sha256: sha256_file(&path)?, path, deltas, report })
    }

    /// The file's name without its ending.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// SHA-256 of the file, in lower case hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// What was found in the file.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The delta of a linear layer, by its canonical name without `.weight`, such as `layers.0.attention.to_q`.
    pub fn delta(&self, component: Component, layer: &str) -> Option<&Delta> {
        self.deltas.get(&(component, layer.to_owned()))
    }

    /// All deltas, with the layers that they belong to.
    pub fn deltas(&self) -> impl Iterator<Item = (Component, &str, &Delta)> {
        self.deltas.iter().map(|((component, layer), delta)| (*component, layer.as_str(), delta))
    }

    /// Bytes that the deltas of a component take in memory.
    pub fn size_bytes(&self, component: Component) -> u64 {
        self.deltas().filter(|(of, ..)| *of == component).map(|(.., delta)| delta.size_bytes()).sum()
    }
}

/// What a file is as a LoRA, for a model with these tensors, whether or not it can be used with it.
///
/// # Errors
/// [`Error::Lora`] when it is damaged or of a kind that cannot be applied.
pub fn report(path: &Path, transformer: &[TensorSpec], text_encoder: &[TensorSpec]) -> Result<Report> {
    let path = file_of(path)?;
    let file = SafeTensors::open(&path)?;
    let settings = metadata::Settings::read(&file, &path)?;
    Ok(assemble::read(&file, &settings, transformer, text_encoder)?.1)
}

/// The names under which PEFT and diffusers save into a directory.
const IN_DIRECTORY: [&str; 2] = ["adapter_model.safetensors", "pytorch_lora_weights.safetensors"];

fn file_of(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let found = IN_DIRECTORY.iter().map(|name| path.join(name)).find(|file| file.is_file());
    found.ok_or_else(|| Error::NotACheckpoint {
        label: path.display().to_string(),
        what: format!("the directory has no {}", IN_DIRECTORY.join(" and no ")),
        hint: "give the LoRA's .safetensors file".to_owned(),
    })
}

#[cfg(test)]
mod tests;
