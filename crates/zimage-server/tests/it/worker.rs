//! The worker: pictures of jobs are those of the library, alone or together, and whatever fails fails alone.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zimage::pipeline::image::ImageFormat;
use zimage::pipeline::metadata::Origin;
use zimage::pipeline::plan::Budget;
use zimage::{ComputeChoice, Device, GenerateRequest, Pipeline};
use zimage_server::draft::{Draft, DraftStart};
use zimage_server::job::{EventKind, FailureCode, JobState, LoraChoice, Progress};
use zimage_server::models::DEMO;
use zimage_server::queue::{Cancelled, Journal, Wanted};
use zimage_server::service::Place;

use crate::bench::{Bench, PANICKING, TestModels, device, small};

const NIGHT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-loras/night.safetensors");

/// What the library makes of a small picture's request.
fn expected(prompt: &str, seed: u64, steps: usize) -> Vec<u8> {
    let pipeline = Pipeline::demo(device()).expect("it opens");
    let request = GenerateRequest::text_to_image(prompt, 64, 64, steps, seed).expect("valid");
    let picture = pipeline.generate(&request).expect("it is drawn");
    let cut = pipeline.plan(&request, Budget::Machine(4 << 30)).expect("it fits").strategy.cut;
    let compute = pipeline.compute_of_transformer().expect("it opens");
    let metadata = pipeline.metadata(&request, cut, Origin { model: DEMO, files: &[], compute });
    picture.image.encode(ImageFormat::Png, Some(&metadata)).expect("it is encoded")
}

fn steps_of(bench: &Bench, id: zimage_server::job::JobId) -> Vec<Progress> {
    let step = |event: zimage_server::job::Event| match event.kind {
        EventKind::Step(progress) => Some(progress),
        _ => None,
    };
    bench.events(id).into_iter().filter_map(step).collect()
}

#[test]
fn pictures_of_a_job_are_those_of_the_library_byte_for_byte() {
    let bench = Bench::new().work();
    let id = bench.submit(Draft { n: Some(3), ..small("a red balloon", 7, 3) });
    let pictures = bench.pictures(id);
    assert_eq!(pictures, [7, 8, 9].map(|seed| expected("a red balloon", seed, 3)));
    let names: Vec<&str> = bench.events(id).iter().map(|event| event.kind.name()).collect();
    let picture = ["step", "step", "step", "image"];
    assert_eq!(names, [&["queued", "running"][..], &picture, &picture, &picture, &["done"]].concat());
}

#[test]
fn jobs_of_several_clients_share_steps_and_end_with_the_bytes_that_they_have_alone() {
    let bench = Bench::new();
    let drafts = [("ann", "a red balloon", 7, 6), ("ben", "a blue house on a green hill", 8, 4), ("eve", "", 9, 5)];
    let ids = drafts.map(|(owner, prompt, seed, steps)| bench.submit_as(owner, small(prompt, seed, steps)));
    let bench = bench.work();
    for (id, (_, prompt, seed, steps)) in ids.into_iter().zip(drafts) {
        assert_eq!(bench.pictures(id), [expected(prompt, seed, steps as usize)], "{prompt}");
    }
    let first_end = |id| bench.events(id).iter().find(|event| event.kind.name() == "image").expect("a picture").seq;
    let first_step = |id| bench.events(id).iter().find(|event| event.kind.name() == "step").expect("a step").seq;
    assert!(first_step(ids[2]) < first_end(ids[0]), "the jobs ran one after the other");
}

#[test]
fn a_job_of_another_size_waits_and_jobs_of_one_client_run_one_after_the_other() {
    let bench = Bench::new();
    let first = bench.submit_as("ann", small("a", 1, 4));
    let wide = bench.submit_as("ben", Draft { width: Some(96), ..small("b", 2, 4) });
    let same = bench.submit_as("ann", small("c", 3, 4));
    let bench = bench.work();
    let ended = |id| bench.end_of(id).finished_ms.expect("it ended");
    for id in [first, wide, same] {
        assert_eq!(bench.end_of(id).state, JobState::Done);
    }
    let start = |id| bench.events(id).iter().find(|event| event.kind.name() == "running").expect("it ran").seq;
    let end = |id| bench.events(id).last().expect("it ended").seq;
    assert!(ended(first) <= ended(wide));
    assert!(end(first) < start(wide) && end(wide) < start(same), "no two of them ran at once");
}

#[test]
fn cancelling_takes_effect_within_a_step_and_keeps_finished_pictures() {
    let bench = Bench::new().work();
    let id = bench.submit(Draft { n: Some(10), ..small("a", 1, 50) });
    bench.until("the second picture's third step", |_| {
        steps_of(&bench, id).contains(&Progress { image: 1, step: 3, steps: 50 }).then_some(())
    });
    assert_eq!(bench.service.cancel(id).expect("known"), Cancelled::Now);
    let steps = steps_of(&bench, id).len();
    let job = bench.service.job(id).expect("known");
    assert_eq!((job.state, job.images.len()), (JobState::Cancelled, 1));
    // The worker is free for the next one at once.
    let next = bench.submit(small("b", 2, 1));
    assert_eq!(bench.end_of(next).state, JobState::Done);
    assert_eq!(steps_of(&bench, id).len(), steps, "nothing is reported of a cancelled job");
    assert!(bench.service.previews().get(id).is_none());
}

#[test]
fn a_panic_fails_its_job_alone() {
    let bench = Bench::new().work();
    let bad = bench.submit(Draft { model: Some(PANICKING.into()), ..small("a", 1, 2) });
    let good = bench.submit(small("b", 2, 2));
    assert_eq!(bench.end_of(bad).error.expect("it failed").code, FailureCode::Internal);
    assert_eq!(bench.pictures(good), [expected("b", 2, 2)]);
}

/// A LoRA file that acts so strongly that no sum stays finite.
fn exploding_lora(folder: &std::path::Path) -> PathBuf {
    let bytes = std::fs::read(NIGHT).expect("it is there");
    let (length, rest) = bytes.split_at(8);
    let (header, tensors) = rest.split_at(u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize);
    let header = String::from_utf8(header.to_vec()).expect("a header is text");
    let strong = header.replace("lora_alpha\\\": 8", "lora_alpha\\\": 1e36");
    assert_ne!(strong, header);
    let path = folder.join("exploding.safetensors");
    let whole = [&(strong.len() as u64).to_le_bytes(), strong.as_bytes(), tensors].concat();
    std::fs::write(&path, whole).expect("it is written");
    path
}

#[test]
fn a_result_that_is_not_finite_fails_its_job_with_the_cause() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let loras = vec![("exploding".into(), exploding_lora(folder.path()))];
    let bench = Bench::with(TestModels { loras }, |_| {}).work();
    let lora = LoraChoice { id: "exploding".into(), weight: 1.0 };
    let bad = bench.submit(Draft { loras: vec![lora], ..small("a", 1, 2) });
    let good = bench.submit(small("b", 2, 2));
    let error = bench.end_of(bad).error.expect("it failed");
    assert_eq!(error.code, FailureCode::NotFinite, "{error:?}");
    assert!(error.message.contains("not finite"), "{error:?}");
    assert_eq!(bench.pictures(good), [expected("b", 2, 2)]);
}

#[test]
fn a_lora_acts_and_is_gone_for_the_next_job() {
    let bench = Bench::with(TestModels { loras: vec![("night".into(), NIGHT.into())] }, |_| {}).work();
    let lora = LoraChoice { id: "night".into(), weight: 1.0 };
    let dark = bench.submit(Draft { loras: vec![lora.clone()], ..small("a house", 1, 2) });
    let light = bench.submit(small("a house", 1, 2));
    let again = bench.submit(Draft { loras: vec![lora], ..small("a house", 1, 2) });
    let (dark, light, again) = (bench.pictures(dark), bench.pictures(light), bench.pictures(again));
    assert_eq!(light, [expected("a house", 1, 2)]);
    assert_ne!(dark, light);
    assert_eq!(dark, again);
}

#[test]
fn a_job_whose_worker_died_goes_on_where_it_was_and_ends_with_the_same_bytes() {
    let bench = Bench::new();
    let id = bench.submit(Draft { n: Some(2), ..small("a red balloon", 7, 6) });
    // A worker that dies after four steps of the first picture.
    let lease = bench.service.queue().claim("dead", &Wanted::default()).expect("readable").expect("a job waits");
    let pipeline = Pipeline::demo(device()).expect("it opens");
    let request = GenerateRequest::text_to_image("a red balloon", 64, 64, 6, 7).expect("valid");
    let strategy = pipeline.plan(&request, Budget::Machine(4 << 30)).expect("it fits").strategy;
    let prompts = pipeline.encode(std::slice::from_ref(&request), strategy).expect("encoded").remove(0);
    let mut denoise = pipeline.denoise(&request, &prompts, strategy).expect("it starts");
    denoise.by_ref().take(4).for_each(|step| drop(step.expect("finite")));
    let bookmark = denoise.bookmark().expect("no step is cached");
    let latents = bookmark.latents.data.iter().flat_map(|value| value.to_le_bytes()).collect();
    let (journal, progress) = (Journal { image: 0, step: 4, latents }, Progress { image: 0, step: 4, steps: 6 });
    bench.service.queue().step(&lease, progress, Some(&journal)).expect("writable");
    assert_eq!(bench.service.queue().expire("dead").expect("writable"), 1);

    let bench = bench.work();
    assert_eq!(bench.pictures(id), [7, 8].map(|seed| expected("a red balloon", seed, 6)));
    let of_first: Vec<u32> = steps_of(&bench, id).iter().filter(|at| at.image == 0).map(|at| at.step).collect();
    assert_eq!(of_first, [4, 5, 6], "only the steps that were missing were taken");
}

#[test]
fn a_job_that_died_after_its_last_step_is_only_decoded() {
    let bench = Bench::new();
    let id = bench.submit(small("a", 3, 2));
    let lease = bench.service.queue().claim("dead", &Wanted::default()).expect("readable").expect("a job waits");
    let pipeline = Pipeline::demo(device()).expect("it opens");
    let request = GenerateRequest::text_to_image("a", 64, 64, 2, 3).expect("valid");
    let latents = pipeline.generate(&request).expect("drawn").latents;
    let latents = latents.data.iter().flat_map(|value| value.to_le_bytes()).collect();
    let (journal, progress) = (Journal { image: 0, step: 2, latents }, Progress { image: 0, step: 2, steps: 2 });
    bench.service.queue().step(&lease, progress, Some(&journal)).expect("writable");
    bench.service.queue().expire("dead").expect("writable");
    let bench = bench.work();
    assert_eq!(bench.pictures(id), [expected("a", 3, 2)]);
    assert_eq!(steps_of(&bench, id).len(), 1, "no step was taken again");
}

#[test]
fn pictures_can_start_from_uploads_with_and_without_a_mask() {
    let bench = Bench::new().work();
    let source = bench.submit(small("a red balloon", 7, 2));
    let picture = bench.pictures(source).remove(0);
    let upload = bench.service.upload(&picture).expect("it is a picture");
    assert_eq!((upload.width, upload.height), (64, 64));
    let start = |mask| DraftStart { image: upload.sha256.clone(), mask, strength: Some(0.5) };
    let plain = bench.submit(Draft { start: Some(start(None)), ..small("a blue balloon", 8, 4) });
    let masked = Some(upload.sha256.clone());
    let masked = bench.submit(Draft { start: Some(start(masked)), ..small("a blue balloon", 8, 4) });
    let (plain, masked) = (bench.pictures(plain), bench.pictures(masked));
    assert_ne!(plain, masked);
    // The gallery's pictures serve as well, without an upload.
    let image = bench.service.job(source).expect("known").images[0].sha256.clone();
    let again = DraftStart { image, mask: None, strength: Some(0.5) };
    let again = bench.submit(Draft { start: Some(again), ..small("a blue balloon", 8, 4) });
    assert_eq!(bench.end_of(again).state, JobState::Done);
}

#[test]
fn previews_are_there_while_a_job_runs() {
    let bench = Bench::new().work();
    let id = bench.submit(small("a red balloon", 7, 50));
    let preview = bench.until("a preview", |service| service.previews().get(id));
    let small = zimage::pipeline::image::InitImage::from_bytes("the preview", &preview.jpeg).expect("a picture");
    assert_eq!((small.image().width(), small.image().height()), (8, 8));
    assert_eq!(preview.progress.steps, 50);
    bench.end_of(id);
}

#[test]
fn an_idle_worker_forgets_its_model_when_it_is_asked_or_after_a_while() {
    let loaded = |bench: &Bench| bench.service.metrics().text(Default::default()).contains("models_loaded 1");
    let bench = Bench::new().work();
    bench.pictures(bench.submit(small("a", 1, 1)));
    bench.until("the model", |_| loaded(&bench).then_some(()));
    assert!(bench.service.unload());
    bench.until("the model to go", |_| (!loaded(&bench)).then_some(()));
    assert_eq!(bench.pictures(bench.submit(small("a", 1, 1))), [expected("a", 1, 1)], "it comes back by itself");

    let bench = Bench::with(TestModels::default(), |settings| settings.keep_alive = Some(Duration::from_millis(50)));
    let bench = bench.work();
    bench.pictures(bench.submit(small("a", 1, 1)));
    bench.until("the model to go", |_| (!loaded(&bench)).then_some(()));
}

#[test]
fn what_was_submitted_before_a_shutdown_is_made_after_it() {
    let bench = Bench::new();
    let ids = [1, 2].map(|seed| bench.submit(small("a", seed, 2)));
    let home = Arc::clone(&bench.home);
    drop(bench);
    let bench = Bench::at(home, TestModels::default(), |_| {}).work();
    for (id, seed) in ids.into_iter().zip([1, 2]) {
        assert_eq!(bench.pictures(id), [expected("a", seed, 2)]);
    }
}

#[test]
fn a_job_that_waited_or_ran_longer_than_it_may_is_failed_by_name() {
    let limited = |change: fn(&mut zimage_server::limits::Limits)| {
        Bench::with(TestModels::default(), |settings| change(&mut settings.limits))
    };
    let bench = limited(|limits| limits.wait_timeout = Some(Duration::from_millis(20)));
    let late = bench.submit(small("a", 1, 1));
    std::thread::sleep(Duration::from_millis(40));
    let bench = bench.work();
    let error = bench.end_of(late).error.expect("it failed");
    assert_eq!(error.code, FailureCode::TimedOut);
    assert!(error.message.contains("waited"), "{error:?}");
    assert!(bench.service.metrics().text(Default::default()).contains("queue_wait_seconds_count 1"));

    let bench = limited(|limits| limits.run_timeout = Some(Duration::from_millis(20))).work();
    let error = bench.end_of(bench.submit(small("a", 1, 50))).error.expect("it failed");
    assert_eq!(error.code, FailureCode::TimedOut);
    assert!(error.message.contains("took longer"), "{error:?}");
}

#[test]
fn each_device_makes_pictures_of_its_own() {
    let bench = Bench::with(TestModels::default(), |settings| settings.places = vec![settings.places[0].clone(); 2]);
    let drafts = [("a red balloon", 7), ("a blue house", 8)];
    let ids = drafts.map(|(prompt, seed)| bench.submit(small(prompt, seed, 12)));
    let bench = bench.work();
    for (id, (prompt, seed)) in ids.into_iter().zip(drafts) {
        assert_eq!(bench.pictures(id), [expected(prompt, seed, 12)], "{prompt}");
    }
    let seq = |id, name| bench.events(id).iter().find(|event| event.kind.name() == name).expect("it happened").seq;
    let [first, second] = ids;
    assert!(seq(second, "running") < seq(first, "image"), "one waited for the other");
    assert!(bench.service.unload());
    bench.until("both to forget their models", |service| (!service.unload()).then_some(()));
}

#[test]
fn a_gpu_keeps_its_model_between_jobs_and_gives_the_memory_back() {
    let device = Device::emulated_cuda(1 << 33).expect("a C++ compiler");
    let place = Place { device: device.clone(), budget: Budget::Cap(1 << 33) };
    let bench = Bench::with(TestModels::default(), |settings| {
        settings.places = vec![place];
        settings.compute = ComputeChoice::Auto;
    });
    let bench = bench.work();
    let first = bench.pictures(bench.submit(small("a red balloon", 7, 2)));
    let held = device.held_bytes();
    assert!(held > 0, "the weights stay");
    assert_eq!(bench.pictures(bench.submit(small("a red balloon", 7, 2))), first);
    assert_eq!(device.held_bytes(), held, "they were not brought there again");
    assert!(bench.service.unload());
    bench.until("its memory back", |_| (device.held_bytes() == 0).then_some(()));
}
