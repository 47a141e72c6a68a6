//! The real server, in its own thread, with a home of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;
use zimage::Device;
use zimage::pipeline::image::{ImageFormat, RgbImage};
use zimage::pipeline::metadata::{Metadata, SCHEMA_VERSION, TaskRecord, Versions};
use zimage::pipeline::plan::Budget;
use zimage_server::job::{Format, ImageRecord, JobSpec, Progress};
use zimage_server::models::DemoModel;
use zimage_server::queue::{Held, Lease, Outcome, Wanted};
use zimage_server::service::{Place, Service};
use zimage_server::setup::Settings;
use zimage_server::{Server, ServerError, ServerOptions};

use super::client::{Reply, Request};

pub const TOKEN: &str = "a-token-for-tests";

pub struct TestServer {
    pub address: SocketAddr,
    pub service: Arc<Service>,
    pub login: Option<String>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _home: TempDir,
}

/// Starts a server with the usual options.
pub fn start() -> TestServer {
    start_with(|_| {})
}

pub fn start_with(change: impl FnOnce(&mut ServerOptions)) -> TestServer {
    start_then(change, |_| {})
}

/// Starts a server with a worker.
pub fn start_working() -> TestServer {
    start_then(|_| {}, |server| drop(server.start_workers().unwrap()))
}

fn start_then(change: impl FnOnce(&mut ServerOptions), then: impl FnOnce(&mut Server)) -> TestServer {
    let home = TempDir::new().unwrap();
    let mut options = options(&home);
    change(&mut options);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut server = runtime.block_on(Server::bind(options)).unwrap();
    then(&mut server);
    let (address, service) = (server.local_addr(), Arc::clone(server.service()));
    let login = server.login_url().unwrap();
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::spawn(move || {
        runtime.block_on(server.run(async {
            let _ = stopped.await;
        }));
        runtime.shutdown_timeout(Duration::from_secs(5));
    });
    TestServer { address, service, login, stop: Some(stop), thread: Some(thread), _home: home }
}

pub fn options(home: &TempDir) -> ServerOptions {
    let device = Device::cpu(1).unwrap();
    let budget = Budget::Machine(8 << 30);
    let settings = Settings::new(home.path().join("home"), Arc::new(DemoModel), vec![Place { device, budget }]);
    let mut options = ServerOptions::new(settings);
    options.address = "127.0.0.1:0".parse().unwrap();
    options.connections.grace = Duration::from_secs(5);
    options
}

/// Why a server does not start.
pub fn refuses_to_start(change: impl FnOnce(&mut ServerOptions)) -> ServerError {
    let home = TempDir::new().unwrap();
    let mut options = options(&home);
    change(&mut options);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Server::bind(options)).err().expect("it starts")
}

impl TestServer {
    pub fn get(&self, target: &str) -> Reply {
        self.send(&Request::get(target))
    }

    pub fn send(&self, request: &Request) -> Reply {
        request.send(self.address)
    }

    /// Sends JSON, expects success, and gives back JSON.
    pub fn call(&self, method: &str, target: &str, body: &str) -> Value {
        let reply = self.send(&Request::json(method, target, body));
        assert!((200..300).contains(&reply.status), "{method} {target}: {} {}", reply.status, reply.text());
        reply.json()
    }

    /// Submits a small job; gives back its id.
    pub fn submit(&self, prompt: &str) -> String {
        let draft = format!(r#"{{"prompt":"{prompt}","width":64,"height":64,"steps":2,"seed":5}}"#);
        self.call("POST", "/api/v1/jobs", &draft)["id"].as_str().unwrap().to_owned()
    }

    /// Begins the shutdown; the server goes on until its requests have ended.
    pub fn stop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
    }

    /// Waits until the server has ended.
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// A worker that does what a test says.
    pub fn claim(&self) -> Lease {
        self.service.queue().claim("test", &Wanted::default()).unwrap().expect("no job waits")
    }

    pub fn step(&self, lease: &Lease, step: u32) -> Held {
        self.service.queue().step(lease, Progress { image: 0, step, steps: lease.job.spec.steps }, None).unwrap()
    }

    /// Adds a picture to the claimed job, as a worker would.
    pub fn add_picture(&self, lease: &Lease) -> ImageRecord {
        let spec = &lease.job.spec;
        let bytes = picture(spec).encode(ImageFormat::Png, Some(&metadata(spec))).unwrap();
        let sha256 = self.service.files().write_image(&bytes, Format::Png).unwrap();
        let record = ImageRecord {
            sha256,
            job: Some(lease.job.id),
            index: 0,
            seed: spec.seed,
            width: spec.width,
            height: spec.height,
            format: Format::Png,
            size_bytes: bytes.len() as u64,
            created_ms: 1_700_000_000_000,
            favourite: false,
            prompt: spec.prompt.clone(),
        };
        assert_eq!(self.service.queue().add_image(lease, &record).unwrap(), Held::Held);
        record
    }

    pub fn finish(&self, lease: &Lease) {
        assert_eq!(self.service.queue().finish(lease, Outcome::Done).unwrap(), Held::Held);
    }

    /// A finished picture of the gallery.
    pub fn finished_picture(&self, prompt: &str) -> ImageRecord {
        self.submit(prompt);
        let lease = self.claim();
        let record = self.add_picture(&lease);
        self.finish(&lease);
        record
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop();
        if !std::thread::panicking() {
            self.join();
        }
    }
}

/// A picture that differs with the prompt.
fn picture(spec: &JobSpec) -> RgbImage {
    let (width, height) = (spec.width as usize, spec.height as usize);
    let shade = spec.prompt.bytes().fold(0_u8, u8::wrapping_add);
    RgbImage::new(width, height, vec![shade; width * height * 3])
}

pub fn metadata(spec: &JobSpec) -> Metadata {
    Metadata {
        schema_version: SCHEMA_VERSION,
        prompt: spec.prompt.clone(),
        negative_prompt: spec.negative_prompt.clone(),
        width: spec.width as usize,
        height: spec.height as usize,
        steps: spec.steps as usize,
        seed: spec.seed,
        guidance: spec.guidance,
        cfg_normalization: spec.cfg_normalization,
        cfg_truncation: spec.cfg_truncation,
        shift: 3.0,
        cache: spec.cache,
        task: TaskRecord::TextToImage,
        model: spec.model.clone(),
        files: Vec::new(),
        loras: Vec::new(),
        versions: Versions::current(),
        device: "test".into(),
        compute: "exact".into(),
        tiled: false,
    }
}
