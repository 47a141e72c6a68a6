use super::{Denoise, Pipeline};
use crate::goldens::path;
use crate::pipeline::cache::StepCache;
use crate::pipeline::guidance::guide;
use crate::pipeline::plan::Strategy;
use crate::pipeline::request::{GenerateOptions, GenerateRequest};
use zimage_tensor::Device;

fn start(cache: StepCache, steps: usize, guidance: f64) -> Denoise {
    let device = Device::cpu(2).expect("two threads");
    let pipeline = Pipeline::load(&path("models/tiny-b"), device).expect("the tiny models open");
    let plain = GenerateRequest::text_to_image("a cat", 48, 32, steps, 7).expect("valid");
    let options = GenerateOptions { cache, guidance, negative_prompt: "dark".into(), ..(*plain).clone() };
    let request = GenerateRequest::new(options).expect("valid");
    let prompts = pipeline.encode(std::slice::from_ref(&request), Strategy::WHOLE).expect("it is encoded").remove(0);
    pipeline.denoise(&request, &prompts, Strategy::WHOLE).expect("it starts")
}

fn run(denoise: &mut Denoise, steps: usize) {
    denoise.take(steps).for_each(|step| drop(step.expect("finite")));
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn truncate(denoise: &mut Denoise, truncation: f64) {
    denoise.guidance.as_mut().expect("a guided run").truncation = truncation;
}

#[test]
fn cached_runs_are_what_the_parts_of_the_transformer_give_by_hand() {
    for cache in [StepCache::Slow, StepCache::Medium, StepCache::Fast] {
        for steps in [5, 8, 9, 13] {
            let mut denoise = start(cache, steps, 0.0);
            let parts = start(cache, steps, 0.0);
            let mut latents = parts.latents.clone();
            let mut kept = None;
            for index in 0..steps {
                let time = parts.transformer.time_condition(parts.schedule.t(index)).expect("finite");
                let x = latents.to_tensor(&parts.device).expect("latents");
                let velocity = if cache.computed(steps).any(|computed| computed == index) {
                    let (velocity, residual) =
                        parts.transformer.forward_keeping(&x, &parts.positive.caption, &time).expect("finite");
                    kept = Some(residual);
                    velocity
                } else {
                    let residual = kept.as_ref().expect("the first step is computed");
                    parts.transformer.forward_reusing(&x, &parts.positive.caption, &time, residual).expect("finite")
                };
                let dt = parts.schedule.dt(index);
                latents.data.iter_mut().zip(velocity.into_vec()).for_each(|(x, v)| *x += dt * -v);
                let step = denoise.next().expect("a step").expect("finite");
                assert_eq!(bits(&step.latents.data), bits(&latents.data), "{cache}, step {index} of {steps}");
            }
            assert!(denoise.next().is_none());
        }
    }
}

#[test]
fn caching_changes_the_picture_unless_every_step_is_computed() {
    let last = |cache, steps| {
        let mut denoise = start(cache, steps, 0.0);
        run(&mut denoise, steps);
        bits(&denoise.into_latents().data)
    };
    for cache in [StepCache::Slow, StepCache::Medium, StepCache::Fast] {
        assert_eq!(last(cache, 4), last(StepCache::None, 4));
        assert_ne!(last(cache, 9), last(StepCache::None, 9));
    }
}

#[test]
fn a_run_without_caching_keeps_nothing() {
    let mut denoise = start(StepCache::None, 9, 1.0);
    run(&mut denoise, 9);
    assert!(denoise.positive.residual.is_none());
    assert!(denoise.guidance.expect("a guided run").negative.residual.is_none());
}

#[test]
fn what_is_kept_takes_no_new_memory_after_it_was_kept_once() {
    let mut denoise = start(StepCache::Fast, 9, 3.0);
    run(&mut denoise, 4);
    let allocations = denoise.device.memory().allocations;
    run(&mut denoise, 5);
    assert_eq!(denoise.device.memory().allocations, allocations);
}

#[test]
fn a_branch_that_missed_the_last_computed_step_is_computed_instead_of_reusing_an_older_one() {
    let mut denoise = start(StepCache::Fast, 9, 3.0);
    run(&mut denoise, 5);
    assert!(denoise.guidance.as_ref().expect("guided").negative.residual.is_some(), "it is reused at steps 3 and 4");
    truncate(&mut denoise, -1.0);
    run(&mut denoise, 1);
    assert!(denoise.positive.residual.is_some(), "step 5 is computed");
    assert!(denoise.guidance.as_ref().expect("guided").negative.residual.is_none(), "that of step 2 is dropped");
    truncate(&mut denoise, 1.0);

    let (negative, expected) = {
        let Denoise { transformer, positive, guidance: Some(guidance), .. } = &denoise else { panic!("guided") };
        let time = transformer.time_condition(denoise.schedule.t(6)).expect("finite");
        let x = denoise.latents.to_tensor(&denoise.device).expect("latents");
        let residual = positive.residual.as_ref().expect("that of step 5");
        let positive = transformer.forward_reusing(&x, &positive.caption, &time, residual).expect("finite").into_vec();
        let negative = transformer.forward(&x, &guidance.negative.caption, &time).expect("finite").into_vec();
        (negative.clone(), guide(&positive, &negative, 3.0, 0.0))
    };
    assert_eq!(bits(&denoise.velocity().expect("finite")), bits(&expected));
    // What it computed there is reused from then on.
    let time = denoise.transformer.time_condition(denoise.schedule.t(6)).expect("finite");
    let x = denoise.latents.to_tensor(&denoise.device).expect("latents");
    let branch = &denoise.guidance.as_ref().expect("guided").negative;
    let residual = branch.residual.as_ref().expect("that of step 6");
    let again = denoise.transformer.forward_reusing(&x, &branch.caption, &time, residual).expect("finite").into_vec();
    crate::goldens::assert_close("the negative branch", &negative, &again, 1e-6);
}
