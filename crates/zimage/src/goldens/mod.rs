//! Reading what the reference computed (`goldens/` of the repository), and comparing with it.

pub(crate) mod tolerances;

use crate::model::Parameters;
use serde_json::Value;
use std::path::PathBuf;
use zimage_tensor::{Compute, Device, Tensor};
use zimage_weights::container::SafeTensors;
use zimage_weights::{Checkpoint, Component, Weights};

/// The tiny models that all goldens were made with.
pub(crate) const MODELS: [&str; 2] = ["tiny-a", "tiny-b"];

/// A path below `goldens/`.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../goldens").join(name)
}

/// The tensors of a golden file.
pub(crate) struct Golden(SafeTensors);

impl Golden {
    pub fn open(name: &str) -> Golden {
        Golden(SafeTensors::open(&path(name)).unwrap_or_else(|e| panic!("golden {name}: {e}")))
    }

    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.0.info(name).unwrap_or_else(|| panic!("golden has no {name}")).shape.clone()
    }

    pub fn values(&self, name: &str) -> Vec<f32> {
        let view = self.0.tensor(name).unwrap_or_else(|e| panic!("golden: {e}"));
        let mut values = vec![0.0; view.shape.iter().product()];
        view.dtype.format().expect("a float golden").decode(&view.data, &mut values);
        values
    }

    pub fn ids(&self, name: &str) -> Vec<u32> {
        let view = self.0.tensor(name).unwrap_or_else(|e| panic!("golden: {e}"));
        let id = |bytes: &[u8]| i64::from_le_bytes(bytes.try_into().expect("8 bytes"));
        view.data.chunks_exact(8).map(|bytes| u32::try_from(id(bytes)).expect("a token id")).collect()
    }

    /// A tensor without its batch axis of one.
    pub fn tensor(&self, name: &str, device: &Device) -> Tensor {
        let shape = self.shape(name);
        let shape = if shape[0] == 1 && shape.len() > 2 { &shape[1..] } else { &shape[..] };
        Tensor::from_vec(device, shape, self.values(name)).expect("as many values as the shape takes")
    }
}

/// A golden JSON file.
pub(crate) fn json(name: &str) -> Value {
    let text = std::fs::read(path(name)).unwrap_or_else(|e| panic!("golden {name}: {e}"));
    serde_json::from_slice(&text).unwrap_or_else(|e| panic!("golden {name}: {e}"))
}

/// A tiny model.
pub(crate) fn checkpoint(model: &str) -> Checkpoint {
    Checkpoint::open(&path(&format!("models/{model}"))).expect("the tiny models open")
}

/// Runs `test` with the parameters of a component.
pub(crate) fn with_parameters(model: &str, component: Component, device: &Device, test: impl FnOnce(&Parameters)) {
    let weights: Weights = checkpoint(model).weights(component).expect("the tiny models are complete");
    test(&Parameters::new(&weights, device));
}

/// The devices that every stage is compared on: also a Mac's GPU, in f32, where this build has MLX.
pub(crate) fn devices() -> Vec<Device> {
    let mlx = Device::mlx().map(|mlx| mlx.with_compute(Compute::Exact));
    let built_in = [Device::reference(), Device::cpu(2).expect("two threads")];
    built_in.into_iter().chain(mlx).collect()
}

/// Fails when a value is further than `tolerance` times the largest expected one from what was expected; says all
/// that helps to find out why.
pub(crate) fn assert_close(what: &str, expected: &[f32], found: &[f32], tolerance: f32) {
    assert_eq!(expected.len(), found.len(), "{what}: number of values");
    let scale = expected.iter().fold(0.0f32, |max, v| max.max(v.abs()));
    let off = |(e, f): (&f32, &f32)| (e - f).abs();
    let worst = expected.iter().zip(found).map(off).fold(0.0f32, f32::max);
    let bad = |(_, (e, f)): &(usize, (&f32, &f32))| off((*e, *f)) > tolerance * scale || f.is_nan();
    if let Some((index, _)) = expected.iter().zip(found).enumerate().find(bad) {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let cosine = dot(expected, found) / (dot(expected, expected) * dot(found, found)).sqrt();
        let last = (index + 8).min(expected.len());
        panic!(
            "{what}: max abs {worst:e}, max rel {:e}, cosine {cosine}, first off at {index}\nexpected {:?}\nfound    {:?}",
            worst / scale,
            &expected[index..last],
            &found[index..last]
        );
    }
}
