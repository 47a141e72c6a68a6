//! Adapters: as they come, and drawn from bytes with a few things wrong.

use std::path::Path;
use std::sync::LazyLock;

use zimage_weights::lora::{self, Adapter};
use zimage_weights::random::RandomCheckpoint;
use zimage_weights::schema::{text_encoder, transformer};
use zimage_weights::{Component, TensorSpec};

use crate::adapter;
use crate::container::framed;
use crate::scratch;

/// The tensors of the model that adapters are read for: its transformer's and its text encoder's.
pub(crate) static SPECS: LazyLock<[Vec<TensorSpec>; 2]> = LazyLock::new(|| {
    let tiny = RandomCheckpoint::tiny(64, 0);
    [transformer::tensors(&tiny.transformer), text_encoder::tensors(&tiny.text_encoder)]
});

/// Reads an adapter, and adds it to the layers that it changes.
///
/// Bytes that begin with a brace are a file, framed as in [`crate::safetensors`]; all others draw one.
pub fn lora(bytes: &[u8]) {
    if bytes.starts_with(b"{") {
        let folder = scratch::folder("lora", &[("hostile.safetensors", &framed(bytes))]);
        read(&folder.join("hostile.safetensors"));
    } else if let Ok((file, settings)) = adapter::draw(bytes) {
        let files: [(&str, &[u8]); 2] =
            [("adapter_model.safetensors", &file), ("adapter_config.json", settings.as_bytes())];
        read(&scratch::folder("peft", &files));
    }
}

fn read(path: &Path) {
    let [transformer, text_encoder] = &*SPECS;
    if let Ok(report) = lora::report(path, transformer, text_encoder) {
        serde_json::to_string(&report).expect("a report is JSON");
        let _ = report.problem().map(|problem| problem.to_string());
    }
    match Adapter::open(path, transformer, text_encoder) {
        Ok(adapter) => apply(&adapter),
        Err(error) => drop(error.to_string()),
    }
}

fn apply(adapter: &Adapter) {
    assert!(adapter.report().is_usable() && adapter.report().matched > 0);
    assert_eq!(adapter.deltas().count(), adapter.report().matched);
    let _ = (adapter.size_bytes(Component::Transformer), adapter.size_bytes(Component::TextEncoder));
    for (component, layer, delta) in adapter.deltas() {
        let specs = &SPECS[usize::from(component == Component::TextEncoder)];
        let name = format!("{layer}.weight");
        let spec = specs.iter().find(|spec| spec.name == name).expect("a delta belongs to a layer");
        let (rows, cols) = (delta.rows(), delta.cols());
        assert_eq!(spec.shape, [rows, cols], "{layer}");
        assert!(delta.scale.is_finite() && delta.rank() != Some(0), "{layer}");
        let add = |range: std::ops::Range<usize>| {
            let mut weight = vec![0.5; range.len() * cols];
            adapter.add_to(component, layer, 0.7, range, &mut weight)
        };
        assert!(add(0..rows).expect("a whole layer takes its delta"), "{layer}");
        // A DoRA over columns refuses a part of the rows.
        let _ = (add(rows / 3..rows), add(rows..rows));
        let gain = delta.gain(|_, rows| rows.fill(0.5));
        assert_eq!(gain.is_some(), delta.magnitude.is_some(), "{layer}");
    }
}
