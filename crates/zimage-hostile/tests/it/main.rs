//! Runs what the fuzzer found, and changes of it, through every target.

mod mutations;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mutations::Mutations;

/// Changed inputs per target, from the first seed; a few thousand in all, in a few seconds.
const CHANGED: usize = 600;
/// Far more than any input of this size takes on a slow machine under load.
const LONGEST: Duration = Duration::from_secs(20);
/// Far more address space than all threads of the tests take; a claim that was believed takes more at once.
const MOST_BYTES: u64 = 16 << 30;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a folder can be listed").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a file can be read")).collect()
}

/// The most address space that this process ever had, where the system tells.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

fn check(name: &str) {
    let (_, target) = *zimage_hostile::TARGETS.iter().find(|(known, _)| *known == name).expect("a target");
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "{name} has no corpus");
    let run = |bytes: &[u8], what: &str| {
        let start = Instant::now();
        target(bytes);
        assert!(start.elapsed() < LONGEST, "{what} of {name} takes {:?}", start.elapsed());
    };
    for (at, bytes) in corpus.iter().enumerate() {
        run(bytes, &format!("file {at}"));
    }
    let mut mutations = Mutations::new(&corpus, 1);
    for at in 0..CHANGED {
        run(&mutations.next(), &format!("change {at}"));
    }
    if let Some(bytes) = peak_bytes() {
        assert!(bytes < MOST_BYTES, "{name} took {bytes} bytes of addresses");
    }
}

#[test]
fn checkpoints_are_read_or_refused() {
    check("checkpoint");
}

#[test]
fn configs_are_read_or_refused() {
    check("config");
}

#[test]
fn gguf_files_are_read_or_refused() {
    check("gguf");
}

#[test]
fn adapters_are_read_or_refused() {
    check("lora");
}

#[test]
fn metadata_of_pictures_is_read_or_refused() {
    check("metadata");
}

#[test]
fn models_with_something_wrong_are_read_or_refused() {
    check("model");
}

#[test]
fn safetensors_files_are_read_or_refused() {
    check("safetensors");
}

#[test]
fn tokenizers_are_read_or_refused() {
    check("tokenizer");
}
