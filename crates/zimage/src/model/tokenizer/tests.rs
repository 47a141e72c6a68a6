use super::{MAX_PROMPT_CHARS, MAX_TOKENS, Tokenizer};
use crate::Error;
use crate::goldens::{checkpoint, json, path};
use serde_json::Value;
use zimage_weights::container::{Gguf, write_gguf};
use zimage_weights::llama_cpp::{tokenizer_json, tokenizer_keys};

fn small() -> Tokenizer {
    let json = checkpoint("tiny-a").tokenizer_json().expect("the tiny models have a tokenizer");
    Tokenizer::from_json(&json, "tiny-a", 448).expect("it is usable")
}

fn ids(value: &Value) -> Vec<u32> {
    let id = |v: &Value| u32::try_from(v.as_u64().expect("a number")).expect("an id");
    value.as_array().expect("a list of ids").iter().map(id).collect()
}

fn check(tokenizer: &Tokenizer, golden: &Value) {
    for case in golden["prompts"].as_array().expect("a list of prompts") {
        let tokens = tokenizer.encode(case["prompt"].as_str().expect("a prompt")).expect("it is tokenized");
        assert_eq!((tokens.ids, tokens.dropped), (ids(&case["ids"]), 0), "{}", case["name"]);
    }
    for case in golden["long"].as_array().expect("a list of prompts") {
        let times = usize::try_from(case["times"].as_u64().expect("a number")).expect("a count");
        let tokens = tokenizer.encode(&case["text"].as_str().expect("a text").repeat(times)).expect("it is tokenized");
        let (first, last) = (ids(&case["first_ids"]), ids(&case["last_ids"]));
        assert_eq!(tokens.ids.len() as u64, case["kept"], "{}", case["name"]);
        assert_eq!(tokens.dropped as u64, case["dropped"], "{}", case["name"]);
        assert!(tokens.ids.starts_with(&first) && tokens.ids.ends_with(&last), "{}", case["name"]);
        assert_eq!(tokens.ids.iter().map(|&id| u64::from(id)).sum::<u64>(), case["sum_of_ids"], "{}", case["name"]);
    }
}

#[test]
fn ids_agree_with_transformers() {
    check(&small(), &json("tokenizer/small.json"));
}

/// The real tokenizer is 11 MB and not in the repository; `ZIMAGE_QWEN_TOKENIZER` names a `tokenizer.json` of Qwen3.
#[test]
fn ids_of_the_real_tokenizer_agree_with_transformers() {
    let Some(path) = std::env::var_os("ZIMAGE_QWEN_TOKENIZER") else {
        eprintln!("skipped: ZIMAGE_QWEN_TOKENIZER names no tokenizer.json of Qwen3");
        return;
    };
    let bytes = std::fs::read(&path).expect("the tokenizer can be read");
    check(&Tokenizer::from_json(&bytes, "Qwen3", 151_936).expect("it is usable"), &json("tokenizer/qwen.json"));

    // The same by way of a GGUF file.
    let keys = tokenizer_keys("Qwen3", &bytes, 151_936, None).expect("a tokenizer of Qwen");
    let file = std::env::temp_dir().join(format!("zimage-tokenizer-{}.gguf", std::process::id()));
    write_gguf(&file, &keys, Vec::new()).expect("the file is written");
    let json_again = Gguf::open(&file).and_then(|gguf| tokenizer_json(&gguf));
    std::fs::remove_file(&file).expect("the file is there");
    let again = Tokenizer::from_json(&json_again.expect("a tokenizer"), "Qwen3", 151_936).expect("it is usable");
    check(&again, &json("tokenizer/qwen.json"));
}

#[test]
fn ids_of_a_gguf_file_agree_with_transformers() {
    let gguf = Gguf::open(&path("container/qwen3.gguf")).expect("a golden");
    let json_text = tokenizer_json(&gguf).expect("a tokenizer");
    check(&Tokenizer::from_json(&json_text, "qwen3.gguf", 448).expect("it is usable"), &json("tokenizer/small.json"));
}

#[test]
fn a_very_long_prompt_is_cut_and_an_endless_one_refused() {
    let tokens = small().encode(&"word ".repeat(20_000)).expect("it is cut");
    assert!(tokens.ids.len() == MAX_TOKENS && tokens.dropped > 10_000);
    assert!(matches!(small().encode(&"x".repeat(MAX_PROMPT_CHARS + 1)), Err(Error::Request { .. })));
}

#[test]
fn unusable_tokenizers_are_named() {
    let bytes = checkpoint("tiny-a").tokenizer_json().expect("the tiny models have a tokenizer");
    let refused = |json: &[u8], vocab| match Tokenizer::from_json(json, "somewhere", vocab) {
        Err(e) => e.to_string(),
        Ok(_) => panic!("it was accepted"),
    };
    assert!(refused(b"{}", 448).contains("somewhere"));
    assert!(refused(&bytes, 100).contains("the embedding has 100 rows"));
    let text = String::from_utf8(bytes.to_vec()).expect("JSON").replace("<|im_start|>", "<|start|>");
    assert!(refused(text.as_bytes(), 448).contains("<|im_start|>"));
}

/// The library behind panics on the first of these, whose merges are cut by the length of the prefix.
#[test]
fn tokenizers_of_other_kinds_are_refused_by_name() {
    let json = checkpoint("tiny-a").tokenizer_json().expect("the tiny models have a tokenizer");
    let check = |key: &str, value: Value| {
        let mut tokenizer: Value = serde_json::from_slice(&json).expect("it is JSON");
        let pointer = format!("/{}", key.replace('.', "/"));
        *tokenizer.pointer_mut(&pointer).expect("the key is there") = value;
        let refused = Tokenizer::from_json(tokenizer.to_string().as_bytes(), "x", 448).map(|_| ()).expect_err(key);
        assert!(refused.to_string().contains(key), "{refused}");
    };
    check("model.continuing_subword_prefix", "a prefix longer than any token of the vocabulary".into());
    check("model.type", "Unigram".into());
    check("model.dropout", 0.5.into());
    check("normalizer", serde_json::json!({ "type": "Precompiled", "precompiled_charsmap": "AAAA" }));
    check("pre_tokenizer", serde_json::json!({ "type": "Metaspace" }));
    check("post_processor", serde_json::json!({ "type": "TemplateProcessing" }));
    let (text, token) =
        (serde_json::json!({ "Sequence": { "id": "A", "type_id": 0 } }), serde_json::json!({ "SpecialToken": {} }));
    check("post_processor", serde_json::json!({ "type": "TemplateProcessing", "single": [token, text] }));
}

#[test]
fn a_template_that_adds_no_token_changes_nothing() {
    let json = checkpoint("tiny-a").tokenizer_json().expect("the tiny models have a tokenizer");
    let mut tokenizer: Value = serde_json::from_slice(&json).expect("it is JSON");
    let part = |id: &str| serde_json::json!({ "Sequence": { "id": id, "type_id": 0 } });
    tokenizer["post_processor"] = serde_json::json!({
        "type": "TemplateProcessing", "single": [part("A")], "pair": [part("A"), part("B")], "special_tokens": {},
    });
    let ids = |json: &[u8]| {
        let tokenizer = Tokenizer::from_json(json, "x", 448).expect("a tokenizer like Qwen's");
        tokenizer.encode("a cat, 猫").expect("a text").ids
    };
    assert_eq!(ids(tokenizer.to_string().as_bytes()), ids(&json));
}
