//! On the emulated device, with the smallest model.

use crate::goldens::path;
use crate::pipeline::cache::StepCache;
use crate::pipeline::denoise::{Denoise, step_together};
use crate::pipeline::plan::{Budget, Strategy};
use crate::pipeline::request::{GenerateOptions, GenerateRequest};
use crate::pipeline::{ComputeChoice, Pipeline};
use crate::{Compute, Device, Error, Lora};
use std::sync::Arc;

fn pipeline(compute: Compute) -> Pipeline {
    let device = Device::emulated_cuda(1 << 36).expect("a C++ compiler");
    let mut pipeline = Pipeline::load(&path("models/tiny-a"), device).expect("the tiny models open");
    pipeline.set_compute(ComputeChoice::Always(compute)).expect("the device computes so");
    pipeline
}

fn request(steps: usize, cache: StepCache, guidance: f64, cfg_truncation: f64) -> GenerateRequest {
    let plain = GenerateRequest::text_to_image("a cat", 32, 32, steps, 7).expect("valid");
    let negative_prompt = "a very long description of what is not wanted".into();
    let options = GenerateOptions { cache, guidance, cfg_truncation, negative_prompt, ..(*plain).clone() };
    GenerateRequest::new(options).expect("valid")
}

fn plain(steps: usize) -> GenerateRequest {
    request(steps, StepCache::None, 0.0, 1.0)
}

fn start(pipeline: &Pipeline, request: &GenerateRequest, other: Option<&Denoise>) -> Denoise {
    let strategy = pipeline.plan(request, Budget::Cap(1 << 40)).expect("it fits").strategy;
    let prompts = pipeline.encode(std::slice::from_ref(request), strategy).expect("it is encoded").remove(0);
    let denoise = match other {
        None => pipeline.denoise(request, &prompts, strategy),
        Some(other) => pipeline.denoise_beside(other, request, &prompts, strategy),
    };
    denoise.expect("it starts")
}

fn bits(denoise: &Denoise) -> Vec<u32> {
    denoise.latents.data.iter().map(|value| value.to_bits()).collect()
}

/// Takes all steps; the bits after each, and which of them were repeated.
fn run(denoise: &mut Denoise) -> (Vec<Vec<u32>>, String) {
    let (mut all, mut repeated) = (Vec::new(), String::new());
    while let Some(step) = denoise.next() {
        step.expect("finite");
        all.push(bits(denoise));
        repeated.push(if denoise.repeats.recorded.is_some() { 'r' } else { '.' });
    }
    denoise.device.check().expect("nothing went wrong");
    (all, repeated)
}

fn without_recording(mut denoise: Denoise) -> Denoise {
    denoise.repeats.refused = true;
    denoise
}

#[test]
fn repeated_steps_give_the_bits_that_they_have_when_they_are_taken_anew() {
    let bf16 = pipeline(Compute::Bf16);
    let check = |pipeline: &Pipeline, request: &GenerateRequest, expected: &str| {
        let (all, repeated) = run(&mut start(pipeline, request, None));
        assert_eq!(repeated, expected);
        let (anew, repeated) = run(&mut without_recording(start(pipeline, request, None)));
        assert_eq!(repeated, expected.replace('r', "."));
        assert!(all == anew, "{expected}");
    };
    check(&bf16, &plain(5), ".rrrr");
    check(&bf16, &plain(3), "...");
    check(&pipeline(Compute::Int8), &plain(4), ".rrr");
    // Some steps keep what the main layers add, or have it from an earlier one.
    check(&bf16, &request(11, StepCache::Slow, 0.0, 1.0), ".rrr.......");
    // Guidance ends on the way: the steps after that have a lane less.
    check(&bf16, &request(9, StepCache::None, 2.0, 0.2), ".rrr.rrrr");
    let mut adapted = pipeline(Compute::Bf16);
    let open = |file| adapted.open_lora(&path(&format!("lora/{file}.safetensors"))).expect("it opens");
    let loras = ["dora", "dora-columns", "lokr"].map(|file| Lora { adapter: Arc::new(open(file)), weight: 0.5 });
    adapted.set_loras(loras.into()).expect("finite weights");
    check(&adapted, &plain(4), ".rrr");
}

#[test]
fn a_repeated_step_names_the_layer_that_gave_no_number() {
    let pipeline = pipeline(Compute::Bf16);
    let error = |mut denoise: Denoise| {
        for _ in 0..3 {
            denoise.next().expect("a step").expect("finite");
        }
        let is_recorded = denoise.repeats.recorded.is_some();
        denoise.latents.data[3] = f32::NAN;
        let error = denoise.next().expect("a step").expect_err("no number");
        assert!(denoise.is_over());
        let Error::NonFinite { stage, layer, index } = error else { panic!("{error}") };
        (is_recorded, (stage, layer, index))
    };
    let (recorded, found) = error(start(&pipeline, &plain(6), None));
    let (anew, expected) = error(without_recording(start(&pipeline, &plain(6), None)));
    assert_eq!((recorded, anew), (true, false));
    assert_eq!(found, expected);
    assert_eq!(found.1, "noise_refiner.0");
}

#[test]
fn loops_that_come_and_go_end_a_recording_and_let_another_begin() {
    let pipeline = pipeline(Compute::Bf16);
    let expected = run(&mut without_recording(start(&pipeline, &plain(9), None))).0;
    let mut denoise = start(&pipeline, &plain(9), None);
    denoise.by_ref().take(3).for_each(|step| drop(step.expect("finite")));
    assert!(denoise.repeats.recorded.is_some());
    let mut other = start(&pipeline, &plain(2), Some(&denoise));
    for _ in 0..2 {
        let steps = step_together(&mut [&mut denoise, &mut other]);
        steps.into_iter().flatten().for_each(|step| drop(step.expect("finite")));
        assert!(denoise.repeats.recorded.is_none());
    }
    // The one that is over does not count.
    for _ in 0..2 {
        step_together(&mut [&mut other, &mut denoise]).pop().flatten().expect("a step").expect("finite");
    }
    assert!(denoise.repeats.recorded.is_some());
    run(&mut denoise);
    assert_eq!(Some(&bits(&denoise)), expected.last());
}

#[test]
fn a_recording_takes_no_more_memory_than_the_steps_before_it_and_gives_it_back() {
    let pipeline = pipeline(Compute::Bf16);
    let held = |mut denoise: Denoise| {
        let device = denoise.device.clone();
        let mut most = 0;
        for step in denoise.by_ref() {
            step.expect("finite");
            most = most.max(device.held_bytes());
        }
        drop(denoise);
        assert_eq!(device.held_bytes(), 0, "the model is gone, and all else");
        most
    };
    let anew = held(without_recording(start(&pipeline, &plain(5), None)));
    let recorded = held(start(&pipeline, &plain(5), None));
    // Inputs, and what is read of the result.
    assert!(recorded < anew + anew / 50, "{recorded} bytes in place of {anew}");
}

#[test]
fn a_recording_is_given_up_when_something_else_is_done_between_steps() {
    let pipeline = pipeline(Compute::Bf16);
    let expected = run(&mut without_recording(start(&pipeline, &plain(9), None))).0;
    let mut denoise = start(&pipeline, &plain(9), None);
    denoise.by_ref().take(3).for_each(|step| drop(step.expect("finite")));
    let recorded = denoise.device.held_bytes();
    drop(denoise.device.between_loops());
    assert!(denoise.device.held_bytes() < recorded, "its memory went back");
    assert_eq!(run(&mut denoise).1, ".rrrrr", "a step is taken anew, and the next ones are recorded");
    assert_eq!(Some(&bits(&denoise)), expected.last());
}

#[test]
fn weights_that_come_and_go_are_not_recorded() {
    let pipeline = pipeline(Compute::Bf16);
    let request = plain(4);
    let prompts = pipeline.encode(std::slice::from_ref(&request), Strategy::WHOLE).expect("it is encoded").remove(0);
    let mut denoise = pipeline.denoise(&request, &prompts, Strategy::WHOLE).expect("it starts");
    assert_eq!(run(&mut denoise).1, "....");
}
