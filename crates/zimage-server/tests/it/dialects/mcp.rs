//! The Model Context Protocol over HTTP, as clients with a session speak it.

use axum::body::Body;
use axum::http::{StatusCode, header};
use serde_json::{Value, json};
use zimage_server::job::JobState;

use super::{Answer, Face, request};
use crate::bench::Bench;

const VERSION: &str = "2025-06-18";

/// A client that has introduced itself.
struct Session<'a> {
    face: &'a Face,
    id: String,
}

fn message(session: Option<&str>, body: &Value) -> axum::http::Request<Body> {
    let request = request("POST", "/mcp").header(header::CONTENT_TYPE, "application/json");
    let request = request.header(header::ACCEPT, "application/json, text/event-stream");
    let request = match session {
        Some(id) => request.header("mcp-session-id", id).header("mcp-protocol-version", VERSION),
        None => request,
    };
    request.body(Body::from(body.to_string())).unwrap()
}

fn call(id: u32, tool: &str, arguments: Value) -> Value {
    let meta = json!({"progressToken": "token"});
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": arguments, "_meta": meta}})
}

impl Session<'_> {
    fn begin(face: &Face) -> Session<'_> {
        let client = json!({"name": "test", "version": "1"});
        let params = json!({"protocolVersion": VERSION, "capabilities": {}, "clientInfo": client});
        let answer =
            face.send(message(None, &json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})));
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let session = Session { face, id: answer.headers["mcp-session-id"].to_str().unwrap().into() };
        session.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        session
    }

    fn send(&self, body: &Value) -> Answer {
        self.face.send(message(Some(&self.id), body))
    }

    /// The messages that answer a request, its result the last.
    fn messages(&self, body: &Value) -> Vec<Value> {
        self.send(body).events().into_iter().map(|(_, message)| message).collect()
    }

    fn result(&self, body: &Value) -> Value {
        self.messages(body).pop().expect("an answer")["result"].clone()
    }
}

#[test]
fn a_tool_gives_a_picture_a_link_and_data_and_tells_of_its_progress() {
    let face = Face::new(Bench::new().work());
    let session = Session::begin(&face);
    let arguments = json!({"prompt": "a red balloon", "width": 64, "height": 64, "steps": 3, "seed": 5});
    let messages = session.messages(&call(1, "generate_image", arguments));
    let (last, before) = messages.split_last().unwrap();
    let result = &last["result"];
    let kinds: Vec<&str> =
        result["content"].as_array().unwrap().iter().map(|block| block["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["image", "resource_link", "text"], "{result}");
    assert_eq!(result["content"][0]["mimeType"], "image/jpeg");
    let picture = &result["structuredContent"]["images"][0];
    assert_eq!((&picture["seed"], &picture["width"]), (&json!(5), &json!(64)));
    let told: Vec<f64> = before.iter().filter_map(|message| message["params"]["progress"].as_f64()).collect();
    assert!(!told.is_empty() && told.is_sorted(), "{told:?}");
    let read = json!({"jsonrpc": "2.0", "id": 2, "method": "resources/read", "params": {"uri": picture["uri"]}});
    let contents = session.result(&read)["contents"][0].clone();
    assert_eq!(contents["mimeType"], "image/png");
    let edit = json!({"image": picture["id"], "prompt": "a blue balloon", "steps": 2, "strength": 0.5});
    assert_eq!(session.result(&call(3, "edit_image", edit))["structuredContent"]["images"][0]["width"], 64);
}

#[test]
fn every_tool_says_what_it_takes_and_gives() {
    let face = Face::new(Bench::new());
    let session = Session::begin(&face);
    let tools = session.result(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}))["tools"].clone();
    let tools = tools.as_array().unwrap();
    let mut names: Vec<&str> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["cancel_job", "edit_image", "generate_image", "get_job", "list_models"]);
    for tool in tools {
        assert_eq!(tool["inputSchema"]["type"], "object", "{tool}");
        assert_eq!(tool["outputSchema"]["type"], "object", "{tool}");
        assert!(!tool["description"].as_str().unwrap().is_empty());
    }
    let models = session.result(&call(2, "list_models", json!({})))["structuredContent"].clone();
    assert_eq!(models["models"][0], json!({"name": "demo", "native_size": 128}));
}

#[test]
fn paths_and_addresses_are_no_pictures() {
    let face = Face::new(Bench::new());
    let session = Session::begin(&face);
    for (id, image) in ["/etc/passwd", "../a.png", "file:///a.png", "http://127.0.0.1/a.png", "aGVsbG8="]
        .iter()
        .zip(1..)
        .map(|(a, b)| (b, a))
    {
        let result = session.result(&call(id, "edit_image", json!({"image": image, "prompt": "a"})));
        assert_eq!(result["isError"], true, "{image}");
    }
    for (id, uri) in [(11, "zimage://images/../a"), (12, "file:///etc/passwd")] {
        let read = json!({"jsonrpc": "2.0", "id": id, "method": "resources/read", "params": {"uri": uri}});
        assert!(session.messages(&read).pop().unwrap()["error"].is_object(), "{uri}");
    }
}

#[test]
fn arguments_that_no_tool_takes_are_named() {
    let face = Face::new(Bench::new());
    let session = Session::begin(&face);
    let wrong = session.messages(&call(1, "generate_image", json!({"prompt": "a", "sampler": "x"}))).pop().unwrap();
    assert!(wrong.to_string().contains("sampler"), "{wrong}");
    let wrong = session.result(&call(2, "generate_image", json!({"prompt": "a", "steps": 1000})));
    assert_eq!(wrong["isError"], true);
    assert!(wrong["content"][0]["text"].as_str().unwrap().contains("steps"));
}

#[test]
fn a_call_that_its_client_gives_up_is_cancelled() {
    let face = Face::new(Bench::new());
    let session = Session::begin(&face);
    let handle = face.begin(message(Some(&session.id), &call(7, "generate_image", json!({"prompt": "a"}))));
    let job = face.bench.until("a job", |service| service.active().unwrap().pop());
    let params = json!({"requestId": 7, "reason": "enough"});
    session.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}));
    assert_eq!(face.bench.end_of(job.id).state, JobState::Cancelled);
    handle.abort();
}

#[test]
fn a_job_is_looked_up_and_cancelled_by_its_id() {
    let face = Face::new(Bench::new());
    let id = face.bench.submit(crate::bench::small("a", 1, 2));
    let session = Session::begin(&face);
    let state = |n| session.result(&call(n, "get_job", json!({"id": id})))["structuredContent"]["state"].clone();
    assert_eq!(state(1), "queued");
    let cancelled = session.result(&call(2, "cancel_job", json!({"id": id})));
    assert_eq!(cancelled["structuredContent"]["cancelled"], true);
    assert_eq!(state(3), "cancelled");
    assert_eq!(session.result(&call(4, "get_job", json!({"id": "x"})))["isError"], true);
}

#[test]
fn pages_have_no_business_here() {
    let face = Face::new(Bench::new());
    for origin in ["http://localhost:7860", "http://evil.example", "null"] {
        let mut request = message(None, &json!({"jsonrpc": "2.0", "id": 0, "method": "ping"}));
        request.headers_mut().insert(header::ORIGIN, origin.parse().unwrap());
        assert_eq!(face.send(request).status, StatusCode::FORBIDDEN, "{origin}");
    }
}
