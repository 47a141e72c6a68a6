//! What llama.cpp keeps in the keys of a GGUF file of Qwen3: the sizes of the model and its tokenizer.
//!
//! Both directions of each stand beside each other. Source: `convert_hf_to_gguf.py` of llama.cpp, whose classes for Qwen
//! write these keys, and `constants.py` of the `gguf` package, which names them.

mod keys;
mod tokenizer;

use serde_json::{Map, Value as Json, json};

use crate::container::{Gguf, Value};
use crate::schema::TextEncoderConfig;
use crate::{Error, Result};

use keys::Keys;
pub use tokenizer::{tokenizer_json, tokenizer_keys};

const ARCHITECTURE: &str = "general.architecture";
const QWEN3: &str = "qwen3";

/// Sizes by the names of llama.cpp, and those of transformers. Two of the first kind are one of the second.
const COUNTS: [(&str, &str); 8] = [
    ("qwen3.block_count", "num_hidden_layers"),
    ("qwen3.context_length", "max_position_embeddings"),
    ("qwen3.embedding_length", "hidden_size"),
    ("qwen3.feed_forward_length", "intermediate_size"),
    ("qwen3.attention.head_count", "num_attention_heads"),
    ("qwen3.attention.head_count_kv", "num_key_value_heads"),
    ("qwen3.attention.key_length", "head_dim"),
    ("qwen3.attention.value_length", "head_dim"),
];

/// Other numbers by the names of llama.cpp, and those of transformers.
const FLOATS: [(&str, &str); 2] =
    [("qwen3.attention.layer_norm_rms_epsilon", "rms_norm_eps"), ("qwen3.rope.freq_base", "rope_theta")];

/// Positions are scaled where this is there and not "none".
const ROPE_SCALING: &str = "qwen3.rope.scaling.type";

/// The keys of a text encoder: `general.architecture` first, as llama.cpp wants it, then its sizes.
///
/// The size of the vocabulary is none of them; it is the number of tokens that [`tokenizer_keys`] lists.
pub fn text_encoder_keys(config: &TextEncoderConfig) -> Vec<(String, Value)> {
    let config = config.to_json();
    let count = |field: &str| config[field].as_u64().and_then(|count| u32::try_from(count).ok());
    let count = |field| Value::U32(count(field).expect("sizes have at most 20 bits: this is a bug"));
    let float =
        |field: &str| Value::F32(config[field].as_f64().expect("a config has its numbers: this is a bug") as f32);
    let architecture = (ARCHITECTURE.to_owned(), Value::String(QWEN3.to_owned()));
    let counts = COUNTS.map(|(key, field)| (key.to_owned(), count(field)));
    let floats = FLOATS.map(|(key, field)| (key.to_owned(), float(field)));
    [architecture].into_iter().chain(counts).chain(floats).collect()
}

/// The sizes of a text encoder by the keys of its file.
///
/// Refuses ([`Error::Config`], [`Error::ConfigMissing`]) another architecture, a key that is missing or no number,
/// heads of keys and values of different widths, scaled positions, and what [`TextEncoderConfig::from_json`] refuses.
pub fn text_encoder_config(gguf: &Gguf) -> Result<TextEncoderConfig> {
    let keys = Keys(gguf);
    keys.must_be(ARCHITECTURE, QWEN3)?;
    if gguf.metadata().contains_key(ROPE_SCALING) {
        keys.must_be(ROPE_SCALING, "none")?;
    }
    let mut config = Map::new();
    for (key, field) in COUNTS {
        let count = keys.count(key)?;
        match config.insert(field.to_owned(), json!(count)) {
            Some(other) if other != json!(count) => {
                return Err(keys.wrong(key, count, format!("{other}, as for keys")));
            }
            _ => {}
        }
    }
    for (key, field) in FLOATS {
        config.insert(field.to_owned(), json!(keys.positive(key)?));
    }
    config.insert("vocab_size".to_owned(), json!(tokenizer::vocab_size(&keys)?));
    config.insert("model_type".to_owned(), json!("qwen3"));
    config.insert("hidden_act".to_owned(), json!("silu"));
    let label = |error: Error| error.in_checkpoint(|_| gguf.label().to_owned());
    TextEncoderConfig::from_json(&Json::Object(config)).map_err(label)
}
