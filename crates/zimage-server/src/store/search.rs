//! Words of prompts, for the full text index.
//!
//! The index's tokenizer splits at everything that is neither letter nor digit. Chinese and Japanese put nothing between
//! words, so there every character is made a word, and what is searched for is a phrase of them. This finds words of
//! one and two characters, which an index of trigrams does not.

/// A text as it is indexed.
pub(super) fn words(text: &str) -> String {
    let mut words = String::with_capacity(text.len() + text.len() / 2);
    for character in text.chars() {
        match character {
            // The index ends a text at a NUL.
            '\0' => words.push(' '),
            character if stands_alone(character) => words.extend([' ', character, ' ']),
            character => words.push(character),
        }
    }
    words
}

/// What to ask the index for: every word of `query`, of which the last may go on. `None` if it has no word.
pub(super) fn expression(query: &str) -> Option<String> {
    let phrases = query.split_whitespace().filter(|word| word.contains(char::is_alphanumeric));
    let phrases: Vec<String> = phrases.map(|word| format!("\"{}\"", words(word).replace('"', " "))).collect();
    if phrases.is_empty() { None } else { Some(phrases.join(" ") + "*") }
}

/// Characters of scripts that are written without spaces: kana, ideographs; and Hangul, whose particles stick to words.
fn stands_alone(character: char) -> bool {
    matches!(u32::from(character),
        0x3040..=0x30FF | 0x31F0..=0x31FF | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xAC00..=0xD7AF | 0xF900..=0xFAFF
        | 0x20000..=0x3FFFF)
}
