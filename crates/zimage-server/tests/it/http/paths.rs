use proptest::prelude::*;
use std::sync::LazyLock;

use super::client::Request;
use super::server::{TestServer, start};

static SERVER: LazyLock<TestServer> = LazyLock::new(|| {
    let server = start();
    server.finished_picture("a");
    server
});

/// Pieces that path traversals are made of, as they stand in a request.
fn piece() -> impl Strategy<Value = String> {
    let known = [
        "..",
        "../",
        "..%2f",
        "%2e%2e/",
        "%2e%2e%2f",
        "..%5c",
        "..\\",
        "%252e%252e%252f",
        "%00",
        "/",
        "%2f",
        "//",
        "C:%5c",
        "%5c%5chost%5cshare",
        "/etc/passwd",
        "etc",
        "zimage.db",
        "zimage.db-wal",
        "images",
        "inputs",
        "PROGRA~1",
        "a.png::$DATA",
        ".png",
        ".jpg",
        "%c0%ae%c0%ae",
        "%ff",
        ".",
        "~",
        "aaaa",
    ];
    prop_oneof![
        4 => proptest::sample::select(known.to_vec()).prop_map(str::to_owned),
        1 => "[!$&'()*+,;=:@a-zA-Z0-9._~-]{1,8}",
        1 => Just("a".repeat(64)),
        1 => Just("A".repeat(64)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn no_name_in_a_path_leads_out_of_the_store(pieces in prop::collection::vec(piece(), 1..6)) {
        let name = pieces.concat();
        for (method, before, after) in [
            ("GET", "/files/", ""), ("GET", "/files/", ".png"), ("GET", "/thumbnails/", ".jpg"), ("GET", "/assets/", ""),
            ("GET", "/api/v1/jobs/", ""), ("GET", "/api/v1/jobs/", "/preview"), ("DELETE", "/api/v1/jobs/", ""),
            ("GET", "/api/v1/jobs/", "/events"), ("GET", "/api/v1/images/", ""), ("GET", "/api/v1/images/zip?sha256=", ""),
        ] {
            let target = format!("{before}{name}{after}").replace('\\', "%5c");
            let reply = SERVER.send(&Request::new(method, &target).header("connection", "close"));
            prop_assert!([400, 404, 405].contains(&reply.status), "{} {}: {}", method, target, reply.status);
            if reply.status != 405 {
                prop_assert!(reply.header("content-type").starts_with("application/problem+json"), "{}", target);
            }
        }
    }
}

#[test]
fn names_in_bodies_and_queries_are_digests_or_nothing() {
    let names = [
        "../../etc/passwd",
        "/etc/passwd",
        "C:\\\\x",
        "\\\\\\\\host\\\\x",
        "a\\u0000b",
        &"A".repeat(64),
        &"a".repeat(63),
    ];
    for name in names {
        for (path, body) in [
            ("/api/v1/jobs", format!(r#"{{"prompt":"a","start":{{"image":"{name}"}}}}"#)),
            ("/api/v1/images/delete", format!(r#"{{"sha256":["{name}"]}}"#)),
            ("/api/v1/images/restore", format!(r#"{{"sha256":["{name}"]}}"#)),
        ] {
            assert_eq!(SERVER.send(&Request::json("POST", path, &body)).status, 400, "{path} {body}");
        }
        for body in [
            format!(r#"{{"prompt":"a","model":"{name}"}}"#),
            format!(r#"{{"prompt":"a","loras":[{{"id":"{name}","weight":1}}]}}"#),
        ] {
            assert_eq!(SERVER.send(&Request::json("POST", "/api/v1/jobs", &body)).status, 400, "{body}");
        }
    }
}

#[test]
fn remote_pictures_are_refused_because_nothing_is_fetched() {
    for url in
        ["http://127.0.0.1/x.png", "https://evil.example/x.png", "file:///etc/passwd", "//evil.example/x", "data:,x"]
    {
        let body = format!(r#"{{"prompt":"a","start":{{"image":"{url}"}}}}"#);
        let reply = SERVER.send(&Request::json("POST", "/api/v1/jobs", &body));
        assert_eq!((reply.status, &reply.json()["param"]), (400, &"start.image".into()), "{url}");
        let reply = SERVER.send(&Request::form("/api/v1/uploads", "image", url.as_bytes()));
        assert_eq!((reply.status, &reply.json()["param"]), (400, &"image".into()), "{url}");
    }
}
