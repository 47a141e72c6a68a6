//! Puts a model together: every part from where it was given, from the model's own files, or from a lender.

use std::path::PathBuf;

use super::configs::config_of;
use super::parts::{self, Parts, Source, held};
use crate::schema::Component;
use crate::{Error, Result};

/// Finds every part: where it was given, else where the transformer is.
pub(super) fn sources(parts: &Parts, label: &str) -> Result<[Source; 3]> {
    let main = Source::find(&parts.transformer, Component::Transformer)?;
    let (main_is_whole, here) = match &main {
        Source::Layout(_) => (true, Vec::new()),
        Source::File(_) | Source::Shards(_) => (false, held(label, &main.container(Component::Transformer)?)?),
    };
    let find = |component: Component| -> Result<Option<Source>> {
        match parts.given(component).filter(|_| component != Component::Transformer) {
            None if main_is_whole => Source::find(&parts.transformer, component).map(Some),
            None if here.contains(&component) => Ok(Some(main.clone())),
            None if component == Component::Transformer => Ok(None),
            None => Ok(lent(parts, component, &main)),
            Some(path) => {
                let source = Source::find(path, component)?;
                if !source.holds(component)? {
                    let (label, what) = (source.label(), format!("it has no {component}"));
                    let hint = format!("give the file of the {component}");
                    return Err(Error::NotACheckpoint { label, what, hint });
                }
                Ok(Some(source))
            }
        }
    };
    let [transformer, text_encoder, vae] =
        [find(Component::Transformer)?, find(Component::TextEncoder)?, find(Component::Vae)?];
    let found = [&transformer, &text_encoder, &vae];
    let missing: Vec<Component> =
        Component::ALL.into_iter().zip(found).filter(|(_, found)| found.is_none()).map(|(part, _)| part).collect();
    if let (Some(transformer), Some(text_encoder), Some(vae)) = (&transformer, &text_encoder, &vae) {
        return Ok([transformer.clone(), text_encoder.clone(), vae.clone()]);
    }
    let tokenizer = parts::tokenizer(parts, transformer.as_ref().unwrap_or(&main), text_encoder.as_ref())?;
    Err(missing_parts(label, &missing, tokenizer.is_none()))
}

/// The error that names what is missing, and the flags to give it by.
pub(super) fn missing_parts(label: &str, components: &[Component], tokenizer: bool) -> Error {
    let flag = |component: &Component| match component {
        Component::Transformer => "--model",
        Component::TextEncoder => "--text-encoder",
        Component::Vae => "--vae",
    };
    let mut missing: Vec<String> = components.iter().map(|component| format!("the {component}")).collect();
    let mut flags: Vec<String> = components.iter().map(|component| format!("{} PATH", flag(component))).collect();
    if tokenizer {
        missing.push("the tokenizer".to_owned());
        flags.push("--tokenizer PATH".to_owned());
    }
    Error::MissingParts { label: label.to_owned(), missing, hint: format!("give them with {}", flags.join(" ")) }
}

/// A part of the first lender that has one of the transformer's sizes.
fn lent(parts: &Parts, component: Component, transformer: &Source) -> Option<Source> {
    let wanted = width_of(transformer, Component::Transformer, component);
    let lend = |path: &PathBuf| {
        let source = Source::find(path, component).ok()?;
        let holds = source.holds(component).is_ok_and(|holds| holds);
        (holds && width_of(&source, component, component) == wanted).then_some(source)
    };
    parts.lenders.iter().find_map(lend)
}

/// What `own` says of the width between the transformer and `other`: features of a caption, channels of latents.
fn width_of(source: &Source, own: Component, other: Component) -> Option<u64> {
    let container = source.container(own).ok()?;
    let (config, _) = match source {
        Source::Layout(files) => (files.json(own.config_file()).ok()?, None),
        Source::File(_) | Source::Shards(_) => config_of(&source.label(), &container, own).ok()?,
    };
    let key = match (own, other) {
        (Component::Transformer, Component::Vae) => "in_channels",
        (Component::Transformer, _) => "cap_feat_dim",
        (Component::TextEncoder, _) => "hidden_size",
        (Component::Vae, _) => "latent_channels",
    };
    config.get(key)?.as_u64()
}
