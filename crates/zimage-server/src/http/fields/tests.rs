use serde_json::json;

use super::Fields;
use crate::refusal::Refusal;

fn fields(value: serde_json::Value) -> Fields {
    Fields::from_json(value.to_string().as_bytes()).expect("an object")
}

#[test]
fn numbers_are_taken_as_forms_and_as_javascript_write_them() {
    let mut fields = fields(json!({"a": 4, "b": "4", "c": 4.0, "d": 4.5, "e": "four", "f": 1e300}));
    for name in ["a", "b", "c"] {
        assert_eq!(fields.integer(name), Ok(Some(4)), "{name}");
    }
    for name in ["d", "e", "f"] {
        assert!(matches!(fields.integer(name), Err(Refusal::Invalid { param, .. }) if param == name), "{name}");
    }
}

#[test]
fn null_is_as_good_as_absent() {
    let mut fields = fields(json!({"seed": null, "stream": null}));
    assert!(fields.rest().is_empty());
    assert_eq!(fields.integer("seed"), Ok(None));
    assert_eq!(fields.flag("stream"), Ok(None));
}

#[test]
fn what_nobody_took_is_named() {
    let mut fields = fields(json!({"prompt": "p", "moderation": "low", "style": null}));
    assert_eq!(fields.text("prompt"), Ok(Some("p".into())));
    assert_eq!(fields.rest(), ["moderation"]);
}

#[test]
fn lists_come_as_json_or_as_its_text() {
    let mut fields = fields(json!({"a": [1, 2], "b": "[1, 2]", "c": "nothing"}));
    assert_eq!(fields.structure::<Vec<u32>>("a"), Ok(Some(vec![1, 2])));
    assert_eq!(fields.structure::<Vec<u32>>("b"), Ok(Some(vec![1, 2])));
    assert!(fields.structure::<Vec<u32>>("c").is_err());
}

#[test]
fn a_body_that_is_no_object_is_refused() {
    for body in ["", "[]", "{", "1", "{\"a\":1}x"] {
        assert!(Fields::from_json(body.as_bytes()).is_err(), "{body}");
    }
}
