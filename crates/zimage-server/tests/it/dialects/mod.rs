//! The APIs that other programs' clients speak, by what those clients send and by what they need of the answer. The
//! clients themselves are in `python/clients`.

mod a1111;
mod mcp;
mod openai;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;
use zimage_server::http::{App, Auth, Context, Hosts, router};
use zimage_server::queue::system_clock;
use zimage_server::store::Keys;

use crate::bench::Bench;
use crate::samples::database;

/// The key of a server that needs one.
pub const TOKEN: &str = "zk-of-a-test";

/// A server without a network: requests go straight to its routes.
pub struct Face {
    pub bench: Bench,
    router: Router,
    runtime: Runtime,
    _keys: TempDir,
}

/// What came back.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Face {
    pub fn new(bench: Bench) -> Face {
        Face::of(bench, false)
    }

    pub fn with_keys(bench: Bench) -> Face {
        Face::of(bench, true)
    }

    fn of(bench: Bench, needs_key: bool) -> Face {
        let home = TempDir::new().unwrap();
        let keys = Keys::new(database(&home), system_clock());
        let auth = Auth::new(needs_key, keys, &[TOKEN.to_owned()], 7860);
        let hosts = Hosts::new(&[], [127, 0, 0, 1].into());
        let app = App { service: Arc::clone(&bench.service) };
        let router = router(app, Arc::new(Context::new(needs_key)), hosts, Arc::new(auth));
        Face { bench, router, runtime: Runtime::new().unwrap(), _keys: home }
    }

    /// The whole answer to a request.
    pub fn send(&self, request: Request<Body>) -> Answer {
        self.runtime.block_on(answer(self.router.clone(), request))
    }

    /// The same from a client that does not wait: the answer is taken from the handle.
    pub fn begin(&self, request: Request<Body>) -> tokio::task::JoinHandle<Answer> {
        self.runtime.spawn(answer(self.router.clone(), request))
    }

    /// The answer to a client that did not wait.
    pub fn finish(&self, begun: tokio::task::JoinHandle<Answer>) -> Answer {
        self.runtime.block_on(begun).unwrap()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send(request("GET", path).body(Body::empty()).unwrap())
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(json_request(path, body))
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The JSON of an answer that must be a success.
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        self.json()
    }

    /// The events of a stream: their names and data.
    pub fn events(&self) -> Vec<(String, Value)> {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        let text = self.text();
        let field = |event: &str, name: &str| {
            event.lines().find_map(|line| line.strip_prefix(name).map(|value| value.trim().to_owned()))
        };
        let event = |event: &str| {
            let data = serde_json::from_str(&field(event, "data:")?).ok()?;
            Some((field(event, "event:").unwrap_or_default(), data))
        };
        text.split("\n\n").filter_map(event).collect()
    }
}

pub fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header(header::HOST, "localhost:7860")
}

pub fn json_request(path: &str, body: &Value) -> Request<Body> {
    let request = request("POST", path).header(header::CONTENT_TYPE, "application/json");
    request.body(Body::from(body.to_string())).unwrap()
}

async fn answer(router: Router, request: Request<Body>) -> Answer {
    let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    Answer { status: parts.status, headers: parts.headers, body: body.to_vec() }
}

/// A PNG whose left half is of one value and its right half of another, in so many channels.
pub fn halves(left: [u8; 4], right: [u8; 4]) -> Vec<u8> {
    let image = image::RgbaImage::from_fn(64, 64, |x, _| image::Rgba(if x < 32 { left } else { right }));
    let mut png = std::io::Cursor::new(Vec::new());
    image.write_to(&mut png, image::ImageFormat::Png).unwrap();
    png.into_inner()
}
