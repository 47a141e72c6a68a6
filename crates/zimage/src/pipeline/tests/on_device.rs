//! Pictures on a device with memory of its own: a GPU, or CUDA's backend with its kernels run by the CPU.

use super::arithmetic::{PROMPTS, correlation, latents};
use crate::goldens::assert_close;
use crate::model::Residency;
use crate::pipeline::plan::{Budget, Plan, Strategy};
use crate::pipeline::{Latents, Pipeline};
use crate::{Compute, ComputeChoice, Device, GenerateRequest};

/// More than the demo model takes.
const PLENTY: Budget = Budget::Cap(1 << 40);

fn demo(device: Device, compute: Compute) -> Pipeline {
    let mut pipeline = Pipeline::demo(device).expect("it opens");
    pipeline.set_compute(ComputeChoice::Always(compute)).expect("the device computes so");
    pipeline
}

/// A GPU if this machine has one, else an emulated one.
fn gpu() -> Device {
    Device::cuda(0).unwrap_or_else(|_| emulated_with(1 << 36))
}

fn emulated_with(memory_bytes: u64) -> Device {
    Device::emulated_cuda(memory_bytes).expect("a C++ compiler")
}

fn plan(pipeline: &Pipeline, request: &GenerateRequest) -> Plan {
    pipeline.plan(request, PLENTY).expect("it fits")
}

/// A small picture: every value of it is computed by threads that take turns.
fn small(prompt: &str) -> GenerateRequest {
    GenerateRequest::text_to_image(prompt, 64, 64, 4, 7).expect("valid")
}

fn generate(pipeline: &Pipeline, request: &GenerateRequest) -> Latents {
    latents(pipeline, request, plan(pipeline, request).strategy)
}

#[test]
fn pictures_in_f32_are_those_of_the_cpu() {
    let [cpu, cuda] = [Device::cpu(2).expect("two threads"), gpu()].map(|device| demo(device, Compute::Exact));
    let request = small(PROMPTS[0]);
    let [expected, found] = [&cpu, &cuda].map(|pipeline| generate(pipeline, &request));
    assert_close("latents on a device", &expected.data, &found.data, 1e-3);
    let [expected, found] =
        [&cpu, &cuda].map(|pipeline| pipeline.decode(&expected, Strategy::WHOLE).expect("a picture"));
    let worst = expected.pixels().iter().zip(found.pixels()).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(worst <= Some(1), "a pixel is off by {worst:?}");
}

#[test]
fn pictures_in_fewer_bits_are_those_of_f32_to_the_eye() {
    let cpu = demo(Device::cpu(2).expect("two threads"), Compute::Exact);
    let request = small(PROMPTS[1]);
    let expected = cpu.generate(&request).expect("a picture").image;
    for compute in [Compute::Bf16, Compute::F16, Compute::Fp8, Compute::Int8] {
        let found = demo(gpu(), compute).generate(&request).expect("a picture").image;
        let same = correlation(expected.pixels(), found.pixels());
        assert!(same > 0.98, "{compute:?}: correlation {same}");
    }
}

#[test]
fn bits_do_not_depend_on_where_weights_are() {
    let request = small(PROMPTS[0]);
    for compute in [Compute::Bf16, Compute::Fp8] {
        let pipeline = demo(gpu(), compute);
        let whole = plan(&pipeline, &request).strategy;
        assert!(whole.transformer.prepared_once, "there is room for all of it");
        let expected = latents(&pipeline, &request, whole);
        for prepared_blocks in [0, 2] {
            let residency = Residency { prepared_blocks, ..Residency::MAPPED };
            let strategy = Strategy { text_encoder: residency, transformer: residency, ..whole };
            assert_eq!(latents(&pipeline, &request, strategy), expected, "{compute:?} {residency:?}");
        }
    }
}

#[test]
fn what_is_kept_is_used_again() {
    let pipeline = demo(gpu(), Compute::Bf16);
    let request = small(PROMPTS[0]);
    let keep = plan(&pipeline, &request).strategy_before_others(PLENTY);
    assert!(keep.keep_transformer && keep.keep_rest);
    let draw = || {
        let latents = latents(&pipeline, &request, keep);
        let image = pipeline.decode(&latents, keep).expect("a picture");
        (latents, image, pipeline.device().memory().live_bytes)
    };
    let first = draw();
    assert!(first.2 > 0, "the weights are there");
    assert_eq!(draw(), first);
}

#[test]
fn the_plan_is_what_the_device_then_holds() {
    for compute in [Compute::Exact, Compute::Bf16, Compute::Fp8] {
        let pipeline = demo(gpu(), compute);
        let request = small(PROMPTS[0]);
        let plan = plan(&pipeline, &request);
        let keep = plan.strategy_before_others(PLENTY);
        let latents = latents(&pipeline, &request, keep);
        pipeline.decode(&latents, keep).expect("a picture");
        let weights: u64 = plan.phases.iter().map(|phase| phase.weights_bytes).sum();
        let held = pipeline.device().held_bytes() as f64;
        let error = (weights as f64 - held) / held;
        assert!(error.abs() < 0.1, "{compute:?}: weights of {weights} bytes were planned, {held} are held");
    }
}

#[test]
fn a_picture_fits_into_the_memory_that_its_plan_was_given() {
    // What the library of products would take; here there is none.
    const LIBRARY: u64 = 64 << 20;
    for compute in [Compute::Bf16, Compute::Int8] {
        let request = small(PROMPTS[0]);
        let whole = plan(&demo(emulated_with(1 << 36), compute), &request);
        let weights = whole.phases.iter().map(|phase| phase.weights_bytes).max().expect("phases");
        let budget = whole.peak().peak_bytes() - weights / 3;
        // A plan is right within a tenth.
        let pipeline = demo(emulated_with((budget - LIBRARY) * 11 / 10), compute);
        let short = pipeline.plan(&request, Budget::Cap(budget)).expect("a part of the weights can be streamed");
        assert!(short.strategy.transformer.prepared_blocks < whole.strategy.transformer.prepared_blocks);
        let latents = latents(&pipeline, &request, short.strategy);
        pipeline.decode(&latents, short.strategy).expect("a picture");
    }
}

#[test]
fn a_device_without_memory_says_so_and_can_be_used_again() {
    let pipeline = demo(emulated_with(1 << 22), Compute::Bf16);
    let error = pipeline.generate(&small(PROMPTS[0])).expect_err("4 MiB are not enough");
    assert!(error.to_string().contains("has not enough memory"), "{error}");
    let memory = pipeline.device().memory();
    assert_eq!(memory.live_bytes, 0, "nothing is left behind: {memory:?}");
    let x = zimage_tensor::Tensor::from_vec(pipeline.device(), &[3], vec![1.0, 2.0, 3.0]).expect("three values");
    assert_eq!(x.to_vec(), [1.0, 2.0, 3.0]);
    pipeline.device().check().expect("it works again");
}
