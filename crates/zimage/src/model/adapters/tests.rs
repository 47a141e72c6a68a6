//! Adapters of every kind against diffusers, PEFT and LyCORIS.

use super::super::Parameters;
use super::super::transformer::{Lane, Transformer};
use super::{Adapters, Lora};
use crate::goldens::tolerances::STAGE;
use crate::goldens::{Golden, assert_close, checkpoint, devices, json, path};
use crate::model::Residency;
use std::sync::Arc;
use zimage_tensor::{Device, Format, Linear, Tensor, Weight, ops};
use zimage_weights::lora::Adapter;
use zimage_weights::{Checkpoint, Component};

const MODEL: &str = "tiny-a";

fn open(model: &Checkpoint, file: &str) -> Arc<Adapter> {
    let [transformer, text_encoder] =
        [Component::Transformer, Component::TextEncoder].map(|component| model.specs(component));
    Arc::new(Adapter::open(&path(&format!("lora/{file}")), &transformer, &text_encoder).expect("it opens"))
}

fn applied(model: &Checkpoint, files: &[(&str, f64)]) -> Adapters {
    let lora = |(file, weight): &(&str, f64)| Lora { adapter: open(model, file), weight: *weight };
    Adapters::default().replaced(files.iter().map(lora).collect()).expect("finite weights")
}

/// The transformer's output under adapters, for the inputs of the goldens.
fn output(model: &Checkpoint, device: &Device, adapters: &Adapters) -> Vec<f32> {
    let golden = Golden::open("lora/outputs.safetensors");
    let weights = model.weights(Component::Transformer).expect("the tiny models are complete");
    let parameters = Parameters::new(&weights, device).with_adapters(adapters);
    let transformer = Transformer::load(model.transformer_config(), &parameters, Residency::MAPPED).expect("it loads");
    let [_, _, height, width] = golden.shape("latents")[..] else { panic!("latents of the golden") };
    let caption = transformer.caption(&golden.tensor("caption", device), height, width).expect("it fits");
    let time = transformer.time_condition(golden.values("t")[0]).expect("a time");
    let latents = golden.tensor("latents", device).reshape(&[16, height, width]);
    transformer.forward_one(Lane::new(&latents, &caption, &time)).expect("finite").velocity.into_vec()
}

#[test]
fn every_naming_and_kind_agrees_with_the_reference() {
    let (model, golden) = (checkpoint(MODEL), Golden::open("lora/outputs.safetensors"));
    let listed = json("lora/cases.json");
    for case in listed["cases"].as_array().expect("a list of cases") {
        let name = case["name"].as_str().expect("a name");
        let loras: Vec<(&str, f64)> = case["loras"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|lora| (lora["file"].as_str().expect("a file"), lora["weight"].as_f64().expect("a number")))
            .collect();
        let adapters = applied(&model, &loras);
        for device in devices() {
            let found = output(&model, &device, &adapters);
            assert_close(&format!("{name} on {}", device.name()), &golden.values(name), &found, STAGE);
        }
    }
}

#[test]
fn weight_zero_leaves_every_bit_and_adapters_act_in_any_order() {
    let model = checkpoint(MODEL);
    let device = Device::cpu(2).expect("two threads");
    let run = |files: &[(&str, f64)]| output(&model, &device, &applied(&model, files));
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let (plain, zero) = (run(&[]), run(&[("diffusers.safetensors", 0.0), ("dora.safetensors", -0.0)]));
    assert_eq!(bits(&plain), bits(&zero));
    let one = run(&[("kohya.safetensors", 0.5), ("dora.safetensors", 0.7), ("lokr.safetensors", 0.3)]);
    let other = run(&[("lokr.safetensors", 0.3), ("kohya.safetensors", 0.5), ("dora.safetensors", 0.7)]);
    assert_close("another order", &one, &other, STAGE);
}

#[test]
fn outputs_do_not_depend_on_the_number_of_threads() {
    let model = checkpoint(MODEL);
    let files = [("kohya.safetensors", 0.5), ("dora-columns.safetensors", 0.7), ("lokr.safetensors", 0.3)];
    let outputs = [1, 2, 5].map(|threads| {
        let device = Device::cpu(threads).expect("a pool of threads");
        let output = output(&model, &device, &applied(&model, &files));
        output.iter().map(|value| value.to_bits()).collect::<Vec<_>>()
    });
    assert!(outputs.iter().all(|output| *output == outputs[0]));
}

/// A weight of the model, in f32.
fn base(model: &Checkpoint, name: &str) -> Vec<f32> {
    let weights = model.weights(Component::Transformer).expect("the tiny models are complete");
    let view = weights.tensor(&format!("{name}.weight")).expect("a layer of the model");
    view.decode()
}

#[test]
fn fused_weights_and_side_branches_compute_the_same() {
    let (model, device) = (checkpoint(MODEL), Device::cpu(2).expect("two threads"));
    let dense = |rows, cols, values: &[f32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Weight::rows_of(&device, Format::F32, rows, cols, bytes.into()).expect("bytes of the right size")
    };
    for file in ["diffusers", "fused-kohya", "dora", "dora-columns", "loha", "lokr", "lokr-both", "lokr-full"] {
        let adapters = applied(&model, &[(&format!("{file}.safetensors"), 0.7)]);
        let lora = adapters.loras().next().expect("one was given");
        for (component, name, delta) in lora.adapter.deltas() {
            let (rows, cols, mut fused) = (delta.rows(), delta.cols(), base(&model, name));
            let branched = Linear::new(dense(rows, cols, &fused), None);
            let branched = adapters.attach(&device, component, name, branched).expect("it fits");
            // In two parts where that is possible: only the lengths of columns need all rows at once.
            let cut = if file == "dora-columns" { 0 } else { rows / 3 };
            for part in [0..cut, cut..rows].into_iter().filter(|part| !part.is_empty()) {
                let values = &mut fused[part.start * cols..part.end * cols];
                assert!(lora.adapter.add_to(component, name, 0.7, part, values).expect("it can be added"));
            }
            let values = (0..7 * cols).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
            let x = Tensor::from_vec(&device, &[7, cols], values).expect("as many values");
            let expected = ops::linear(&x, &Linear::new(dense(rows, cols, &fused), None)).into_vec();
            assert_close(&format!("{file} {name}"), &expected, &ops::linear(&x, &branched).into_vec(), 1e-5);
        }
    }
}

#[test]
fn columns_with_magnitudes_cannot_be_fused_in_parts() {
    let model = checkpoint(MODEL);
    let adapter = open(&model, "dora-columns.safetensors");
    let (component, name, delta) = adapter.deltas().next().expect("it has deltas");
    let mut rows = vec![0.0; 3 * delta.cols()];
    let error = adapter.add_to(component, name, 1.0, 0..3, &mut rows).expect_err("its lengths need all rows");
    assert!(error.to_string().contains(name), "{error}");
}

#[test]
fn weights_that_are_no_numbers_are_refused() {
    let adapter = open(&checkpoint(MODEL), "kohya.safetensors");
    for weight in [f64::NAN, f64::INFINITY, 1e300] {
        let lora = Lora { adapter: adapter.clone(), weight };
        let error = Adapters::default().replaced(vec![lora]).err().expect("it is refused").to_string();
        assert!(error.contains("the LoRA kohya"), "{error}");
    }
}
