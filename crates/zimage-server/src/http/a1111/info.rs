//! The part of a response that says how its pictures were made.

use serde_json::{Value, json};
use zimage::pipeline::metadata::Embedded;

use crate::http::a1111::request::Notes;
use crate::http::a1111::timestamp;
use crate::job::{Job, JobState};

/// What tools read about the pictures of a job.
pub fn of(job: &Job, files: &[Vec<u8>], mut notes: Notes) -> Value {
    let spec = &job.spec;
    if job.state == JobState::Cancelled {
        notes.insert("interrupted", format!("{} of {} pictures are finished", job.images.len(), spec.n));
    }
    if job.tokens.dropped > 0 {
        notes.insert("prompt", format!("its last {} tokens are beyond the model's limit", job.tokens.dropped));
    }
    let all = |text| vec![text; job.images.len()];
    let seeds: Vec<u64> = job.images.iter().map(|image| image.seed).collect();
    json!({
        "prompt": spec.prompt,
        "all_prompts": all(&spec.prompt),
        "negative_prompt": spec.negative_prompt,
        "all_negative_prompts": all(&spec.negative_prompt),
        "seed": spec.seed,
        "all_seeds": seeds,
        "subseed": 0,
        "all_subseeds": vec![0; seeds.len()],
        "subseed_strength": 0,
        "width": spec.width,
        "height": spec.height,
        "sampler_name": "Euler",
        "cfg_scale": spec.guidance + 1.0,
        "steps": spec.steps,
        "batch_size": spec.n,
        "restore_faces": false,
        "face_restoration_model": null,
        "sd_model_name": spec.model,
        "sd_model_hash": null,
        "sd_vae_name": null,
        "sd_vae_hash": null,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": spec.start.as_ref().map(|start| start.strength),
        "extra_generation_params": notes,
        "index_of_first_image": 0,
        "infotexts": files.iter().map(|file| infotext(file)).collect::<Vec<_>>(),
        "styles": [],
        "job_timestamp": timestamp::of(job.created_ms),
        "clip_skip": 1,
        "is_using_inpainting_conditioning": false,
    })
}

/// The text that the file itself carries.
fn infotext(file: &[u8]) -> String {
    let embedded = Embedded::from_image_bytes("the picture", file).ok().flatten();
    embedded.and_then(|embedded| embedded.parameters).unwrap_or_default()
}
