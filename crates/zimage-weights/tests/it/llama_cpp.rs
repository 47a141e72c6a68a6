//! The keys of llama.cpp: against those of the reference, and what is wrong with them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value as Json, json};
use zimage_weights::TextEncoderConfig;
use zimage_weights::container::{Array, Gguf, Value, write_gguf};
use zimage_weights::llama_cpp::{text_encoder_config, text_encoder_keys, tokenizer_json, tokenizer_keys};

fn goldens(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../goldens").join(file)
}

fn golden() -> Gguf {
    Gguf::open(&goldens("container/qwen3.gguf")).expect("a golden")
}

fn model(file: &str) -> Vec<u8> {
    fs::read(goldens("models/tiny-a").join(file)).expect("a file of the tiny model")
}

fn parsed(text: &[u8]) -> Json {
    serde_json::from_slice(text).expect("JSON")
}

fn config() -> TextEncoderConfig {
    TextEncoderConfig::from_json(&parsed(&model("text_encoder/config.json"))).expect("a config")
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

/// The keys of the golden after a change.
fn changed(change: impl FnOnce(&mut BTreeMap<String, Value>)) -> Gguf {
    let mut keys = golden().metadata().clone();
    change(&mut keys);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.gguf");
    write_gguf(&path, &keys.into_iter().collect::<Vec<_>>(), Vec::new()).expect("written");
    Gguf::from_bytes("x.gguf", fs::read(&path).expect("bytes").into()).expect("valid")
}

/// The golden with another value of one key, or without it.
fn with(key: &str, value: Option<Value>) -> Gguf {
    changed(|keys| match value {
        Some(value) => drop(keys.insert(key.to_owned(), value)),
        None => drop(keys.remove(key)),
    })
}

/// No config is read from such a file, with these words.
fn bad_config(key: &str, value: Option<Value>, expected: &str) {
    let error = text_encoder_config(&with(key, value)).expect_err(expected).to_string();
    assert_eq!(error, format!("x.gguf: {expected}"));
}

/// No tokenizer is read from such a file, with these words.
fn bad_tokenizer(key: &str, value: Option<Value>, expected: &str) {
    let error = tokenizer_json(&with(key, value)).expect_err(expected).to_string();
    assert_eq!(error, format!("x.gguf: {expected}"));
}

/// A change of the tiny model's tokenizer is refused with these words.
fn bad_file(pointer: &str, value: Json, expected: &str) {
    let mut tokenizer = parsed(&model("tokenizer/tokenizer.json"));
    *tokenizer.pointer_mut(pointer).expect("a place in it") = value;
    let error = tokenizer_keys("t.json", tokenizer.to_string().as_bytes(), 448, None).expect_err(expected).to_string();
    assert!(error.starts_with("t.json") && error.contains(expected), "{error}");
}

#[test]
fn keys_are_those_that_the_reference_writes() {
    let template = parsed(&model("tokenizer/tokenizer_config.json"));
    let template = template["chat_template"].as_str();
    let tokenizer = tokenizer_keys("t.json", &model("tokenizer/tokenizer.json"), config().vocab_size, template);
    let keys = text_encoder_keys(&config()).into_iter().chain(tokenizer.expect("a tokenizer of Qwen"));
    assert_eq!(&keys.collect::<BTreeMap<String, Value>>(), golden().metadata());
}

#[test]
fn the_config_is_that_of_the_model() {
    assert_eq!(text_encoder_config(&golden()).expect("a config"), config());
}

#[test]
fn the_tokenizer_is_that_of_the_model() {
    let mut read = parsed(&tokenizer_json(&golden()).expect("a tokenizer"));
    let mut expected = parsed(&model("tokenizer/tokenizer.json"));
    let looks_special = |token: &Json| token["content"].as_str().is_some_and(|text| text.starts_with("<|"));
    let added = expected["added_tokens"].as_array().expect("a list").clone();
    // Its added tokens are in the list of all tokens too, and those that look special are.
    for (at, token) in added.iter().enumerate() {
        read["model"]["vocab"].as_object_mut().expect("an object").remove(token["content"].as_str().expect("a text"));
        expected["added_tokens"][at]["special"] = json!(looks_special(token));
    }
    assert_eq!(read, expected);
}

#[test]
fn what_is_read_is_written_again() {
    let tokenizer = tokenizer_json(&golden()).expect("a tokenizer");
    let keys = tokenizer_keys("t.json", &tokenizer, 448, None).expect("a tokenizer of Qwen");
    for (key, value) in keys {
        assert_eq!(golden().metadata()[&key], value, "{key}");
    }
}

#[test]
fn keys_that_are_missing_or_wrong_are_named() {
    bad_config("general.architecture", Some(text("llama")), "general.architecture is llama, expected qwen3");
    bad_config("qwen3.block_count", None, "qwen3.block_count is missing");
    bad_config("qwen3.block_count", Some(text("3")), "qwen3.block_count is 3, expected a whole number");
    bad_config("qwen3.block_count", Some(Value::I32(-3)), "qwen3.block_count is -3, expected a whole number");
    bad_config(
        "qwen3.block_count",
        Some(Value::U64(1 << 40)),
        "num_hidden_layers is 1099511627776, expected a whole number from 1 to 1048576",
    );
    bad_config(
        "qwen3.attention.value_length",
        Some(Value::U32(8)),
        "qwen3.attention.value_length is 8, expected 16, as for keys",
    );
    bad_config(
        "qwen3.rope.freq_base",
        Some(Value::F32(f32::NAN)),
        "qwen3.rope.freq_base is NaN, expected a number above 0",
    );
    bad_config("qwen3.rope.scaling.type", Some(text("yarn")), "qwen3.rope.scaling.type is yarn, expected none");
    bad_config("tokenizer.ggml.tokens", Some(text("a")), "tokenizer.ggml.tokens is a, expected a list");
    let nothing = Value::Array(Array::of_texts([]));
    bad_config("tokenizer.ggml.tokens", Some(nothing), "vocab_size is 0, expected a whole number from 1 to 1048576");
    let gguf = with("qwen3.rope.scaling.type", Some(text("none")));
    assert_eq!(text_encoder_config(&gguf).expect("plain positions"), config());
}

#[test]
fn tokenizers_of_other_kinds_and_lists_that_do_not_fit_are_refused() {
    bad_tokenizer("tokenizer.ggml.model", Some(text("llama")), "tokenizer.ggml.model is llama, expected gpt2");
    bad_tokenizer("tokenizer.ggml.pre", Some(text("llama-bpe")), "tokenizer.ggml.pre is llama-bpe, expected qwen2");
    bad_tokenizer("tokenizer.ggml.merges", None, "tokenizer.ggml.merges is missing");
    let types = |values: &[i32]| Some(Value::Array(Array::of_i32(values)));
    let expected = "tokenizer.ggml.token_type is a list of 1 values, expected 448 values, one for each token";
    bad_tokenizer("tokenizer.ggml.token_type", types(&[1]), expected);
    let expected = "tokenizer.ggml.token_type is 6 for token 0, expected 1, 3, 4 or 5";
    bad_tokenizer("tokenizer.ggml.token_type", types(&[6; 448]), expected);
    bad_tokenizer(
        "tokenizer.ggml.token_type",
        types(&[-1]),
        "tokenizer.ggml.token_type is [-1], expected a list of whole numbers",
    );
    let texts = |texts: &[&str]| Some(Value::Array(Array::of_texts(texts.iter().copied())));
    let merge =
        |merge: &str| format!("tokenizer.ggml.merges is a list with {merge:?}, expected two tokens and a space each");
    for wrong in ["ab", "a b c", ""] {
        bad_tokenizer("tokenizer.ggml.merges", texts(&["a b", wrong]), &merge(wrong));
    }
    let twice = "tokenizer.ggml.tokens is a list with the token 1 at 0 too, expected every token once";
    let gguf = changed(|keys| {
        keys.extend([("tokenizer.ggml.tokens".to_owned(), texts(&["a", "a"]).expect("a list"))]);
        keys.extend([("tokenizer.ggml.token_type".to_owned(), types(&[1, 1]).expect("a list"))]);
    });
    assert_eq!(tokenizer_json(&gguf).expect_err(twice).to_string(), format!("x.gguf: {twice}"));
}

#[test]
fn tokenizer_files_of_other_kinds_are_refused() {
    bad_file("/model/type", json!("WordPiece"), "model.type is \"WordPiece\", expected \"BPE\"");
    bad_file("/normalizer", Json::Null, "normalizer is null, expected {\"type\":\"NFC\"}");
    bad_file("/pre_tokenizer/pretokenizers/0/pattern/Regex", json!(r"\s+"), "pre_tokenizer.pretokenizers.0 is");
    bad_file("/pre_tokenizer/pretokenizers/1/use_regex", json!(true), "use_regex is true, expected false");
    bad_file("/model/merges/0", json!(["a ", "b"]), "model.merges is a list with \"a \" and \"b\"");
    bad_file("/model/vocab/!", json!(448), "the id of a token is 448, expected less than 448");
    bad_file("/model/vocab/!", json!(5), "the id of a token is 5 for ");
    bad_file("/added_tokens/2/content", json!("<|end|>"), "the token <|im_end|> is missing");
    bad_file("/added_tokens", json!(7), "is not valid JSON");
}
