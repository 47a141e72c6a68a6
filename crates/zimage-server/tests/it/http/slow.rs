use std::time::{Duration, Instant};

use super::client::{Connection, Request};
use super::server::{TestServer, start_with};

const LIMIT: Duration = Duration::from_millis(600);

fn impatient() -> TestServer {
    start_with(|options| {
        options.connections.header_timeout = LIMIT;
        options.settings.limits.body_timeout = LIMIT;
    })
}

/// The time is about the limit: not before, and not long after.
fn is_about_the_limit(start: Instant) -> bool {
    (LIMIT - Duration::from_millis(50)..LIMIT * 4).contains(&start.elapsed())
}

#[test]
fn a_head_that_comes_byte_by_byte_is_cut_off_in_time() {
    let server = impatient();
    let mut connection = Connection::open(server.address);
    let start = Instant::now();
    for byte in Request::get("/healthz").head().bytes().take(20) {
        connection.send(&[byte]);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(connection.is_closed());
    assert!(is_about_the_limit(start), "{:?}", start.elapsed());
}

#[test]
fn a_connection_that_says_nothing_is_closed_in_time() {
    let server = impatient();
    let start = Instant::now();
    assert!(Connection::open(server.address).is_closed());
    assert!(is_about_the_limit(start), "{:?}", start.elapsed());
}

#[test]
fn a_body_that_comes_byte_by_byte_is_refused_in_time() {
    let server = impatient();
    let json = Request::json("POST", "/api/v1/jobs", "");
    let form = Request::new("POST", "/api/v1/uploads").header("content-type", "multipart/form-data; boundary=b");
    for request in [json, form] {
        let mut connection = Connection::open(server.address);
        let start = Instant::now();
        connection.send(request.header("content-length", "1000").head().as_bytes());
        for _ in 0..20 {
            connection.send(b" ");
            std::thread::sleep(Duration::from_millis(20));
        }
        let reply = connection.reply();
        assert_eq!((reply.status, &reply.json()["code"]), (408, &"timeout".into()));
        assert!(is_about_the_limit(start), "{:?}", start.elapsed());
    }
}

#[test]
fn a_body_in_chunks_of_one_byte_is_read_like_any_other() {
    let server = start_with(|_| {});
    let mut connection = Connection::open(server.address);
    let request = Request::json("POST", "/api/v1/jobs", "").header("transfer-encoding", "chunked");
    connection.send(request.head().as_bytes());
    for byte in br#"{"prompt":"a cat"}"# {
        connection.send(&[b'1', b'\r', b'\n', *byte, b'\r', b'\n']);
    }
    connection.send(b"0\r\n\r\n");
    assert_eq!(connection.reply().status, 202);
}

#[test]
fn connections_beyond_the_limit_wait_for_one_to_end() {
    let server = start_with(|options| {
        options.connections.max_connections = 2;
        options.connections.header_timeout = LIMIT;
    });
    let idle = [0, 1].map(|_| Connection::open(server.address));
    let start = Instant::now();
    assert_eq!(server.get("/healthz").status, 200);
    assert!(is_about_the_limit(start), "{:?}", start.elapsed());
    drop(idle);
}
