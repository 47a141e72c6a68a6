//! Pictures by integer dot products, and weights that stay, are laid out, or come and go.

use super::super::plan::{Budget, Strategy};
use crate::model::Residency;
use crate::pipeline::{Latents, Pipeline};
use crate::{Compute, ComputeChoice, Device, GenerateRequest};
use zimage_weights::Component;

pub(super) const PROMPTS: [&str; 3] =
    ["a red circle on a white background", "a blue star above a green square", "a yellow house in the snow"];

fn demo(choice: ComputeChoice) -> Pipeline {
    let mut pipeline = Pipeline::demo(Device::cpu(2).expect("two threads")).expect("it opens");
    pipeline.set_compute(choice).expect("the CPU computes so");
    pipeline
}

pub(super) fn request(pipeline: &Pipeline, prompt: &str) -> GenerateRequest {
    let side = pipeline.native_size();
    GenerateRequest::text_to_image(prompt, side, side, 8, 7).expect("valid")
}

pub(super) fn latents(pipeline: &Pipeline, request: &GenerateRequest, strategy: Strategy) -> Latents {
    let prompts = pipeline.encode(std::slice::from_ref(request), strategy).expect("it is encoded").remove(0);
    let mut denoise = pipeline.denoise(request, &prompts, strategy).expect("it starts");
    denoise.by_ref().for_each(|step| drop(step.expect("finite")));
    denoise.into_latents()
}

pub(super) fn correlation(a: &[u8], b: &[u8]) -> f64 {
    let mean = |x: &[u8]| x.iter().map(|&v| f64::from(v)).sum::<f64>() / x.len() as f64;
    let (ma, mb) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (&a, &b) in a.iter().zip(b) {
        let (a, b) = (f64::from(a) - ma, f64::from(b) - mb);
        (ab, aa, bb) = (ab + a * b, aa + a * a, bb + b * b);
    }
    ab / (aa * bb).sqrt()
}

#[test]
fn pictures_in_8_bits_are_those_of_floats_to_the_eye() {
    let (exact, int8) = (demo(ComputeChoice::Always(Compute::Exact)), demo(ComputeChoice::Always(Compute::Int8)));
    for prompt in PROMPTS {
        let request = request(&exact, prompt);
        let [a, b] = [&exact, &int8].map(|pipeline| pipeline.generate(&request).expect("a picture").image);
        let same = correlation(a.pixels(), b.pixels());
        assert!(same > 0.99, "{prompt}: correlation {same}");
        assert_ne!(a.pixels(), b.pixels(), "{prompt}: nothing was quantized");
    }
}

#[test]
fn bits_do_not_depend_on_where_weights_are() {
    for choice in [ComputeChoice::Always(Compute::Exact), ComputeChoice::Always(Compute::Int8)] {
        let pipeline = demo(choice);
        let request = request(&pipeline, PROMPTS[0]);
        let expected = latents(&pipeline, &request, Strategy::WHOLE);
        for (prepared_blocks, streamed) in [(0, true), (3, true), (1000, true), (1000, false)] {
            let residency = Residency { prepared_blocks, streamed, ..Residency::MAPPED };
            let strategy = Strategy { text_encoder: residency, transformer: residency, ..Strategy::WHOLE };
            assert_eq!(latents(&pipeline, &request, strategy), expected, "{choice:?} {residency:?}");
        }
    }
}

#[test]
fn floats_are_computed_as_floats_unless_told_otherwise() {
    let found = |choice, component| demo(choice).compute(component).expect("it opens");
    for component in [Component::Transformer, Component::TextEncoder] {
        assert_eq!(found(ComputeChoice::Auto, component), Compute::Exact);
        assert_eq!(found(ComputeChoice::Always(Compute::Exact), component), Compute::Exact);
        assert_eq!(found(ComputeChoice::Always(Compute::Int8), component), Compute::Int8);
    }
    assert_eq!(found(ComputeChoice::Always(Compute::Int8), Component::Vae), Compute::Exact);
}

#[test]
fn arithmetic_that_the_device_does_not_have_is_refused() {
    let mut pipeline = demo(ComputeChoice::Auto);
    let error = pipeline.set_compute(ComputeChoice::Always(Compute::Bf16)).expect_err("the CPU has no bf16");
    assert!(error.to_string().starts_with("the CPU does not compute in bf16\nhint: "), "{error}");
    assert_eq!(pipeline.compute_of_transformer().expect("it opens"), Compute::Exact, "all is as before");
}

#[test]
fn short_memory_streams_weights_and_says_so_before() {
    let pipeline = demo(ComputeChoice::Always(Compute::Int8));
    let request = request(&pipeline, PROMPTS[0]);
    let plan = |budget| pipeline.plan(&request, budget);
    let whole = plan(Budget::Machine(1 << 40)).expect("it fits");
    let config = pipeline.checkpoint().transformer_config();
    let blocks = config.n_layers + config.n_refiner_layers;
    assert_eq!(whole.strategy.transformer, Residency { prepared_blocks: blocks, streamed: true, ..Residency::MAPPED });
    assert_eq!(whole.strategy.text_encoder, Residency::MAPPED);

    // Below what the laid-out blocks take, weights are mapped or streamed, and take less.
    let weights = pipeline.weight_bytes(Component::Transformer).expect("it opens");
    let (all, bytes) = weights.fit(1 << 40, true);
    assert_eq!(all, whole.strategy.transformer);
    let (short, fewer) = weights.fit(bytes / 2, true);
    assert!(short.prepared_blocks < blocks && fewer < bytes, "{short:?}");

    // On a machine with less memory they are mapped, since the system can drop mapped pages.
    assert_eq!(weights.fit(bytes / 2, false).0, Residency::MAPPED);
}

#[test]
fn a_transformer_that_is_kept_draws_the_same_pictures_until_the_model_changes() {
    let mut pipeline = demo(ComputeChoice::Always(Compute::Int8));
    let request = request(&pipeline, PROMPTS[0]);
    let plan = pipeline.plan(&request, Budget::Machine(1 << 40)).expect("it fits");
    let keep = plan.strategy_before_others(Budget::Machine(1 << 40));
    assert!(keep.keep_transformer && !plan.strategy.keep_transformer);
    let decode = plan.phases.last().expect("phases").peak_bytes();
    assert!(!plan.strategy_before_others(Budget::Cap(decode)).keep_transformer, "it must fit beside the decoder");

    let expected = latents(&pipeline, &request, plan.strategy);
    for strategy in [keep, keep, plan.strategy] {
        assert_eq!(latents(&pipeline, &request, strategy), expected);
    }
    latents(&pipeline, &request, keep);
    pipeline.set_compute(ComputeChoice::Always(Compute::Exact)).expect("the CPU computes so");
    assert_ne!(latents(&pipeline, &request, keep), expected, "the kept one would multiply bytes");
}
