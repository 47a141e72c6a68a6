//! What a LoRA file is, for people and for `--json`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::{LoraProblem, Notes};
use crate::schema::Component;
use crate::{Error, Result};

/// What was found in a LoRA file, compared with a model.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// "LoRA", "LoHa", "LoKr", "full difference", each perhaps with DoRA.
    pub kinds: Vec<String>,
    /// All ranks that occur.
    pub ranks: Vec<usize>,
    /// All alphas that occur; empty where the file has none, which means no scaling.
    pub alphas: Vec<f64>,
    /// How many layers of each sort it is about: `attention.to_q`, `feed_forward.w1`.
    pub targets: BTreeMap<String, usize>,
    /// Linear layers that are changed.
    pub matched: usize,
    /// Linear layers that the model has: of the transformer, and of the text encoder where the file changes it.
    pub layers: usize,
    /// Modules that the model does not have.
    pub unmatched: Vec<Unmatched>,
    /// Modules that say once more what others say, and are not used.
    pub redundant: Vec<String>,
    /// Modules whose sizes are not those of the model's layers.
    pub misfits: Vec<Misfit>,
    /// What the header tells.
    pub notes: Notes,
}

/// A module that the model does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unmatched {
    /// Its name in the file.
    pub module: String,
    /// The most similar layer of the model, where one is similar at all.
    pub nearest: Option<String>,
    /// The model that has such modules, where that is known.
    pub of: Option<&'static str>,
}

impl fmt::Display for Unmatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.module)?;
        if let Some(of) = self.of {
            write!(f, " (as in {of})")?;
        }
        match &self.nearest {
            Some(nearest) => write!(f, " (nearest is {nearest})"),
            None => Ok(()),
        }
    }
}

/// A module whose sizes are not those of the model's layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Misfit {
    /// Its name in the file.
    pub module: String,
    /// `(out, in)` of the model's layer, or of the layers that it stacks.
    pub expected: [usize; 2],
    /// `(out, in)` of the module.
    pub found: [usize; 2],
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} changes {:?}, the model has {:?}", self.module, self.found, self.expected)
    }
}

impl Report {
    /// Whether the file can be used with the model.
    pub fn is_usable(&self) -> bool {
        self.matched > 0 && self.misfits.is_empty()
    }

    /// Why the file cannot be used with the model, if it cannot.
    pub fn problem(&self) -> Option<LoraProblem> {
        match self.is_usable() {
            true => None,
            false if self.misfits.is_empty() => Some(LoraProblem::NothingMatches { unmatched: self.unmatched.clone() }),
            false => Some(LoraProblem::Misfits { misfits: self.misfits.clone() }),
        }
    }

    /// Refuses what is of another model.
    pub(super) fn check(&self, file: &str) -> Result<()> {
        let problem = self.problem().map(Box::new);
        problem.map_or(Ok(()), |problem| Err(Error::Lora { file: file.to_owned(), problem }))
    }

    pub(super) fn count_target(&mut self, component: Component, layer: &str) {
        let words: Vec<&str> = layer.split('.').collect();
        // `layers.3.attention.to_q` is one of 30 of a sort; `cap_embedder.1` is alone.
        let sort = match words[..] {
            [block, number, ..] if number.parse::<usize>().is_ok() && words.len() > 2 => {
                let rest = words[2..].join(".");
                if block == "layers" { rest } else { format!("{block}.{rest}") }
            }
            _ => layer.to_owned(),
        };
        let sort = if component == Component::TextEncoder { format!("text_encoder.{sort}") } else { sort };
        *self.targets.entry(sort).or_default() += 1;
    }
}

/// Modules of other models by what only their names have.
pub(super) fn model_of(module: &str) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 9] = [
        ("double_blocks", "FLUX or HunyuanVideo"),
        ("single_transformer_blocks", "FLUX"),
        ("img_mod", "Qwen-Image"),
        ("down_blocks", "Stable Diffusion"),
        ("input_blocks", "Stable Diffusion"),
        ("joint_blocks", "Stable Diffusion 3"),
        ("cross_attn", "Wan"),
        ("transformer_blocks", "another diffusion transformer"),
        ("self_attn", "a language model"),
    ];
    let module = module.replace('.', "_");
    KNOWN.iter().find(|(mark, _)| module.contains(mark)).map(|(_, model)| *model)
}
