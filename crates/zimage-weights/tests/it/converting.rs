//! Models written in every layout and read back.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use zimage_kernels::blocks::Format;
use zimage_weights::convert::{Conversion, Model as _, Opened, Precision, Reach, Target, Verified, convert, verify};
use zimage_weights::random::RandomCheckpoint;
use zimage_weights::{Checkpoint, Component, Error, Parts};

const ALL: Reach = Reach { text_encoder: true, embedders: true };

struct Source {
    root: TempDir,
    model: Opened,
}

impl Source {
    /// A model of random weights, small but of sizes that every format can hold.
    fn new(format: Format) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let tokenizer =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/models/tiny-a/tokenizer/tokenizer.json");
        let mut plan = RandomCheckpoint { format, ..RandomCheckpoint::tiny(448, 7) };
        plan.transformer.dim = 256;
        plan.transformer.axes_dims = [16, 24, 24];
        plan.transformer.cap_feat_dim = 64;
        plan.text_encoder.hidden_size = 64;
        plan.text_encoder.intermediate_size = 128;
        plan.write(&root.path().join("model"), &tokenizer).expect("written");
        let model = opened(&Parts { transformer: root.path().join("model"), ..Parts::default() });
        Self { root, model }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn convert(&self, model: &Opened, target: Target, precision: &str, name: &str) -> Opened {
        self.verified(model, target, precision, name).0
    }

    #[track_caller]
    fn verified(&self, model: &Opened, target: Target, precision: &str, name: &str) -> (Opened, Verified) {
        let precision: Precision = precision.parse().expect("a precision");
        let conversion = Conversion { target, precision, reach: ALL, replace: false };
        let mut last = (0, 1);
        convert(model, &conversion, &self.path(name), &[], &mut |progress| {
            last = (progress.done_bytes, progress.total_bytes);
            true
        })
        .expect("converted");
        assert_eq!(last.0, last.1, "all bytes are told");
        let parts = Parts { transformer: self.path(name), ..Parts::default() };
        let verified = verify(model, &parts).expect("verified");
        (opened(&parts), verified)
    }
}

fn opened(parts: &Parts) -> Opened {
    Opened::new(Checkpoint::from_parts(parts).expect("a checkpoint")).expect("weights")
}

/// Every tensor has the same values and the same format, and everything beside the weights is the same.
#[track_caller]
fn same(a: &Opened, b: &Opened) {
    let (from, to) = (a.checkpoint(), b.checkpoint());
    assert_eq!(from.transformer_config(), to.transformer_config());
    assert_eq!(from.text_encoder_config(), to.text_encoder_config());
    assert_eq!(from.vae_config(), to.vae_config());
    assert_eq!(from.scheduler_config(), to.scheduler_config());
    assert_eq!(from.tokenizer_json().expect("there"), to.tokenizer_json().expect("there"));
    for component in Component::ALL {
        for spec in a.specs(component) {
            let (a, b) = (a.stored(component, &spec.name), b.stored(component, &spec.name));
            let (a, b) = (a.expect("there"), b.expect("there"));
            assert_eq!((a.layout, &a.shape), (b.layout, &b.shape), "{}", spec.name);
            assert!(a.bytes() == b.bytes(), "{}", spec.name);
        }
    }
}

#[test]
fn lossless_round_trips_are_bit_identical_through_every_layout() {
    for (format, precision) in [(Format::F32, "f32"), (Format::BF16, "bf16"), (Format::F16, "f16")] {
        let mut source = Source::new(format);
        // The VAE of the random model is in f32; from here on everything is in one format.
        source.model = source.convert(&source.model, Target::Diffusers, precision, "start");
        let mut model = source.model.clone();
        for (at, target) in [Target::Comfyui, Target::Mlx, Target::ComfyuiSplit, Target::Gguf].into_iter().enumerate() {
            let file = if target == Target::Comfyui { format!("aio/{at}.safetensors") } else { format!("{at}") };
            let (next, verified) = source.verified(&model, target, "keep", &file);
            assert_eq!((verified.rounded, verified.relative_error), (0, 0.0), "{}", target.name());
            model = next;
        }
        // GGUF has narrow tensors in f32, so the last step names the format.
        let back = source.convert(&model, Target::Diffusers, precision, "end");
        same(&source.model, &back);
    }
}

#[test]
fn quantized_models_are_what_their_source_encodes_to_and_open_in_their_layout() {
    let source = Source::new(Format::BF16);
    let check = |target, precision: &str, most: f64| {
        let (model, verified) = source.verified(&source.model, target, precision, precision);
        let (equal, rounded) = (verified.equal, verified.rounded);
        assert!(equal > 20 && rounded > 20, "{precision}: {equal} equal, {rounded} rounded");
        assert!(verified.relative_error < most, "{precision}: {} is lost", verified.relative_error);
        // What is quantized stays as it is where the layout is kept.
        let again = source.convert(&model, target, "keep", &format!("{precision} again"));
        for component in Component::ALL {
            for spec in model.specs(component) {
                let views = [&model, &again].map(|m| m.stored(component, &spec.name).expect("there"));
                assert_eq!(views[0].layout, views[1].layout, "{}", spec.name);
                let [a, b] = views.map(|view| view.decode());
                assert!(a.iter().zip(&b).all(|(a, b)| a.to_bits() == b.to_bits()), "{precision} {}", spec.name);
            }
        }
    };
    check(Target::Mlx, "int8", 0.01);
    check(Target::Mlx, "int6", 0.03);
    check(Target::Mlx, "int4", 0.12);
    check(Target::Mlx, "int3", 0.25);
    check(Target::Gguf, "q8_0", 0.01);
    check(Target::Gguf, "q4_0", 0.15);
    check(Target::Gguf, "q4_k", 0.12);
    check(Target::Gguf, "q6_k", 0.03);
}

#[test]
fn the_policy_follows_from_what_a_tensor_does() {
    let source = Source::new(Format::BF16);
    let conversion = |target, precision: &str, reach| Conversion {
        target,
        precision: precision.parse().expect("a precision"),
        reach,
        replace: true,
    };
    let formats = |conversion: Conversion| {
        convert(&source.model, &conversion, &source.path("x"), &[], &mut |_| true).expect("converted");
        let model = opened(&Parts { transformer: source.path("x"), ..Parts::default() });
        move |component, name: &str| model.stored(component, name).expect("there").layout.to_string()
    };
    use Component::{TextEncoder, Transformer, Vae};
    let plain = formats(conversion(Target::Gguf, "q8_0", Reach::default()));
    assert_eq!(plain(Transformer, "layers.0.attention.to_q.weight"), "q8_0");
    assert_eq!(plain(Transformer, "layers.0.attention_norm1.weight"), "f32");
    assert_eq!(plain(Transformer, "x_pad_token"), "f32");
    assert_eq!(plain(Transformer, "cap_embedder.1.weight"), "bf16");
    assert_eq!(plain(Transformer, "all_final_layer.2-1.linear.weight"), "bf16");
    assert_eq!(plain(TextEncoder, "embed_tokens.weight"), "bf16");
    assert_eq!(plain(TextEncoder, "layers.0.mlp.up_proj.weight"), "bf16");
    assert_eq!(plain(Vae, "decoder.conv_in.weight"), "bf16");
    let more = formats(conversion(Target::Gguf, "q8_0", ALL));
    assert_eq!(more(Transformer, "cap_embedder.1.weight"), "q8_0");
    assert_eq!(more(TextEncoder, "embed_tokens.weight"), "q8_0");
    // The original application loads models whose linear layers are all quantized.
    let mlx = formats(conversion(Target::Mlx, "int8", Reach::default()));
    assert_eq!(mlx(Transformer, "cap_embedder.1.weight"), "affine 8-bit, group 64");
    assert_eq!(mlx(Transformer, "cap_embedder.1.bias"), "bf16");
    assert_eq!(mlx(TextEncoder, "embed_tokens.weight"), "bf16");
}

#[test]
fn the_label_of_the_original_application_tells_what_the_file_holds() {
    let source = Source::new(Format::BF16);
    let label = |name: &str| {
        let config = fs::read(source.path(name).join("config.json")).expect("read");
        serde_json::from_slice::<serde_json::Value>(&config).expect("JSON")["precision"].clone()
    };
    let packed = source.convert(&source.model, Target::Mlx, "int8", "packed");
    source.convert(&packed, Target::Mlx, "keep", "kept");
    source.convert(&packed, Target::Mlx, "f16", "half");
    source.convert(&packed, Target::Mlx, "f32", "whole");
    assert_eq!(["packed", "kept", "half", "whole"].map(label), ["FP8", "FP8", "FP16", "Original"]);
}

#[test]
fn what_a_target_cannot_hold_and_what_is_there_are_refused() {
    let source = Source::new(Format::BF16);
    let path = source.path("out");
    let attempt = |target, precision: &str, replace| {
        let precision = precision.parse().expect("a precision");
        let conversion = Conversion { target, precision, reach: Reach::default(), replace };
        convert(&source.model, &conversion, &path, &[], &mut |_| true)
    };
    for (target, precision) in [(Target::Diffusers, "int8"), (Target::Gguf, "int4"), (Target::Mlx, "q8_0")] {
        let error = attempt(target, precision, false).expect_err("refused").to_string();
        assert!(error.starts_with(&format!("{} files cannot hold", target.name())), "{error}");
        assert!(!path.exists());
    }
    fs::create_dir(&path).expect("made");
    fs::write(path.join("precious"), "x").expect("written");
    let error = attempt(Target::Mlx, "keep", false).expect_err("refused").to_string();
    assert!(error.contains("out exists\nhint: "), "{error}");
    assert!(path.join("precious").exists());
    // What is no part of a model is never removed with one.
    let error = attempt(Target::Mlx, "keep", true).expect_err("refused").to_string();
    assert!(error.contains("it holds more than a model, precious for one") && error.contains("\nhint: "), "{error}");
    assert!(path.join("precious").exists());
    fs::rename(path.join("precious"), path.join("old.safetensors")).expect("renamed");
    attempt(Target::Mlx, "keep", true).expect("replaced");
    assert!(!path.join("old.safetensors").exists() && path.join("weights.safetensors").exists());
    assert_eq!("q9".parse::<Precision>().expect_err("no precision").split(", ").count(), 20);
}

#[test]
fn a_conversion_that_is_stopped_leaves_nothing() {
    let source = Source::new(Format::BF16);
    for (target, name) in [(Target::Mlx, "directory"), (Target::Comfyui, "file.safetensors")] {
        let conversion = Conversion { target, precision: Precision::Keep, reach: ALL, replace: false };
        let mut left = 30;
        let error = convert(&source.model, &conversion, &source.path(name), &[], &mut |_| {
            left -= 1;
            left > 0
        })
        .expect_err("stopped");
        assert!(matches!(error, Error::Cancelled), "{error}");
        let names: Vec<_> =
            fs::read_dir(source.root.path()).expect("read").map(|e| e.expect("read").file_name()).collect();
        assert_eq!(names, ["model"]);
    }
}

#[test]
fn a_damaged_copy_is_found_by_its_tensor() {
    let source = Source::new(Format::BF16);
    source.convert(&source.model, Target::Mlx, "int8", "copy");
    let path = source.path("copy/weights.safetensors");
    let mut bytes = fs::read(&path).expect("read");
    let at = bytes.len() - 5;
    bytes[at] ^= 1;
    fs::write(&path, bytes).expect("written");
    let parts = Parts { transformer: source.path("copy"), ..Parts::default() };
    let error = verify(&source.model, &parts).expect_err("damaged").to_string();
    assert!(error.starts_with("the written transformer differs from its source in "), "{error}");
}

#[test]
fn the_tokens_that_the_original_application_drops_are_kept_beside_its_files() {
    let source = Source::new(Format::BF16);
    source.convert(&source.model, Target::Mlx, "keep", "copy");
    fs::remove_file(source.path("copy/pad_tokens.safetensors")).expect("removed");
    let parts = Parts { transformer: source.path("copy"), ..Parts::default() };
    let checkpoint = Checkpoint::from_parts(&parts).expect("a checkpoint");
    let error = checkpoint.weights(Component::Transformer).expect_err("no pad tokens").to_string();
    assert!(error.contains("has no pad tokens (x_pad_token, cap_pad_token)"), "{error}");
    assert!(error.contains("--pad-tokens-from"), "{error}");
    let parts = Parts { pad_tokens_from: Some(source.path("model")), ..parts };
    assert_eq!(verify(&source.model, &parts).expect("the same").rounded, 0);
}
