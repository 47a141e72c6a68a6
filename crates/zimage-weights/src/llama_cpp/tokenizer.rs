//! The tokenizer of Qwen as the keys of llama.cpp, and as a `tokenizer.json`.
//!
//! Both list the same tokens and merges. Of what the second says beside them, llama.cpp keeps a name only, "qwen2", for
//! the normalization and for where a text is split.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::Keys;
use crate::container::{Array, Gguf, Value};
use crate::{Error, Result};

const MODEL: (&str, &str) = ("tokenizer.ggml.model", "gpt2");
const PRE: (&str, &str) = ("tokenizer.ggml.pre", "qwen2");
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const CHAT_TEMPLATE: &str = "tokenizer.chat_template";

/// Tokens that have a key of their own: the keys, and the token in every tokenizer of Qwen.
const SPECIAL: [(&str, &str); 3] = [
    ("tokenizer.ggml.bos_token_id", "<|endoftext|>"),
    ("tokenizer.ggml.eos_token_id", "<|im_end|>"),
    ("tokenizer.ggml.padding_token_id", "<|endoftext|>"),
];

/// Types of tokens in llama.cpp.
const NORMAL: i32 = 1;
/// Found in a text before it is split, and not shown.
const CONTROL: i32 = 3;
/// Found in a text before it is split.
const USER_DEFINED: i32 = 4;
/// A row of the embedding without a token.
const UNUSED: i32 = 5;

/// What llama.cpp calls "qwen2": where a text is split before anything is merged.
const SPLIT: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The number of rows of the embedding, which is that of the tokens with the unused ones.
pub(super) fn vocab_size(keys: &Keys<'_>) -> Result<usize> {
    keys.len(TOKENS)
}

/// The `tokenizer.json` that makes the same ids as the tokenizer in the keys of a file.
///
/// It equals the one of the model but for the flag `special` of tokens like `<|fim_pad|>`, which llama.cpp sets and which
/// says only what is left out when ids are turned to text. Refuses ([`Error::Config`], [`Error::ConfigMissing`]) other
/// kinds of tokenizers, and lists that do not fit each other.
pub fn tokenizer_json(gguf: &Gguf) -> Result<Vec<u8>> {
    let keys = Keys(gguf);
    keys.must_be(MODEL.0, MODEL.1)?;
    keys.must_be(PRE.0, PRE.1)?;
    let (tokens, types) = (keys.texts(TOKENS)?, keys.counts(TYPES)?);
    if tokens.len() != types.len() {
        let expected = format_args!("{} values, one for each token", tokens.len());
        return Err(keys.wrong(TYPES, format_args!("a list of {} values", types.len()), expected));
    }
    let (mut vocab, mut added) = (Map::new(), Vec::new());
    for (id, (token, kind)) in tokens.into_iter().zip(types).enumerate() {
        match i32::try_from(kind) {
            Ok(NORMAL) => {}
            Ok(CONTROL) => added.push(added_token(id, &token, true)),
            Ok(USER_DEFINED) => added.push(added_token(id, &token, false)),
            Ok(UNUSED) => continue,
            _ => return Err(keys.wrong(TYPES, format_args!("{kind} for token {id}"), "1, 3, 4 or 5")),
        }
        // Added tokens are listed here too, out of reach of any merge: otherwise the reader of this file would number
        // them from the length of this list on, whatever their ids are.
        if let Some(other) = vocab.insert(token, json!(id)) {
            return Err(keys.wrong(
                TOKENS,
                format_args!("a list with the token {id} at {other} too"),
                "every token once",
            ));
        }
    }
    let pair = |merge: String| {
        let pair = merge.split_once(' ').filter(|(_, right)| !right.contains(' '));
        pair.map(|(left, right)| json!([left, right]))
            .ok_or_else(|| keys.wrong(MERGES, format_args!("a list with {merge:?}"), "two tokens and a space each"))
    };
    let merges = keys.texts(MERGES)?.into_iter().map(pair).collect::<Result<Vec<Json>>>()?;
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": { "type": "NFC" },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": SPLIT }, "behavior": "Isolated", "invert": false },
            { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false },
        ] },
        "post_processor": null,
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges,
        },
    });
    Ok(tokenizer.to_string().into_bytes())
}

fn added_token(id: usize, content: &str, special: bool) -> Json {
    json!({
        "id": id, "content": content, "special": special,
        "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
    })
}

/// The keys of the tokenizer in a `tokenizer.json`, which `file` names in messages. `vocab_size` is the number of rows of
/// the embedding; those without a token get one that is marked as unused, as llama.cpp does it.
///
/// Refuses ([`Error::Config`], [`Error::ConfigMissing`]) tokenizers that llama.cpp would not read as "qwen2", ids beyond
/// the embedding, and two tokens of one id.
pub fn tokenizer_keys(
    file: &str,
    tokenizer_json: &[u8],
    vocab_size: usize,
    chat_template: Option<&str>,
) -> Result<Vec<(String, Value)>> {
    let json = |source| Error::Json { file: file.to_owned(), source };
    let tokenizer: TokenizerFile = serde_json::from_slice(tokenizer_json).map_err(json)?;
    tokenizer.check(file)?;
    let (tokens, types) = tokenizer.tokens(file, vocab_size)?;
    let merges = tokenizer.model.merges.iter().map(|merge| merge.text(file)).collect::<Result<Vec<String>>>()?;
    let text = |(key, value): (&str, &str)| (key.to_owned(), Value::String(value.to_owned()));
    let texts =
        |key: &str, list: &[String]| (key.to_owned(), Value::Array(Array::of_texts(list.iter().map(String::as_str))));
    let mut keys = vec![text(MODEL), text(PRE), texts(TOKENS, &tokens)];
    keys.push((TYPES.to_owned(), Value::Array(Array::of_i32(&types))));
    keys.push(texts(MERGES, &merges));
    for (key, token) in SPECIAL {
        let missing = || Error::ConfigMissing { file: file.to_owned(), key: format!("the token {token}") };
        let id = tokenizer.added_tokens.iter().find(|added| added.content == token).ok_or_else(missing)?.id;
        keys.push((key.to_owned(), Value::U32(id)));
    }
    keys.push((ADD_BOS.to_owned(), Value::Bool(false)));
    keys.extend(chat_template.map(|template| text((CHAT_TEMPLATE, template))));
    Ok(keys)
}

/// What is read of a `tokenizer.json`.
#[derive(Deserialize)]
struct TokenizerFile {
    added_tokens: Vec<AddedToken>,
    normalizer: Json,
    pre_tokenizer: Json,
    model: Bpe,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    special: bool,
}

#[derive(Deserialize)]
struct Bpe {
    r#type: String,
    #[serde(default)]
    byte_fallback: bool,
    vocab: BTreeMap<String, u32>,
    merges: Vec<Merge>,
}

/// Two tokens, as such or in one text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Text(String),
}

impl Merge {
    fn text(&self, file: &str) -> Result<String> {
        match self {
            Merge::Text(text) => Ok(text.clone()),
            Merge::Pair(left, right) if left.contains(' ') || right.contains(' ') => {
                let found = format_args!("a list with {left:?} and {right:?}");
                Err(wrong(file, "model.merges", found, "tokens without a space"))
            }
            Merge::Pair(left, right) => Ok(format!("{left} {right}")),
        }
    }
}

impl TokenizerFile {
    /// What llama.cpp calls "qwen2" is this and nothing else.
    fn check(&self, file: &str) -> Result<()> {
        let at = |pointer: &str| self.pre_tokenizer.pointer(pointer).unwrap_or(&Json::Null);
        let checks = [
            ("model.type", &json!(self.model.r#type), json!("BPE")),
            ("model.byte_fallback", &json!(self.model.byte_fallback), json!(false)),
            ("normalizer", &self.normalizer, json!({ "type": "NFC" })),
            ("pre_tokenizer.pretokenizers.0", at("/pretokenizers/0/pattern/Regex"), json!(SPLIT)),
            ("pre_tokenizer.pretokenizers.1", at("/pretokenizers/1/type"), json!("ByteLevel")),
            ("add_prefix_space", at("/pretokenizers/1/add_prefix_space"), json!(false)),
            ("use_regex", at("/pretokenizers/1/use_regex"), json!(false)),
            ("pre_tokenizer.pretokenizers.2", at("/pretokenizers/2"), Json::Null),
        ];
        match checks.into_iter().find(|(_, found, expected)| *found != expected) {
            Some((key, found, expected)) => Err(wrong(file, key, found, expected)),
            None => Ok(()),
        }
    }

    /// Every row of the embedding: its token and the type of it.
    fn tokens(&self, file: &str, vocab_size: usize) -> Result<(Vec<String>, Vec<i32>)> {
        let mut rows: Vec<Option<(&str, i32)>> = vec![None; vocab_size];
        let normal = self.model.vocab.iter().map(|(token, id)| (*id, token.as_str(), NORMAL));
        let added = self.added_tokens.iter().map(|added| (added.id, added.content.as_str(), added.kind()));
        for (id, token, kind) in normal.chain(added) {
            let beyond = || wrong(file, "the id of a token", id, format_args!("less than {vocab_size}"));
            let row = rows.get_mut(id as usize).ok_or_else(beyond)?;
            if let Some((other, _)) = row.replace((token, kind)).filter(|(other, _)| *other != token) {
                return Err(wrong(file, "the id of a token", format_args!("{id} for {other} and {token}"), "one each"));
            }
        }
        let unused = |id: usize| (format!("[PAD{id}]"), UNUSED);
        let owned =
            |(id, row): (usize, Option<(&str, i32)>)| row.map_or_else(|| unused(id), |(t, k)| (t.to_owned(), k));
        Ok(rows.into_iter().enumerate().map(owned).unzip())
    }
}

impl AddedToken {
    /// llama.cpp takes all tokens of this look for special, as not every model says so.
    fn kind(&self) -> i32 {
        let looks_special = self.content.starts_with("<|") && self.content.ends_with("|>");
        if self.special || looks_special { CONTROL } else { USER_DEFINED }
    }
}

/// An [`Error::Config`] about a key.
pub(super) fn wrong(file: &str, key: &str, found: impl Display, expected: impl Display) -> Error {
    let (file, key) = (file.to_owned(), key.to_owned());
    Error::Config { file, key, found: found.to_string(), expected: expected.to_string() }
}
