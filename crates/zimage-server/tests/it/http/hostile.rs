use super::client::{Connection, Request};
use super::server::{TestServer, start};

const CODES: [&str; 14] = [
    "invalid_request",
    "unknown_model",
    "not_found",
    "too_large",
    "out_of_memory",
    "queue_full",
    "key_reused",
    "unavailable",
    "internal",
    "unauthorized",
    "forbidden",
    "unsupported_media_type",
    "method_not_allowed",
    "timeout",
];

/// Bodies that nobody in their right mind sends.
fn bodies() -> Vec<String> {
    let fixed = [
        "",
        "{",
        "[]",
        "null",
        "1",
        "\"x\"",
        "{}",
        r#"{"prompt":null}"#,
        r#"{"prompt":["a"]}"#,
        r#"{"prompt":"a","n":2147483648}"#,
        r#"{"prompt":"a","n":0}"#,
        r#"{"prompt":"a","n":-1}"#,
        r#"{"prompt":"a","n":1e999}"#,
        r#"{"prompt":"a","width":4294967295,"height":4294967295}"#,
        r#"{"prompt":"a","width":4294967296}"#,
        r#"{"prompt":"a","width":17}"#,
        r#"{"prompt":"a","width":0}"#,
        r#"{"prompt":"a","steps":18446744073709551616}"#,
        r#"{"prompt":"a","seed":9007199254740993}"#,
        r#"{"prompt":"a","guidance":-1}"#,
        r#"{"prompt":"a","guidance":1e308}"#,
        r#"{"prompt":"a","shift":0}"#,
        r#"{"prompt":"a","cache":"turbo"}"#,
        r#"{"prompt":"a","format":"svg"}"#,
        r#"{"prompt":"a","quality":0}"#,
        r#"{"prompt":"a","priority":"root"}"#,
        r#"{"prompt":"a","loras":[{"id":"x","weight":1}]}"#,
        r#"{"prompt":"a","loras":[{"id":"x","weight":1e999}]}"#,
        r#"{"prompt":"a","steps":1,"steps":2}"#,
        r#"{"prompt":"a","prompt":"b"}"#,
        r#"{"__proto__":{}}"#,
        r#"{"prompt":"\ud800"}"#,
        r#"{"favourite":"x"}"#,
        r#"{"sha256":"x"}"#,
        r#"{"sha256":[]}"#,
        r#"{"text":5}"#,
    ];
    let long = format!(r#"{{"prompt":"{}"}}"#, "a".repeat(32_001));
    let deep = format!(r#"{{"prompt":{}"#, "[".repeat(500_000));
    let many = format!(r#"{{"sha256":[{}]}}"#, vec![format!("\"{}\"", "a".repeat(64)); 501].join(","));
    fixed.map(str::to_owned).into_iter().chain([long, deep, many]).collect()
}

/// A refusal tells a code of the list, and nothing of what is inside.
fn check_refusal(server: &TestServer, request: &Request, label: &str) {
    let reply = server.send(request);
    if (200..300).contains(&reply.status) {
        return;
    }
    assert!((400..500).contains(&reply.status), "{label}: {} {}", reply.status, reply.text());
    let problem = reply.json();
    assert!(CODES.contains(&problem["code"].as_str().unwrap()), "{label}: {problem}");
    assert_eq!(problem["status"], reply.status);
    let detail = problem["detail"].as_str().unwrap().replace("/docs", "").replace("form-data", "");
    let detail = detail.replace("multipart/", "").replace("application/json", "").replace("/api/v1", "");
    for inside in
        ["0x", "::", "/", "u32", "u64", "f64", "i64", "struct ", "enum ", "serde", "thread", "src", "Error", "rusqlite"]
    {
        assert!(!detail.contains(inside), "{label}: `{inside}` in {detail}");
    }
}

#[test]
fn nothing_that_is_sent_breaks_a_route_or_makes_it_tell_of_its_inside() {
    let server = start();
    let picture = server.finished_picture("a").sha256;
    let marks = format!("/api/v1/images/{picture}");
    let routes = [
        ("POST", "/api/v1/jobs"),
        ("PATCH", marks.as_str()),
        ("POST", "/api/v1/images/delete"),
        ("POST", "/api/v1/images/restore"),
        ("POST", "/api/v1/metadata/text"),
        ("POST", "/api/v1/uploads"),
    ];
    for body in bodies() {
        for (method, path) in routes {
            let label = format!("{method} {path} {}", body.get(..80).unwrap_or(&body));
            check_refusal(&server, &Request::json(method, path, &body), &label);
        }
        check_refusal(
            &server,
            &Request::form("/api/v1/uploads", "image", body.as_bytes()),
            &body[..body.len().min(80)],
        );
        check_refusal(
            &server,
            &Request::form("/api/v1/metadata", "image", body.as_bytes()),
            &body[..body.len().min(80)],
        );
    }
    for query in [
        "cursor=x",
        "limit=x",
        "limit=99999999999",
        "fav=x",
        "q=%ff",
        "q=%22%27",
        "q=*",
        "q=AND",
        "nothing=1",
        "cursor=%00",
        "q=(NEAR",
    ] {
        check_refusal(&server, &Request::get(&format!("/api/v1/images?{query}")), query);
    }
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn a_body_that_is_too_large_is_refused() {
    let server = start();
    let body = format!(r#"{{"prompt":"{}"}}"#, "a".repeat(2 << 20));
    let reply = server.send(&Request::json("POST", "/api/v1/jobs", &body));
    assert_eq!((reply.status, &reply.json()["code"]), (413, &"too_large".into()));
    let mut connection = Connection::open(server.address);
    let form = Request::new("POST", "/api/v1/uploads").header("content-type", "multipart/form-data; boundary=b");
    connection.send(form.header("content-length", "99999999999").head().as_bytes());
    assert_eq!(connection.reply().status, 413);
}

#[test]
fn a_form_of_a_million_parts_is_given_up_after_a_few() {
    let server = start();
    let body = "--b\r\ncontent-disposition: form-data; name=\"x\"\r\n\r\n\r\n".repeat(1_000_000 / 4) + "--b--\r\n";
    let start = std::time::Instant::now();
    let form = Request::new("POST", "/api/v1/uploads").header("content-type", "multipart/form-data; boundary=b");
    let mut connection = Connection::open(server.address);
    connection.send(form.header("content-length", &body.len().to_string()).head().as_bytes());
    connection.send(&body.as_bytes()[..64 << 10]);
    assert_eq!(connection.reply().status, 400);
    assert!(start.elapsed().as_secs() < 2, "{:?}", start.elapsed());
}

#[test]
fn a_form_that_is_none_is_refused() {
    let server = start();
    for boundary in ["", "boundary=", "boundary=\u{7f}", &format!("boundary={}", "x".repeat(5000))] {
        let form =
            Request::new("POST", "/api/v1/uploads").header("content-type", &format!("multipart/form-data; {boundary}"));
        let status = server.send(&form.body("--\r\n\r\nx")).status;
        assert!([400, 415].contains(&status), "{boundary}: {status}");
    }
    assert_eq!(server.send(&Request::form("/api/v1/uploads", "picture", b"x")).json()["param"], "image");
}

#[test]
fn a_head_that_is_too_large_or_no_http_ends_the_connection_only() {
    let server = start();
    let long = Request::get("/healthz").header("x", &"a".repeat(100_000)).send(server.address);
    assert_eq!(long.status, 431);
    for nonsense in ["\r\n\r\n\r\nx\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02\x00\x01"] {
        let mut connection = Connection::open(server.address);
        connection.send(nonsense.as_bytes());
    }
    assert_eq!(server.get("/healthz").status, 200);
}
