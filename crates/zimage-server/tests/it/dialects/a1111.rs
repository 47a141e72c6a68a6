//! The web UI's API: requests as `webuiapi` and Open WebUI write them.

use axum::body::Body;
use axum::http::{StatusCode, header};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::{Face, halves, json_request, request};
use crate::bench::{Bench, small};

/// What `webuiapi` sends for a prompt alone, but for size and steps.
const ASKED: &str = r#"{
    "enable_hr": false, "hr_scale": 2, "hr_upscaler": "Latent", "hr_second_pass_steps": 0, "hr_resize_x": 0,
    "hr_resize_y": 0, "hr_checkpoint_name": null, "hr_sampler_name": null, "hr_scheduler": null, "hr_prompt": "",
    "hr_negative_prompt": "", "denoising_strength": 0.7, "firstphase_width": 0, "firstphase_height": 0,
    "prompt": "a red balloon", "styles": [], "seed": 5, "subseed": -1, "subseed_strength": 0.0,
    "seed_resize_from_h": 0, "seed_resize_from_w": 0, "batch_size": 1, "n_iter": 1, "steps": 2, "cfg_scale": 7.0,
    "width": 64, "height": 64, "restore_faces": false, "tiling": false, "do_not_save_samples": false,
    "do_not_save_grid": false, "negative_prompt": "", "eta": 1.0, "s_churn": 0, "s_tmax": 0, "s_tmin": 0,
    "s_noise": 1, "override_settings": {}, "override_settings_restore_afterwards": true,
    "sampler_name": "Euler a", "scheduler": "automatic", "sampler_index": "Euler a", "script_name": null,
    "script_args": [], "send_images": true, "save_images": false, "alwayson_scripts": {}
}"#;

fn asked() -> Value {
    serde_json::from_str(ASKED).unwrap()
}

fn with(mut body: Value, fields: Value) -> Value {
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn pictures(answer: &Value) -> Vec<Vec<u8>> {
    let images = answer["images"].as_array().unwrap();
    images.iter().map(|image| BASE64_STANDARD.decode(image.as_str().unwrap()).unwrap()).collect()
}

fn info(answer: &Value) -> Value {
    serde_json::from_str(answer["info"].as_str().expect("info is a string")).expect("of JSON")
}

#[test]
fn defaults_of_other_models_do_not_spoil_the_picture_and_are_noted() {
    let face = Face::new(Bench::new().work());
    let answer = face.post("/sdapi/v1/txt2img", &asked()).ok();
    let native = face.bench.submit(small("a red balloon", 5, 2));
    assert_eq!(pictures(&answer), face.bench.pictures(native));
    let info = info(&answer);
    let notes: Vec<&String> = info["extra_generation_params"].as_object().unwrap().keys().collect();
    assert_eq!(notes, ["cfg_scale", "sampler_name"]);
    assert_eq!(
        (&info["cfg_scale"], &info["sampler_name"], &info["all_seeds"]),
        (&json!(1.0), &json!("Euler"), &json!([5]))
    );
    assert!(info["infotexts"][0].as_str().unwrap().contains("Seed: 5"));
    assert_eq!(answer["parameters"]["sampler_name"], "Euler a");
}

#[test]
fn guidance_acts_when_it_is_asked_for_twice() {
    let face = Face::new(Bench::new());
    let body = with(asked(), json!({"override_settings": {"zimage_honor_cfg": true}, "cfg_scale": 4.0}));
    let handle = face.begin(json_request("/sdapi/v1/txt2img", &body));
    let job = face.bench.until("a job", |service| service.active().unwrap().pop());
    assert_eq!(job.spec.guidance, 3.0);
    handle.abort();
}

#[test]
fn odd_sizes_and_too_many_steps_are_changed_aloud() {
    let face = Face::new(Bench::new());
    let handle =
        face.begin(json_request("/sdapi/v1/txt2img", &with(asked(), json!({"width": 70, "height": 8, "steps": 150}))));
    let job = face.bench.until("a job", |service| service.active().unwrap().pop());
    assert_eq!((job.spec.width, job.spec.height, job.spec.steps), (64, 16, 50));
    face.post("/sdapi/v1/interrupt", &json!({})).ok();
    let answer = face.finish(handle).ok();
    let notes = info(&answer)["extra_generation_params"].clone();
    for name in ["width", "height", "steps", "interrupted"] {
        assert!(notes[name].is_string(), "{name}: {notes}");
    }
    assert!(pictures(&answer).is_empty(), "an interrupted picture is none");
}

#[test]
fn a_picture_is_changed_where_the_mask_is_white() {
    let face = Face::new(Bench::new().work());
    let picture = BASE64_STANDARD.encode(halves([200, 40, 40, 255], [40, 80, 200, 255]));
    let mask = BASE64_STANDARD.encode(halves([255; 4], [0, 0, 0, 255]));
    let fields = json!({"init_images": [format!("data:image/png;base64,{picture}")], "mask": mask, "n_iter": 2});
    let answer = face.post("/sdapi/v1/img2img", &with(asked(), fields)).ok();
    let files = pictures(&answer);
    assert_eq!(files.len(), 2);
    let [red, _, blue] = image::load_from_memory(&files[0]).unwrap().to_rgb8().get_pixel(60, 32).0;
    assert!(blue > red, "the black half of the mask was painted");
    assert_eq!((&answer["parameters"]["init_images"], &answer["parameters"]["mask"]), (&Value::Null, &Value::Null));
}

#[test]
fn errors_are_in_its_words_and_addresses_are_not_fetched() {
    let face = Face::new(Bench::new());
    let check = |path: &str, fields: Value, status: StatusCode| {
        let answer = face.post(path, &with(asked(), fields.clone()));
        assert_eq!(answer.status, status, "{fields}: {}", answer.text());
        let error = answer.json();
        assert!(error["error"] == "HTTPException" && error["detail"].is_string() && error["body"] == "", "{error}");
    };
    check("/sdapi/v1/txt2img", json!({"batch_size": 99}), StatusCode::UNPROCESSABLE_ENTITY);
    check("/sdapi/v1/txt2img", json!({"width": "wide"}), StatusCode::UNPROCESSABLE_ENTITY);
    check("/sdapi/v1/txt2img", json!({"override_settings": {"sd_model_checkpoint": "x"}}), StatusCode::NOT_FOUND);
    for image in ["http://127.0.0.1/a.png", "file:///etc/passwd", "//host/a.png", ""] {
        check("/sdapi/v1/img2img", json!({"init_images": [image]}), StatusCode::UNPROCESSABLE_ENTITY);
    }
}

#[test]
fn an_idle_server_is_ready() {
    let face = Face::new(Bench::new());
    let progress = face.get("/sdapi/v1/progress?skip_current_image=False").ok();
    assert_eq!((&progress["progress"], &progress["state"]["job_count"]), (&json!(0.0), &json!(0)));
}

#[test]
fn a_waiting_job_counts_and_others_jobs_do_not() {
    let face = Face::new(Bench::new());
    face.bench.submit_as("someone else", small("a", 1, 2));
    assert_eq!(face.get("/sdapi/v1/progress").ok()["state"]["job_count"], 0);
    let handle = face.begin(json_request("/sdapi/v1/txt2img", &with(asked(), json!({"batch_size": 3}))));
    face.bench.until("progress", |_| (face.get("/sdapi/v1/progress").ok()["state"]["job_count"] == 3).then_some(()));
    face.post("/sdapi/v1/interrupt", &Value::Null);
    face.finish(handle).ok();
    assert_eq!(face.bench.service.active().unwrap().len(), 1, "the other job was interrupted too");
}

#[test]
fn open_webui_sends_all_options_back_with_an_empty_authorization() {
    let face = Face::new(Bench::new());
    let options = face.get("/sdapi/v1/options").ok();
    assert_eq!(options["sd_model_checkpoint"], "demo");
    let send = |body: &Value| {
        let request = request("POST", "/sdapi/v1/options").header(header::AUTHORIZATION, "");
        let request = request.header(header::CONTENT_TYPE, "application/json");
        face.send(request.body(Body::from(body.to_string())).unwrap())
    };
    send(&options).ok();
    assert_eq!(send(&json!({"sd_model_checkpoint": "other"})).status, StatusCode::NOT_FOUND);
    send(&json!({"zimage_honor_cfg": true})).ok();
    let options = face.get("/sdapi/v1/options").ok();
    assert_eq!((&options["sd_model_checkpoint"], &options["zimage_honor_cfg"]), (&json!("demo"), &json!(true)));
}

#[test]
fn lists_have_what_clients_look_for() {
    let face = Face::new(Bench::new());
    let list = |name: &str| face.get(&format!("/sdapi/v1/{name}")).ok();
    assert_eq!((&list("sd-models")[0]["title"], &list("sd-models")[0]["model_name"]), (&json!("demo"), &json!("demo")));
    assert_eq!(list("samplers")[0]["name"], "Euler");
    assert_eq!(list("schedulers")[0]["name"], "automatic");
    assert_eq!(list("scripts"), json!({"txt2img": [], "img2img": []}));
    for name in ["upscalers", "loras", "sd-vae"] {
        assert!(list(name).is_array(), "{name}");
    }
    for name in ["memory", "cmd-flags"] {
        assert!(list(name).is_object(), "{name}");
    }
}

#[test]
fn a_picture_tells_how_it_was_made() {
    let face = Face::new(Bench::new().work());
    let id = face.bench.submit(small("a red balloon", 5, 2));
    let file = face.bench.pictures(id).remove(0);
    let said = face.post("/sdapi/v1/png-info", &json!({"image": BASE64_STANDARD.encode(&file)})).ok();
    assert!(said["info"].as_str().unwrap().starts_with("a red balloon\n"), "{said}");
    let told = ["Prompt", "Seed", "Size-1"].map(|name| said["parameters"][name].as_str().unwrap());
    assert_eq!(told, ["a red balloon", "5", "64"]);
    let plain = BASE64_STANDARD.encode(halves([0; 4], [255; 4]));
    assert_eq!(face.post("/sdapi/v1/png-info", &json!({"image": plain})).ok()["info"], "");
}
