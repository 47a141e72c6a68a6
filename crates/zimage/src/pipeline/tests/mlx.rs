//! Whole runs by MLX, where this build has it: on a Mac's GPU, and elsewhere on the CPU (`cargo xtask mlx-linux`), where
//! the same operations are computed by other kernels.

use super::arithmetic::{PROMPTS, correlation, latents};
use super::{LATENTS, PIXEL, check_steps, json, path};
use crate::model::Residency;
use crate::pipeline::plan::{Budget, Strategy};
use crate::pipeline::{Pipeline, demo};
use crate::{Compute, ComputeChoice, Device, GenerateRequest};
use std::path::Path;
use zimage_weights::Checkpoint;
use zimage_weights::convert::{Conversion, Opened, Reach, Target, convert};

/// Latents after whole runs in bf16, relative to the largest value: 0.031 was measured, with guidance; 0.01 without.
const LATENTS_BF16: f32 = 0.06;

fn mlx() -> Option<Device> {
    let mlx = Device::mlx();
    if let Err(error) = &mlx {
        println!("skipped on MLX: {error}");
    }
    mlx.ok()
}

fn computing(mut pipeline: Pipeline, compute: Compute) -> Pipeline {
    pipeline.set_compute(ComputeChoice::Always(compute)).expect("the device computes so");
    pipeline
}

/// The picture that the CPU makes exactly, and the one of MLX.
fn pictures(open: impl Fn(Device) -> Pipeline, request: &GenerateRequest, on: (Device, Compute)) -> [Vec<u8>; 2] {
    let exact = (Device::cpu(2).expect("two threads"), Compute::Exact);
    [exact, on].map(|(device, compute)| {
        let pipeline = computing(open(device), compute);
        pipeline.generate(request).expect("a picture").image.pixels().to_vec()
    })
}

fn check_pictures(what: &str, (side, steps): (usize, usize), device: &Device, open: impl Fn(Device) -> Pipeline) {
    let request = GenerateRequest::text_to_image(PROMPTS[0], side, side, steps, 7).expect("valid");
    let [expected, found] = pictures(&open, &request, (device.clone(), Compute::Exact));
    let worst = expected.iter().zip(&found).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(worst <= Some(PIXEL), "{what}: a pixel is off by {worst:?}");
    let [expected, found] = pictures(open, &request, (device.clone(), Compute::Bf16));
    let same = correlation(&expected, &found);
    assert!(same > 0.98, "{what}: bf16: correlation {same}");
}

/// The demo model with all that can be quantized in this precision.
fn write_demo(target: Target, precision: &str, destination: &Path) {
    let demo = Checkpoint::from_files(demo::files()).and_then(Opened::new).expect("it opens");
    let reach = Reach { text_encoder: true, embedders: true };
    let precision = precision.parse().expect("a precision");
    let conversion = Conversion { target, precision, reach, replace: false };
    convert(&demo, &conversion, destination, &[], &mut |_| true).expect("it is written");
}

#[test]
fn whole_runs_agree_with_diffusers() {
    let Some(device) = mlx() else { return };
    let cases = json("pipeline/cases.json");
    for case in cases["cases"].as_array().expect("a list of cases") {
        let model = path(&format!("models/{}", case["model"].as_str().expect("a model")));
        for (compute, tolerance) in [(Compute::Exact, LATENTS), (Compute::Bf16, LATENTS_BF16)] {
            let pipeline = Pipeline::load(&model, device.clone()).expect("the tiny models open");
            check_steps("pipeline", &computing(pipeline, compute), case, tolerance);
        }
    }
}

#[test]
fn pictures_are_those_of_the_cpu() {
    let Some(device) = mlx() else { return };
    check_pictures("as it is", (128, 8), &device, |device| Pipeline::demo(device).expect("it opens"));
}

#[test]
fn pictures_of_quantized_files_are_those_of_the_cpu() {
    let Some(device) = mlx() else { return };
    for (target, precision) in [(Target::Mlx, "int8"), (Target::Mlx, "int4"), (Target::Gguf, "q8_0")] {
        let directory = tempfile::tempdir().expect("a directory");
        let model = directory.path().join("model");
        write_demo(target, precision, &model);
        let open = |device| Pipeline::load(&model, device).expect("it opens");
        // Two steps: MLX multiplies few bits slowly on a CPU.
        check_pictures(&format!("{} {precision}", target.name()), (64, 2), &device, open);
    }
}

#[test]
fn bits_do_not_depend_on_where_weights_are() {
    let Some(device) = mlx() else { return };
    let pipeline = computing(Pipeline::demo(device).expect("it opens"), Compute::Bf16);
    let request = GenerateRequest::text_to_image(PROMPTS[0], 64, 64, 2, 7).expect("valid");
    let whole = pipeline.plan(&request, Budget::Cap(1 << 40)).expect("it fits").strategy;
    assert!(whole.transformer.prepared_once, "there is room for all of it");
    let expected = latents(&pipeline, &request, whole);
    for prepared_blocks in [0, 2] {
        let residency = Residency { prepared_blocks, ..Residency::MAPPED };
        let strategy = Strategy { text_encoder: residency, transformer: residency, ..whole };
        assert_eq!(latents(&pipeline, &request, strategy), expected, "{residency:?}");
    }
}
