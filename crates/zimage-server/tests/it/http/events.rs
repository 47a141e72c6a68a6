use std::time::Instant;

use serde_json::Value;

use super::client::{Connection, PATIENCE, Request};
use super::server::{TestServer, start};

/// A message of a stream.
#[derive(Debug, PartialEq)]
pub struct Message {
    pub name: String,
    pub id: Option<u64>,
    pub data: Value,
}

/// A stream of messages.
pub struct Stream {
    connection: Connection,
    text: String,
}

impl Stream {
    pub fn open(server: &TestServer, request: &Request) -> Stream {
        let mut connection = request.start(server.address);
        let head = connection.head();
        assert_eq!((head.status, head.header("content-type")), (200, "text/event-stream"));
        assert_eq!((head.header("cache-control"), head.header("x-accel-buffering")), ("no-cache", "no"));
        Stream { connection, text: String::new() }
    }

    /// The next message; `None` at the end. Fails when only keep-alives come.
    pub fn next(&mut self) -> Option<Message> {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < PATIENCE, "no message comes");
            if let Some((message, rest)) = self.text.split_once("\n\n") {
                let message = parse(message);
                self.text = rest.to_owned();
                match message {
                    Some(message) => return Some(message),
                    None => continue,
                }
            }
            let chunk = self.connection.chunk()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// Messages up to the first of this name.
    pub fn until(&mut self, name: &str) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.next() {
            let is_last = message.name == name;
            messages.push(message);
            if is_last {
                return messages;
            }
        }
        panic!("the stream ended before `{name}`: {messages:?}")
    }
}

/// Comments are nothing.
fn parse(text: &str) -> Option<Message> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let data = serde_json::from_str(field("data")?).unwrap();
    Some(Message { name: field("event")?.into(), id: field("id").map(|id| id.parse().unwrap()), data })
}

fn names(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.name.as_str()).collect()
}

/// A job that has gone its whole way.
fn run(server: &TestServer) -> String {
    let id = server.submit("a");
    let lease = server.claim();
    server.step(&lease, 1);
    server.step(&lease, 2);
    server.add_picture(&lease);
    server.finish(&lease);
    id
}

#[test]
fn a_job_is_followed_from_its_start_to_its_end() {
    let server = start();
    let id = server.submit("a");
    let mut stream = Stream::open(&server, &Request::get(&format!("/api/v1/jobs/{id}/events")));
    let first = stream.until("position");
    assert_eq!(names(&first), ["job", "queued", "position"]);
    assert_eq!((first[0].id, &first[0].data["id"]), (None, &Value::from(id.clone())));
    assert_eq!((first[2].id, &first[2].data["position"]), (None, &0.into()));
    let lease = server.claim();
    assert_eq!(names(&stream.until("running")), ["running"]);
    server.step(&lease, 1);
    // The first picture of a model has its own pace to be judged by.
    let step = stream.until("eta");
    assert_eq!(names(&step), ["step", "eta"]);
    assert_eq!((&step[0].data["step"], &step[0].data["type"]), (&1.into(), &"step".into()));
    assert_eq!(step[0].id, step[0].data["seq"].as_u64());
    let picture = server.add_picture(&lease);
    server.finish(&lease);
    let rest = stream.until("done");
    assert_eq!(names(&rest), ["image", "done"]);
    assert_eq!(rest[0].data["sha256"], picture.sha256.as_str());
    assert_eq!(stream.next(), None);
}

#[test]
fn the_time_that_is_left_is_told_after_each_step() {
    let server = start();
    let id = server.submit("a");
    let lease = server.claim();
    server.service.speed().learn(&lease.job.spec, std::time::Duration::from_secs(10));
    server.step(&lease, 1);
    let mut stream = Stream::open(&server, &Request::get(&format!("/api/v1/jobs/{id}/events")));
    let eta = stream.until("eta").pop().unwrap();
    assert_eq!((eta.id, &eta.data["eta_ms"], &eta.data["job"]), (None, &5000.into(), &Value::from(id)));
}

#[test]
fn a_stream_resumes_behind_any_event_without_a_gap_or_a_repetition() {
    let server = start();
    let id = run(&server);
    let path = format!("/api/v1/jobs/{id}/events");
    let ids = |request: &Request| {
        let mut stream = Stream::open(&server, request);
        assert_eq!(stream.next().unwrap().name, "job");
        std::iter::from_fn(|| stream.next()).filter_map(|message| message.id).collect::<Vec<u64>>()
    };
    let all = ids(&Request::get(&path));
    assert_eq!(all.len(), 6);
    for (index, seen) in all.iter().enumerate() {
        let behind = &all[index + 1..];
        assert_eq!(ids(&Request::get(&path).header("last-event-id", &seen.to_string())), behind);
        assert_eq!(ids(&Request::get(&format!("{path}?after={seen}"))), behind);
        let both = Request::get(&format!("{path}?after=0")).header("last-event-id", &seen.to_string());
        assert_eq!(ids(&both), behind);
    }
    assert_eq!(ids(&Request::get(&path).header("last-event-id", "nonsense")), all);
    assert_eq!(ids(&Request::get(&path).header("last-event-id", "18446744073709551615")), [0; 0]);
}

#[test]
fn the_stream_of_all_jobs_begins_now_or_where_the_client_was() {
    let server = start();
    let old = run(&server);
    let mut now = Stream::open(&server, &Request::get("/api/v1/events"));
    let new = server.submit("b");
    let queued = now.until("queued").pop().unwrap();
    assert_eq!(queued.data["job"], Value::from(new));
    let mut resumed = Stream::open(&server, &Request::get("/api/v1/events?after=0"));
    let all = resumed.until("done");
    assert!(all.iter().filter(|message| message.id.is_some()).all(|message| message.data["job"] == old.as_str()));
    let mut reset = Stream::open(&server, &Request::get("/api/v1/events?after=1000000"));
    server.submit("c");
    assert!(reset.until("queued").pop().unwrap().id > queued.id);
}

#[test]
fn two_streams_at_once_see_the_same() {
    let server = start();
    let mut streams = [0, 1].map(|_| Stream::open(&server, &Request::get("/api/v1/events")));
    run(&server);
    let [first, second] = streams.each_mut().map(|stream| {
        let messages = stream.until("done");
        messages.into_iter().filter_map(|message| message.id).collect::<Vec<u64>>()
    });
    assert_eq!(first.len(), 6);
    assert_eq!(first, second);
}

#[test]
fn favourites_and_deletions_are_told_to_all() {
    let server = start();
    let picture = server.finished_picture("a");
    let mut stream = Stream::open(&server, &Request::get("/api/v1/events"));
    server.call("PATCH", &format!("/api/v1/images/{}", picture.sha256), r#"{"favourite":true}"#);
    let told = stream.until("gallery").pop().unwrap();
    assert_eq!((told.id, told.data), (None, serde_json::json!({})));
}

#[test]
fn a_client_that_leaves_leaves_its_job_alone() {
    let server = start();
    let id = server.submit("a");
    drop(Stream::open(&server, &Request::get(&format!("/api/v1/jobs/{id}/events"))));
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(server.get(&format!("/api/v1/jobs/{id}")).json()["state"], "queued");
}

#[test]
fn no_stream_of_a_job_that_is_none() {
    let server = start();
    for id in ["x", "01990b53-6c5e-7cc3-8b3c-1f2a7c3d9e10"] {
        assert_eq!(server.get(&format!("/api/v1/jobs/{id}/events")).status, 404, "{id}");
    }
    assert_eq!(server.get("/api/v1/events?after=x").status, 400);
}
