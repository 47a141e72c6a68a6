//! Clients of every kind at once: nobody gets a 5xx, no acknowledged job is lost, and memory stays flat.
//!
//! `ZIMAGE_LOAD_SECONDS=600 cargo test -p zimage-cli --test it load -- --nocapture` runs it for ten minutes and prints
//! what it counted.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Home;
use crate::server::Server;

const DEFAULT_SECONDS: u64 = 30;
/// Jobs of one client that may wait: few, so that some are refused.
const MAX_QUEUE: &str = "12";
/// What the server may take more at the end than when it was warm.
const GROWTH_BYTES: u64 = 48 << 20;

/// What clients saw.
#[derive(Default)]
struct Seen {
    /// Answers by client and status.
    answers: BTreeMap<(&'static str, u16), u64>,
    /// Jobs that were acknowledged.
    jobs: Vec<String>,
}

struct Load<'a> {
    server: &'a Server,
    seen: Mutex<Seen>,
    until: Instant,
}

impl Load<'_> {
    fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    fn count(&self, client: &'static str, status: u16) {
        *self.seen.lock().unwrap().answers.entry((client, status)).or_default() += 1;
        if status == 429 {
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Submits jobs, watches some, cancels some.
    fn native(&self) {
        for turn in 0.. {
            if !self.goes_on() {
                return;
            }
            let draft = json!({ "prompt": format!("a red balloon {turn}"), "width": 64, "height": 64, "steps": 4,
                "priority": if turn % 3 == 0 { "batch" } else { "interactive" } });
            let Some((status, job)) = self.server.json("POST", "/api/v1/jobs", &draft) else { continue };
            self.count("native", status);
            let Some(id) = job["id"].as_str().filter(|_| status == 202) else { continue };
            self.seen.lock().unwrap().jobs.push(id.to_owned());
            match turn % 4 {
                0 => drop(self.server.json("DELETE", &format!("/api/v1/jobs/{id}"), &Value::Null)),
                1 => drop(self.server.request("GET", &format!("/api/v1/jobs/{id}/events"), "")),
                _ => drop(self.server.end_of(id)),
            }
        }
    }

    /// Waits for pictures as OpenAI's and the web UI's clients do.
    fn synchronous(&self, client: &'static str, path: &str, body: &Value) {
        while self.goes_on() {
            if let Some((status, _)) = self.server.request("POST", path, &body.to_string()) {
                self.count(client, status);
            }
        }
    }

    /// Hangs up in the middle of everything.
    fn rude(&self) {
        let body = json!({ "prompt": "a", "size": "64x64", "steps": 20 }).to_string();
        while self.goes_on() {
            let Ok(mut stream) = TcpStream::connect(&self.server.address) else { continue };
            let (address, length) = (&self.server.address, body.len());
            // What follows is rude on purpose: whether it is heard doesn't matter.
            let _ = write!(
                stream,
                "POST /v1/images/generations HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
                 content-length: {length}\r\n\r\n{body}"
            );
            thread::sleep(Duration::from_millis(40));
        }
    }

    /// Looks at everything.
    fn watcher(&self) {
        let paths = ["/", "/api/v1/images?q=red", "/api/v1/jobs", "/metrics", "/healthz", "/api/v1/capabilities"];
        for path in paths.iter().cycle() {
            if !self.goes_on() {
                return;
            }
            if let Some((status, _)) = self.server.request("GET", path, "") {
                self.count("watcher", status);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Follows the events of all jobs to the end.
    fn follower(&self) {
        let Ok(mut stream) = TcpStream::connect(&self.server.address) else { return };
        let address = &self.server.address;
        write!(stream, "GET /api/v1/events HTTP/1.1\r\nhost: {address}\r\n\r\n").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut bytes = [0; 4096];
        while self.goes_on() {
            // A pause between two events is no error.
            let _ = stream.read(&mut bytes);
        }
    }
}

#[test]
fn load_of_mixed_clients_is_borne_with_flat_memory() {
    let seconds = std::env::var("ZIMAGE_LOAD_SECONDS").ok().and_then(|text| text.parse().ok());
    let length = Duration::from_secs(seconds.unwrap_or(DEFAULT_SECONDS));
    let home = Home::new();
    let server = Server::start(&home, &["--max-queue", MAX_QUEUE]);
    let load = Load { server: &server, seen: Mutex::default(), until: Instant::now() + length };
    let mut memory = Vec::new();
    thread::scope(|scope| {
        (0..3).for_each(|_| drop(scope.spawn(|| load.native())));
        let openai = json!({ "prompt": "a blue house", "size": "64x64", "steps": 2, "response_format": "b64_json" });
        let a1111 = json!({ "prompt": "a green tree", "width": 64, "height": 64, "steps": 2 });
        let load = &load;
        scope.spawn(move || load.synchronous("openai", "/v1/images/generations", &openai));
        scope.spawn(move || load.synchronous("a1111", "/sdapi/v1/txt2img", &a1111));
        scope.spawn(|| load.rude());
        scope.spawn(|| load.watcher());
        scope.spawn(|| load.follower());
        while load.goes_on() {
            thread::sleep(length / 20);
            memory.extend(server.memory());
        }
    });
    let seen = load.seen.into_inner().unwrap();
    println!("{:?}\n{} jobs; memory in MiB: {:?}", seen.answers, seen.jobs.len(), mebibytes(&memory));
    let unexpected: Vec<_> = seen.answers.keys().filter(|(_, status)| ![200, 202, 429].contains(status)).collect();
    assert!(unexpected.is_empty(), "{:?}", seen.answers);
    for client in ["native", "openai", "a1111", "watcher"] {
        assert!(seen.answers.keys().any(|(name, status)| *name == client && *status < 300), "{client} got nothing");
    }
    for id in &seen.jobs {
        let job = server.end_of(id);
        assert!(["done", "cancelled"].contains(&job["state"].as_str().unwrap()), "{job}");
    }
    // The first quarter warms it up.
    if let (Some(warm), Some(end)) = (memory.get(memory.len() / 4), memory.last()) {
        assert!(end.saturating_sub(*warm) < GROWTH_BYTES, "memory grew: {:?} MiB", mebibytes(&memory));
    }
}

fn mebibytes(bytes: &[u64]) -> Vec<u64> {
    bytes.iter().map(|bytes| bytes >> 20).collect()
}
