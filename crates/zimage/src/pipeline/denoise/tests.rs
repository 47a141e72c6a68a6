use super::{Branch, Denoise, Pipeline, step_together};
use crate::goldens::path;
use crate::model::transformer::{Lane, MainLayers, Output};
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

/// One pass of a branch at the loop's own latents.
fn pass(denoise: &Denoise, branch: &Branch, index: usize, main_layers: MainLayers<'_>) -> Output {
    let time = denoise.transformer.time_condition(denoise.schedule.t(index)).expect("finite");
    let x = denoise.latents.to_tensor(&denoise.device).expect("latents");
    denoise.transformer.forward_one(Lane::new(&x, &branch.caption, &time).with(main_layers)).expect("finite")
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
            let mut parts = start(cache, steps, 0.0);
            let mut kept = None;
            for index in 0..steps {
                let main_layers = match &kept {
                    Some(residual) if !cache.computed(steps).any(|step| step == index) => MainLayers::Reuse(residual),
                    _ => MainLayers::Keep,
                };
                let output = pass(&parts, &parts.positive, index, main_layers);
                kept = output.residual.or(kept);
                let dt = parts.schedule.dt(index);
                parts.latents.data.iter_mut().zip(output.velocity.into_vec()).for_each(|(x, v)| *x += dt * -v);
                let step = denoise.next().expect("a step").expect("finite");
                assert_eq!(bits(&step.latents.data), bits(&parts.latents.data), "{cache}, step {index} of {steps}");
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

    let guidance = denoise.guidance.as_ref().expect("guided");
    let residual = denoise.positive.residual.as_ref().expect("that of step 5");
    let positive = pass(&denoise, &denoise.positive, 6, MainLayers::Reuse(residual)).velocity.into_vec();
    let negative = pass(&denoise, &guidance.negative, 6, MainLayers::Run).velocity.into_vec();
    let dt = denoise.schedule.dt(6);
    let guided = guide(&positive, &negative, 3.0, 0.0);
    let expected: Vec<f32> = denoise.latents.data.iter().zip(guided).map(|(x, v)| x + dt * -v).collect();
    let latents = denoise.latents.clone();
    let step = denoise.next().expect("a step").expect("finite");
    assert_eq!(bits(&step.latents.data), bits(&expected));
    // What it computed there is reused from then on.
    denoise.latents = latents;
    let branch = &denoise.guidance.as_ref().expect("guided").negative;
    let residual = branch.residual.as_ref().expect("that of step 6");
    let again = pass(&denoise, branch, 6, MainLayers::Reuse(residual)).velocity.into_vec();
    crate::goldens::assert_close("the negative branch", &negative, &again, 1e-6);
}

/// Loops of one pipeline that share a transformer.
fn start_together(requests: &[GenerateRequest]) -> Vec<Denoise> {
    let device = Device::cpu(2).expect("two threads");
    let pipeline = Pipeline::load(&path("models/tiny-b"), device).expect("the tiny models open");
    let prompts = pipeline.encode(requests, Strategy::WHOLE).expect("they are encoded");
    let mut loops: Vec<Denoise> = Vec::new();
    for (request, prompts) in requests.iter().zip(&prompts) {
        let one = match loops.first() {
            None => pipeline.denoise(request, prompts, Strategy::WHOLE),
            Some(other) => pipeline.denoise_beside(other, request, prompts, Strategy::WHOLE),
        };
        loops.push(one.expect("it starts"));
    }
    loops
}

/// Requests that differ in everything that may differ between loops that step together.
fn mixed() -> Vec<GenerateRequest> {
    let request = |prompt: &str, seed, steps, cache, guidance| {
        let plain = GenerateRequest::text_to_image(prompt, 48, 32, steps, seed).expect("valid");
        let options = GenerateOptions { cache, guidance, negative_prompt: "dark".into(), ..(*plain).clone() };
        GenerateRequest::new(options).expect("valid")
    };
    vec![
        request("a cat", 7, 9, StepCache::None, 0.0),
        request("a very long description of a dog that sits under a tree", 8, 5, StepCache::None, 2.0),
        request("", 9, 9, StepCache::Fast, 0.0),
        request("a house", 10, 6, StepCache::Medium, 3.0),
    ]
}

fn alone(request: &GenerateRequest) -> Vec<u32> {
    let mut denoise = start_together(std::slice::from_ref(request)).remove(0);
    denoise.by_ref().for_each(|step| drop(step.expect("finite")));
    bits(&denoise.into_latents().data)
}

#[test]
fn loops_that_step_together_end_with_the_bits_that_they_have_alone() {
    let requests = mixed();
    let mut loops = start_together(&requests);
    let last = loops.pop().expect("four loops");
    let mut late = Some(last);
    for round in 0..11 {
        // The last one joins after two steps; the others leave as they end.
        if round == 2 {
            loops.extend(late.take());
        }
        let steps = step_together(&mut loops.iter_mut().collect::<Vec<_>>());
        steps.into_iter().flatten().for_each(|step| drop(step.expect("finite")));
    }
    for (request, denoise) in requests.iter().zip(loops) {
        assert!(denoise.is_over());
        assert_eq!(bits(&denoise.into_latents().data), alone(request), "{}", request.prompt);
    }
}

#[test]
fn a_loop_that_fails_leaves_those_beside_it_as_they_are() {
    let requests = &mixed()[..2];
    let mut loops = start_together(requests);
    loops[1].latents.data[3] = f32::NAN;
    let steps = step_together(&mut loops.iter_mut().collect::<Vec<_>>());
    assert!(matches!(steps[..], [Some(Ok(_)), Some(Err(crate::Error::NonFinite { .. }))]));
    let steps = step_together(&mut loops.iter_mut().collect::<Vec<_>>());
    assert!(matches!(steps[..], [Some(Ok(_)), None]), "the failed one is over");
    let mut healthy = loops.remove(0);
    healthy.by_ref().for_each(|step| drop(step.expect("finite")));
    assert_eq!(bits(&healthy.into_latents().data), alone(&requests[0]));
}

#[test]
fn a_loop_resumed_at_any_bookmark_ends_with_the_same_bits() {
    for request in mixed() {
        let expected = alone(&request);
        let mut denoise = start_together(std::slice::from_ref(&request)).remove(0);
        let mut bookmarks = Vec::from_iter(denoise.bookmark());
        while let Some(step) = denoise.next() {
            step.expect("finite");
            bookmarks.extend(denoise.bookmark());
        }
        let computed = request.cache.computed(request.steps).count();
        assert_eq!(bookmarks.len(), computed + 1, "before each computed step, and at the end");
        for bookmark in bookmarks {
            let step = bookmark.step;
            let mut resumed = start_together(std::slice::from_ref(&request)).remove(0);
            resumed.resume(bookmark).expect("it is one of this request");
            assert_eq!(resumed.by_ref().count(), request.steps - step);
            assert_eq!(bits(&resumed.into_latents().data), expected, "{} from step {step}", request.prompt);
        }
    }
}

#[test]
fn a_bookmark_of_another_request_is_refused() {
    let mut denoise = start(StepCache::None, 4, 0.0);
    let bookmark = denoise.bookmark().expect("at the start");
    let mut larger = bookmark.clone();
    larger.latents.width += 2;
    assert!(matches!(denoise.resume(larger), Err(crate::Error::Request { .. })));
    assert!(denoise.resume(super::Bookmark { step: 5, ..bookmark }).is_err());
}

#[test]
fn the_predicted_picture_is_the_latents_of_the_last_step() {
    let mut denoise = start(StepCache::None, 4, 0.0);
    let steps: Vec<_> = denoise.by_ref().map(|step| step.expect("finite")).collect();
    assert_ne!(steps[0].predicted, steps[0].latents);
    assert_eq!(steps[3].predicted, steps[3].latents);
}
