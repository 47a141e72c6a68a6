//! What the header of a LoRA file tells: how its deltas are scaled, and how it wants to be used.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use super::LoraProblem;
use crate::container::{Metadata, SafeTensors};
use crate::schema::Component;
use crate::{Error, Result};

/// Where diffusers keeps the settings of PEFT.
const PEFT_KEY: &str = "lora_adapter_metadata";
/// Where PEFT itself keeps them, beside the weights.
const PEFT_FILE: &str = "adapter_config.json";
/// Tags of the training captions that are listed.
const MAX_TAGS: usize = 10;

/// What a LoRA file says about its use.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Notes {
    /// Words that the prompt should have.
    pub trigger_words: Vec<String>,
    /// The most frequent tags of the training captions, the most frequent first.
    pub frequent_tags: Vec<String>,
    /// The weight that its maker recommends.
    pub recommended_weight: Option<f64>,
    /// What it was trained on: `ss_base_model_version`, `modelspec.architecture`, ...
    pub base_model: Vec<String>,
    /// Its title.
    pub title: Option<String>,
}

impl Notes {
    pub(super) fn of(metadata: &Metadata) -> Notes {
        const TRIGGERS: [&str; 7] = [
            "trigger_words",
            "trigger_word",
            "activation_text",
            "activation text",
            "ss_trigger_words",
            "modelspec.trigger_phrase",
            "modelspec.trigger_words",
        ];
        const WEIGHTS: [&str; 10] = [
            "recommended_weight",
            "preferred_weight",
            "preferred weight",
            "default_weight",
            "modelspec.preferred_weight",
            "modelspec.recommended_weight",
            "strength",
            "default_strength",
            "multiplier",
            "scale",
        ];
        const BASES: [&str; 5] =
            ["modelspec.architecture", "ss_base_model_version", "ss_sd_model_name", "base_model", "baseModel"];
        let mut trigger_words: Vec<String> = Vec::new();
        for word in TRIGGERS.iter().filter_map(|key| metadata.get(*key)).flat_map(|text| words(text)) {
            if !trigger_words.contains(&word) {
                trigger_words.push(word);
            }
        }
        let weight = |key: &&str| metadata.get(*key)?.trim().parse().ok().filter(|weight: &f64| weight.is_finite());
        let title = ["modelspec.title", "ss_output_name", "name"].iter().find_map(|key| metadata.get(*key)).cloned();
        Notes {
            trigger_words,
            frequent_tags: metadata.get("ss_tag_frequency").map_or_else(Vec::new, |text| tags(text)),
            recommended_weight: WEIGHTS.iter().find_map(weight),
            base_model: BASES.iter().filter_map(|key| metadata.get(*key)).cloned().collect(),
            title,
        }
    }
}

/// A list of words: JSON, or separated by commas.
fn words(text: &str) -> Vec<String> {
    let listed: Vec<String> = serde_json::from_str(text).unwrap_or_else(|_| {
        let text = serde_json::from_str::<String>(text).unwrap_or_else(|_| text.to_owned());
        text.split(',').map(str::to_owned).collect()
    });
    listed.iter().map(|word| word.trim()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// kohya counts the tags of each folder of training pictures.
fn tags(text: &str) -> Vec<String> {
    let folders: BTreeMap<String, BTreeMap<String, f64>> = serde_json::from_str(text).unwrap_or_default();
    let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
    for (tag, count) in folders.values().flatten() {
        *counts.entry(tag.trim()).or_default() += count;
    }
    let mut sorted: Vec<(&str, f64)> = counts.into_iter().filter(|(tag, _)| !tag.is_empty()).collect();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
    sorted.into_iter().take(MAX_TAGS).map(|(tag, _)| tag.to_owned()).collect()
}

/// How the deltas are scaled where no tensor says it.
pub(super) struct Settings {
    pub notes: Notes,
    /// kohya's alpha over its rank, for files in kohya's naming.
    network: Option<(f64, Option<f64>)>,
    /// PEFT's, per component; the one without a component is for all.
    peft: Vec<(Option<Component>, Peft)>,
}

/// The settings of a `LoraConfig`, `LoKrConfig` or `LoHaConfig` that scale.
#[derive(Default)]
struct Peft {
    alpha: Option<f64>,
    alpha_pattern: Vec<(String, f64)>,
    rank_stabilized: bool,
}

impl Settings {
    pub fn read(file: &SafeTensors, path: &Path) -> Result<Settings> {
        let metadata = file.metadata();
        let wrap = |problem| Error::Lora { file: file.label().to_owned(), problem: Box::new(problem) };
        let number =
            |key: &str| metadata.get(key).and_then(|text| text.trim().parse().ok()).filter(|n: &f64| n.is_finite());
        let mut peft = Vec::new();
        if let Some(text) = metadata.get(PEFT_KEY) {
            let refused = |reason: String| wrap(LoraProblem::Setting { key: PEFT_KEY.to_owned(), reason });
            let value: Value = serde_json::from_str(text).map_err(|error| refused(error.to_string()))?;
            let map = value.as_object().ok_or_else(|| refused("it is no object".to_owned()))?;
            for (component, prefix) in
                [(Component::Transformer, "transformer."), (Component::TextEncoder, "text_encoder.")]
            {
                let part =
                    |(key, value): (&String, &Value)| Some((key.strip_prefix(prefix)?.to_owned(), value.clone()));
                let part: Map<String, Value> = map.iter().filter_map(part).collect();
                peft.push((Some(component), Peft::read(&part).map_err(wrap)?));
            }
            peft.push((None, Peft::read(map).map_err(wrap)?));
        }
        let beside = path.with_file_name(PEFT_FILE);
        if path.file_name().is_some_and(|name| name == super::IN_DIRECTORY[0]) && beside.is_file() {
            let text = std::fs::read(&beside).map_err(Error::io("read", &beside))?;
            let json = |source| Error::Json { file: beside.display().to_string(), source };
            let map: Map<String, Value> = serde_json::from_slice(&text).map_err(json)?;
            peft.push((None, Peft::read(&map).map_err(wrap)?));
        }
        let network =
            number("ss_network_alpha").map(|alpha| (alpha, number("ss_network_dim").filter(|dim| *dim > 0.0)));
        Ok(Settings { notes: Notes::of(metadata), network, peft })
    }

    /// The alpha that the header gives a module, and `alpha / rank`.
    ///
    /// kohya's settings count only for files in kohya's naming: those that were renamed for PEFT have them folded in.
    pub fn scale(&self, component: Component, module: &str, rank: usize, kohya: bool) -> Option<(f64, f64)> {
        let mine = self.peft.iter().filter(|(of, _)| of.is_none_or(|of| of == component));
        for (_, peft) in mine {
            let special = peft.alpha_pattern.iter().find(|(pattern, _)| ends_with(module, pattern));
            if let Some(alpha) = special.map(|(_, alpha)| *alpha).or(peft.alpha) {
                let rank = rank as f64;
                return Some((alpha, alpha / if peft.rank_stabilized { rank.sqrt() } else { rank }));
            }
        }
        let (alpha, dim) = self.network.filter(|_| kohya)?;
        Some((alpha, alpha / dim.unwrap_or(rank as f64)))
    }
}

impl Peft {
    fn read(map: &Map<String, Value>) -> Result<Peft, LoraProblem> {
        let refused = |key: &str, value: &Value| LoraProblem::Setting {
            key: key.to_owned(),
            reason: format!("{value} is no finite number"),
        };
        let finite = |key: &str, value: &Value| {
            value.as_f64().filter(|number| number.is_finite()).ok_or_else(|| refused(key, value))
        };
        let mut peft = Peft::default();
        for key in ["lora_alpha", "alpha"] {
            if let Some(value) = map.get(key).filter(|value| !value.is_null()) {
                peft.alpha = Some(finite(key, value)?);
            }
        }
        peft.rank_stabilized = map.get("use_rslora") == Some(&Value::Bool(true));
        for (pattern, value) in map.get("alpha_pattern").and_then(Value::as_object).into_iter().flatten() {
            let plain = pattern.trim_start_matches('^').replace("\\.", ".");
            if plain.contains(['*', '+', '?', '(', '[', '|', '\\', '$']) {
                let reason = format!("the regular expression {pattern} is not supported");
                return Err(LoraProblem::Setting { key: "alpha_pattern".to_owned(), reason });
            }
            peft.alpha_pattern.push((plain, finite("alpha_pattern", value)?));
        }
        Ok(peft)
    }
}

/// PEFT matches a pattern with whole words at the end of a name.
fn ends_with(module: &str, pattern: &str) -> bool {
    module.strip_suffix(pattern).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
