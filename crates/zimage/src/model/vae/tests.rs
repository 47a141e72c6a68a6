use super::tiling::Tiling;
use super::{Cut, VaeDecoder, VaeEncoder};
use crate::goldens::tolerances::STAGE;
use crate::goldens::{Golden, MODELS, assert_close, checkpoint, devices, with_parameters};
use crate::pipeline::rng::TorchGenerator;
use zimage_tensor::ops;
use zimage_weights::Component;

fn with_decoder(test: impl Fn(&str, &VaeDecoder, &zimage_tensor::Device)) {
    for model in MODELS {
        for device in devices() {
            with_parameters(model, Component::Vae, &device, |p| {
                test(model, &VaeDecoder::load(checkpoint(model).vae_config(), p).expect("it loads"), &device);
            });
        }
    }
}

fn with_encoder(test: impl Fn(&str, &VaeEncoder, &zimage_tensor::Device)) {
    for model in MODELS {
        for device in devices() {
            with_parameters(model, Component::Vae, &device, |p| {
                test(model, &VaeEncoder::load(checkpoint(model).vae_config(), p).expect("it loads"), &device);
            });
        }
    }
}

#[test]
fn the_decoder_agrees_with_diffusers() {
    with_decoder(|model, vae, device| {
        let golden = Golden::open(&format!("vae/{model}/decode.safetensors"));
        let image = vae.decoder.forward(&golden.tensor("z", device)).expect("finite");
        assert_close("vae decode", &golden.values("image"), &image.to_vec(), STAGE);
    });
}

#[test]
fn scale_and_shift_are_undone_before_decoding() {
    with_decoder(|model, vae, device| {
        let golden = Golden::open(&format!("vae/{model}/decode.safetensors"));
        let config = checkpoint(model).vae_config().clone();
        let (scale, shift) = (config.scaling_factor as f32, config.shift_factor as f32);
        let latents = golden.values("z").iter().map(|z| (z - shift) * scale).collect();
        let shape = &golden.shape("z")[1..];
        let latents = zimage_tensor::Tensor::from_vec(device, shape, latents).expect("the size fits");
        let image = vae.decode(&latents, Cut::Whole).expect("finite");
        assert_close("vae decode of latents", &golden.values("image"), &image.to_vec(), STAGE);
    });
}

#[test]
fn the_encoder_agrees_with_diffusers() {
    with_encoder(|model, vae, device| {
        let golden = Golden::open(&format!("vae/{model}/encode.safetensors"));
        let posterior = vae.encode(&golden.tensor("image", device), Cut::Whole).expect("finite");
        assert_close("mean", &golden.values("mean"), &posterior.mean, STAGE);
        assert_close("logvar", &golden.values("logvar"), &posterior.logvar, STAGE);
        let noise = TorchGenerator::new(42).randn(posterior.mean.len());
        assert_close("latents", &golden.values("latents"), &posterior.sample(&noise), STAGE);
    });
}

#[test]
fn tiles_are_cut_and_blended_as_diffusers_does() {
    with_decoder(|model, vae, device| {
        let golden = Golden::open(&format!("vae/{model}/tiled.safetensors"));
        let z = golden.tensor("z", device);
        let image = Tiling::new(4, 32).run(&z, |tile| vae.decoder.forward(tile)).expect("finite");
        assert_close("tiled decode", &golden.values("decoded"), &image.to_vec(), STAGE);
    });
    with_encoder(|model, vae, device| {
        let golden = Golden::open(&format!("vae/{model}/tiled.safetensors"));
        let image = golden.tensor("image", device);
        let moments = Tiling::new(32, 4).run(&image, |tile| vae.encoder.forward(tile)).expect("finite");
        let mean = ops::slice_rows(&moments, 0, 16).to_vec();
        assert_close("tiled encode", &golden.values("mean"), &mean, STAGE);
    });
}

#[test]
fn a_picture_of_one_tile_is_not_cut() {
    let tiling = Tiling::new(128, 1024);
    assert!(!tiling.applies(128, 128));
    assert!(tiling.applies(130, 128) && tiling.applies(128, 130));
}
