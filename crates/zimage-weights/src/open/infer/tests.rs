use zimage_kernels::blocks::Format;

use crate::container::{Container, Metadata, SafeTensors, TensorSource, write_safetensors};
use crate::dialect::{Reading, VaeSizes, comfyui, layout};
use crate::random::RandomCheckpoint;
use crate::schema::{self, Component, TextEncoderConfig, TransformerConfig, VaeConfig};
use crate::{Dtype, Error, TensorSpec};

/// Those of the VAEs here.
const SIZES: VaeSizes = VaeSizes { levels: 4, layers: 2 };

/// A part of these tensors in the names of ComfyUI, its numbers being nothing: only the header is looked at.
fn read(component: Component, specs: &[TensorSpec]) -> Reading {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.safetensors");
    let tensors = layout(&comfyui::rules(component, SIZES), specs).into_iter().map(|tensor| {
        let bytes = tensor.shape.iter().product::<usize>();
        TensorSource::new(tensor.name, Dtype::U8, &tensor.shape, move |out| out.write_all(&vec![0; bytes]))
    });
    write_safetensors(&path, &Metadata::new(), tensors.collect()).expect("written");
    Reading::of(component, &Container::from(SafeTensors::open(&path).expect("opened")))
}

/// The sizes of a model whose heads, groups and latents are those of the real one.
fn small() -> RandomCheckpoint {
    let turbo = RandomCheckpoint::turbo(0);
    RandomCheckpoint {
        transformer: TransformerConfig {
            dim: 256,
            n_layers: 3,
            n_heads: 2,
            n_refiner_layers: 2,
            cap_feat_dim: 64,
            ..turbo.transformer
        },
        text_encoder: TextEncoderConfig {
            vocab_size: 300,
            hidden_size: 64,
            intermediate_size: 80,
            n_layers: 11,
            n_heads: 4,
            n_kv_heads: 2,
            ..turbo.text_encoder
        },
        vae: VaeConfig { block_out_channels: vec![32, 64, 64, 96], ..turbo.vae },
        format: Format::F32,
        ..turbo
    }
}

#[test]
fn shapes_give_back_the_config() {
    let small = small();
    let reading = read(Component::Transformer, &schema::transformer::tensors(&small.transformer));
    let config = super::config(Component::Transformer, "x", &reading).expect("inferred");
    assert_eq!(TransformerConfig::from_json(&config).expect("valid"), small.transformer);

    let reading = read(Component::TextEncoder, &schema::text_encoder::tensors(&small.text_encoder));
    let config = super::config(Component::TextEncoder, "x", &reading).expect("inferred");
    assert_eq!(TextEncoderConfig::from_json(&config).expect("valid"), small.text_encoder);

    let reading = read(Component::Vae, &schema::vae::tensors(&small.vae));
    let config = super::config(Component::Vae, "x", &reading).expect("inferred");
    assert_eq!(VaeConfig::from_json(&config).expect("valid"), small.vae);
}

#[test]
fn what_is_not_cut_like_the_published_models_asks_for_its_config() {
    let tiny = RandomCheckpoint::tiny(300, 0);
    let error = |component, specs: &[TensorSpec]| -> Error {
        super::config(component, "x", &read(component, specs)).expect_err("refused")
    };
    let message = error(Component::Transformer, &schema::transformer::tensors(&tiny.transformer)).to_string();
    assert!(message.contains("it has 16 numbers per attention head, and only 128 are known"), "{message}");
    assert!(message.ends_with("hint: put the model's transformer/config.json beside it"), "{message}");
    let message = error(Component::TextEncoder, &schema::text_encoder::tensors(&tiny.text_encoder)).to_string();
    assert!(message.contains("it has 16 numbers per attention head"), "{message}");
    let message = error(Component::Vae, &schema::vae::tensors(&tiny.vae)).to_string();
    assert!(message.contains("it has 16 channels, which 32 groups do not divide"), "{message}");
    let message = error(Component::Vae, &[]).to_string();
    assert!(message.contains("it has no decoder.conv_in.weight"), "{message}");
}
