//! The text that the Stable Diffusion web UI puts into pictures, taken apart:
//!
//! ```text
//! prompt, any number of lines <lora:name:0.8>
//! Negative prompt: any number of lines
//! Steps: 20, Sampler: Euler a, Seed: 5, Size: 512x512, Model: "a, b", Version: v1.10
//! ```
//!
//! It is ambiguous (a prompt may contain such lines), so it is only read where a picture has nothing better.

use crate::job::LoraChoice;

const NEGATIVE: &str = "Negative prompt:";
/// A last line with fewer fields is prose.
const FEWEST_FIELDS: usize = 3;

/// The parts of a text.
#[derive(Debug, Default, PartialEq)]
pub struct Infotext {
    /// Without the LoRAs.
    pub prompt: String,
    /// Empty if there was none.
    pub negative_prompt: String,
    /// From the prompt.
    pub loras: Vec<LoraChoice>,
    /// The rest, in its order.
    pub fields: Vec<(String, String)>,
}

impl Infotext {
    /// Takes a text apart. Every text has parts; what is not recognized is prompt.
    pub fn parse(text: &str) -> Infotext {
        let text = text.replace("\r\n", "\n");
        let mut lines: Vec<&str> = text.trim().lines().collect();
        let fields = lines.last().map(|line| fields(line)).filter(|fields| fields.len() >= FEWEST_FIELDS);
        if fields.is_some() {
            lines.pop();
        }
        let negative = lines.iter().position(|line| line.trim_start().starts_with(NEGATIVE));
        let (prompt, negative) = lines.split_at(negative.unwrap_or(lines.len()));
        let negative = negative.join("\n");
        let negative = negative.trim_start().strip_prefix(NEGATIVE).unwrap_or_default();
        let (prompt, loras) = without_loras(&prompt.join("\n"));
        Infotext { prompt, negative_prompt: negative.trim().into(), loras, fields: fields.unwrap_or_default() }
    }

    /// A field, by its name in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// `Key: value, Key: "value, with commas"`; what has no key is left out.
fn fields(line: &str) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    let mut rest = line.trim();
    while let Some((key, after)) = rest.split_once(':') {
        let after = after.trim_start();
        let (value, length) = value(after);
        // A key has no comma: what stands before one is the rest of a value that nobody quoted.
        let key = key.rsplit(',').next().unwrap_or(key).trim();
        if is_key(key) {
            fields.push((key.to_owned(), value));
        }
        rest = after.get(length..).unwrap_or_default().trim_start_matches([',', ' ']);
    }
    fields
}

fn is_key(key: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || " -/_".contains(character);
    key.starts_with(char::is_alphabetic) && key.len() <= 64 && key.chars().all(is_part)
}

/// A value, and how many bytes it takes.
fn value(text: &str) -> (String, usize) {
    if text.starts_with('"') {
        let mut json = serde_json::Deserializer::from_str(text).into_iter::<String>();
        if let Some(Ok(value)) = json.next() {
            return (value, json.byte_offset());
        }
    }
    let length = text.find(',').unwrap_or(text.len());
    (text.get(..length).unwrap_or_default().trim().to_owned(), length)
}

/// Takes `<lora:name:weight>` out of a prompt. Other tags stay as they are: they are text.
fn without_loras(prompt: &str) -> (String, Vec<LoraChoice>) {
    let (mut text, mut loras, mut rest) = (String::new(), Vec::new(), prompt);
    while let Some(start) = rest.find("<lora:") {
        let (before, tag) = rest.split_at(start);
        let Some((inside, after)) = tag.split_once('>') else { break };
        match lora(inside) {
            Some(lora) => {
                text.push_str(before);
                loras.push(lora);
            }
            None => {
                text.push_str(before);
                text.push_str(inside);
                text.push('>');
            }
        }
        rest = after;
    }
    text.push_str(rest);
    let text = if loras.is_empty() { text } else { without_gaps(&text) };
    (text.trim().to_owned(), loras)
}

/// `<lora:name`, `<lora:name:weight`, and with a second weight for the text encoder, which is not ours.
fn lora(inside: &str) -> Option<LoraChoice> {
    let mut parts = inside.split(':').skip(1);
    let id = parts.next().filter(|id| !id.is_empty())?.to_owned();
    let weight = parts.next().map_or(Some(1.0_f64), |weight| weight.trim().parse().ok())?;
    weight.is_finite().then_some(LoraChoice { id, weight })
}

/// Where a tag was, spaces meet.
fn without_gaps(text: &str) -> String {
    let lines = text.lines().map(|line| line.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
