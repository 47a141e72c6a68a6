//! What unknown files are called, and the verdicts of the doctor.

use std::fs;

use zimage_weights::container::{Metadata, TensorSource, write_safetensors};
use zimage_weights::inspect::{Dialect, doctor, inspect};
use zimage_weights::{Component, Dtype, TensorView};

use crate::checkpoint::Written;

/// A file with these tensors (all of one byte per element) is recognised as this dialect and part.
fn check(tensors: &[(&str, &[usize])], metadata: &[(&str, &str)], expected: Dialect, part: Option<Component>) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.safetensors");
    let metadata: Metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let source = |(name, shape): &(&'static str, &[usize])| {
        let n: usize = shape.iter().product();
        TensorSource::new(*name, Dtype::U8, shape, move |out| out.write_all(&vec![0; n]))
    };
    let owned: Vec<(&'static str, &[usize])> =
        tensors.iter().map(|(name, shape)| (&*(*name).to_owned().leak(), *shape)).collect();
    write_safetensors(&path, &metadata, owned.iter().map(source).collect()).expect("written");
    let report = inspect(&path).expect("a report");
    assert_eq!((report.dialect, report.parts[0].component), (expected, part), "{tensors:?}");
    assert!(!report.supported);
}

/// A file with these tensors, without metadata.
fn names(names: &[&str], expected: Dialect, part: Option<Component>) {
    let tensors: Vec<(&str, &[usize])> = names.iter().map(|name| (*name, &[1][..])).collect();
    check(&tensors, &[], expected, part);
}

const TRANSFORMER: Option<Component> = Some(Component::Transformer);
const TEXT_ENCODER: Option<Component> = Some(Component::TextEncoder);
const VAE: Option<Component> = Some(Component::Vae);

#[test]
fn z_image_is_recognised_in_every_naming() {
    let native = ["noise_refiner.0.attention.k_norm.weight", "cap_embedder.1.weight"];
    let prefixed = native.map(|name| format!("model.diffusion_model.{name}"));
    names(&["all_x_embedder.2-1.weight", "cap_embedder.1.weight"], Dialect::Diffusers, TRANSFORMER);
    names(&native, Dialect::Comfyui, TRANSFORMER);
    names(&prefixed.each_ref().map(String::as_str), Dialect::Comfyui, TRANSFORMER);
    let whole =
        [&*prefixed[0], &*prefixed[1], "vae.decoder.conv_in.weight", "text_encoders.q.model.embed_tokens.weight"];
    names(&whole, Dialect::Comfyui, None);
    names(&["model.embed_tokens.weight", "model.layers.0.self_attn.q_norm.weight"], Dialect::Diffusers, TEXT_ENCODER);
    names(&["embed_tokens.weight", "layers.0.self_attn.q_norm.weight"], Dialect::Diffusers, TEXT_ENCODER);
    names(&["decoder.up_blocks.0.resnets.0.conv1.weight", "decoder.conv_in.weight"], Dialect::Diffusers, VAE);
    names(&["decoder.up.0.block.0.conv1.weight", "decoder.conv_in.weight"], Dialect::Comfyui, VAE);
    names(&["t_embedder.mlp.layers.0.weight", "cap_embedder.layers.1.weight"], Dialect::Mlx, TRANSFORMER);
    names(&["cap_embedder.1.weight", "x.scales", "x.biases"], Dialect::Mlx, TRANSFORMER);
    check(&[("cap_embedder.1.weight", &[1])], &[("mflux_version", "0.18.0")], Dialect::Mflux, TRANSFORMER);
    let nunchaku = [("model_class", "NunchakuZImageTransformer2DModel")];
    check(&[("cap_embedder.1.weight", &[1])], &nunchaku, Dialect::Nunchaku, TRANSFORMER);
}

#[test]
fn relatives_and_companions_are_told_apart() {
    let native = "noise_refiner.0.attention.k_norm.weight";
    check(&[(native, &[1]), ("cap_embedder.1.weight", &[2304, 1])], &[], Dialect::Lumina2, None);
    names(&[native, "cap_embedder.1.weight", "dec_net.cond_embed.weight"], Dialect::PixelSpace, None);
    names(
        &["siglip_embedder.0.weight", "all_x_embedder.2-1.weight", "cap_embedder.1.weight"],
        Dialect::Omni,
        TRANSFORMER,
    );
    names(&["control_all_x_embedder.2-1.weight", "control_layers.0.before_proj.weight"], Dialect::Controlnet, None);
    for adapter in ["lora_A.weight", "lora_down.weight", "lokr_w1", "hada_w1_a"] {
        names(&[&format!("diffusion_model.layers.0.attention.to_q.{adapter}")], Dialect::Lora, None);
    }
}

#[test]
fn other_models_are_called_by_their_names() {
    names(&["model.diffusion_model.double_blocks.0.img_attn.qkv.weight"], Dialect::Flux, None);
    names(&["single_transformer_blocks.0.attn.to_q.weight"], Dialect::Flux, None);
    let hunyuan = "txt_in.individual_token_refiner.blocks.0.self_attn_qkv.weight";
    names(&[hunyuan, "double_blocks.0.img_attn.qkv.weight"], Dialect::HunyuanVideo, None);
    let unet = "model.diffusion_model.input_blocks.0.0.weight";
    names(&[unet, "model.diffusion_model.label_emb.0.0.weight"], Dialect::Sdxl, None);
    names(&[unet], Dialect::Sd1, None);
    names(&["something.else"], Dialect::Unknown, None);
    let vae = [("decoder.up_blocks.0.resnets.0.conv1.weight", &[1][..]), ("decoder.conv_in.weight", &[2, 4, 1, 1])];
    check(&vae, &[], Dialect::Unknown, VAE);
}

#[test]
fn files_that_are_not_safetensors_are_still_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.bin");
    for (bytes, expected) in [
        (&b"GGUF\x03\x00\x00\x00\x00\x00\x00\x00"[..], Dialect::Unknown),
        (&b"PK\x03\x04\x00\x00\x08\x08\x00\x00"[..], Dialect::Pickle),
        (&b"\x80\x02}q\x00X\x05\x00\x00\x00model"[..], Dialect::Pickle),
    ] {
        fs::write(&path, bytes).expect("written");
        let report = inspect(&path).expect("a report");
        assert_eq!((report.dialect, report.supported), (expected, false));
        assert_eq!(report.parts[0].files[0].size_bytes, bytes.len() as u64);
    }
    fs::write(&path, "<html>").expect("written");
    assert!(inspect(&path).expect_err("a page").to_string().contains("this is a web page"));
    assert!(inspect(directory.path()).expect_err("empty").to_string().contains("neither a model_index.json nor"));
}

#[test]
fn a_report_counts_tensors_parameters_and_bytes() {
    let written = Written::new();
    let report = inspect(&written.path()).expect("a report");
    assert_eq!((report.container, report.dialect, report.supported), ("diffusers directory", Dialect::Diffusers, true));
    let vae = &report.parts[2];
    assert_eq!(vae.component, VAE);
    assert_eq!(vae.size_bytes, 4 * vae.parameters);
    assert_eq!(vae.precision.counts[0].tensors, vae.tensors);
    assert_eq!(vae.config.as_ref().expect("a config")["latent_channels"], 16);
    assert_eq!(vae.metadata["format"], "pt");
    let json = serde_json::to_value(&report).expect("a report is JSON");
    assert_eq!(json["dialect"], "diffusers");
    assert_eq!(json["parts"][0]["component"], "transformer");
    assert_eq!(json["parts"][2]["precision"][0]["format"], "f32");
    let folder = inspect(&written.file("transformer")).expect("a report");
    assert_eq!((folder.container, folder.dialect), ("sharded safetensors", Dialect::Diffusers));
}

#[test]
fn the_doctor_passes_a_good_checkpoint() {
    let written = Written::new();
    let diagnosis = doctor(&written.path()).expect("a diagnosis");
    assert!(diagnosis.usable, "{diagnosis:?}");
    for part in &diagnosis.parts {
        let audit = part.audit.as_ref().expect("audited");
        assert_eq!((audit.matched, part.problem.as_deref()), (audit.expected, None));
    }
}

#[test]
fn the_doctor_lists_what_is_wrong_in_every_part() {
    let written = Written::new();
    written.rewrite(Component::Transformer, |view| match &*view.name {
        "x_pad_token" => vec![TensorView { name: "x_pad".to_owned(), ..view }],
        _ => vec![view],
    });
    fs::write(written.file("vae/diffusion_pytorch_model.safetensors"), b"<html>").expect("written");
    let diagnosis = doctor(&written.path()).expect("a diagnosis");
    assert!(!diagnosis.usable);
    let audit = diagnosis.parts[0].audit.as_ref().expect("audited");
    assert_eq!((audit.matched, &*audit.missing), (audit.expected - 1, &["x_pad_token".to_owned()][..]));
    assert!(diagnosis.parts[1].audit.as_ref().expect("audited").is_clean());
    assert!(diagnosis.parts[2].problem.as_ref().expect("a problem").contains("this is a web page"));
}

#[test]
fn the_doctor_checks_a_part_on_its_own_and_says_that_it_is_not_a_checkpoint() {
    let written = Written::new();
    let diagnosis = doctor(&written.file("vae")).expect("a diagnosis");
    assert!(diagnosis.parts[0].audit.as_ref().expect("audited").is_clean());
    assert!(!diagnosis.usable);
    assert!(diagnosis.problem.expect("a problem").contains("missing: the transformer, the text encoder"));
    fs::remove_file(written.file("vae/config.json")).expect("removed");
    let diagnosis = doctor(&written.file("vae")).expect("a diagnosis");
    assert!(diagnosis.parts[0].problem.as_ref().expect("a problem").contains("no config.json"));
}

/// A real checkpoint, where there is one: set `ZIMAGE_TEST_CHECKPOINT` to its directory.
#[test]
fn the_checkpoint_of_the_environment_is_usable() {
    let Some(path) = std::env::var_os("ZIMAGE_TEST_CHECKPOINT") else { return };
    let diagnosis = doctor(path.as_ref()).expect("a diagnosis");
    assert!(diagnosis.usable, "{diagnosis:#?}");
}
