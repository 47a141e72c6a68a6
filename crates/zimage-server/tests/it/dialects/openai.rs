//! OpenAI's Images API: requests as `openai-python` writes them.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};
use zimage_server::draft::Draft;
use zimage_server::job::JobState;
use zimage_server::queue::QueueLimits;

use super::{Face, TOKEN, halves, json_request, request};
use crate::bench::{Bench, TestModels, small};

const GENERATIONS: &str = "/v1/images/generations";

/// What the SDK sends: what `extra_body` adds stands beside the rest.
fn asked() -> Value {
    json!({"model": "z-image-turbo", "prompt": "a red balloon", "n": 1, "size": "64x64", "seed": 5, "steps": 2})
}

fn with(mut body: Value, fields: Value) -> Value {
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn decoded(datum: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(datum["b64_json"].as_str().unwrap()).unwrap()
}

/// A form as the SDK writes it.
fn form(parts: &[(&str, &[u8])]) -> Request<Body> {
    let mut body = Vec::new();
    for (name, content) in parts {
        let is_file = content.starts_with(b"\x89PNG");
        let file = if is_file { "; filename=\"a.png\"\r\ncontent-type: image/png" } else { "" };
        body.extend(format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n").bytes());
        body.extend_from_slice(content);
        body.extend(b"\r\n");
    }
    body.extend(b"--b--\r\n");
    let request = request("POST", "/v1/images/edits").header(header::CONTENT_TYPE, "multipart/form-data; boundary=b");
    request.body(Body::from(body)).unwrap()
}

#[test]
fn a_picture_is_the_one_that_the_native_api_makes() {
    let face = Face::new(Bench::new().work());
    let answer = face.post(GENERATIONS, &with(asked(), json!({"n": 2}))).ok();
    let native = face.bench.submit(Draft { n: Some(2), ..small("a red balloon", 5, 2) });
    let pictures: Vec<Vec<u8>> = answer["data"].as_array().unwrap().iter().map(decoded).collect();
    assert_eq!(pictures, face.bench.pictures(native));
    assert_eq!([&answer["data"][0]["seed"], &answer["data"][1]["seed"]], [5, 6]);
    assert_eq!(answer["usage"]["output_tokens"], 2 * 16);
    let told = ["size", "quality", "output_format", "background"].map(|name| answer[name].as_str().unwrap());
    assert_eq!(told, ["64x64", "medium", "png", "opaque"]);
}

#[test]
fn fields_act_under_all_their_names() {
    let face = Face::new(Bench::new());
    let spec = |fields: Value| {
        let handle = face.begin(json_request(GENERATIONS, &with(asked(), fields.clone())));
        let job = face.bench.until("a job", |service| service.active().unwrap().pop());
        handle.abort();
        face.bench.until("its end", |service| service.active().unwrap().is_empty().then_some(()));
        job.spec
    };
    assert_eq!(spec(json!({"steps": null, "num_inference_steps": "7"})).steps, 7);
    assert_eq!(spec(json!({"steps": null, "quality": "low"})).steps, 4);
    assert_eq!(spec(json!({"steps": null, "quality": "hd"})).steps, 12);
    assert_eq!(spec(json!({"guidance_scale": 4.5, "negative_prompt": "rain"})).guidance, 4.5);
    assert_eq!(spec(json!({"cfg_scale": 1})).guidance, 0.0);
    assert_eq!(spec(json!({"time_shift": 6})).shift, Some(6.0));
    assert_eq!(spec(json!({"output_format": "jpeg", "output_compression": 40})).quality, Some(40));
    assert_eq!(spec(json!({"size": "auto"})).width, 128);
}

#[test]
fn what_has_no_effect_is_named() {
    let face = Face::new(Bench::new().work());
    let answer =
        face.post(GENERATIONS, &with(asked(), json!({"moderation": "low", "brand_new": {"a": 1}, "user": "u"})));
    answer.ok();
    assert_eq!(answer.headers["x-zimage-ignored"], "brand_new, moderation");
}

#[test]
fn users_are_told_apart_and_not_named() {
    let face = Face::new(Bench::new());
    let owner = |user: &str| {
        let handle = face.begin(json_request(GENERATIONS, &with(asked(), json!({"user": user}))));
        let job = face.bench.until("a job", |service| service.active().unwrap().pop());
        handle.abort();
        face.bench.until("its end", |service| service.active().unwrap().is_empty().then_some(()));
        job.owner
    };
    assert_ne!(owner("ann@example.org"), owner("ben@example.org"));
    assert!(!owner("ann@example.org").contains("ann"));
}

#[test]
fn a_client_that_hangs_up_cancels_its_job() {
    for stream in [false, true] {
        let face = Face::new(Bench::new());
        let handle = face.begin(json_request(GENERATIONS, &with(asked(), json!({"stream": stream}))));
        let job = face.bench.until("a job", |service| service.active().unwrap().pop());
        handle.abort();
        assert_eq!(face.bench.end_of(job.id).state, JobState::Cancelled, "stream: {stream}");
    }
}

#[test]
fn errors_are_of_the_form_that_the_sdk_reads() {
    let face = Face::new(Bench::new());
    let check = |fields: Value, status: u16, param: Value, code: &str| {
        let answer = face.post(GENERATIONS, &with(asked(), fields.clone()));
        let error = &answer.json()["error"];
        assert_eq!(
            (answer.status.as_u16(), &error["param"], &error["code"]),
            (status, &param, &json!(code)),
            "{fields}"
        );
        assert_eq!(error["type"], "invalid_request_error");
        assert!(!error["message"].as_str().unwrap().is_empty());
    };
    check(json!({"prompt": ""}), 400, json!("prompt"), "missing_required_parameter");
    check(json!({"prompt": 7}), 400, json!("prompt"), "invalid_value");
    check(json!({"n": 11}), 400, json!("n"), "invalid_value");
    check(json!({"n": 2_147_483_648_u64}), 400, json!("n"), "invalid_value");
    check(json!({"size": "1000x1000"}), 400, json!("size"), "unsupported_value");
    check(json!({"size": "8192x8192"}), 400, json!("size"), "unsupported_value");
    check(json!({"quality": "best"}), 400, json!("quality"), "unsupported_value");
    check(json!({"output_format": "gif"}), 400, json!("output_format"), "unsupported_value");
    check(json!({"output_compression": 50}), 400, json!("output_compression"), "unsupported_value");
    check(json!({"background": "transparent"}), 400, json!("background"), "unsupported_value");
    check(json!({"partial_images": 4, "stream": true}), 400, json!("partial_images"), "unsupported_value");
    check(json!({"steps": 1000}), 400, json!("steps"), "invalid_value");
    check(json!({"lora": [{"id": "../a"}]}), 400, json!("lora"), "invalid_value");
    check(json!({"lora": "a"}), 400, json!("lora"), "invalid_value");
    check(json!({"model": "imagen"}), 404, json!("model"), "model_not_found");
}

#[test]
fn a_body_that_is_no_json_is_refused() {
    let face = Face::new(Bench::new());
    let send = |kind: &str, body: &'static str| {
        let request = request("POST", GENERATIONS).header(header::CONTENT_TYPE, kind);
        face.send(request.body(Body::from(body)).unwrap())
    };
    assert_eq!(send("application/json", "{").status, StatusCode::BAD_REQUEST);
    assert_eq!(send("application/octet-stream", "{}").status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let long = json!({"prompt": "a".repeat(2 << 20)});
    assert_eq!(face.post(GENERATIONS, &long).status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let full = QueueLimits { max_waiting: 0, ..QueueLimits::default() };
    let face = Face::new(Bench::with(TestModels::default(), |settings| settings.queue_limits = full));
    let answer = face.post(GENERATIONS, &asked());
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{}", answer.text());
    assert_eq!(
        (&answer.json()["error"]["code"], &answer.json()["error"]["type"]),
        (&json!("queue_full"), &json!("rate_limit_error"))
    );
    let seconds: u64 = answer.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=120).contains(&seconds), "{seconds}");
}

#[test]
fn a_stream_ends_with_the_pictures() {
    let face = Face::new(Bench::new().work());
    let events = face.post(GENERATIONS, &with(asked(), json!({"stream": true, "partial_images": 1, "n": 2}))).events();
    let completed: Vec<&Value> =
        events.iter().filter(|(name, _)| name == "image_generation.completed").map(|(_, data)| data).collect();
    assert_eq!(completed.len(), 2, "{:?}", events.iter().map(|(name, _)| name).collect::<Vec<_>>());
    let native = face.bench.submit(Draft { n: Some(2), ..small("a red balloon", 5, 2) });
    assert_eq!(completed.iter().map(|data| decoded(data)).collect::<Vec<_>>(), face.bench.pictures(native));
    for (name, data) in &events {
        assert_eq!(data["type"], name.as_str());
        assert!(name == "image_generation.completed" || name == "image_generation.partial_image", "{name}");
    }
}

#[test]
fn a_stream_tells_of_a_failure_amid_it() {
    let face = Face::new(Bench::new());
    let handle = face.begin(json_request(GENERATIONS, &with(asked(), json!({"stream": true}))));
    let job = face.bench.until("a job", |service| service.active().unwrap().pop());
    face.bench.service.cancel(job.id).unwrap();
    let events = face.finish(handle).events();
    let [(name, data)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((name.as_str(), &data["type"], &data["error"]["code"]), ("error", &json!("error"), &json!("cancelled")));
}

#[test]
fn an_edit_takes_one_picture_or_a_list_and_a_transparent_mask() {
    let face = Face::new(Bench::new().work());
    let picture = halves([200, 40, 40, 255], [40, 80, 200, 255]);
    let mask = halves([0, 0, 0, 0], [0, 0, 0, 255]);
    let scalars: [(&str, &[u8]); 4] = [("prompt", b"a tree"), ("n", b"1"), ("seed", b"5"), ("steps", b"2")];
    let masked = [&scalars[..], &[("image", &picture[..]), ("mask", &mask[..]), ("strength", b"0.9")]].concat();
    let answer = face.send(form(&masked)).ok();
    let shown = image::load_from_memory(&decoded(&answer["data"][0])).unwrap().to_rgb8();
    let [red, _, blue] = shown.get_pixel(60, 32).0;
    assert!(shown.dimensions() == (64, 64) && blue > red, "the opaque half of the mask was painted");
    let several = [&scalars[..], &[("image[]", &picture[..]), ("image[]", &picture[..])]].concat();
    let answer = face.send(form(&several));
    answer.ok();
    assert_eq!(answer.headers["x-zimage-ignored"], "image[1]");
}

#[test]
fn edits_without_a_picture_or_with_a_wrong_mask_are_refused() {
    let face = Face::new(Bench::new());
    let picture = halves([200, 40, 40, 255], [40, 80, 200, 255]);
    let check = |parts: &[(&str, &[u8])], param: &str| {
        let answer = face.send(form(parts));
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (StatusCode::BAD_REQUEST, &json!(param)));
    };
    check(&[("prompt", b"a")], "image");
    check(&[("prompt", b"a"), ("image", b"no picture")], "image");
    check(&[("prompt", b"a"), ("image", &picture), ("mask", &picture)], "mask");
    check(&[("prompt", b"a"), ("image", &picture), ("strength", b"2")], "strength");
}

#[test]
fn models_are_listed_and_found_by_the_names_that_clients_have() {
    let face = Face::new(Bench::new());
    let listed = face.get("/v1/models").ok();
    assert_eq!((&listed["object"], &listed["data"][0]["id"]), (&json!("list"), &json!("demo")));
    assert_eq!(face.get("/v1/models/gpt-image-1").ok()["id"], "gpt-image-1");
    assert_eq!(face.get("/v1/models/imagen").json()["error"]["code"], "model_not_found");
    assert_eq!(face.post("/v1/images/variations", &json!({})).status, StatusCode::NOT_FOUND);
}

#[test]
fn an_address_is_good_without_the_key_that_it_was_asked_with() {
    let face = Face::with_keys(Bench::new().work());
    let mut asking = json_request(GENERATIONS, &with(asked(), json!({"response_format": "url"})));
    assert_eq!(face.post(GENERATIONS, &asked()).json()["error"]["code"], "invalid_api_key");
    asking.headers_mut().insert(header::AUTHORIZATION, format!("Bearer {TOKEN}").parse().unwrap());
    let answer = face.send(asking).ok();
    let url = answer["data"][0]["url"].as_str().unwrap();
    let path = url.strip_prefix("http://localhost:7860").expect("the host of the request");
    assert_eq!(face.get(path).status, StatusCode::OK);
    let (file, query) = path.split_once('?').unwrap();
    assert_eq!(face.get(file).status, StatusCode::UNAUTHORIZED);
    assert_eq!(face.get(&format!("/api/v1/jobs?{query}")).status, StatusCode::UNAUTHORIZED);
}
