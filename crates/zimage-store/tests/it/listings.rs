//! Lists of files that no honest hub sends.

use std::fs;

use zimage_store::Error;

use crate::Machine;
use crate::server::{Act, COMMIT, Server};

#[track_caller]
fn refused(listing: &str) {
    let (machine, server) = (Machine::new(), Server::start(|_| Act::Serve));
    server.list_as(listing);
    let error = machine.pull(&server, "tiny/model").unwrap_err();
    assert!(matches!(error, Error::Answer { .. }), "{listing}: {error}");
    assert!(server.requests().is_empty());
    assert!(fs::read_dir(machine.path("hub")).is_err());
}

fn listing(commit: &str, entry: &str) -> String {
    format!(r#"{{"sha":"{commit}","siblings":[{entry}]}}"#)
}

#[test]
fn paths_that_lead_out_of_the_snapshot_are_refused() {
    let id = "a".repeat(40);
    for path in
        ["../x.safetensors", "/x.safetensors", "a/../../x", "a//b", "./x", "", "a\\\\..\\\\x", "c:x", "a\\nb", "a/"]
    {
        refused(&listing(COMMIT, &format!(r#"{{"rfilename":"{path}","size":1,"blobId":"{id}"}}"#)));
    }
}

#[test]
fn digests_and_commits_that_are_none_are_refused() {
    let long = "a".repeat(64);
    for id in ["", "../../x", "XYZ", &"A".repeat(40), &long] {
        refused(&listing(COMMIT, &format!(r#"{{"rfilename":"x.safetensors","size":1,"blobId":"{id}"}}"#)));
    }
    let lfs = r#"{"rfilename":"x.safetensors","lfs":{"sha256":"../x","size":1}}"#;
    refused(&listing(COMMIT, lfs));
    refused(&listing("main", ""));
    refused(&listing("../../../x", ""));
    refused(&listing(COMMIT, r#"{"rfilename":"x.safetensors"}"#));
}

#[test]
fn answers_that_are_no_lists_are_refused() {
    for text in
        ["", "{}", "[]", "<html>", "null", r#"{"sha":1,"siblings":[]}"#, r#"{"sha":"x","siblings":[{"size":-1}]}"#]
    {
        refused(text);
    }
}

#[test]
fn a_model_larger_than_the_disk_is_refused_before_anything_is_fetched() {
    let (machine, server) = (Machine::new(), Server::start(|_| Act::Serve));
    let entry = |size: u64, id: char| {
        let id = id.to_string().repeat(64);
        format!(r#"{{"rfilename":"{id}.safetensors","lfs":{{"sha256":"{id}","size":{size}}}}}"#)
    };
    server.list_as(&listing(COMMIT, &entry(1 << 60, 'a')));
    let error = machine.pull(&server, "tiny/model").unwrap_err();
    assert!(matches!(error, Error::Space { needed, .. } if needed == 1 << 60), "{error}");
    assert!(server.requests().is_empty());
    // Sizes whose sum has no place in 64 bits.
    let parts = ["transformer", "vae"].map(|name| {
        let id = "b".repeat(64);
        format!(r#"{{"rfilename":"{name}/x.safetensors","lfs":{{"sha256":"{id}","size":{}}}}}"#, u64::MAX)
    });
    server.list_as(&listing(COMMIT, &parts.join(",")));
    let error = machine.pull(&server, "tiny/model").unwrap_err();
    assert!(matches!(error, Error::Space { needed: u64::MAX, .. }), "{error}");
}
