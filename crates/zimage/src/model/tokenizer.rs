//! Prompt -> token ids, exactly as diffusers' Z-Image pipelines make them.
//!
//! Source: diffusers `ZImagePipeline._encode_prompt`, the Qwen3 chat template with thinking enabled.

use crate::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use tokenizers::Tokenizer as HfTokenizer;

/// What comes before and after the prompt: one user message, and the start of the answer.
const TEMPLATE: (&str, &str) = ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n");

/// Longest sequence, template included: `max_sequence_length` of diffusers.
pub const MAX_TOKENS: usize = 512;

/// Longest prompt in characters. Only 512 tokens are ever used; this bounds the work spent on finding them.
pub const MAX_PROMPT_CHARS: usize = 1 << 20;

/// A byte-level BPE tokenizer with the chat template around the prompt.
pub struct Tokenizer {
    tokenizer: HfTokenizer,
}

/// Ids of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// At most [`MAX_TOKENS`] ids; never empty.
    pub ids: Vec<u32>,
    /// How many tokens were cut off at the end. Cutting removes the closing part of the template too, as in diffusers.
    pub dropped: usize,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`; `model` names the checkpoint in errors, `vocab` is the size of its embedding.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when the file is no tokenizer of the kind that Qwen has, lacks the chat tokens, or has ids
    /// beyond the embedding.
    pub fn from_json(json: &[u8], model: &str, vocab: usize) -> Result<Tokenizer> {
        let unusable = |reason: String| Error::Tokenizer { model: model.to_string(), reason };
        Kinds::check(json).map_err(unusable)?;
        let mut tokenizer = HfTokenizer::from_bytes(json).map_err(|e| unusable(e.to_string()))?;
        // Files may carry their own padding and truncation; diffusers sets both itself, and so do we.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| unusable(e.to_string()))?;
        for token in ["<|im_start|>", "<|im_end|>"] {
            if tokenizer.token_to_id(token).is_none() {
                return Err(unusable(format!("it has no token {token}")));
            }
        }
        let ids = tokenizer.get_vocab(true);
        if let Some((token, id)) = ids.iter().max_by_key(|(_, id)| **id).filter(|(_, id)| **id as usize >= vocab) {
            return Err(unusable(format!("token {token:?} has id {id}, but the embedding has {vocab} rows")));
        }
        Ok(Tokenizer { tokenizer })
    }

    /// Ids of the prompt inside the chat template. Special tokens that a user typed are parsed as such, as in diffusers.
    ///
    /// # Errors
    /// [`Error::Request`] for a prompt over [`MAX_PROMPT_CHARS`].
    pub fn encode(&self, prompt: &str) -> Result<Tokens> {
        if prompt.chars().nth(MAX_PROMPT_CHARS).is_some() {
            return Err(Error::Request {
                what: format!("the prompt is longer than {MAX_PROMPT_CHARS} characters"),
                hint: format!("the model reads {MAX_TOKENS} tokens, about 2000 characters"),
            });
        }
        let text = format!("{}{prompt}{}", TEMPLATE.0, TEMPLATE.1);
        let encoding = self.tokenizer.encode_fast(text, false).map_err(|e| Error::Request {
            what: format!("the prompt could not be tokenized: {e}"),
            hint: "check the prompt for unusual characters".into(),
        })?;
        let mut ids = encoding.get_ids().to_vec();
        let dropped = ids.len().saturating_sub(MAX_TOKENS);
        ids.truncate(MAX_TOKENS);
        Ok(Tokens { ids, dropped })
    }
}

/// What is asked of a `tokenizer.json` before it is read in full. The library behind reads many kinds of tokenizers, and
/// panics on some files of those that no Z-Image checkpoint has.
#[derive(Deserialize)]
struct Kinds {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    model: ModelKind,
}

/// The settings of the model beside its vocabulary and merges.
#[derive(Deserialize)]
struct ModelKind {
    #[serde(default)]
    r#type: Value,
    #[serde(default)]
    dropout: Value,
    #[serde(default)]
    unk_token: Value,
    #[serde(default)]
    continuing_subword_prefix: Value,
    #[serde(default)]
    end_of_word_suffix: Value,
}

impl Kinds {
    /// Says what makes the file another kind of tokenizer than Qwen's: byte-level BPE, NFC, a split by a pattern.
    fn check(json: &[u8]) -> std::result::Result<(), String> {
        let kinds: Kinds = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let all = |list: &Value, known: &[&str]| {
            list.as_array().is_some_and(|list| list.iter().all(|part| is_kind(part, known)))
        };
        let sequence = is_kind(&kinds.pre_tokenizer, &["Sequence"])
            && all(&kinds.pre_tokenizer["pretokenizers"], &["Split", "ByteLevel"]);
        let model = &kinds.model;
        let none = |value: &Value| value.is_null() || value == "";
        let checks = [
            ("model.type", &model.r#type, model.r#type == "BPE"),
            ("model.dropout", &model.dropout, none(&model.dropout)),
            ("model.unk_token", &model.unk_token, none(&model.unk_token)),
            (
                "model.continuing_subword_prefix",
                &model.continuing_subword_prefix,
                none(&model.continuing_subword_prefix),
            ),
            ("model.end_of_word_suffix", &model.end_of_word_suffix, none(&model.end_of_word_suffix)),
            ("normalizer", &kinds.normalizer, is_kind(&kinds.normalizer, &["NFC"])),
            ("pre_tokenizer", &kinds.pre_tokenizer, sequence || is_kind(&kinds.pre_tokenizer, &["ByteLevel"])),
            (
                "post_processor",
                &kinds.post_processor,
                is_kind(&kinds.post_processor, &["ByteLevel"]) || adds_nothing(&kinds.post_processor),
            ),
            ("decoder", &kinds.decoder, is_kind(&kinds.decoder, &["ByteLevel"])),
        ];
        match checks.into_iter().find(|(_, _, holds)| !holds) {
            Some((key, found, _)) => {
                Err(format!("{key} is {:.200}, which the tokenizer of Qwen has not", found.to_string()))
            }
            None => Ok(()),
        }
    }
}

/// Whether a part of the file is absent or of one of these types.
fn is_kind(part: &Value, known: &[&str]) -> bool {
    part.is_null() || part.get("type").and_then(Value::as_str).is_some_and(|kind| known.contains(&kind))
}

/// Whether a template has a text's own tokens and nothing else: transformers writes one into files that it saves anew.
fn adds_nothing(post_processor: &Value) -> bool {
    let single = post_processor.get("single").and_then(Value::as_array);
    let is_text = single.is_some_and(|parts| matches!(&parts[..], [part] if part.get("Sequence").is_some()));
    is_kind(post_processor, &["TemplateProcessing"]) && !post_processor.is_null() && is_text
}

#[cfg(test)]
mod tests;
