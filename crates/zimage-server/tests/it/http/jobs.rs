use std::time::{Duration, Instant};

use axum::extract::State;
use zimage_server::http::{App, ConnectionLimits, Pledge, serve};
use zimage_server::job::JobState;

use super::client::{Connection, Request};
use super::server::{start, start_with};

#[test]
fn a_job_is_submitted_shown_listed_and_cancelled() {
    let server = start();
    let reply = server.send(&Request::json("POST", "/api/v1/jobs", r#"{"prompt":"a cat","width":64,"height":64}"#));
    assert_eq!(reply.status, 202);
    let job = reply.json();
    let path = format!("/api/v1/jobs/{}", job["id"].as_str().unwrap());
    assert_eq!(reply.header("location"), path);
    assert_eq!((&job["state"], &job["position"], &job["spec"]["steps"]), (&"queued".into(), &0.into(), &8.into()));
    assert!(job.get("owner").is_none());
    assert_eq!(server.get(&path).json()["id"], job["id"]);
    assert_eq!(server.get("/api/v1/jobs").json()["jobs"][0]["id"], job["id"]);
    assert_eq!(server.call("DELETE", &path, "{}")["state"], "cancelled");
    let again = server.send(&Request::new("DELETE", &path));
    assert_eq!((again.status, &again.json()["code"]), (409, &"invalid_request".into()));
    assert_eq!(server.get("/api/v1/jobs").json()["jobs"], serde_json::json!([]));
}

#[test]
fn an_idempotency_key_makes_one_job_of_two_requests() {
    let server = start();
    let submit = |prompt: &str| {
        let body = format!(r#"{{"prompt":"{prompt}","seed":1}}"#);
        server.send(&Request::json("POST", "/api/v1/jobs", &body).header("idempotency-key", "k1"))
    };
    let (first, second, other) = (submit("a"), submit("a"), submit("b"));
    assert_eq!((first.status, second.status, other.status), (202, 200, 409));
    assert_eq!(first.json()["id"], second.json()["id"]);
    assert_eq!(other.json()["code"], "key_reused");
    let long = Request::json("POST", "/api/v1/jobs", "{}").header("idempotency-key", &"x".repeat(256));
    assert_eq!(server.send(&long).status, 400);
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let server = start_with(|options| options.settings.queue_limits.max_waiting = 1);
    server.submit("one");
    let reply = server.send(&Request::json("POST", "/api/v1/jobs", r#"{"prompt":"two"}"#));
    assert_eq!((reply.status, &reply.json()["code"]), (429, &"queue_full".into()));
    let seconds: u64 = reply.header("retry-after").parse().unwrap();
    assert!((1..=120).contains(&seconds), "{seconds}");
}

#[test]
fn an_unknown_model_and_an_unknown_job_are_told_apart() {
    let server = start();
    let reply = server.send(&Request::json("POST", "/api/v1/jobs", r#"{"prompt":"a","model":"none"}"#)).json();
    assert_eq!((&reply["code"], &reply["param"]), (&"unknown_model".into(), &"model".into()));
    let reply = server.get("/api/v1/jobs/01990b53-6c5e-7cc3-8b3c-1f2a7c3d9e10");
    assert_eq!((reply.status, &reply.json()["code"]), (404, &"not_found".into()));
    assert_eq!(reply.header("content-type"), "application/problem+json");
}

#[test]
fn a_running_job_without_a_preview_has_none() {
    let server = start();
    let id = server.submit("a");
    let reply = server.get(&format!("/api/v1/jobs/{id}/preview?step=1"));
    assert_eq!((reply.status, reply.json()["detail"].as_str()), (404, Some("there is no such preview")));
}

#[test]
fn a_preview_says_its_step_and_is_never_cached() {
    use zimage_server::job::Progress;
    use zimage_server::preview::Preview;
    let server = start();
    let id = server.submit("a");
    let progress = Progress { image: 0, step: 3, steps: 8 };
    server.service.previews().set(id.parse().unwrap(), Preview { progress, jpeg: vec![1, 2, 3].into() });
    let reply = server.get(&format!("/api/v1/jobs/{id}/preview"));
    assert_eq!((reply.status, reply.header("x-zimage-step"), reply.body.as_slice()), (200, "3", &[1_u8, 2, 3][..]));
    assert_eq!((reply.header("content-type"), reply.header("cache-control")), ("image/jpeg", "no-store"));
}

#[test]
fn the_server_tells_what_it_can_do_and_how_it_is() {
    let server = start();
    let capabilities = server.get("/api/v1/capabilities").json();
    assert_eq!((&capabilities["auth"], &capabilities["models"][0]["name"]), (&false.into(), &"demo".into()));
    assert_eq!(server.get("/healthz").json()["status"], "ok");
    assert_eq!(server.get("/readyz").status, 200);
    assert!(server.get("/metrics").text().contains("zimage_queue_depth"));
    assert_eq!(server.call("POST", "/api/v1/models/unload", "{}")["unloaded"], false);
}

#[test]
fn a_server_with_a_worker_is_ready_and_unloads_its_model_when_asked() {
    let server = super::server::start_working();
    let id = server.submit("a");
    while server.get(&format!("/api/v1/jobs/{id}")).json()["state"] != "done" {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(server.get("/readyz").status, 200);
    assert_eq!(server.call("POST", "/api/v1/models/unload", "{}")["unloaded"], true);
    while server.call("POST", "/api/v1/models/unload", "{}")["unloaded"] == true {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// A synchronous route as other families have it: the job, and its end.
async fn wait(State((app, id)): State<(App, zimage_server::job::JobId)>) -> &'static str {
    let pledge = Pledge::new(app.service.clone(), id);
    app.service.wait(id).await.unwrap();
    pledge.keep();
    "done"
}

#[test]
fn a_job_ends_with_the_client_that_waits_for_it() {
    let server = start();
    let id: zimage_server::job::JobId = server.submit("a").parse().unwrap();
    let app = App { service: server.service.clone() };
    let router = axum::Router::new().route("/wait", axum::routing::get(wait)).with_state((app, id));
    let limits = ConnectionLimits { max_connections: 8, header_timeout: Duration::from_secs(5), grace: Duration::ZERO };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(serve(listener, router, limits, std::future::pending(), || {}));
    let mut client = Connection::open(address);
    client.send(Request::get("/wait").head().as_bytes());
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(server.service.job(id).unwrap().state, JobState::Queued);
    drop(client);
    let start = Instant::now();
    while server.service.job(id).unwrap().state != JobState::Cancelled {
        assert!(start.elapsed() < Duration::from_secs(5), "the job goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_panic_is_told_as_an_internal_error_and_the_server_lives() {
    struct Broken;
    impl zimage_server::models::Models for Broken {
        fn names(&self) -> Vec<String> {
            panic!("secret words")
        }
        fn open(&self, _: &str, device: zimage::Device) -> zimage::Result<zimage::Pipeline> {
            zimage::Pipeline::demo(device)
        }
        fn files(&self, _: &zimage::Pipeline) -> zimage::Result<Vec<zimage::pipeline::metadata::FileRecord>> {
            Ok(Vec::new())
        }
        fn loras(&self) -> Vec<zimage_server::models::LoraInfo> {
            Vec::new()
        }
        fn lora_path(&self, _: &str) -> Option<std::path::PathBuf> {
            None
        }
    }
    let server = start_with(|options| options.settings.models = std::sync::Arc::new(Broken));
    let reply = server.get("/api/v1/capabilities");
    assert_eq!((reply.status, &reply.json()["code"]), (500, &"internal".into()));
    assert!(!reply.text().contains("secret"), "{}", reply.text());
    assert_eq!(server.get("/healthz").status, 200);
}
