use super::block::{Block, ModulatedBlock};
use super::{Lane, MainLayers, Rope, Transformer, caption_positions, image_positions, padding};
use crate::Error;
use crate::goldens::tolerances::STAGE;
use crate::goldens::{Golden, MODELS, assert_close, checkpoint, devices, json, with_parameters};
use crate::model::Residency;
use zimage_tensor::{Device, Tensor, ops};
use zimage_weights::Component;

fn with_transformer(model: &str, test: impl Fn(&Transformer, &Device)) {
    for device in devices() {
        with_parameters(model, Component::Transformer, &device, |p| {
            test(
                &Transformer::load(checkpoint(model).transformer_config(), p, Residency::MAPPED).expect("it loads"),
                &device,
            );
        });
    }
}

/// Goldens keep the frame axis of `(channels, 1, height, width)`.
fn latents(golden: &Golden, device: &Device) -> Tensor {
    let shape = golden.shape("latents");
    golden.tensor("latents", device).reshape(&[shape[0], shape[2], shape[3]])
}

#[test]
fn a_modulated_block_agrees_with_diffusers() {
    for model in MODELS {
        let golden = Golden::open(&format!("block/{model}/modulated.safetensors"));
        for device in devices() {
            with_parameters(model, Component::Transformer, &device, |p| {
                let config = checkpoint(model).transformer_config().clone();
                let block = ModulatedBlock::load(&config, &p.below("layers.0")).expect("it loads");
                let rope = Rope { cos: golden.tensor("cos", &device), sin: golden.tensor("sin", &device) };
                let mut x = golden.tensor("x", &device);
                block.forward(&mut x, &rope, &block.modulation(&golden.tensor("adaln_input", &device)));
                assert_close("modulated block", &golden.values("output"), &x.to_vec(), STAGE);
            });
        }
    }
}

#[test]
fn a_plain_block_agrees_with_diffusers() {
    for model in MODELS {
        let golden = Golden::open(&format!("block/{model}/plain.safetensors"));
        for device in devices() {
            with_parameters(model, Component::Transformer, &device, |p| {
                let config = checkpoint(model).transformer_config().clone();
                let block = Block::load(&config, &p.below("context_refiner.0")).expect("it loads");
                let rope = Rope { cos: golden.tensor("cos", &device), sin: golden.tensor("sin", &device) };
                let mut x = golden.tensor("x", &device);
                block.forward(&mut x, &rope);
                assert_close("plain block", &golden.values("output"), &x.to_vec(), STAGE);
            });
        }
    }
}

#[test]
fn rotary_tables_agree_with_diffusers() {
    for model in MODELS {
        let golden = Golden::open(&format!("block/{model}/modulated.safetensors"));
        let grid = (0..25).map(|i| [33, i / 5, i % 5]);
        let positions: Vec<_> = grid.chain([[0; 3]; 2]).chain((1..=10).map(|t| [t, 0, 0])).collect();
        let rope = Rope::new(checkpoint(model).transformer_config(), &positions, &Device::reference()).expect("tables");
        assert_close("cos", &golden.values("cos"), &rope.cos.to_vec(), 1e-6);
        assert_close("sin", &golden.values("sin"), &rope.sin.to_vec(), 1e-6);
    }
}

#[test]
fn the_transformer_agrees_with_diffusers_on_both_sides_of_a_multiple_of_32() {
    let cases = json("transformer/cases.json");
    for case in cases["cases"].as_array().expect("a list of cases") {
        let name = case["name"].as_str().expect("a name");
        for model in MODELS {
            let golden = Golden::open(&format!("transformer/{model}/{name}.safetensors"));
            with_transformer(model, |transformer, device| {
                let latents = latents(&golden, device);
                let [_, height, width] = latents.shape()[..] else { panic!("latents") };
                let caption = transformer.caption(&golden.tensor("caption", device), height, width).expect("finite");
                let time = transformer.time_condition(golden.values("t")[0]).expect("finite");
                let output = transformer.forward_one(Lane::new(&latents, &caption, &time)).expect("finite").velocity;
                assert_close(&format!("{model} {name}"), &golden.values("output"), &output.to_vec(), STAGE);
            });
        }
    }
}

#[test]
fn the_stages_of_the_transformer_agree_with_diffusers() {
    for model in MODELS {
        let case = Golden::open(&format!("transformer/{model}/caption33-10x14.safetensors"));
        let trace = Golden::open(&format!("transformer/{model}/trace.safetensors"));
        with_transformer(model, |transformer, device| {
            let features = transformer.t_embedder.features(case.values("t")[0], device).expect("features");
            let temb = transformer.t_embedder.forward(&features);
            assert_close("t_embedder", &trace.values("t_embedder"), &temb.to_vec(), STAGE);
            let caption = transformer.caption(&case.tensor("caption", device), 10, 14).expect("finite");
            assert_close("context_refiner", &trace.values("context_refiner"), &caption.tokens.to_vec(), STAGE);

            let time = transformer.time_condition(case.values("t")[0]).expect("finite");
            let x = ops::linear(&ops::patchify(&latents(&case, device)), &transformer.x_embedder);
            let embedded = &trace.values("x_embedder")[..x.len()];
            assert_close("x_embedder", embedded, &x.to_vec(), STAGE);
            let mut x = ops::append_token(&x, &transformer.x_pad_token, padding(35));
            for (block, modulation) in transformer.noise_refiner.iter().zip(&time.noise_refiner) {
                block.forward(&mut x, &caption.image_rope, modulation);
            }
            assert_close("noise_refiner", &trace.values("noise_refiner"), &x.to_vec(), STAGE);
            let mut x = ops::concat_rows(&x, &caption.tokens);
            transformer.layers[0].forward(&mut x, &caption.rope, &time.layers[0]);
            assert_close("layer 0", &trace.values("layer_0"), &x.to_vec(), STAGE);
        });
    }
}

#[test]
fn what_the_main_layers_add_stands_in_for_them() {
    for model in MODELS {
        let case = Golden::open(&format!("transformer/{model}/caption33-10x14.safetensors"));
        with_transformer(model, |transformer, device| {
            let caption = transformer.caption(&case.tensor("caption", device), 10, 14).expect("finite");
            let time = transformer.time_condition(case.values("t")[0]).expect("finite");
            let latents = latents(&case, device);
            let plain =
                transformer.forward_one(Lane::new(&latents, &caption, &time)).expect("finite").velocity.into_vec();
            let lane = || Lane::new(&latents, &caption, &time);
            let kept = transformer.forward_one(lane().with(MainLayers::Keep)).expect("finite");
            assert_eq!(kept.velocity.into_vec(), plain, "{model}: keeping changes nothing");
            let residual = kept.residual.expect("it was to be kept");
            assert_eq!(residual.0.shape(), [35, transformer.config().dim], "the picture's tokens without padding");
            let reused = transformer.forward_one(lane().with(MainLayers::Reuse(&residual))).expect("finite");
            assert_close(&format!("{model} reused"), &plain, &reused.velocity.into_vec(), 1e-6);
        });
    }
}

#[test]
fn padding_starts_image_positions_after_the_padded_caption() {
    assert_eq!((padding(1), padding(31), padding(32), padding(33)), (31, 1, 0, 31));
    assert_eq!(caption_positions(3), [[1, 0, 0], [2, 0, 0], [3, 0, 0]]);
    let image = image_positions(64, 2, 3);
    assert_eq!((image.len(), image[0], image[5], image[6]), (32, [65, 0, 0], [65, 1, 2], [0, 0, 0]));
}

#[test]
fn positions_beyond_the_tables_are_refused() {
    with_transformer("tiny-b", |transformer, device| {
        let features = |tokens: usize| {
            let dim = checkpoint("tiny-b").transformer_config().cap_feat_dim;
            Tensor::from_vec(device, &[tokens, dim], vec![0.5; tokens * dim]).expect("the size fits")
        };
        assert!(transformer.caption(&features(992), 2, 2).is_ok());
        assert!(matches!(transformer.caption(&features(993), 2, 2), Err(Error::Request { .. })));
        assert!(matches!(transformer.caption(&features(1), 2, 1026), Err(Error::Request { .. })));
    });
}

#[test]
fn a_damaged_layer_is_named() {
    with_transformer("tiny-a", |transformer, device| {
        let dim = checkpoint("tiny-a").transformer_config().cap_feat_dim;
        let mut values = vec![0.5; 5 * dim];
        values[7] = f32::NAN;
        let features = Tensor::from_vec(device, &[5, dim], values).expect("the size fits");
        match transformer.caption(&features, 4, 4) {
            Err(Error::NonFinite { stage, layer, .. }) => {
                assert_eq!((stage, layer.as_str()), ("transformer", "context_refiner.0"));
            }
            _ => panic!("a value that is not a number went through"),
        }
    });
}
