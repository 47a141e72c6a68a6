//! Everything of this program that reads files from strangers, as functions of bytes.
//!
//! Each target takes any bytes and must return: no panic, no allocation that the bytes do not pay for, no work that
//! grows faster than they do. The fuzzer in `fuzz/` searches for bytes that break this; the tests of this crate run what
//! it found, and thousands of changes of it, on every `cargo test`.

mod adapter;
mod checkpoint;
mod config;
mod container;
mod lora;
mod picture;
mod scratch;
mod sketch;
mod tokenizer;
mod write;

pub use checkpoint::checkpoint;
pub use config::config;
pub use container::{gguf, safetensors};
pub use lora::lora;
pub use picture::metadata;
pub use sketch::model;
pub use tokenizer::tokenizer;

/// A function that must survive any bytes.
pub type Target = fn(&[u8]);

/// Every target by the name of its corpus.
pub const TARGETS: [(&str, Target); 8] = [
    ("checkpoint", checkpoint),
    ("config", config),
    ("gguf", gguf),
    ("lora", lora),
    ("metadata", metadata),
    ("model", model),
    ("safetensors", safetensors),
    ("tokenizer", tokenizer),
];
