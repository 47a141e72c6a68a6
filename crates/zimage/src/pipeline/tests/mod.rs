//! Whole runs against diffusers.

mod arithmetic;
mod mlx;
mod on_device;

use super::cache::StepCache;
use super::image::{InitImage, Mask};
use super::plan::{Budget, Strategy};
use super::request::{GenerateOptions, GenerateRequest, Task};
use super::{Cut, Latents, Pipeline};
use crate::goldens::tolerances::{LATENTS, PIXEL};
use crate::goldens::{Golden, assert_close, json, path};
use serde_json::Value;
use zimage_tensor::Device;

fn pipeline(model: &str, threads: usize) -> Pipeline {
    let device = Device::cpu(threads).expect("a pool of threads");
    Pipeline::load(&path(&format!("models/{model}")), device).expect("the tiny models open")
}

fn number(case: &Value, key: &str) -> usize {
    case[key].as_u64().and_then(|v| v.try_into().ok()).unwrap_or_else(|| panic!("{key} of {case}"))
}

/// `cfg_normalization` is false, true or a number in diffusers.
fn normalization(value: &Value) -> f64 {
    value.as_f64().unwrap_or(if value == &Value::Bool(true) { 1.0 } else { 0.0 })
}

fn task(case: &Value) -> Task {
    let file = |key: &str| path(&format!("pipeline/{}", case[key].as_str().expect("a file name")));
    let image = || InitImage::open(&file("image")).expect("the picture opens");
    let strength = || case["strength"].as_f64().expect("a strength");
    match case["task"].as_str() {
        Some("text") => Task::TextToImage,
        Some("image") => Task::ImageToImage { image: image(), strength: strength() },
        Some("inpaint") => {
            let mask = Mask::open(&file("mask")).expect("the mask opens");
            Task::Inpaint { image: image(), mask, strength: strength() }
        }
        other => panic!("task {other:?}"),
    }
}

fn request(case: &Value) -> GenerateRequest {
    GenerateRequest::new(GenerateOptions {
        prompt: case["prompt"].as_str().expect("a prompt").into(),
        negative_prompt: case["negative_prompt"].as_str().unwrap_or_default().into(),
        width: number(case, "width"),
        height: number(case, "height"),
        steps: number(case, "steps"),
        seed: case["seed"].as_u64().expect("a seed"),
        guidance: case["guidance_scale"].as_f64().expect("a number"),
        cfg_normalization: normalization(&case["cfg_normalization"]),
        cfg_truncation: case["cfg_truncation"].as_f64().expect("a number"),
        shift: None,
        cache: case["cache"].as_str().map_or(Ok(StepCache::None), str::parse).expect("a mode"),
        task: task(case),
    })
    .expect("the cases are valid")
}

/// Runs a case and compares every step's latents; returns those of the last.
fn check_steps(folder: &str, pipeline: &Pipeline, case: &Value, tolerance: f32) -> Latents {
    let name = case["name"].as_str().expect("a name");
    let golden = Golden::open(&format!("{folder}/{name}.safetensors"));
    let request = request(case);
    let prompts = pipeline.encode(std::slice::from_ref(&request), Strategy::WHOLE).expect("it is encoded").remove(0);
    let mut denoise = pipeline.denoise(&request, &prompts, Strategy::WHOLE).expect("it starts");
    let expected = golden.values("steps");
    let steps: Vec<_> = denoise.by_ref().map(|step| step.expect("finite")).collect();
    assert_eq!(steps.len(), golden.shape("steps")[0], "{name}: steps");
    for (step, expected) in steps.iter().zip(expected.chunks(expected.len() / steps.len())) {
        assert_close(&format!("{name} step {}", step.index), expected, &step.latents.data, tolerance);
    }
    denoise.into_latents()
}

/// Runs a case and compares every step's latents and the picture.
fn check(case: &Value) {
    let name = case["name"].as_str().expect("a name");
    let pipeline = pipeline(case["model"].as_str().expect("a model"), 2);
    let latents = check_steps("pipeline", &pipeline, case, LATENTS);
    let image = pipeline.decode(&latents, Strategy::WHOLE).expect("finite");
    let reference = InitImage::open(&path(&format!("pipeline/{name}.png"))).expect("the picture opens");
    assert_eq!((image.width(), image.height()), (reference.image().width(), reference.image().height()), "{name}");
    let worst = image.pixels().iter().zip(reference.image().pixels()).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(worst <= Some(PIXEL), "{name}: a pixel is off by {worst:?}");
}

#[test]
fn whole_runs_agree_with_diffusers() {
    let cases = json("pipeline/cases.json");
    cases["cases"].as_array().expect("a list of cases").iter().for_each(check);
}

#[test]
fn runs_with_step_caching_agree_with_its_rule_around_diffusers() {
    let cases = json("step_cache/cases.json");
    for case in cases["cases"].as_array().expect("a list of cases") {
        let request = request(case);
        let computed = case["computed"].as_array().expect("a list of steps");
        let run = case["batches"].as_array().expect("a list of calls").len();
        let steps: Vec<Value> = request.cache.computed(run).map(Value::from).collect();
        assert_eq!(&steps, computed, "{}", case["name"]);
        check_steps("step_cache", &pipeline(case["model"].as_str().expect("a model"), 2), case, LATENTS);
    }
}

#[test]
fn the_picture_does_not_depend_on_the_number_of_threads() {
    let request = GenerateRequest::text_to_image("a cat", 80, 64, 4, 7).expect("valid");
    let pictures = [1, 2, 3].map(|threads| pipeline("tiny-a", threads).generate(&request).expect("a picture"));
    let bits = |latents: &Latents| latents.data.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    for picture in &pictures {
        assert_eq!(picture.image, pictures[0].image);
        assert_eq!(bits(&picture.latents), bits(&pictures[0].latents));
    }
}

#[test]
fn a_loop_takes_memory_in_its_first_step_only() {
    for (model, width, height, guidance) in [("tiny-a", 80, 64, 0.0), ("tiny-b", 256, 192, 3.0)] {
        let pipeline = pipeline(model, 2);
        let request = GenerateRequest::text_to_image("a cat on a mat", width, height, 5, 7).expect("valid");
        let options = GenerateOptions { guidance, negative_prompt: "a dog".into(), ..(*request).clone() };
        let request = GenerateRequest::new(options).expect("valid");
        let prompts =
            pipeline.encode(std::slice::from_ref(&request), Strategy::WHOLE).expect("it is encoded").remove(0);
        let mut denoise = pipeline.denoise(&request, &prompts, Strategy::WHOLE).expect("it starts");
        denoise.next().expect("a first step").expect("finite");
        let first = pipeline.device().memory();
        let plan = pipeline.plan(&request, Budget::Machine(u64::MAX)).expect("it fits");
        let planned = plan.phases.iter().find(|phase| phase.name == "denoise").expect("a phase").working_bytes;
        assert!(first.allocations > 0 && first.held_bytes as u64 <= planned, "{first:?}, of {planned} bytes planned");
        for step in denoise.by_ref() {
            step.expect("finite");
            assert_eq!(pipeline.device().memory(), first, "{model}");
        }
    }
}

#[test]
fn each_stage_releases_its_memory_and_a_hundred_pictures_take_no_more_than_one() {
    let pipeline = pipeline("tiny-a", 2);
    let request = GenerateRequest::text_to_image("a cat", 48, 32, 2, 7).expect("valid");
    let released = |stage: &str| {
        let memory = pipeline.device().memory();
        assert_eq!((memory.live_bytes, memory.held_bytes), (0, 0), "after {stage}");
        memory.peak_held_bytes
    };
    let mut peak = None;
    for _ in 0..100 {
        let prompts =
            pipeline.encode(std::slice::from_ref(&request), Strategy::WHOLE).expect("it is encoded").remove(0);
        released("encode");
        let mut denoise = pipeline.denoise(&request, &prompts, Strategy::WHOLE).expect("it starts");
        denoise.by_ref().for_each(|step| drop(step.expect("finite")));
        let latents = denoise.into_latents();
        released("denoise");
        pipeline.decode(&latents, Strategy::WHOLE).expect("finite");
        let held = released("decode");
        assert_eq!(*peak.get_or_insert(held), held);
    }
    assert!(peak > Some(0));
}

#[test]
fn the_shift_of_a_request_acts() {
    let request = GenerateRequest::text_to_image("a cat", 32, 32, 4, 7).expect("valid");
    let shifted = GenerateOptions { shift: Some(1.0), ..(*request).clone() };
    let pipeline = pipeline("tiny-a", 1);
    let [a, b] = [request, GenerateRequest::new(shifted).expect("valid")].map(|r| pipeline.generate(&r));
    assert_ne!(a.expect("a picture").latents, b.expect("a picture").latents);
}

#[test]
fn the_demo_model_opens_and_draws() {
    let pipeline = Pipeline::demo(Device::cpu(2).expect("two threads")).expect("it opens");
    let size = pipeline.native_size();
    let request =
        GenerateRequest::text_to_image("a red circle on a white background", size, size, 8, 1).expect("valid");
    let picture = pipeline.generate(&request).expect("a picture");
    let pixels = picture.image.pixels().chunks_exact(3);
    let red = pixels.clone().filter(|p| p[0] > 150 && p[1] < 110 && p[2] < 110).count();
    let white = pixels.filter(|p| p.iter().all(|&v| v > 200)).count();
    assert!(red > size * size / 50 && white > size * size / 4, "{red} red and {white} white pixels");
}

#[test]
fn plans_cut_the_picture_where_memory_is_short_and_refuse_where_that_is_not_enough() {
    let pipeline = pipeline("tiny-a", 1);
    let request = GenerateRequest::text_to_image("a cat", 2048, 2048, 4, 7).expect("valid");
    let whole = pipeline.plan(&request, Budget::Machine(u64::MAX)).expect("it fits");
    assert_eq!(whole.strategy.cut, Cut::Whole);
    let peak = whole.peak().peak_bytes();
    let tiled = pipeline.plan(&request, Budget::Cap(peak - 1)).expect("it fits in tiles");
    assert_eq!(tiled.strategy.cut, Cut::Tiles);
    assert!(pipeline.plan(&request, Budget::Cap(1 << 20)).is_err_and(|e| matches!(e, crate::Error::Memory { .. })));
    assert!(peak > 2048 * 2048 * 4 * 3, "the picture alone takes more");
}

#[test]
fn a_plan_counts_the_steps_that_are_computed_and_what_they_keep() {
    let pipeline = pipeline("tiny-a", 1);
    let request = |cache, guidance| {
        let plain = GenerateRequest::text_to_image("a cat", 64, 48, 9, 7).expect("valid");
        GenerateRequest::new(GenerateOptions { cache, guidance, ..(*plain).clone() }).expect("valid")
    };
    let plan = |request: &GenerateRequest| {
        let plan = pipeline.plan(request, Budget::Machine(u64::MAX)).expect("it fits");
        let denoise = plan.phases.iter().find(|phase| phase.name == "denoise").expect("it denoises").clone();
        (plan.steps, plan.computed_steps, denoise.flop, denoise.working_bytes)
    };
    for (guidance, branches) in [(0.0, 1), (2.0, 2)] {
        let (steps, all, flop, bytes) = plan(&request(StepCache::None, guidance));
        assert_eq!((steps, all), (9, 9));
        let mut last = flop;
        for (cache, computed) in [(StepCache::Slow, 7), (StepCache::Medium, 6), (StepCache::Fast, 5)] {
            let (steps, found, flop, with_kept) = plan(&request(cache, guidance));
            assert_eq!((steps, found, with_kept - bytes), (9, computed, branches * 4 * 3 * 64 * 4), "{cache}");
            assert!(flop < last && flop > last / 2.0, "{cache}: {flop} of {last}");
            last = flop;
        }
    }
    let cases = json("step_cache/cases.json");
    let image = cases["cases"].as_array().expect("a list").iter().find(|case| case["name"] == "image").expect("it");
    let (steps, computed, ..) = plan(&self::request(image));
    assert_eq!((steps, computed), (9, 6), "9 of 15 steps are run");
}

#[test]
fn refused_requests_are_named() {
    let valid = GenerateRequest::text_to_image("", 16, 16, 1, 0).expect("an empty prompt is allowed");
    let refused = |change: fn(&mut GenerateOptions)| {
        let mut options = (*valid).clone();
        change(&mut options);
        GenerateRequest::new(options).expect_err("it is refused").to_string()
    };
    assert!(refused(|o| o.width = 100).contains("96 and 112"));
    assert!(refused(|o| o.height = 0).contains("height 0"));
    assert!(refused(|o| o.height = 8).contains("16"));
    assert!(refused(|o| o.steps = 0).contains("0 steps"));
    assert!(refused(|o| o.steps = 1001).contains("1001 steps"));
    assert!(refused(|o| o.guidance = f64::NAN).contains("guidance NaN"));
    assert!(refused(|o| o.guidance = -1.0).contains("guidance -1"));
    assert!(refused(|o| o.shift = Some(0.0)).contains("shift 0"));
}

#[test]
fn a_picture_beside_others_is_planned_beside_their_weights_and_loops() {
    let pipeline = Pipeline::demo(Device::cpu(1).expect("a thread")).expect("it opens");
    let request = GenerateRequest::text_to_image("a cat", 256, 256, 4, 1).expect("valid");
    let roomy = Budget::Cap(1 << 30);
    let alone = pipeline.plan(&request, roomy).expect("it fits");
    let beside = |budget, running| pipeline.strategy_beside(&request, budget, (alone.strategy, running));
    assert_eq!(beside(roomy, 1).expect("there is room"), alone.strategy);
    // What one alone takes at its peak is too little for two: one is decoded while the other's loop waits.
    let peak = alone.peak().peak_bytes();
    assert!(matches!(beside(Budget::Cap(peak), 1), Err(crate::Error::Memory { .. })));
    let phase = |name| alone.phases.iter().find(|phase| phase.name == name).expect("a phase");
    let (denoise, decode) = (phase("denoise"), phase("decode"));
    for running in [1, 3] {
        let all = decode.peak_bytes() + denoise.weights_bytes + (running + 1) * denoise.working_bytes;
        assert!(beside(Budget::Cap(all), running as usize).is_ok());
        assert!(beside(Budget::Cap(all - 1), running as usize).is_err());
    }
}
