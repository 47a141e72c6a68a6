//! A report with a verdict.

use std::path::Path;

use serde::Serialize;

use super::{Dialect, Part, Report, inspect};
use crate::audit::Audit;
use crate::dialect::{Reading, mlx};
use crate::open::{self, Checkpoint, Weights};
use crate::schema::{self, Component};
use crate::{Error, Result, lora};

/// What a path is, and whether it can be used.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnosis {
    /// What it is.
    pub report: Report,
    /// A verdict per part.
    pub parts: Vec<PartDiagnosis>,
    /// What stands in the way beside the parts.
    pub problem: Option<String>,
    /// Whether this program can run it.
    pub usable: bool,
}

/// Whether one part fits its config.
#[derive(Clone, Debug, Serialize)]
pub struct PartDiagnosis {
    /// Which part.
    pub component: Component,
    /// Tensors that match, and all that do not; none where the part could not be read.
    pub audit: Option<Audit>,
    /// Why it could not be read or used.
    pub problem: Option<String>,
}

impl PartDiagnosis {
    /// Whether the part can be used.
    pub fn fits(&self) -> bool {
        self.problem.is_none() && self.audit.as_ref().is_some_and(Audit::is_clean)
    }

    /// Whether the part can be used, perhaps with the pad tokens of another model.
    pub(super) fn is_read(&self) -> bool {
        self.fits() || self.audit.as_ref().is_some_and(|audit| audit.lacks_only(&mlx::DROPPED))
    }
}

/// Looks at a path and compares every part with its config.
pub fn doctor(path: &Path) -> Result<Diagnosis> {
    let report = inspect(path)?;
    if report.dialect == Dialect::Lora {
        return Ok(of_lora(report));
    }
    let opened = Checkpoint::open(path);
    let parts: Vec<PartDiagnosis> = match &opened {
        Ok(checkpoint) => Component::ALL.into_iter().map(|component| of_checkpoint(checkpoint, component)).collect(),
        Err(_) => report.parts.iter().flat_map(of_part).collect(),
    };
    let usable = opened.is_ok() && parts.iter().all(PartDiagnosis::fits);
    let problem = opened.err().map(|error| error.to_string());
    Ok(Diagnosis { report, parts, problem, usable })
}

/// A LoRA is compared with the published model; whether it fits another one, opening it with that one tells.
fn of_lora(report: Report) -> Diagnosis {
    let lora = report.parts.iter().find_map(|part| part.lora.as_ref());
    let problem = match lora {
        None => report.parts.iter().find_map(|part| part.problem.clone()),
        Some(lora) => lora.problem().map(|problem| problem.to_string()),
    };
    let usable = lora.is_some_and(lora::Report::is_usable);
    Diagnosis { report, parts: Vec::new(), problem, usable }
}

/// What an audit does not tell: a storage format that is not read, or where to get the pad tokens.
fn is_no_audit(error: &Error) -> bool {
    !matches!(error, Error::Audit { .. })
}

fn of_checkpoint(checkpoint: &Checkpoint, component: Component) -> PartDiagnosis {
    let container = checkpoint.container(component);
    let specs = checkpoint.specs(component);
    let compare = |container| {
        let mut reading = Reading::of(component, container);
        reading.fit(&specs);
        reading.audit(&specs)
    };
    let audit = container.as_ref().ok().map(compare);
    let problem = match container {
        Err(error) => Some(error.to_string()),
        Ok(_) => checkpoint.weights(component).err().filter(is_no_audit).map(|error| error.to_string()),
    };
    PartDiagnosis { component, audit, problem }
}

/// What lies outside of a complete checkpoint: one part, or several in a file. Empty where it is not Z-Image at all.
pub(super) fn of_part(part: &Part) -> Vec<PartDiagnosis> {
    let failed =
        |component: Component, problem: String| PartDiagnosis { component, audit: None, problem: Some(problem) };
    // A file that is none of the parts of Z-Image is described by the report alone.
    let unusable = |problem: String| part.component.map(|component| failed(component, problem)).into_iter().collect();
    let Some(container) = &part.container else {
        return unusable(part.problem.clone().unwrap_or_else(|| "it was not read".to_owned()));
    };
    let label = container.files().first().map_or_else(String::new, |file| file.label().to_owned());
    let held = match open::held(&label, container) {
        Ok(held) => held,
        Err(error) => return unusable(error.to_string()),
    };
    let compare = |component| -> Result<(Audit, Option<String>)> {
        let (config, found) = open::config_of(&label, container, component)?;
        let place = open::config_place(&label, found);
        let specs = schema::tensors(component, &config).map_err(|error| error.in_checkpoint(|_| place))?;
        let mut reading = Reading::of(component, container);
        reading.fit(&specs);
        let audit = reading.audit(&specs);
        let weights = Weights::audited(&label, component, &specs, container.clone(), None);
        let problem = weights.err().filter(is_no_audit).map(|error| error.to_string());
        Ok((audit, problem))
    };
    let diagnose = |component| match compare(component) {
        Ok((audit, problem)) => PartDiagnosis { component, audit: Some(audit), problem },
        Err(error) => failed(component, error.to_string()),
    };
    held.into_iter().map(diagnose).collect()
}
