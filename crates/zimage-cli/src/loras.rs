//! `--lora`: which files are meant, and how strongly they act.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use zimage::{Lora, Pipeline};
use zimage_weights::lora::Adapter;

use crate::env::Environment;
use crate::failure::{Failure, printable_name};
use crate::progress::Progress;

const DEFAULT_WEIGHT: f64 = 1.0;
/// Folders below `<home>/loras` that are looked into, so that a link in a circle ends.
const MAX_DEPTH: usize = 8;

/// One `--lora`, as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraChoice {
    /// All of it.
    text: String,
    /// What stands before the last colon and the number behind it, where there is such a number.
    weighted: Option<(String, f64)>,
}

impl FromStr for LoraChoice {
    type Err = String;

    /// A number behind the last colon is a weight; a colon anywhere else, as in `C:\x.safetensors`, is of the path.
    fn from_str(text: &str) -> Result<Self, String> {
        let weighted = text.rsplit_once(':').and_then(|(name, weight)| Some((name, weight.trim().parse().ok()?)));
        let weighted = weighted.filter(|(name, _)| !name.is_empty()).map(|(name, weight)| (name.to_owned(), weight));
        match &weighted {
            Some((_, weight)) if !f64::is_finite(*weight) => Err("a weight is a number, such as 0.8".into()),
            _ if text.is_empty() => Err("expected a file or a name, and perhaps a colon and a weight".into()),
            _ => Ok(Self { text: text.to_owned(), weighted }),
        }
    }
}

impl LoraChoice {
    /// The file and the weight. A file whose own name ends in a colon and a number is taken for what it is.
    pub fn find(&self, environment: &Environment) -> Result<(PathBuf, f64), Failure> {
        let whole = PathBuf::from(&self.text);
        match &self.weighted {
            Some((name, weight)) if !whole.exists() => Ok((environment.find_lora(name)?, *weight)),
            _ => Ok((environment.find_lora(&self.text)?, DEFAULT_WEIGHT)),
        }
    }
}

/// Opens the chosen LoRAs for the model, and says what it should be told of them.
pub fn apply(
    choices: &[LoraChoice],
    pipeline: &mut Pipeline,
    environment: &Environment,
    progress: &Progress,
) -> Result<(), Failure> {
    let mut loras: Vec<Lora> = Vec::new();
    for choice in choices {
        let (path, weight) = choice.find(environment)?;
        let adapter = pipeline.open_lora(&path)?;
        tell(&adapter, weight, progress);
        loras.push(Lora { adapter: Arc::new(adapter), weight });
    }
    Ok(pipeline.set_loras(loras)?)
}

/// Says what an adapter does, and what should be known of it.
pub fn tell(adapter: &Adapter, weight: f64, progress: &Progress) {
    let (name, report) = (adapter.name(), adapter.report());
    progress.note(&format!("lora {name}: weight {weight}, {} layers", report.matched));
    let recommended = report.notes.recommended_weight.filter(|recommended| *recommended != weight);
    if let Some(recommended) = recommended {
        progress.note(&format!("lora {name}: its file recommends the weight {recommended}"));
    }
    if !report.notes.trigger_words.is_empty() {
        let words = printable_name(&report.notes.trigger_words.join(", "));
        progress.note(&format!("lora {name}: trigger words {words}"));
    }
    if !report.redundant.is_empty() {
        let count = report.redundant.len();
        progress.note(&format!("lora {name}: {count} modules say again what others say, and are not used"));
    }
    if let Some(first) = report.unmatched.first() {
        let count = report.unmatched.len();
        let first = printable_name(&first.to_string());
        let which = if count == 1 { first } else { format!("{first} is the first") };
        progress.note(&format!("note: lora {name}: {count} modules are not of this model and do nothing: {which}"));
    }
}

impl Environment {
    /// Where a LoRA is: a path as it is, or a name in `<home>/loras`, with or without its ending, with or without the
    /// folders that it is in.
    fn find_lora(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = PathBuf::from(name);
        if path.exists() {
            return Ok(path);
        }
        let root = self.home.join("loras");
        let installed = installed(&root);
        let wanted = name.replace('\\', "/");
        let is = |known: &&String, whole: bool| {
            let bare = known.strip_suffix(".safetensors").unwrap_or(known);
            let matches = |known: &str| known == wanted;
            let file = |known: &str| matches(known.rsplit('/').next().unwrap_or(known));
            if whole { matches(known) || matches(bare) } else { file(known) || file(bare) }
        };
        let exact: Vec<&String> = installed.iter().filter(|known| is(known, true)).collect();
        let found = if exact.is_empty() { installed.iter().filter(|known| is(known, false)).collect() } else { exact };
        match found[..] {
            [only] => Ok(root.join(only)),
            [] => Err(self.no_lora(name, &installed)),
            ref several => {
                let names: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
                Err(Failure::model(format!("there are several LoRAs `{name}`: {}", names.join(", ")))
                    .with_hint("give the name with its folder"))
            }
        }
    }

    fn no_lora(&self, name: &str, installed: &[String]) -> Failure {
        let failure = Failure::model(format!("there is no LoRA `{name}`, neither as a path nor in <home>/loras"));
        failure.with_hint(match installed.is_empty() {
            true => {
                "give the path of a .safetensors file; a weight stands behind it, as in style.safetensors:0.8".into()
            }
            false => format!("installed are {}; or give the path of a .safetensors file", installed.join(", ")),
        })
    }
}

/// The LoRAs below a folder, with forward slashes, sorted.
pub fn installed(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    collect(root, "", 0, &mut found);
    found.sort();
    found
}

fn collect(folder: &Path, prefix: &str, depth: usize, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if path.is_dir() && depth < MAX_DEPTH {
            collect(&path, &format!("{prefix}{name}/"), depth + 1, found);
        } else if path.is_file() && name.ends_with(".safetensors") {
            found.push(format!("{prefix}{name}"));
        }
    }
}

#[cfg(test)]
mod tests;
