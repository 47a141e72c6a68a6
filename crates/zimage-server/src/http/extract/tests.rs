use axum::response::IntoResponse;

use super::parse;
use crate::draft::Draft;

/// The problem's detail with its field.
fn refused(json: &str) -> String {
    let problem = parse::<Draft>(json.as_bytes()).expect_err(json);
    assert_eq!(problem.clone().into_response().status(), 400, "{json}");
    format!("{problem:?}")
}

fn check(json: &str, param: &str, words: &str) {
    let problem = refused(json);
    assert!(problem.contains(words), "{json}: {problem}");
    assert!(problem.contains(&format!("param: Some(\"{param}\")")), "{json}: {problem}");
}

#[test]
fn a_problem_names_the_field_and_what_it_takes() {
    check(r#"{"prompt":"a","steps":"x"}"#, "steps", "`steps` must be a whole number from 0 to 4294967295");
    check(r#"{"width":4294967296}"#, "width", "`width` must be a whole number");
    check(r#"{"n":-1}"#, "n", "`n` must be");
    check(r#"{"guidance":"x"}"#, "guidance", "`guidance` must be a number");
    check(r#"{"prompt":1}"#, "prompt", "`prompt` must be a text");
    check(r#"{"front":1}"#, "front", "`front` must be true or false");
    check(r#"{"format":"gif"}"#, "format", "`format` must be one of `png`, `jpeg`, `webp`");
    check(r#"{"start":{"image":"../x"}}"#, "start.image", "cannot be used");
    check(r#"{"loras":[{"id":"a","weight":"x"}]}"#, "loras[0].weight", "must be a number");
    check(r#"{"loras":{}}"#, "loras", "`loras` must be a list");
    check(r#"{"loras":[{"id":"a"}]}"#, "weight", "`weight` is missing");
    check(r#"{"cfg":7}"#, "cfg", "`cfg` is not a field of this request");
    check(r#"{"steps":1,"steps":2}"#, "steps", "`steps` is there twice");
}

#[test]
fn what_is_no_json_or_hides_in_a_name_is_refused_without_an_echo() {
    for json in ["", "{", "nul", "{\"prompt\":\"a\"} x", "\u{feff}{}"] {
        assert!(refused(json).contains("not valid JSON"), "{json}");
    }
    for json in [r#"{"<script>":1}"#, "[]", "1", &format!(r#"{{"{}":1}}"#, "x".repeat(100))] {
        assert!(refused(json).contains("param: None"), "{json}");
    }
    let deep = format!("{{\"loras\":{}", "[".repeat(1_000_000));
    assert!(refused(&deep).contains("status: 400"));
}
