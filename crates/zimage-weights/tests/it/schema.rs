//! Names and shapes against those of the Python reference: `keys/*.json` were printed by diffusers and transformers.

use std::collections::BTreeMap;

use zimage_weights::dialect::{Rule, VaeSizes, comfyui, layout, mlx};
use zimage_weights::random::RandomCheckpoint;
use zimage_weights::schema::{self, Role};
use zimage_weights::{Component, TensorSpec, TransformerConfig};

/// The specs are exactly the tensors of the reference, and as many as published.
fn check(specs: &[TensorSpec], keys: &str, count: usize) {
    let expected: BTreeMap<String, Vec<usize>> = serde_json::from_str(keys).expect("a map of shapes");
    assert_eq!((specs.len(), expected.len()), (count, count));
    let found: BTreeMap<String, Vec<usize>> =
        specs.iter().map(|spec| (spec.name.clone(), spec.shape.clone())).collect();
    assert_eq!(found, expected);
}

fn parameters(specs: &[TensorSpec]) -> usize {
    specs.iter().map(TensorSpec::elements).sum()
}

#[test]
fn the_transformer_has_the_521_tensors_of_the_reference() {
    let specs = schema::transformer::tensors(&RandomCheckpoint::turbo(0).transformer);
    check(&specs, include_str!("keys/transformer.json"), 521);
    assert_eq!(parameters(&specs), 6_154_908_736);
}

#[test]
fn the_text_encoder_has_the_398_tensors_of_the_reference() {
    let specs = schema::text_encoder::tensors(&RandomCheckpoint::turbo(0).text_encoder);
    check(&specs, include_str!("keys/text_encoder.json"), 398);
    assert_eq!(parameters(&specs), 4_022_468_096);
}

#[test]
fn the_vae_has_the_244_tensors_of_the_reference() {
    let specs = schema::vae::tensors(&RandomCheckpoint::turbo(0).vae);
    check(&specs, include_str!("keys/vae.json"), 244);
    assert_eq!(parameters(&specs), 83_819_683);
}

#[test]
fn roles_follow_from_what_a_tensor_does() {
    let turbo = RandomCheckpoint::turbo(0);
    let specs = [
        schema::transformer::tensors(&turbo.transformer),
        schema::text_encoder::tensors(&turbo.text_encoder),
        schema::vae::tensors(&turbo.vae),
    ];
    for spec in specs.iter().flatten() {
        let rank = match spec.role {
            Role::Linear | Role::Embedding | Role::Token => 2,
            Role::Bias | Role::Norm => 1,
            Role::Conv => 4,
        };
        assert_eq!(spec.shape.len(), rank, "{} is a {:?}", spec.name, spec.role);
        assert_eq!(spec.name.ends_with(".bias"), spec.role == Role::Bias, "{}", spec.name);
    }
}

/// `int(dim / 3 * 8)` in Python, for sizes where the rounding of floats matters: 3 * 8 / 3 is not always exact.
#[test]
fn the_feed_forward_size_is_rounded_as_python_rounds_it() {
    let hidden = |dim| TransformerConfig { dim, ..RandomCheckpoint::turbo(0).transformer }.ffn_hidden();
    let python = [(3840, 10240), (64, 170), (65, 173), (96, 256), (1, 2), (2, 5), (4, 10), (2304, 6144), (3841, 10242)];
    for (dim, expected) in python {
        assert_eq!(hidden(dim), expected, "dim {dim}");
    }
}

#[test]
fn a_narrow_transformer_has_a_narrow_time_vector() {
    let config = RandomCheckpoint::tiny(100, 0).transformer;
    assert_eq!((config.dim, config.adaln_dim(), config.head_dim()), (64, 64, 16));
    let specs = schema::transformer::tensors(&config);
    let shape = |name: &str| specs.iter().find(|spec| spec.name == name).map(|spec| spec.shape.clone());
    assert_eq!(shape("t_embedder.mlp.0.weight"), Some(vec![1024, 256]));
    assert_eq!(shape("t_embedder.mlp.2.weight"), Some(vec![64, 1024]));
    assert_eq!(shape("layers.1.adaLN_modulation.0.weight"), Some(vec![256, 64]));
    assert_eq!(shape("layers.0.feed_forward.w2.weight"), Some(vec![64, 170]));
    assert_eq!(specs.len(), 2 * 15 + 15 + 13 + 15);
}

/// The files of a part in the names of a dialect are exactly those of a published file.
fn check_names(rules: &[Rule], specs: &[TensorSpec], keys: &str, count: usize) {
    let expected: BTreeMap<String, Vec<usize>> = serde_json::from_str(keys).expect("a map of shapes");
    let tensors = layout(rules, specs);
    assert_eq!((tensors.len(), expected.len()), (count, count));
    let found: BTreeMap<String, Vec<usize>> = tensors.into_iter().map(|tensor| (tensor.name, tensor.shape)).collect();
    assert_eq!(found, expected);
}

#[test]
fn the_names_of_dialects_are_those_of_published_files() {
    let turbo = RandomCheckpoint::turbo(0);
    let sizes = VaeSizes::from(&turbo.vae);
    let mut transformer = schema::transformer::tensors(&turbo.transformer);
    let rules = comfyui::rules(Component::Transformer, sizes);
    check_names(&rules, &transformer, include_str!("keys/transformer_comfyui.json"), 453);
    let vae = schema::vae::tensors(&turbo.vae);
    check_names(&comfyui::rules(Component::Vae, sizes), &vae, include_str!("keys/vae_comfyui.json"), 244);
    // The original application drops the pad tokens.
    transformer.retain(|spec| !mlx::DROPPED.contains(&&*spec.name));
    let rules = mlx::rules(Component::Transformer, sizes, true);
    check_names(&rules, &transformer, include_str!("keys/transformer_mlx.json"), 519);
}
