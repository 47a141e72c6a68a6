use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Adapter, Delta, Factor, LoraProblem, Magnitude, Product, Report};
use crate::container::{Metadata, TensorSource, write_safetensors};
use crate::random::RandomCheckpoint;
use crate::schema::{self, Component, TensorSpec};
use crate::{Dtype, Error, Result};

fn specs() -> (Vec<TensorSpec>, Vec<TensorSpec>) {
    let tiny = RandomCheckpoint::tiny(64, 0);
    (schema::transformer::tensors(&tiny.transformer), schema::text_encoder::tensors(&tiny.text_encoder))
}

/// A file to be: tensors by name, of a shape, filled with small numbers.
#[derive(Default)]
struct Lora {
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    metadata: Metadata,
}

impl Lora {
    fn with(mut self, name: &str, shape: &[usize]) -> Self {
        let count: usize = shape.iter().product();
        let seed = name.len();
        let values = (0..count).map(|i| ((i * 31 + seed * 7) % 17) as f32 / 17.0 - 0.4).collect();
        self.tensors.insert(name.to_owned(), (shape.to_vec(), values));
        self
    }

    fn number(mut self, name: &str, value: f32) -> Self {
        self.tensors.insert(name.to_owned(), (vec![], vec![value]));
        self
    }

    /// A pair of rank 2 on a layer of 64 by 64, with `down` and `up` behind the module's name.
    fn pair(self, module: &str, [down, up]: [&str; 2]) -> Self {
        self.with(&format!("{module}{down}"), &[2, 64]).with(&format!("{module}{up}"), &[64, 2])
    }

    fn telling(mut self, key: &str, value: &str) -> Self {
        self.metadata.insert(key.to_owned(), value.to_owned());
        self
    }

    fn write(&self, path: &Path) -> PathBuf {
        let source = |(name, (shape, values)): (&String, &(Vec<usize>, Vec<f32>))| {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            TensorSource::new(name.clone(), Dtype::F32, shape, move |out| out.write_all(&bytes))
        };
        write_safetensors(path, &self.metadata, self.tensors.iter().map(source).collect()).unwrap();
        path.to_path_buf()
    }

    fn open(&self) -> Result<Adapter> {
        let folder = tempfile::tempdir().unwrap();
        let (transformer, text_encoder) = specs();
        Adapter::open(&self.write(&folder.path().join("a.safetensors")), &transformer, &text_encoder)
    }

    #[track_caller]
    fn fails(&self, fragment: &str) -> LoraProblem {
        let error = self.open().expect_err("it is refused");
        assert!(error.to_string().contains(fragment), "expected {fragment:?}: {error}");
        match error {
            Error::Lora { problem, .. } => *problem,
            other => panic!("another error: {other}"),
        }
    }

    /// What a file with tensors of other sizes is for this model.
    fn report(&self) -> Report {
        let folder = tempfile::tempdir().unwrap();
        let (transformer, text_encoder) = specs();
        super::report(&self.write(&folder.path().join("a.safetensors")), &transformer, &text_encoder).unwrap()
    }
}

const PEFT: [&str; 2] = [".lora_A.weight", ".lora_B.weight"];
const KOHYA: [&str; 2] = [".lora_down.weight", ".lora_up.weight"];

fn layers(adapter: &Adapter) -> Vec<String> {
    adapter.deltas().map(|(_, name, _)| name.to_owned()).collect()
}

fn only(adapter: &Adapter) -> &Delta {
    let deltas: Vec<_> = adapter.deltas().collect();
    assert_eq!(deltas.len(), 1);
    deltas[0].2
}

#[test]
fn every_naming_means_the_same_layer() {
    let q = "layers.1.attention.to_q";
    for (module, parts) in [
        ("transformer.layers.1.attention.to_q", PEFT),
        ("base_model.model.layers.1.attention.to_q", PEFT),
        ("base_model.model.transformer.layers.1.attention.to_q", PEFT),
        ("transformer.layers.1.attention.to_q", [".lora_A.default.weight", ".lora_B.default.weight"]),
        ("layers.1.attention.to_q", [".lora_A.default", ".lora_B.default"]),
        ("diffusion_model.layers.1.attention.to_q", PEFT),
        ("model.diffusion_model.layers.1.attention.to_q", KOHYA),
        ("layers.1.attention.to_q", PEFT),
        ("layers.1.attention.to_q", [".lora_A", ".lora_B"]),
        ("lora_unet_layers_1_attention_to_q", KOHYA),
        ("lora_transformer_layers_1_attention_to_q", KOHYA),
        ("lycoris_layers_1_attention_to_q", KOHYA),
        ("diffusion_model.layers.1.attention.to.q", [".lora.down.weight", ".lora.up.weight"]),
        ("layers.1.attention.to_q", [".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"]),
        ("layers.1.attention.to_q", ["_lora.down.weight", "_lora.up.weight"]),
    ] {
        assert_eq!(layers(&Lora::default().pair(module, parts).open().unwrap()), [q], "{module}");
    }
    for (module, name) in [
        ("diffusion_model.layers.0.attention.out", "layers.0.attention.to_out.0"),
        ("lora_unet_layers_0_attention_to_out_0", "layers.0.attention.to_out.0"),
        ("transformer.layers.0.attention.to_out", "layers.0.attention.to_out.0"),
        ("lora_unet_noise_refiner_0_attention_out", "noise_refiner.0.attention.to_out.0"),
        ("lora_unet_context_refiner_0_attention_to_k", "context_refiner.0.attention.to_k"),
    ] {
        assert_eq!(layers(&Lora::default().pair(module, KOHYA).open().unwrap()), [name], "{module}");
    }
}

#[test]
fn names_of_the_models_ends_are_found() {
    let (transformer, _) = specs();
    let shape =
        |name: &str| transformer.iter().find(|spec| spec.name == format!("{name}.weight")).unwrap().shape.clone();
    for (module, name) in [
        ("diffusion_model.x_embedder", "all_x_embedder.2-1"),
        ("lora_unet_all_x_embedder_2-1", "all_x_embedder.2-1"),
        ("lora_unet_final_layer_linear", "all_final_layer.2-1.linear"),
        ("transformer.all_final_layer.2-1.adaLN_modulation.1", "all_final_layer.2-1.adaLN_modulation.1"),
        ("lora_unet_layers_0_adaLN_modulation_0", "layers.0.adaLN_modulation.0"),
        ("lora_unet_cap_embedder_1", "cap_embedder.1"),
        ("lora_unet_t_embedder_mlp_2", "t_embedder.mlp.2"),
        ("lora_unet_layers_1_feed_forward_w2", "layers.1.feed_forward.w2"),
    ] {
        let [out, cols] = shape(name)[..] else { panic!("{name} is no matrix") };
        let lora = Lora::default().with(&format!("{module}.lora_down.weight"), &[3, cols]);
        let adapter = lora.with(&format!("{module}.lora_up.weight"), &[out, 3]).open().unwrap();
        assert_eq!((layers(&adapter), only(&adapter).rank()), (vec![name.to_owned()], Some(3)), "{module}");
    }
}

#[test]
fn fused_projections_are_cut_in_three() {
    for module in ["diffusion_model.layers.0.attention.qkv", "lora_unet_layers_0_attention_qkv"] {
        let lora = Lora::default().with(&format!("{module}.lora_down.weight"), &[2, 64]);
        let lora = lora.with(&format!("{module}.lora_up.weight"), &[192, 2]);
        let adapter = lora.open().unwrap();
        let whole = &lora.tensors[&format!("{module}.lora_up.weight")].1;
        for (part, name) in ["to_q", "to_k", "to_v"].iter().enumerate() {
            let delta = adapter.delta(Component::Transformer, &format!("layers.0.attention.{name}")).unwrap();
            let Product::LowRank { up, down } = &delta.product else { panic!("a low-rank pair") };
            assert_eq!((down.rows(), up.rows()), (2, 64));
            assert_eq!(up.values(), whole[part * 128..(part + 1) * 128], "{name}");
        }
        assert_eq!(adapter.report().matched, 3);
    }
}

#[test]
fn a_fused_kronecker_product_is_cut_where_its_blocks_do_not_end() {
    let module = "lycoris_layers_0_attention_qkv";
    let lora = Lora::default().with(&format!("{module}.lokr_w1"), &[8, 4]);
    let lora = lora.with(&format!("{module}.lokr_w2"), &[24, 16]);
    let adapter = lora.open().unwrap();
    let (w1, w2) = (&lora.tensors[&format!("{module}.lokr_w1")].1, &lora.tensors[&format!("{module}.lokr_w2")].1);
    for (part, name) in ["to_q", "to_k", "to_v"].iter().enumerate() {
        let mut rows = vec![0.0; 64 * 64];
        let layer = format!("layers.0.attention.{name}");
        assert!(adapter.add_to(Component::Transformer, &layer, 1.0, 0..64, &mut rows).unwrap());
        for (at, found) in rows.iter().enumerate() {
            let (row, col) = (part * 64 + at / 64, at % 64);
            let expected = w1[row / 24 * 4 + col / 16] * w2[row % 24 * 16 + col % 16];
            assert!((found - expected).abs() < 1e-6, "{name} {at}: {found} and not {expected}");
        }
    }
}

#[test]
fn what_is_said_twice_is_used_once() {
    let module = "diffusion_model.layers.0.attention";
    let lora = ["to_q", "to_k", "to_v", "to_out.0", "out"].iter().fold(Lora::default(), |lora, name| {
        lora.pair(&format!("{module}.{name}"), [".lora.down.weight", ".lora.up.weight"])
    });
    let lora = lora.with(&format!("{module}.qkv.lora.down.weight"), &[2, 64]);
    let adapter = lora.with(&format!("{module}.qkv.lora.up.weight"), &[192, 2]).open().unwrap();
    assert_eq!(adapter.report().matched, 4);
    assert_eq!(adapter.report().redundant, [format!("{module}.out"), format!("{module}.qkv")]);
}

#[test]
fn modules_of_other_models_are_reported_with_the_nearest_names() {
    let lora = Lora::default().pair("transformer.layers.0.attention.to_q", PEFT);
    let lora = lora.pair("transformer.layers.0.atention.to_k", PEFT).pair("lora_te_text_model_x", KOHYA);
    let adapter = lora.with("emb_params", &[3]).open().unwrap();
    let unmatched = &adapter.report().unmatched;
    let names: Vec<&str> = unmatched.iter().map(|entry| entry.module.as_str()).collect();
    assert_eq!(names, ["lora_te_text_model_x", "transformer.layers.0.atention.to_k", "emb_params"]);
    assert_eq!(unmatched[1].nearest.as_deref(), Some("layers.0.attention.to_k"));

    let problem = Lora::default().pair("lora_unet_double_blocks_0_img_attn_qkv", KOHYA).fails("FLUX or HunyuanVideo");
    assert!(matches!(problem, LoraProblem::NothingMatches { .. }));
    Lora::default().pair("transformer.layers.7.attention.to_q", PEFT).fails("nearest is layers.0.attention.to_q");
    Lora::default().with("model.weight", &[2, 2]).fails("it has no LoRA, LoHa, LoKr or DoRA tensors");
    let other = Lora::default().with("layers.0.attention.to_q.lora_A.weight", &[2, 8]);
    let other = other.with("layers.0.attention.to_q.lora_B.weight", &[8, 2]);
    other.fails("changes [8, 8], the model has [64, 64]");
    assert_eq!((other.report().ranks, other.report().matched), (vec![2], 0));
}

#[test]
fn layers_of_the_text_encoder_are_found_under_its_prefixes_alone() {
    for module in [
        "text_encoder.layers.0.self_attn.q_proj",
        "text_encoder.model.layers.0.self_attn.q_proj",
        "lora_te_layers_0_self_attn_q_proj",
        "lora_te1_model_layers_0_self_attn_q_proj",
        "text_encoders.qwen3_4b.transformer.model.layers.0.self_attn.q_proj",
    ] {
        let (_, text_encoder) = specs();
        let spec = text_encoder.iter().find(|spec| spec.name == "layers.0.self_attn.q_proj.weight").unwrap();
        let lora = Lora::default().with(&format!("{module}.lora_down.weight"), &[2, spec.shape[1]]);
        let adapter = lora.with(&format!("{module}.lora_up.weight"), &[spec.shape[0], 2]).open().unwrap();
        assert!(adapter.delta(Component::TextEncoder, "layers.0.self_attn.q_proj").is_some(), "{module}");
    }
    let problem =
        Lora::default().pair("base_model.model.model.layers.0.self_attn.q_proj", PEFT).fails("a language model");
    assert!(matches!(problem, LoraProblem::NothingMatches { .. }));
}

#[test]
fn alpha_is_divided_by_the_rank_and_missing_means_one() {
    let scale = |lora: Lora| only(&lora.open().unwrap()).scale;
    let q = "layers.0.attention.to_q";
    let peft = || Lora::default().pair(q, PEFT);
    let kohya = || Lora::default().pair("lora_unet_layers_0_attention_to_q", KOHYA);
    assert_eq!(scale(peft()), 1.0);
    assert_eq!(scale(kohya()), 1.0);
    assert_eq!(scale(kohya().number("lora_unet_layers_0_attention_to_q.alpha", 1.0)), 0.5);
    assert_eq!(scale(kohya().telling("ss_network_alpha", "4").telling("ss_network_dim", "16")), 0.25);
    assert_eq!(scale(kohya().telling("ss_network_alpha", "4").telling("ss_network_dim", "Dynamic")), 2.0);
    // What was renamed for PEFT has kohya's settings folded in.
    assert_eq!(scale(peft().telling("ss_network_alpha", "4").telling("ss_network_dim", "16")), 1.0);
    let settings = |text: &str| peft().telling("lora_adapter_metadata", text);
    assert_eq!(scale(settings(r#"{"transformer.r": 2, "transformer.lora_alpha": 3}"#)), 1.5);
    assert_eq!(scale(settings(r#"{"r": 2, "lora_alpha": 6}"#)), 3.0);
    assert_eq!(scale(settings(r#"{"text_encoder.lora_alpha": 3}"#)), 1.0);
    let pattern = r#"{"transformer.lora_alpha": 3, "transformer.alpha_pattern": {"attention.to_q": 8}}"#;
    assert_eq!(scale(settings(pattern)), 4.0);
    let rank_stabilized = r#"{"transformer.lora_alpha": 3, "transformer.use_rslora": true}"#;
    assert_eq!(scale(settings(rank_stabilized)), (3.0 / 2f64.sqrt()) as f32);
    for text in ["[]", "{", r#"{"lora_alpha": "x"}"#, r#"{"alpha_pattern": {"a.*b": 1}}"#] {
        settings(text).fails("of its header is not usable");
    }
}

#[test]
fn a_directory_of_peft_is_read_with_its_settings() {
    let folder = tempfile::tempdir().unwrap();
    Lora::default()
        .pair("base_model.model.layers.0.attention.to_q", PEFT)
        .write(&folder.path().join("adapter_model.safetensors"));
    std::fs::write(folder.path().join("adapter_config.json"), r#"{"r": 2, "lora_alpha": 8}"#).unwrap();
    let (transformer, text_encoder) = specs();
    let adapter = Adapter::open(folder.path(), &transformer, &text_encoder).unwrap();
    assert_eq!(only(&adapter).scale, 4.0);
    let empty = tempfile::tempdir().unwrap();
    assert!(Adapter::open(empty.path(), &transformer, &text_encoder).is_err());
}

#[test]
fn only_decomposed_kronecker_factors_are_scaled() {
    let lokr = |parts: &[(&str, [usize; 2])]| {
        let module = "lycoris_layers_0_attention_to_q";
        let start = Lora::default().number(&format!("{module}.alpha"), 6.0);
        let lora = parts.iter().fold(start, |lora, (part, shape)| lora.with(&format!("{module}.{part}"), shape));
        lora.open().unwrap()
    };
    let full = lokr(&[("lokr_w1", [8, 8]), ("lokr_w2", [8, 8])]);
    assert_eq!((only(&full).scale, full.report().alphas.len()), (1.0, 0));
    let second = lokr(&[("lokr_w1", [8, 8]), ("lokr_w2_a", [8, 2]), ("lokr_w2_b", [2, 8])]);
    assert_eq!(only(&second).scale, 3.0);
    let first = lokr(&[("lokr_w1_a", [8, 3]), ("lokr_w1_b", [3, 8]), ("lokr_w2", [8, 8])]);
    assert_eq!(only(&first).scale, 2.0);
    let both = lokr(&[("lokr_w1_a", [8, 3]), ("lokr_w1_b", [3, 8]), ("lokr_w2_a", [8, 2]), ("lokr_w2_b", [2, 8])]);
    assert_eq!(only(&both).scale, 3.0);
    assert!(matches!(&only(&both).product, Product::Kronecker { w2: Factor::Pair { .. }, .. }));
    assert_eq!(both.report().kinds, ["LoKr"]);
}

#[test]
fn a_first_kronecker_factor_larger_than_the_second_is_not_multiplied_out() {
    let part = |name: &str| format!("lycoris_layers_0_attention_to_q.{name}");
    let first = Lora::default().with(&part("lokr_w1_a"), &[64, 1]).with(&part("lokr_w1_b"), &[1, 64]);
    let problem = first.with(&part("lokr_w2"), &[1, 1]).fails("no larger than the second");
    assert!(matches!(problem, LoraProblem::Shape { found, .. } if found == [64, 64]));
}

#[test]
fn an_alpha_that_makes_the_scale_infinite_is_refused() {
    let lora = || Lora::default().pair("lora_unet_layers_0_attention_to_q", KOHYA);
    lora().telling("ss_network_alpha", "1e300").fails("beyond all numbers");
    lora().telling("ss_network_alpha", "1").telling("ss_network_dim", "1e-300").fails("beyond all numbers");
    lora().telling("lora_adapter_metadata", r#"{"lora_alpha": 1e39}"#).fails("beyond all numbers");
}

#[test]
fn a_hadamard_product_is_a_low_rank_pair_until_the_matrix_is_smaller() {
    let module = "lycoris_layers_0_attention_to_q";
    for (rank, pairs) in [(2, true), (6, false)] {
        let part = |name: &str| format!("{module}.hada_{name}");
        let lora = Lora::default().with(&part("w1_a"), &[64, rank]).with(&part("w1_b"), &[rank, 64]);
        let lora = lora.with(&part("w2_a"), &[64, rank]).with(&part("w2_b"), &[rank, 64]);
        let adapter = lora.open().unwrap();
        assert_eq!(matches!(only(&adapter).product, Product::LowRank { .. }), pairs);
        let mut found = vec![0.0; 64 * 64];
        adapter.add_to(Component::Transformer, "layers.0.attention.to_q", 1.0, 0..64, &mut found).unwrap();
        let product = |a: &str, b: &str, row: usize, col: usize| -> f32 {
            let (a, b) = (&lora.tensors[&part(a)].1, &lora.tensors[&part(b)].1);
            (0..rank).map(|k| a[row * rank + k] * b[k * 64 + col]).sum()
        };
        for (at, found) in found.iter().enumerate() {
            let (row, col) = (at / 64, at % 64);
            let expected = product("w1_a", "w1_b", row, col) * product("w2_a", "w2_b", row, col);
            assert!((found - expected).abs() < 1e-5, "{rank} {at}: {found} and not {expected}");
        }
    }
}

#[test]
fn convolutions_of_one_pixel_and_whole_differences_are_matrices() {
    let module = "lora_unet_layers_0_attention_to_q";
    let conv = Lora::default().with(&format!("{module}.lora_down.weight"), &[2, 64, 1, 1]);
    let conv = conv.with(&format!("{module}.lora_up.weight"), &[64, 2, 1, 1]).open().unwrap();
    assert_eq!(only(&conv).rank(), Some(2));
    let difference = Lora::default().with("diffusion_model.layers.0.attention.to_q.diff", &[64, 64]);
    let adapter = difference.open().unwrap();
    let mut rows = vec![0.0; 64];
    adapter.add_to(Component::Transformer, "layers.0.attention.to_q", 1.0, 3..4, &mut rows).unwrap();
    assert_eq!(rows, difference.tensors["diffusion_model.layers.0.attention.to_q.diff"].1[3 * 64..4 * 64]);
}

#[test]
fn magnitudes_are_of_rows_or_of_columns_by_their_shape() {
    let dora = |name: &str, shape: &[usize]| {
        Lora::default().pair("layers.0.attention.to_q", PEFT).with(&format!("layers.0.attention.to_q.{name}"), shape)
    };
    let rows = |lora: Lora| matches!(only(&lora.open().unwrap()).magnitude, Some(Magnitude::Rows(_)));
    assert!(rows(dora("lora_magnitude_vector", &[64])));
    assert!(rows(dora("lora_magnitude_vector.default.weight", &[64])));
    assert!(rows(dora("dora_scale", &[64, 1])));
    assert!(rows(dora("dora_scale", &[64, 1, 1, 1])));
    assert!(!rows(dora("dora_scale", &[1, 64])));
    dora("dora_scale", &[32]).fails("dora_scale has the shape [32]");
    let module = "lora_unet_layers_0_attention_qkv";
    let fused = Lora::default().with(&format!("{module}.lora_down.weight"), &[2, 64]);
    let fused =
        fused.with(&format!("{module}.lora_up.weight"), &[192, 2]).with(&format!("{module}.dora_scale"), &[1, 64]);
    fused.fails("a DoRA over the columns of queries, keys and values together");
}

#[test]
fn what_cannot_be_applied_is_refused_by_name() {
    let q = "layers.0.attention.to_q";
    let pair = || Lora::default().pair(q, PEFT);
    for (part, shape, words) in [
        ("diff_b", vec![64], "a change of a bias"),
        ("lora_B.bias", vec![64], "a change of a bias"),
        ("lora_mid.weight", vec![2, 2], "Tucker"),
        ("lokr_t2", vec![2, 2, 3, 3], "Tucker"),
        ("set_weight", vec![64, 64], "replaces"),
        ("oft_blocks", vec![4, 4], "orthogonal"),
        ("lokr_w1", vec![8, 8], "a second kind of adapter"),
    ] {
        pair().with(&format!("{q}.{part}"), &shape).fails(words);
    }
    pair().with("diffusion_model.layers.0.attention_norm1.diff", &[64]).fails("no linear layer");
    pair().pair(q, KOHYA).fails("are the same part of one module");
    Lora::default().with(&format!("{q}.lora_A.weight"), &[2, 64]).fails("no lora_B or lora_up");
    Lora::default().number(&format!("{q}.alpha"), 1.0).fails("no weights of its own");
}

#[test]
fn damaged_tensors_are_named() {
    let (a, b) = ("layers.0.attention.to_q.lora_A.weight", "layers.0.attention.to_q.lora_B.weight");
    let with = |down: &[usize], up: &[usize]| Lora::default().with(a, down).with(b, up);
    with(&[0, 64], &[64, 0]).fails("lora_A.weight has the shape [0, 64], expected a rank above 0");
    with(&[2, 64], &[64, 3]).fails("lora_B.weight has the shape [64, 3], expected 2 columns");
    with(&[2, 64, 3, 3], &[64, 2]).fails("a convolution of one pixel");
    with(&[64], &[64, 2]).fails("expected a matrix");
    with(&[1 << 20, 0], &[64, 1 << 20]).fails("changes [64, 0]");
    let mut damaged = with(&[2, 64], &[64, 2]);
    damaged.tensors.get_mut(b).unwrap().1[37] = f32::NAN;
    damaged.fails("lora_B.weight has a value that is not finite, at index 37");
    with(&[2, 64], &[64, 2]).with("layers.0.attention.to_q.alpha", &[2]).fails("expected one number");
}

#[test]
fn the_header_tells_how_to_use_it() {
    let lora = Lora::default().pair("layers.0.attention.to_q", PEFT);
    let lora = lora.telling("trigger_words", "moonlit, night").telling("activation_text", "moonlit");
    let lora = lora.telling("preferred_weight", "0.8").telling("modelspec.architecture", "z-image/lora");
    let lora = lora.telling("ss_tag_frequency", r#"{"10_x": {"cat": 3, "night": 9}, "5_y": {"cat": 7}}"#);
    let notes = lora.open().unwrap().report().notes.clone();
    assert_eq!(notes.trigger_words, ["moonlit", "night"]);
    assert_eq!(notes.frequent_tags, ["cat", "night"]);
    assert_eq!((notes.recommended_weight, notes.base_model), (Some(0.8), vec!["z-image/lora".to_owned()]));
    let listed = Lora::default().pair("layers.0.attention.to_q", PEFT).telling("trigger_word", r#"["a b", "c"]"#);
    let listed = listed.telling("strength", "much").telling("ss_tag_frequency", "[]");
    let notes = listed.open().unwrap().report().notes.clone();
    assert_eq!(notes.trigger_words, ["a b", "c"]);
    assert_eq!((notes.recommended_weight, notes.frequent_tags.len()), (None, 0));
}

#[test]
fn targets_are_counted_by_sort() {
    let lora = Lora::default().pair("layers.0.attention.to_q", PEFT).pair("layers.1.attention.to_q", PEFT);
    let report = lora.pair("noise_refiner.0.attention.to_k", PEFT).open().unwrap().report().clone();
    let targets: Vec<(&str, usize)> = report.targets.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    assert_eq!(targets, [("attention.to_q", 2), ("noise_refiner.attention.to_k", 1)]);
    assert_eq!((report.matched, &report.ranks[..]), (3, &[2][..]));
}

#[test]
fn damaged_files_never_panic() {
    let golden = |name: &str| {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/lora").join(format!("{name}.safetensors"))
    };
    let (transformer, text_encoder) = specs();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let mut state = 7u64;
    for name in ["diffusers", "dora-columns", "loha", "lokr", "lokr-both", "fused-kohya"] {
        let bytes = std::fs::read(golden(name)).unwrap();
        let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        for _ in 0..50 {
            let mut damaged = bytes.clone();
            for _ in 0..2 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = 8 + (state >> 33) as usize % (header - 8);
                // Digits become digits, and letters letters, so that the header mostly still parses.
                damaged[at] = match damaged[at] {
                    digit @ b'0'..=b'9' => b'0' + (digit - b'0' + 1 + (state >> 20) as u8 % 9) % 10,
                    letter @ b'a'..=b'z' => b'a' + (letter - b'a' + 1) % 26,
                    other => other,
                };
            }
            std::fs::write(&path, &damaged).unwrap();
            let _ = Adapter::open(&path, &transformer, &text_encoder);
        }
    }
}
