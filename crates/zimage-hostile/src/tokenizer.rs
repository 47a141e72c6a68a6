//! The tokenizer of a checkpoint.

use zimage::model::tokenizer::Tokenizer;
use zimage_weights::llama_cpp;

/// Rows of the embedding that the tokenizer is for.
const VOCAB_SIZE: usize = 1 << 12;

/// Reads a `tokenizer.json`, tokenizes a prompt with it, and turns it into the keys of a GGUF file.
pub fn tokenizer(bytes: &[u8]) {
    if let Ok(tokenizer) = Tokenizer::from_json(bytes, "hostile", VOCAB_SIZE) {
        for prompt in ["", "A red fox, 3 of them\n <|im_end|>", "caf\u{e9} \u{72d0}\u{72f8}\u{1f98a}  x"] {
            let _ = tokenizer.encode(prompt);
        }
    }
    let _ = llama_cpp::tokenizer_keys("hostile", bytes, VOCAB_SIZE, None);
}
