//! Models with LoRAs in their weights.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zimage_weights::convert::{Conversion, Model as _, Opened, Precision, Reach, Target, convert, verify};
use zimage_weights::lora::{Adapter, Fused};
use zimage_weights::{Checkpoint, Component, Parts};

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens")
}

fn opened(path: &Path) -> Opened {
    Opened::new(Checkpoint::open(path).expect("a checkpoint")).expect("weights")
}

fn adapter(model: &Opened, file: &str) -> Arc<Adapter> {
    let specs = [Component::Transformer, Component::TextEncoder].map(|component| model.specs(component));
    Arc::new(Adapter::open(&goldens().join("lora").join(file), &specs[0], &specs[1]).expect("an adapter"))
}

#[test]
fn a_fused_model_is_written_like_any_other_and_changes_only_what_its_adapters_name() {
    let base = opened(&goldens().join("models/tiny-a"));
    let adapters = [("diffusers.safetensors", 0.5), ("dora-columns.safetensors", 1.0)];
    let adapters: Vec<_> = adapters.into_iter().map(|(file, weight)| (adapter(&base, file), weight)).collect();
    let fused = Fused::new(base.clone(), adapters.clone());
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("fused");
    let (target, precision) = (Target::ComfyuiSplit, Precision::Keep);
    let conversion = Conversion { target, precision, reach: Reach::default(), replace: false };
    convert(&fused, &conversion, &path, &[("lora_fusion_info.json", b"{}".to_vec())], &mut |_| true).expect("written");
    let verified = verify(&fused, &Parts { transformer: path.clone(), ..Parts::default() }).expect("the same");
    assert_eq!(verified.rounded, 0);
    assert!(path.join("lora_fusion_info.json").exists());
    let written = opened(&path);
    let mut changed = 0;
    for spec in base.specs(Component::Transformer) {
        let layer = spec.name.strip_suffix(".weight").unwrap_or(&spec.name);
        let named = adapters.iter().any(|(adapter, _)| adapter.delta(Component::Transformer, layer).is_some());
        let [a, b] = [&base, &written].map(|m| m.stored(Component::Transformer, &spec.name).expect("there").decode());
        assert_eq!(a != b, named && spec.name != layer, "{}", spec.name);
        changed += usize::from(a != b);
    }
    assert!(changed > 3, "{changed} changed");
}

#[test]
fn rows_are_the_same_in_any_order_and_a_weight_of_zero_changes_nothing() {
    let base = opened(&goldens().join("models/tiny-a"));
    let lora = adapter(&base, "diffusers.safetensors");
    let name = lora.deltas().next().map(|(_, layer, _)| format!("{layer}.weight")).expect("a layer");
    let fused = Fused::new(base.clone(), vec![(Arc::clone(&lora), 0.7)]);
    let view = base.stored(Component::Transformer, &name).expect("there");
    let (rows, cols) = (view.shape[0], view.cols());
    let read = |model: &Fused, range: std::ops::Range<usize>| {
        let mut values = vec![0.0; range.len() * cols];
        model.rows(Component::Transformer, &name, range, &mut values).expect("read");
        values
    };
    let whole = read(&fused, 0..rows);
    assert_eq!(read(&fused, rows / 2..rows), whole[rows / 2 * cols..]);
    assert_eq!(read(&fused, 0..1), whole[..cols]);
    assert_ne!(whole, view.decode());
    let none = Fused::new(base.clone(), vec![(lora, 0.0)]);
    assert!(none.is_stored(Component::Transformer, &name));
    assert_eq!(read(&none, 0..rows), view.decode());
}
