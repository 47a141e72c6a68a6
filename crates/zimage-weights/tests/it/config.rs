//! Configs that are right, and every way in which one can be wrong.

use serde_json::{Value, json};
use zimage_weights::random::RandomCheckpoint;
use zimage_weights::{Error, TextEncoderConfig, TransformerConfig, VaeConfig};

/// The config with one key changed, or removed where the value is null.
fn with(mut config: Value, key: &str, value: Value) -> Value {
    let map = config.as_object_mut().expect("a config is an object");
    if value.is_null() {
        map.remove(key);
    } else {
        map.insert(key.to_owned(), value);
    }
    config
}

fn check<T: std::fmt::Debug>(parsed: Result<T, Error>, expected: &str) {
    assert_eq!(parsed.expect_err(expected).to_string(), expected);
}

fn transformer(key: &str, value: Value) -> Result<TransformerConfig, Error> {
    TransformerConfig::from_json(&with(RandomCheckpoint::turbo(0).transformer.to_json(), key, value))
}

fn text_encoder(key: &str, value: Value) -> Result<TextEncoderConfig, Error> {
    TextEncoderConfig::from_json(&with(RandomCheckpoint::turbo(0).text_encoder.to_json(), key, value))
}

fn vae(key: &str, value: Value) -> Result<VaeConfig, Error> {
    VaeConfig::from_json(&with(RandomCheckpoint::turbo(0).vae.to_json(), key, value))
}

#[test]
fn configs_survive_being_written_and_read() {
    for plan in [RandomCheckpoint::turbo(0), RandomCheckpoint::tiny(300, 0)] {
        assert_eq!(TransformerConfig::from_json(&plan.transformer.to_json()).expect("valid"), plan.transformer);
        assert_eq!(TextEncoderConfig::from_json(&plan.text_encoder.to_json()).expect("valid"), plan.text_encoder);
        assert_eq!(VaeConfig::from_json(&plan.vae.to_json()).expect("valid"), plan.vae);
    }
}

#[test]
fn the_published_configs_are_read() {
    let plan = RandomCheckpoint::turbo(0);
    // The base model writes `siglip_feat_dim: null`; the Turbo model does not mention it.
    let base = json!({
        "_class_name": "ZImageTransformer2DModel", "_diffusers_version": "0.37.0.dev0", "all_f_patch_size": [1],
        "all_patch_size": [2], "axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512], "cap_feat_dim": 2560,
        "dim": 3840, "in_channels": 16, "n_heads": 30, "n_kv_heads": 30, "n_layers": 30, "n_refiner_layers": 2,
        "norm_eps": 1e-05, "qk_norm": true, "rope_theta": 256.0, "siglip_feat_dim": null, "t_scale": 1000.0,
    });
    assert_eq!(TransformerConfig::from_json(&base).expect("valid"), plan.transformer);
    // transformers 5 moves rope_theta and lists the layer types.
    let five = json!({
        "architectures": ["Qwen3Model"], "attention_bias": false, "attention_dropout": 0.0, "dtype": "bfloat16",
        "head_dim": 128, "hidden_act": "silu", "hidden_size": 2560, "intermediate_size": 9728,
        "layer_types": vec!["full_attention"; 36], "max_position_embeddings": 40960, "max_window_layers": 36,
        "model_type": "qwen3", "num_attention_heads": 32, "num_hidden_layers": 36, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-06, "rope_parameters": {"rope_theta": 1000000, "rope_type": "default"},
        "sliding_window": null, "tie_word_embeddings": true, "use_sliding_window": false, "vocab_size": 151936,
    });
    assert_eq!(TextEncoderConfig::from_json(&five).expect("valid"), plan.text_encoder);
    assert_eq!(plan.vae.downscale(), 8);
    assert_eq!(plan.transformer.ffn_hidden(), 10240);
}

#[test]
fn transformers_that_this_program_cannot_run_are_refused() {
    check(TransformerConfig::from_json(&json!([1])), "transformer/config.json: the config is [1], expected an object");
    check(transformer("dim", json!(null)), "transformer/config.json: dim is missing");
    check(
        transformer("dim", json!("3840")),
        "transformer/config.json: dim is \"3840\", expected a whole number from 1 to 1048576",
    );
    check(
        transformer("n_layers", json!(-1)),
        "transformer/config.json: n_layers is -1, expected a whole number from 1 to 1048576",
    );
    check(transformer("n_layers", json!(5000)), "transformer/config.json: n_layers is 5000, expected at most 1024");
    check(
        transformer("all_patch_size", json!([2, 4])),
        "transformer/config.json: all_patch_size is [2,4], expected [2]",
    );
    check(
        transformer("all_f_patch_size", json!([2])),
        "transformer/config.json: all_f_patch_size is [2], expected [1]",
    );
    check(transformer("qk_norm", json!(false)), "transformer/config.json: qk_norm is false, expected true");
    check(transformer("n_kv_heads", json!(10)), "transformer/config.json: n_kv_heads is 10, expected 30");
    check(
        transformer("siglip_feat_dim", json!(1152)),
        "transformer/config.json: siglip_feat_dim is 1152, expected nothing: this program has no such part",
    );
    check(transformer("dim", json!(3841)), "transformer/config.json: dim is 3841, expected a multiple of n_heads, 30");
    check(
        transformer("axes_dims", json!([32, 48, 46])),
        "transformer/config.json: axes_dims is [32,48,46], expected a sum of 128, which is dim / n_heads",
    );
    check(
        transformer("axes_dims", json!([31, 49, 48])),
        "transformer/config.json: axes_dims is [31,49,48], expected even numbers",
    );
    check(
        transformer("axes_lens", json!([1536, 512])),
        "transformer/config.json: axes_lens is [1536,512], expected three numbers: time, height, width",
    );
    check(transformer("norm_eps", json!(0)), "transformer/config.json: norm_eps is 0, expected a number above 0");
    check(
        transformer("_class_name", json!("FluxTransformer2DModel")),
        "transformer/config.json: _class_name is \"FluxTransformer2DModel\", expected \"ZImageTransformer2DModel\"",
    );
}

#[test]
fn text_encoders_that_this_program_cannot_run_are_refused() {
    let file = "text_encoder/config.json";
    let yarn = json!({"rope_type": "yarn", "factor": 4.0});
    check(
        text_encoder("rope_scaling", yarn),
        &format!(
            "{file}: rope_scaling is {{\"factor\":4.0,\"rope_type\":\"yarn\"}}, \
             expected rope_type default: positions are not scaled"
        ),
    );
    check(text_encoder("attention_bias", json!(true)), &format!("{file}: attention_bias is true, expected false"));
    check(text_encoder("hidden_act", json!("gelu")), &format!("{file}: hidden_act is \"gelu\", expected \"silu\""));
    check(text_encoder("model_type", json!("qwen2")), &format!("{file}: model_type is \"qwen2\", expected \"qwen3\""));
    check(text_encoder("head_dim", json!(null)), &format!("{file}: head_dim is missing"));
    check(text_encoder("head_dim", json!(127)), &format!("{file}: head_dim is 127, expected an even number"));
    check(text_encoder("rope_theta", json!(null)), &format!("{file}: rope_theta is missing"));
    check(
        text_encoder("num_key_value_heads", json!(5)),
        &format!("{file}: num_attention_heads is 32, expected a multiple of num_key_value_heads, 5"),
    );
    check(
        text_encoder("use_sliding_window", json!(true)),
        &format!("{file}: use_sliding_window is true, expected false"),
    );
    check(
        text_encoder("layer_types", json!(["sliding_attention"])),
        &format!("{file}: layer_types is [\"sliding_attention\"], expected full_attention in every layer"),
    );
}

#[test]
fn vaes_that_this_program_cannot_run_are_refused() {
    let file = "vae/config.json";
    check(vae("use_quant_conv", json!(true)), &format!("{file}: use_quant_conv is true, expected false"));
    check(vae("use_post_quant_conv", json!(null)), &format!("{file}: use_post_quant_conv is missing"));
    check(vae("act_fn", json!("relu")), &format!("{file}: act_fn is \"relu\", expected \"silu\""));
    check(vae("in_channels", json!(4)), &format!("{file}: in_channels is 4, expected 3"));
    check(vae("shift_factor", json!(null)), &format!("{file}: shift_factor is missing"));
    check(
        vae("mid_block_add_attention", json!(false)),
        &format!("{file}: mid_block_add_attention is false, expected true"),
    );
    check(
        vae("norm_num_groups", json!(48)),
        &format!("{file}: block_out_channels is [128,256,512,512], expected multiples of norm_num_groups, 48"),
    );
    check(vae("block_out_channels", json!([])), &format!("{file}: block_out_channels is [], expected 1 to 8 levels"));
    check(
        vae("down_block_types", json!(["DownEncoderBlock2D"])),
        &format!(
            "{file}: down_block_types is [\"DownEncoderBlock2D\"], expected [\"DownEncoderBlock2D\",\
             \"DownEncoderBlock2D\",\"DownEncoderBlock2D\",\"DownEncoderBlock2D\"]"
        ),
    );
    check(
        vae("latents_mean", json!([0.0])),
        &format!("{file}: latents_mean is [0.0], expected nothing: this program has no such part"),
    );
}
