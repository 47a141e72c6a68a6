use super::client::{Connection, Request};
use super::events::Stream;
use super::server::{start, start_with};

#[test]
fn a_server_that_goes_down_says_so_takes_nothing_and_lets_requests_end() {
    let mut server = start();
    let waiting = server.submit("a");
    let mut all = Stream::open(&server, &Request::get("/api/v1/events"));
    let mut one = Stream::open(&server, &Request::get(&format!("/api/v1/jobs/{waiting}/events")));
    // A request whose body is still on its way.
    let body = br#"{"text":"a cat"}"#;
    let head =
        Request::json("POST", "/api/v1/metadata/text", "").header("content-length", &body.len().to_string()).head();
    let mut late = Connection::open(server.address);
    late.send(head.as_bytes());
    assert_eq!(server.get("/readyz").status, 200);
    server.stop();
    assert_eq!(all.until("shutdown").pop().unwrap().id, None);
    one.until("shutdown");
    assert_eq!((all.next(), one.next()), (None, None));
    assert_eq!(server.get("/readyz").status, 503);
    assert_eq!(server.get("/healthz").status, 200);
    let refused = server.send(&Request::json("POST", "/api/v1/jobs", r#"{"prompt":"b"}"#));
    assert_eq!((refused.status, &refused.json()["code"]), (503, &"unavailable".into()));
    assert!(!refused.header("retry-after").is_empty());
    late.send(body);
    assert_eq!(late.reply().status, 200);
    server.join();
    assert!(std::net::TcpStream::connect(server.address).is_err());
}

#[test]
fn a_request_that_never_ends_is_cut_off() {
    let mut server = start_with(|options| options.connections.grace = std::time::Duration::from_millis(200));
    let mut endless = Connection::open(server.address);
    endless.send(Request::json("POST", "/api/v1/jobs", "").header("content-length", "9").head().as_bytes());
    assert_eq!(server.get("/readyz").status, 200);
    server.stop();
    server.join();
    assert!(endless.is_closed());
}
