use proptest::prelude::*;

use super::Infotext;
use crate::job::LoraChoice;

const USUAL: &str = "a cat <lora:night:0.8> on a mat,\nsecond line <lora:b>\nNegative prompt: blurry\nugly\n\
     Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 513x768, Model: \"mine, v2\", Lora hashes: \"b: 12\", \
     Version: v1.10";

#[test]
fn the_usual_text_is_taken_apart() {
    let parts = Infotext::parse(USUAL);
    assert_eq!(parts.prompt, "a cat on a mat,\nsecond line");
    assert_eq!(parts.negative_prompt, "blurry\nugly");
    let lora = |id: &str, weight| LoraChoice { id: id.into(), weight };
    assert_eq!(parts.loras, [lora("night", 0.8), lora("b", 1.0)]);
    for (name, value) in [("Steps", "20"), ("sampler", "Euler a"), ("Size", "513x768"), ("Model", "mine, v2")] {
        assert_eq!(parts.get(name), Some(value), "{name}");
    }
    assert_eq!(parts.get("Version"), Some("v1.10"));
}

#[test]
fn a_text_without_settings_is_a_prompt() {
    for text in ["a cat", "a cat\nSteps: we took", "<lora:>", "a <b> c", "<lora:x:y>", "<lora:x", "time: 12:30"] {
        assert_eq!(Infotext::parse(text), Infotext { prompt: text.into(), ..Infotext::default() }, "{text}");
    }
}

#[test]
fn settings_need_no_prompt_and_windows_lines_are_lines() {
    let parts = Infotext::parse("Steps: 8, Seed: 1, Size: 16x16");
    assert_eq!((parts.prompt.as_str(), parts.get("seed")), ("", Some("1")));
    let parts = Infotext::parse("a\r\nNegative prompt: b\r\nSteps: 8, Seed: 1, Size: 16x16\r\n");
    assert_eq!((parts.prompt.as_str(), parts.negative_prompt.as_str()), ("a", "b"));
}

#[test]
fn a_quote_that_never_ends_is_a_value_like_any_other() {
    let parts = Infotext::parse("a\nSteps: 8, Model: \"x, Seed: 1, Size: 16x16");
    assert_eq!((parts.get("Model"), parts.get("Seed")), (Some("\"x"), Some("1")));
}

proptest! {
    #[test]
    fn no_text_stops_it(text in "(?s).{0,200}", fields in "([A-Za-z:,\"\\\\ <>0-9\u{e9}\n]|<lora:|Steps: ){0,60}") {
        Infotext::parse(&text);
        Infotext::parse(&fields);
    }
}
