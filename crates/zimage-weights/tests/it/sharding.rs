//! Indexes and their shards.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use zimage_weights::container::{Container, Metadata, TensorSource, write_safetensors};

fn shard(directory: &Path, file: &str, names: &[&str]) {
    let tensors = names.iter().map(|name| TensorSource::f32(*name, &[2], &[1.0, 2.0])).collect();
    write_safetensors(&directory.join(file), &Metadata::new(), tensors).expect("written");
}

/// Two shards, `a` and `b` in the first and `c` in the second, under the given weight map.
fn open(weight_map: Value) -> Result<Container, String> {
    let directory = tempfile::tempdir().expect("a directory");
    shard(directory.path(), "1.safetensors", &["a", "b"]);
    shard(directory.path(), "2.safetensors", &["c"]);
    let index = directory.path().join("model.safetensors.index.json");
    fs::write(&index, json!({ "metadata": {}, "weight_map": weight_map }).to_string()).expect("written");
    Container::open(&index).map_err(|error| error.to_string().replace(&index.display().to_string(), "INDEX"))
}

fn check(weight_map: Value, expected: &str) {
    assert_eq!(open(weight_map).expect_err(expected), format!("INDEX does not describe its shards: {expected}"));
}

#[test]
fn tensors_are_found_in_their_shards() {
    let container =
        open(json!({"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors"})).expect("a good index");
    assert_eq!(container.names().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(container.tensor("c").expect("there").data.len(), 8);
    assert_eq!(container.files().len(), 2);
}

#[test]
fn numbered_shards_of_mflux_are_found_by_their_index() {
    let directory = tempfile::tempdir().expect("a directory");
    shard(directory.path(), "0.safetensors", &["a", "b"]);
    shard(directory.path(), "1.safetensors", &["c"]);
    let index = directory.path().join("model.safetensors.index.json");
    let weight_map = json!({"a": "0.safetensors", "b": "0.safetensors", "c": "1.safetensors"});
    fs::write(&index, json!({ "weight_map": weight_map }).to_string()).expect("written");
    let container = Container::open(&index).expect("a good index");
    assert_eq!((container.len(), container.label()), (3, &*index.display().to_string()));
}

#[test]
fn shards_without_an_index_are_opened_together() {
    let directory = tempfile::tempdir().expect("a directory");
    shard(directory.path(), "0.safetensors", &["a", "b"]);
    shard(directory.path(), "1.safetensors", &["c"]);
    shard(directory.path(), "2.safetensors", &["d", "b"]);
    let paths = [0, 1, 2].map(|number| directory.path().join(format!("{number}.safetensors")));
    let container = Container::open_shards(&paths[..2]).expect("two shards");
    assert_eq!(container.names().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!((container.label(), container.files().len()), (&*directory.path().display().to_string(), 2));
    assert!(container.gguf().is_none());
    let error = Container::open_shards(&paths).expect_err("b is there twice").to_string();
    assert_eq!(error, format!("{} and {} both have a tensor b", paths[2].display(), paths[0].display()));
    assert!(Container::open_shards(&[]).expect("nothing").is_empty());
}

#[test]
fn everything_that_is_wrong_is_listed() {
    check(json!({"a": "1.safetensors", "b": "1.safetensors", "c": "3.safetensors"}), "shard 3.safetensors is missing");
    check(
        json!({"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors", "d": "2.safetensors"}),
        "tensor d is not in 2.safetensors",
    );
    check(json!({"a": "1.safetensors", "c": "2.safetensors"}), "tensor b of 1.safetensors is not listed for it");
    check(
        json!({"a": "2.safetensors", "b": "1.safetensors", "c": "4.safetensors"}),
        "shard 4.safetensors is missing; tensor a is not in 2.safetensors; \
         tensor a of 1.safetensors is not listed for it; tensor c of 2.safetensors is not listed for it",
    );
}

#[test]
fn shard_names_that_leave_the_directory_are_refused() {
    for name in ["../1.safetensors", "/etc/passwd", "x/1.safetensors", "..\\1.safetensors", "C:1.safetensors", "..", ""]
    {
        check(json!({ "a": name }), &format!("shard name {name:?} is not the name of a file beside the index"));
    }
}

#[test]
fn an_index_that_is_no_index_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.index.json");
    for text in ["", "[]", "{}", r#"{"weight_map": {"a": 1}}"#] {
        fs::write(&path, text).expect("written");
        let error = Container::open(&path).expect_err(text).to_string();
        assert!(error.contains("x.index.json is not valid JSON"), "{error}");
    }
}
