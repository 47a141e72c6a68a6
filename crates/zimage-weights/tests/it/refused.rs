//! Quantized weights that are incomplete or unknown, and models that are not Z-Image, in both containers.

use bytes::Bytes;
use zimage_kernels::blocks::Format;
use zimage_weights::container::{Metadata, TensorSource, write_gguf, write_safetensors};
use zimage_weights::{Checkpoint, Component, Dtype, Parts, TensorView};

use crate::parts::Model;

const LAYER: &str = "layers.0.attention.qkv";

fn tensor(end: &str, dtype: Dtype, shape: &[usize]) -> TensorView {
    let size = shape.iter().product::<usize>() * dtype.block_bytes();
    TensorView { name: format!("{LAYER}.{end}"), dtype, shape: shape.to_vec(), data: vec![0; size].into() }
}

fn note(text: &'static str) -> TensorView {
    TensorView { data: Bytes::from_static(text.as_bytes()), ..tensor("comfy_quant", Dtype::U8, &[text.len()]) }
}

fn source(view: &TensorView) -> TensorSource<'_> {
    TensorSource::new(view.name.clone(), view.dtype, &view.shape, move |out| out.write_all(&view.data))
}

/// The transformer with these tensors for the fused matrix of (384, 128) values in its first layer is refused.
fn refused(model: &Model, tensors: Vec<TensorView>, header: Option<&str>, expected: &str) {
    let mut views = model.foreign(Component::Transformer, "");
    views.retain(|view| !view.name.starts_with(LAYER));
    views.extend(tensors);
    let path = model.path("x.safetensors");
    let header = header.map(|text| ("_quantization_metadata".to_owned(), text.to_owned()));
    let metadata: Metadata = header.into_iter().collect();
    write_safetensors(&path, &metadata, views.iter().map(source).collect()).expect("written");
    let parts = Parts { transformer: path, lenders: vec![model.path("model")], ..Parts::default() };
    let weights = Checkpoint::from_parts(&parts).and_then(|checkpoint| checkpoint.weights(Component::Transformer));
    let error = weights.expect_err(expected).to_string();
    assert!(error.contains(expected), "expected {expected}: {error}");
}

#[test]
fn incomplete_and_unknown_weights_of_comfyui_are_refused_with_the_reason() {
    let model = Model::new(Format::BF16);
    let fp8 = || tensor("weight", Dtype::F8E4M3, &[384, 128]);
    let scale = |dtype, shape: &[usize]| tensor("weight_scale", dtype, shape);
    let check = |tensors, expected| refused(&model, tensors, None, expected);
    check(vec![fp8(), note(r#"{"format": "float8_e4m3fn"}"#)], "it has no weight_scale");
    check(vec![fp8(), scale(Dtype::F32, &[5])], "it has 5 scales for 384 rows");
    check(vec![fp8(), scale(Dtype::U8, &[1])], "its scales are stored as U8");
    check(
        vec![tensor("weight", Dtype::F16, &[384, 128]), scale(Dtype::F32, &[1])],
        "it has scales and is stored as F16",
    );
    check(vec![fp8(), scale(Dtype::F32, &[1]), note("{")], "its comfy_quant names no format");
    check(vec![fp8(), scale(Dtype::F32, &[1]), note(r#"{"format": "fp6"}"#)], "its format fp6 is not read");
    let int8 = || vec![tensor("weight", Dtype::I8, &[384, 128]), scale(Dtype::F32, &[384, 1])];
    let small = note(r#"{"format": "int8_tensorwise", "convrot": true, "convrot_groupsize": 64}"#);
    check([int8(), vec![small]].concat(), "rotated in groups of 64, and only 256 are read");
    let rotated = note(r#"{"format": "int8_tensorwise", "params": {"convrot": true}}"#);
    check([int8(), vec![rotated]].concat(), "no whole number of blocks of 256");
    refused(&model, int8(), Some("{"), "the _quantization_metadata of its file has no layers");
    let smoothed = tensor("pre_quant_scale", Dtype::F32, &[128]);
    check([int8(), vec![smoothed]].concat(), "it has a pre_quant_scale, which is not read");

    let nvfp4 = || vec![tensor("weight", Dtype::U8, &[384, 64]), note(r#"{"format": "nvfp4"}"#)];
    let blocks = |rows| scale(Dtype::F8E4M3, &[rows, 8]);
    let factor = || tensor("weight_scale_2", Dtype::F32, &[]);
    check([nvfp4(), vec![blocks(384)]].concat(), "it has no weight_scale_2");
    check([nvfp4(), vec![factor()]].concat(), "it has no weight_scale");
    check([nvfp4(), vec![blocks(383), factor()]].concat(), "found [24576, 3064, 0]");
    check([nvfp4(), vec![scale(Dtype::F16, &[384, 4]), factor()]].concat(), "its scales are stored as F16");
    let factors = tensor("weight_scale_2", Dtype::F32, &[2]);
    check([nvfp4(), vec![blocks(384), factors]].concat(), "is no single number");
    let wide = vec![tensor("weight", Dtype::U8, &[384, 128]), note(r#"{"format": "nvfp4"}"#), blocks(384), factor()];
    check(wide, "misshapen layers.0.attention.to_q.weight: expected [128, 128], found [128, 256]");
}

#[test]
fn incomplete_and_unknown_packings_of_mlx_are_refused_with_the_reason() {
    let model = Model::new(Format::BF16);
    let words = |cols| tensor("weight", Dtype::U32, &[384, cols]);
    let part = |end, dtype, cols| tensor(end, dtype, &[384, cols]);
    let check = |tensors, expected| refused(&model, tensors, None, expected);
    check(vec![words(16), part("scales", Dtype::F16, 2)], "16 words and 2 scales of F16 are no known packing of 128");
    let other = part("biases", Dtype::BF16, 2);
    check(vec![words(16), part("scales", Dtype::F16, 2), other], "its biases are [384, 2] of BF16");
    let short = tensor("scales", Dtype::F16, &[383, 2]);
    check(vec![words(16), short, part("biases", Dtype::F16, 2)], "its scales have the shape [383, 2]");
    check(vec![words(28), part("scales", Dtype::F16, 2), part("biases", Dtype::F16, 2)], "28 words and 2 scales");
    check(vec![words(16), part("biases", Dtype::F16, 2)], "unknown layers.0.attention.to_q.biases");
    check(vec![part("weight", Dtype::I8, 128), part("scales", Dtype::F16, 2)], "it has scales and is stored as I8");
}

/// Names and shapes of tensors, and what the message must say.
type Case<'a> = (&'a [(&'a str, &'a [usize])], &'a str);

#[test]
fn other_models_are_refused_by_name_in_both_containers() {
    let native = "noise_refiner.0.attention.k_norm.weight";
    let lora = "diffusion_model.layers.0.attention.to_q.lora_A.weight";
    let hunyuan = "txt_in.individual_token_refiner.blocks.0.self_attn_qkv.weight";
    let unet = "model.diffusion_model.input_blocks.0.0.weight";
    let xl = "model.diffusion_model.label_emb.0.0.weight";
    let pixels = "dec_net.cond_embed.weight";
    let one: &[usize] = &[1];
    let cases: [Case<'_>; 9] = [
        (&[("double_blocks.0.img_attn.qkv.weight", one)], "FLUX"),
        (&[("single_transformer_blocks.0.attn.to_q.weight", one)], "FLUX"),
        (&[(hunyuan, one)], "HunyuanVideo"),
        (&[(unet, one), (xl, one)], "Stable Diffusion XL"),
        (&[(unet, one)], "Stable Diffusion 1"),
        (&[(native, one), ("cap_embedder.1.weight", &[2304, 1])], "Lumina"),
        (&[(native, one), ("cap_embedder.1.weight", one), (pixels, one)], "pixel-space"),
        (&[("control_all_x_embedder.2-1.weight", one)], "a Z-Image ControlNet"),
        (&[(lora, one)], "LoRA"),
    ];
    let directory = tempfile::tempdir().expect("a directory");
    for (tensors, name) in cases {
        let views: Vec<TensorView> = tensors
            .iter()
            .map(|(name, shape)| TensorView { name: (*name).to_owned(), ..tensor("", Dtype::F32, shape) })
            .collect();
        let (safetensors, gguf) = (directory.path().join("x.safetensors"), directory.path().join("x.gguf"));
        write_safetensors(&safetensors, &Metadata::new(), views.iter().map(source).collect()).expect("written");
        write_gguf(&gguf, &[], views.iter().map(source).collect()).expect("written");
        for path in [safetensors, gguf] {
            let error = Checkpoint::open(&path).expect_err(name).to_string();
            assert!(error.contains(name) && error.contains("cannot be opened: this is a"), "{name}: {error}");
        }
    }
}

#[test]
fn models_for_nunchaku_are_refused_by_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.safetensors");
    let view = TensorView { name: "cap_embedder.1.weight".to_owned(), ..tensor("", Dtype::F32, &[1]) };
    for (key, value) in
        [("model_class", "NunchakuZImageTransformer2DModel"), ("quantization_config", r#"{"method": "svdquant"}"#)]
    {
        let metadata: Metadata = [(key.to_owned(), value.to_owned())].into_iter().collect();
        write_safetensors(&path, &metadata, vec![source(&view)]).expect("written");
        let error = Checkpoint::open(&path).expect_err("nunchaku").to_string();
        assert!(error.contains("this is Z-Image quantized for nunchaku"), "{error}");
    }
}
