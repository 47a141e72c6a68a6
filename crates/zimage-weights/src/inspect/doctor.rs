//! A report with a verdict.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::{Dialect, Part, Report, inspect};
use crate::audit::Audit;
use crate::open::{Checkpoint, audit_container};
use crate::schema::{self, Component, TextEncoderConfig, TransformerConfig, VaeConfig};
use crate::{Result, TensorSpec};

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

/// Looks at a path and compares every part with its config.
pub fn doctor(path: &Path) -> Result<Diagnosis> {
    let report = inspect(path)?;
    let opened = Checkpoint::open(path);
    let parts: Vec<PartDiagnosis> = match &opened {
        Ok(checkpoint) => Component::ALL.into_iter().map(|component| of_checkpoint(checkpoint, component)).collect(),
        Err(_) => report.parts.iter().filter_map(|part| of_part(&report, part)).collect(),
    };
    let fits = |part: &PartDiagnosis| part.problem.is_none() && part.audit.as_ref().is_some_and(Audit::is_clean);
    let usable = opened.is_ok() && parts.iter().all(fits);
    let problem = opened.err().map(|error| error.to_string());
    Ok(Diagnosis { report, parts, problem, usable })
}

fn of_checkpoint(checkpoint: &Checkpoint, component: Component) -> PartDiagnosis {
    let container = checkpoint.container(component);
    let audit =
        container.as_ref().ok().map(|container| audit_container(component, &checkpoint.specs(component), container));
    let clean = audit.as_ref().is_some_and(Audit::is_clean);
    let problem = match container {
        Err(error) => Some(error.to_string()),
        // What is left after a clean audit is the storage format.
        Ok(_) if clean => checkpoint.weights(component).err().map(|error| error.to_string()),
        Ok(_) => None,
    };
    PartDiagnosis { component, audit, problem }
}

/// A part outside of a complete checkpoint. Only the names of diffusers can be compared.
fn of_part(report: &Report, part: &Part) -> Option<PartDiagnosis> {
    let component = part.component.filter(|_| report.dialect == Dialect::Diffusers)?;
    let compare = || -> Result<Option<Audit>> {
        let (Some(config), Some(container)) = (&part.config, &part.container) else { return Ok(None) };
        Ok(Some(audit_container(component, &specs(component, config)?, container)))
    };
    let no_config = "there is no config.json beside it, so its shapes cannot be checked";
    let (audit, problem) = match (&part.problem, compare()) {
        (Some(problem), _) => (None, Some(problem.clone())),
        (None, Ok(None)) => (None, Some(no_config.to_owned())),
        (None, Ok(audit)) => (audit, None),
        (None, Err(error)) => (None, Some(error.to_string())),
    };
    Some(PartDiagnosis { component, audit, problem })
}

fn specs(component: Component, config: &Value) -> Result<Vec<TensorSpec>> {
    Ok(match component {
        Component::Transformer => schema::transformer::tensors(&TransformerConfig::from_json(config)?),
        Component::TextEncoder => schema::text_encoder::tensors(&TextEncoderConfig::from_json(config)?),
        Component::Vae => schema::vae::tensors(&VaeConfig::from_json(config)?),
    })
}
