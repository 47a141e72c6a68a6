//! Checkpoints in the names of ComfyUI, whole and in parts: the same tensors as from the directory they were made of.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tempfile::TempDir;
use zimage_kernels::blocks::{Format, Layout};
use zimage_weights::container::{Metadata, TensorSource, write_safetensors};
use zimage_weights::dialect::{comfyui, layout};
use zimage_weights::inspect::{Dialect, doctor, inspect};
use zimage_weights::random::RandomCheckpoint;
use zimage_weights::{
    Checkpoint, Component, Dtype, Parts, TensorView, TextEncoderConfig, TransformerConfig, VaeConfig, WeightView,
};

const TOKENIZER: &str = r#"{"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 299, "content": "<|end|>"}]}"#;

/// A model in the layout of diffusers, small, with the heads, groups and latents of the real one, and room beside it.
pub(crate) struct Model(TempDir);

impl Model {
    pub(crate) fn new(format: Format) -> Self {
        let model = Self(tempfile::tempdir().expect("a directory"));
        fs::write(model.path("given.json"), TOKENIZER).expect("written");
        let turbo = RandomCheckpoint::turbo(3);
        let plan = RandomCheckpoint {
            transformer: TransformerConfig {
                dim: 128,
                n_layers: 2,
                n_heads: 1,
                n_refiner_layers: 1,
                cap_feat_dim: 48,
                ..turbo.transformer
            },
            text_encoder: TextEncoderConfig {
                vocab_size: 300,
                hidden_size: 48,
                intermediate_size: 64,
                n_layers: 2,
                n_heads: 2,
                n_kv_heads: 1,
                ..turbo.text_encoder
            },
            vae: VaeConfig { block_out_channels: vec![32, 32, 64, 64], layers_per_block: 1, ..turbo.vae },
            format,
            vae_format: Format::F32,
            ..turbo
        };
        plan.write(&model.path("model"), &model.path("given.json")).expect("written");
        model
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn open(&self) -> Checkpoint {
        Checkpoint::open(&self.path("model")).expect("a checkpoint")
    }

    /// One part in the names of ComfyUI, each after `prefix`.
    pub(crate) fn foreign(&self, component: Component, prefix: &str) -> Vec<TensorView> {
        let checkpoint = self.open();
        let weights = checkpoint.weights(component).expect("audited");
        let sizes = checkpoint.vae_config().into();
        let tensors = layout(&comfyui::rules(component, sizes), &checkpoint.specs(component));
        let stack = |tensor: zimage_weights::dialect::FileTensor| {
            let views: Vec<WeightView> =
                tensor.made_of.iter().map(|name| weights.tensor(name).expect("there")).collect();
            let data: Vec<u8> = views.iter().flat_map(|view| view.bytes().expect("a float")).collect();
            let name = format!("{prefix}{}", tensor.name);
            let dtype =
                Dtype::ALL.iter().copied().find(|dtype| dtype.format().map(Layout::Rows) == Some(views[0].layout));
            TensorView { name, dtype: dtype.expect("a float"), shape: tensor.shape, data: data.into() }
        };
        tensors.into_iter().map(stack).collect()
    }

    /// Everything in one file, as ComfyUI saves checkpoints.
    fn whole(&self) -> Vec<TensorView> {
        let mut views = self.foreign(Component::Transformer, "model.diffusion_model.");
        views.extend(self.foreign(Component::TextEncoder, "text_encoders.qwen3_4b.transformer.model."));
        views.extend(self.foreign(Component::Vae, "vae."));
        views
    }

    pub(crate) fn write(&self, file: &str, views: &[TensorView]) -> PathBuf {
        let path = self.path(file);
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        write(&path, views);
        path
    }

    fn error(&self, file: &str, views: &[TensorView]) -> String {
        let path = self.write(file, views);
        let error = Checkpoint::open(&path).expect_err("refused").to_string();
        error.replace(&path.display().to_string(), "FILE")
    }

    #[track_caller]
    fn same(&self, other: &Checkpoint) {
        let own = self.open();
        assert_eq!(own.transformer_config(), other.transformer_config());
        assert_eq!(own.text_encoder_config(), other.text_encoder_config());
        assert_eq!(own.vae_config(), other.vae_config());
        assert_eq!(own.tokenizer_json().expect("there"), other.tokenizer_json().expect("there"));
        assert_eq!(other.scheduler_config()["shift"], 3.0);
        for component in Component::ALL {
            let (a, b) = (own.weights(component).expect("audited"), other.weights(component).expect("audited"));
            assert_eq!((a.size_bytes(), a.precision()), (b.size_bytes(), b.precision()), "{component}");
            for spec in own.specs(component) {
                let (a, b) = (a.tensor(&spec.name).expect("there"), b.tensor(&spec.name).expect("there"));
                assert_eq!((&a.name, a.layout, &a.shape), (&b.name, b.layout, &b.shape));
                assert!(a.bytes() == b.bytes(), "{}", spec.name);
            }
        }
    }
}

fn write(path: &Path, views: &[TensorView]) {
    let source = |view: &TensorView| {
        let data = view.data.clone();
        TensorSource::new(view.name.clone(), view.dtype, &view.shape, move |out| out.write_all(&data))
    };
    write_safetensors(path, &Metadata::new(), views.iter().map(source).collect()).expect("written");
}

fn small(name: &str, dtype: Dtype) -> TensorView {
    TensorView { name: name.to_owned(), dtype, shape: vec![1], data: vec![0; dtype.block_bytes()].into() }
}

#[test]
fn one_file_with_everything_is_the_same_model_in_every_format() {
    for format in [Format::F32, Format::BF16, Format::F16] {
        let model = Model::new(format);
        let mut views = model.whole();
        views.push(small("text_encoders.qwen3_4b.logit_scale", Dtype::F32));
        views.push(small("model.diffusion_model.norm_final.weight", Dtype::F32));
        let path = model.write("whole/x.safetensors", &views);
        fs::write(model.path("whole/tokenizer.json"), TOKENIZER).expect("written");
        let checkpoint = Checkpoint::open(&path).expect("a checkpoint");
        model.same(&checkpoint);
        let origins: Vec<String> =
            checkpoint.origins().iter().map(|origin| format!("{}: {}", origin.part, origin.place)).collect();
        assert!(origins[0].contains("x.safetensors (names of ComfyUI; config told from shapes)"), "{origins:?}");
        assert_eq!(origins[4], "scheduler: shift 3, the default where there is no scheduler_config.json");

        let report = inspect(&path).expect("a report");
        assert_eq!((report.dialect, report.supported), (Dialect::Comfyui, true));
        let diagnosis = doctor(&path).expect("a diagnosis");
        assert!(diagnosis.usable && diagnosis.parts.len() == 3, "{:?}", diagnosis.problem);
    }
}

#[test]
fn a_prefix_is_stripped_once_and_only_at_the_start() {
    let model = Model::new(Format::BF16);
    let rest = Parts {
        text_encoder: Some(model.path("model")),
        vae: Some(model.path("model/vae")),
        tokenizer: Some(model.path("given.json")),
        ..Parts::default()
    };
    for prefix in ["", "model.diffusion_model.", "diffusion_model.", "transformer.", "model."] {
        let transformer = model.write("x/x.safetensors", &model.foreign(Component::Transformer, prefix));
        model.same(&Checkpoint::from_parts(&Parts { transformer, ..rest.clone() }).expect(prefix));
    }
    let transformer =
        model.write("x/x.safetensors", &model.foreign(Component::Transformer, "diffusion_model.diffusion_model."));
    let error = Checkpoint::from_parts(&Parts { transformer, ..rest }).expect_err("twice").to_string();
    assert!(error.contains("an unknown kind of file"), "{error}");
}

#[test]
fn parts_come_from_files_folders_and_other_models() {
    let model = Model::new(Format::BF16);
    let transformer = model.write("diffusion_models/z.safetensors", &model.foreign(Component::Transformer, ""));
    let text = model.write("text_encoders/q.safetensors", &model.foreign(Component::TextEncoder, "model."));
    let bare = model.write("text_encoders/bare.safetensors", &model.foreign(Component::TextEncoder, ""));
    let vae = model.write("vae/ae.safetensors", &model.foreign(Component::Vae, ""));
    let whole = model.write("whole.safetensors", &model.whole());
    let parts = |transformer: &Path, text: &Path, vae: &Path, tokenizer: &Path| Parts {
        transformer: transformer.to_path_buf(),
        text_encoder: Some(text.to_path_buf()),
        vae: Some(vae.to_path_buf()),
        tokenizer: Some(tokenizer.to_path_buf()),
        ..Parts::default()
    };
    let directory = model.path("model");
    let given = model.path("given.json");
    for (transformer, text, vae, tokenizer) in [
        (&transformer, &text, &vae, &given),
        (&transformer, &bare, &model.path("vae"), &directory),
        (&transformer, &directory.join("text_encoder"), &directory.join("vae"), &directory.join("tokenizer")),
        (&directory, &text, &vae, &directory),
        (&directory.join("transformer"), &whole, &whole, &given),
        (&whole, &directory, &directory, &given),
    ] {
        let checkpoint = Checkpoint::from_parts(&parts(transformer, text, vae, tokenizer)).expect("a checkpoint");
        model.same(&checkpoint);
        assert_eq!(checkpoint.origins().len(), 5);
    }
    let other = model.write("vae2/v.safetensors", &model.foreign(Component::Transformer, ""));
    let error = Checkpoint::from_parts(&parts(&transformer, &text, &other, &given)).expect_err("no VAE").to_string();
    assert!(error.contains("v.safetensors cannot be opened: it has no VAE"), "{error}");
}

#[test]
fn the_scheduler_is_the_given_one_else_the_one_beside_the_transformer_else_shift_3() {
    let model = Model::new(Format::BF16);
    let mut parts = Parts {
        transformer: model.write("x/x.safetensors", &model.whole()),
        tokenizer: Some(model.path("given.json")),
        ..Parts::default()
    };
    let shift =
        |parts: &Parts| Checkpoint::from_parts(parts).expect("a checkpoint").scheduler_config()["shift"].clone();
    assert_eq!(shift(&parts), 3.0);
    fs::write(model.path("x/scheduler_config.json"), r#"{"shift": 6.0}"#).expect("written");
    assert_eq!(shift(&parts), 6.0);
    fs::write(model.path("given_scheduler.json"), r#"{"shift": 4.5}"#).expect("written");
    parts.scheduler = Some(model.path("given_scheduler.json"));
    assert_eq!(shift(&parts), 4.5);
    parts.scheduler = Some(model.path("model"));
    assert_eq!(shift(&parts), 3.0);
}

#[test]
fn what_is_missing_is_listed_with_its_flags() {
    let model = Model::new(Format::BF16);
    assert_eq!(
        model.error("x/z.safetensors", &model.foreign(Component::Transformer, "")),
        "FILE is not a complete checkpoint, missing: the text encoder, the VAE, the tokenizer\n\
         hint: give them with --text-encoder PATH --vae PATH --tokenizer PATH"
    );
    assert_eq!(
        model.error("x/y.safetensors", &model.whole()),
        "FILE is not a complete checkpoint, missing: the tokenizer\nhint: give them with --tokenizer PATH"
    );
    let report = inspect(&model.path("x/z.safetensors")).expect("a report");
    assert!(report.supported);
    let diagnosis = doctor(&model.path("x/z.safetensors")).expect("a diagnosis");
    let audit = diagnosis.parts[0].audit.as_ref().expect("audited");
    assert_eq!((audit.matched, audit.expected, diagnosis.usable), (audit.expected, audit.matched, false));
}

#[test]
fn other_parts_other_models_and_unknown_packings_are_refused_by_name() {
    let model = Model::new(Format::BF16);
    let parts_of = |path: &Path| {
        let lenders = vec![model.path("model")];
        let parts = Parts { transformer: path.to_path_buf(), lenders, ..Parts::default() };
        Checkpoint::from_parts(&parts).expect("a checkpoint")
    };
    let mut scaled = model.foreign(Component::Transformer, "");
    for view in scaled.iter_mut().filter(|view| view.name.ends_with("qkv.weight")) {
        let bytes = view.data.len() / 2;
        *view = TensorView { dtype: Dtype::F8E4M3, data: view.data.slice(..bytes), ..view.clone() };
    }
    // Plain 8-bit floats are read, and so are scaled numbers of 8 bits.
    model.write("x.safetensors", &scaled);
    scaled.iter_mut().filter(|view| view.dtype == Dtype::F8E4M3).for_each(|view| view.dtype = Dtype::I8);
    let path = model.write("x.safetensors", &scaled);
    let error = parts_of(&path).weights(Component::Transformer).expect_err("no scales").to_string();
    assert!(error.contains("12 tensors of the transformer cannot be read, the first is"), "{error}");
    assert!(error.ends_with(".attention.qkv.weight: it is stored as I8"), "{error}");
    scaled.push(small("layers.0.attention.qkv.weight_scale", Dtype::F32));
    let path = model.write("x.safetensors", &scaled);
    let error = parts_of(&path).weights(Component::Transformer).expect_err("no scales").to_string();
    assert!(error.contains(": 9 tensors of the transformer"), "{error}");
    let mut marked = model.foreign(Component::Transformer, "");
    let note = Bytes::from_static(br#"{"format": "asym_w4a8_int8"}"#);
    let name = "layers.0.attention.qkv.comfy_quant".to_owned();
    marked.push(TensorView { name, dtype: Dtype::U8, shape: vec![note.len()], data: note });
    let path = model.write("x.safetensors", &marked);
    let error = parts_of(&path).weights(Component::Transformer).expect_err("unknown").to_string();
    assert!(error.ends_with("its format asym_w4a8_int8 is not read"), "{error}");
    assert!(!inspect(&model.path("x.safetensors")).expect("a report").supported);

    let sdxl = [small("model.diffusion_model.label_emb.0.0.weight", Dtype::F16)];
    assert!(model.error("x.safetensors", &sdxl).contains("this is a Stable Diffusion XL checkpoint, not Z-Image"));
    let flux = [small("double_blocks.0.img_attn.qkv.weight", Dtype::F16)];
    assert!(model.error("x.safetensors", &flux).contains("this is a FLUX checkpoint, not Z-Image"));
    let lumina =
        TensorView { shape: vec![2304, 1], data: vec![0; 4608].into(), ..small("cap_embedder.1.weight", Dtype::F16) };
    let lumina = [lumina, small("noise_refiner.0.attention.k_norm.weight", Dtype::F16)];
    assert!(model.error("x.safetensors", &lumina).contains("this is a Lumina-2 checkpoint, not Z-Image"));
}

#[test]
fn a_part_of_another_model_does_not_fit() {
    let (model, tiny) = (Model::new(Format::BF16), crate::checkpoint::Written::new());
    let mut parts = Parts { transformer: model.path("model"), text_encoder: Some(tiny.path()), ..Parts::default() };
    assert!(Checkpoint::from_parts(&parts).is_ok(), "the two have captions of the same width");
    let config = tiny.file("text_encoder/config.json");
    let text = fs::read_to_string(&config).expect("read").replace("\"hidden_size\": 48", "\"hidden_size\": 52");
    fs::write(&config, text).expect("written");
    let error = Checkpoint::from_parts(&parts).expect_err("another width").to_string();
    assert!(error.contains("its captions have 52 features, and the transformer reads 48\nhint: "), "{error}");
    parts.text_encoder = Some(model.path("absent"));
    assert!(Checkpoint::from_parts(&parts).expect_err("absent").to_string().starts_with("cannot open "));
}

#[test]
fn unknown_and_missing_tensors_are_listed_under_canonical_names() {
    let model = Model::new(Format::BF16);
    let mut views = model.whole();
    views.retain(|view| view.name != "vae.decoder.mid.attn_1.proj_out.weight");
    views.iter_mut().filter(|view| view.name.ends_with("layers.1.attention.qkv.weight")).for_each(|view| {
        (view.shape, view.data) = (vec![383, 128], view.data.slice(..383 * 128 * 2));
    });
    views.push(small("stray.weight", Dtype::F32));
    let path = model.write("x/x.safetensors", &views);
    fs::write(model.path("x/tokenizer.json"), TOKENIZER).expect("written");
    let checkpoint = Checkpoint::open(&path).expect("a checkpoint");
    let error = |component| checkpoint.weights(component).expect_err("damaged").to_string();
    let transformer = error(Component::Transformer);
    assert!(transformer.contains("  unknown stray.weight"), "{transformer}");
    let cut = "misshapen layers.1.attention.to_k.weight: expected [128, 128], found [383, 128]";
    assert!(transformer.contains(cut), "{transformer}");
    let vae = error(Component::Vae);
    assert!(vae.contains("missing decoder.mid_block.attentions.0.to_out.0.weight"), "{vae}");
    assert!(checkpoint.weights(Component::TextEncoder).is_ok());
}
