//! Which files of a repository Z-Image needs.

use std::collections::{BTreeMap, BTreeSet};

use super::{RemoteFile, Repo};
use crate::{Error, Result};

/// Folders of a model in the layout of diffusers.
const COMPONENTS: [&str; 3] = ["transformer", "text_encoder", "vae"];
const COMPANIONS: [&str; 2] = ["tokenizer", "scheduler"];
/// Names that weights in one folder have, and the part that they are.
const STEMS: [(&str, &str); 6] = [
    ("weights", "transformer"),
    ("model", "transformer"),
    ("transformer", "transformer"),
    ("text_encoder", "text_encoder"),
    ("vae", "vae"),
    ("diffusion_pytorch_model", "transformer"),
];

/// The files that are fetched, and the paths of those that are not.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) wanted: Vec<RemoteFile>,
    pub(crate) skipped: Vec<String>,
}

/// Chooses the one file that was asked for (with the shards of an index), a model in the layout of diffusers without its
/// other precisions, or the only model among the weights of any other repository.
///
/// Refuses a repository without weights ([`Error::NoWeights`]), and one with several models ([`Error::Choose`]).
pub(crate) fn choose(files: Vec<RemoteFile>, repo: &Repo, endpoint: &str) -> Result<Choice> {
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let wanted: BTreeSet<String> = if let Some(file) = repo.file() {
        one(&paths, file, repo, endpoint)?
    } else if paths.contains(&"model_index.json") {
        diffusers(&paths)
    } else {
        only_model(&paths, repo)?
    };
    if !wanted.iter().any(|path| is_weights(path)) && repo.file().is_none() {
        return Err(Error::NoWeights { repo: repo.id().to_owned() });
    }
    let (wanted, skipped): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| wanted.contains(&file.path));
    Ok(Choice { wanted, skipped: skipped.into_iter().map(|file| file.path).collect() })
}

fn one(paths: &[&str], file: &str, repo: &Repo, endpoint: &str) -> Result<BTreeSet<String>> {
    if !paths.contains(&file) {
        let weights: Vec<&str> = paths.iter().copied().filter(|path| is_weights(path)).collect();
        let hint = match weights.is_empty() {
            true => "it has no weight files".to_owned(),
            false => format!("its weight files are {}", weights.join(", ")),
        };
        let what = format!("file {file} in {}", repo.id());
        return Err(Error::NotFound { endpoint: endpoint.to_owned(), what, hint });
    }
    let shards = file.strip_suffix(".safetensors.index.json").map(|stem| (format!("{stem}-"), stem));
    let is_shard =
        |path: &&&str| shards.as_ref().is_some_and(|(prefix, stem)| path.starts_with(prefix) && set_of(path) == *stem);
    Ok(paths.iter().filter(is_shard).map(|path| path.to_string()).chain([file.to_owned()]).collect())
}

fn diffusers(paths: &[&str]) -> BTreeSet<String> {
    let mut wanted: BTreeSet<String> = BTreeSet::from(["model_index.json".to_owned()]);
    for folder in COMPONENTS.into_iter().chain(COMPANIONS) {
        let here: Vec<&str> = paths.iter().copied().filter(|path| folder_of(path) == folder).collect();
        let weights = here.iter().copied().filter(|path| is_weights(path) && ends(path, &["safetensors"]));
        // `model.fp16.safetensors` is another precision of `model.safetensors`.
        let (other, usual): (Vec<&str>, Vec<&str>) = weights.partition(|path| name_of(set_of(path)).contains('.'));
        let index = |path: &str| here.contains(&format!("{}.safetensors.index.json", set_of(path)).as_str());
        let sharded: Vec<&str> = usual.iter().copied().filter(|path| index(path) && is_shard(path)).collect();
        let chosen = if !sharded.is_empty() {
            sharded
        } else if usual.is_empty() {
            other
        } else {
            usual
        };
        let sets: BTreeSet<&str> = chosen.iter().map(|path| set_of(path)).collect();
        wanted.extend(chosen.iter().map(|path| path.to_string()));
        wanted.extend(here.iter().filter(|path| is_companion(path, folder, &sets)).map(|path| path.to_string()));
    }
    wanted
}

/// Small files of a folder: configs, the index of the chosen shards, and what a tokenizer is made of.
fn is_companion(path: &str, folder: &str, sets: &BTreeSet<&str>) -> bool {
    if let Some(stem) = path.strip_suffix(".safetensors.index.json") {
        return sets.contains(stem);
    }
    ends(path, &["json"]) || folder == "tokenizer" && ends(path, &["txt", "jinja", "model"])
}

fn only_model(paths: &[&str], repo: &Repo) -> Result<BTreeSet<String>> {
    let weights: Vec<&str> = paths.iter().copied().filter(|path| is_weights(path)).collect();
    let mut sets: BTreeMap<&str, &str> = BTreeMap::new();
    for path in &weights {
        sets.entry(set_of(path)).or_insert(path);
    }
    let parts: BTreeSet<&str> = sets.keys().filter_map(|set| part_of(set)).collect();
    if sets.len() > 1 && parts.len() != sets.len() {
        return Err(Error::Choose {
            repo: repo.id().to_owned(),
            files: sets.values().map(|path| path.to_string()).collect(),
        });
    }
    let folders: BTreeSet<&str> = weights.iter().map(|path| folder_of(path)).chain(COMPANIONS).chain([""]).collect();
    let small = |path: &&&str| {
        folders.contains(folder_of(path))
            && (ends(path, &["json"]) || folder_of(path) == "tokenizer" && ends(path, &["txt", "jinja", "model"]))
    };
    Ok(paths.iter().filter(small).chain(&weights).map(|path| path.to_string()).collect())
}

/// Which part of a model a set of weights is by its folder or its name.
fn part_of(set: &str) -> Option<&'static str> {
    let by_folder = COMPONENTS.into_iter().find(|component| *component == folder_of(set));
    let by_name = || STEMS.iter().find(|(stem, _)| folder_of(set).is_empty() && *stem == set).map(|(_, part)| *part);
    by_folder.or_else(by_name)
}

fn ends(path: &str, endings: &[&str]) -> bool {
    path.rsplit_once('.').is_some_and(|(_, ending)| endings.contains(&ending))
}

/// Whether a file has weights that this program may read: no pickle does, whatever its name.
fn is_weights(path: &str) -> bool {
    ends(path, &["safetensors", "gguf"]) && !path.starts_with('.')
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn name_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn is_shard(path: &str) -> bool {
    set_of(path).len() + ".safetensors".len() < path.len()
}

/// The path without its ending, and for `x-00001-of-00003.safetensors`, without its number: shards belong together.
fn set_of(path: &str) -> &str {
    let stem = path.rsplit_once('.').map_or(path, |(stem, _)| stem);
    let digits = |text: &str| text.len() >= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    let numbered = stem.rsplit_once("-of-").filter(|(_, count)| digits(count)).map(|(rest, _)| rest);
    let set = numbered.and_then(|rest| rest.rsplit_once('-')).filter(|(_, number)| digits(number));
    set.map_or(stem, |(set, _)| set)
}

#[cfg(test)]
mod tests;
