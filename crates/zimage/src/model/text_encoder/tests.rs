use super::TextEncoder;
use crate::goldens::tolerances::STAGE;
use crate::goldens::{Golden, MODELS, assert_close, checkpoint, devices, with_parameters};
use crate::model::Residency;
use zimage_weights::Component;

fn with_text_encoder(test: impl Fn(&Golden, &TextEncoder)) {
    for model in MODELS {
        let golden = Golden::open(&format!("text_encoder/{model}.safetensors"));
        for device in devices() {
            with_parameters(model, Component::TextEncoder, &device, |p| {
                test(
                    &golden,
                    &TextEncoder::load(checkpoint(model).text_encoder_config(), p, Residency::MAPPED)
                        .expect("it loads"),
                );
            });
        }
    }
}

#[test]
fn hidden_states_agree_with_transformers() {
    with_text_encoder(|golden, encoder| {
        for case in ["empty", "short", "accents", "random"] {
            let hidden = encoder.forward(&golden.ids(&format!("{case}.ids"))).expect("finite");
            assert_close(case, &golden.values(&format!("{case}.hidden")), &hidden.to_vec(), STAGE);
        }
    });
}

#[test]
fn a_truncated_prompt_agrees_with_transformers() {
    with_text_encoder(|golden, encoder| {
        let hidden = encoder.forward(&golden.ids("long.ids")).expect("finite").to_vec();
        let first = golden.values("long.hidden_first_8");
        let last = golden.values("long.hidden_last_24");
        assert_close("first rows", &first, &hidden[..first.len()], STAGE);
        assert_close("last rows", &last, &hidden[hidden.len() - last.len()..], STAGE);
    });
}
