use super::LoraChoice;

fn parsed(text: &str) -> Option<(String, f64)> {
    text.parse::<LoraChoice>().unwrap().weighted
}

#[test]
fn a_number_behind_the_last_colon_is_the_weight() {
    for (text, name, weight) in [
        ("night:0.8", "night", 0.8),
        ("night.safetensors:-1", "night.safetensors", -1.0),
        ("C:\\loras\\night.safetensors:0.5", "C:\\loras\\night.safetensors", 0.5),
        ("a:b:2", "a:b", 2.0),
        ("styles/night: .5", "styles/night", 0.5),
    ] {
        assert_eq!(parsed(text), Some((name.into(), weight)), "{text}");
    }
}

#[test]
fn other_colons_belong_to_the_path() {
    for text in ["night", "C:\\loras\\night.safetensors", "C:/night", "a:b", "a:", ":0.5"] {
        assert_eq!(parsed(text), None, "{text}");
    }
}

#[test]
fn weights_that_are_no_numbers_are_refused() {
    for text in ["night:nan", "night:inf", ""] {
        assert!(text.parse::<LoraChoice>().is_err(), "{text}");
    }
}
