use super::client::{NONE, Request};
use super::openapi::every_route;
use super::server::{refuses_to_start, start, start_with};
use zimage_server::ServerError;

/// Other families' routes, which are behind the same guard even where there are none.
const OTHERS: [(&str, &str); 4] =
    [("GET", "/v1/models"), ("POST", "/v1/images/generations"), ("POST", "/mcp"), ("GET", "/sdapi/v1/options")];

#[test]
fn no_route_answers_to_the_host_of_a_stranger() {
    let server = start();
    let strangers = [
        "evil.example",
        "evil.example:7860",
        "0.0.0.0:7860",
        "[::1].evil",
        "127.0.0.1.evil",
        "localhost.evil",
        "localhost:7860:7860",
        "localhost@evil",
        "",
        NONE,
    ];
    let routes = every_route(&server);
    let others = OTHERS.map(|(method, path)| (method.to_owned(), path.to_owned()));
    for (method, path) in routes.iter().chain(&others) {
        for host in strangers {
            let reply = server.send(&Request::new(method, path).header("host", host).header("connection", "close"));
            assert_eq!(reply.status, 403, "{method} {path} Host: {host}");
        }
        let twice = Request::new(method, path).header("host", "localhost").header("host", "localhost");
        assert_eq!(server.send(&twice).status, 403, "{method} {path}");
    }
    let absolute = Request::get("http://evil.example/healthz");
    assert_eq!(server.send(&absolute).status, 403);
    let old = "GET /healthz HTTP/1.0\r\n\r\n";
    let mut connection = super::client::Connection::open(server.address);
    connection.send(old.as_bytes());
    assert_eq!(connection.reply().status, 403);
}

#[test]
fn our_own_names_are_answered() {
    let server = start_with(|options| options.hosts = vec!["pictures.example".into()]);
    for host in ["localhost", "localhost:1", "127.0.0.1:7860", "[::1]:7860", "Pictures.Example:80"] {
        assert_eq!(server.send(&Request::get("/healthz").header("host", host)).status, 200, "{host}");
    }
}

#[test]
fn another_origin_is_refused_whatever_it_asks() {
    let server = start();
    let origins = ["null", "http://evil.example", "http://localhost:1", "https://localhost.evil", "localhost", ""];
    for origin in origins {
        for request in [Request::get("/api/v1/jobs"), Request::json("POST", "/api/v1/jobs", "{}")] {
            assert_eq!(server.send(&request.header("origin", origin)).status, 403, "{origin}");
        }
    }
    let own = Request::json("POST", "/api/v1/jobs", r#"{"prompt":"a"}"#).header("host", "127.0.0.1:7860");
    for origin in ["http://127.0.0.1:7860", "https://127.0.0.1:7860"] {
        assert_eq!(server.send(&own.clone().header("origin", origin)).status, 202, "{origin}");
    }
}

#[test]
fn a_form_of_another_page_changes_nothing() {
    let server = start();
    for site in ["cross-site", "same-site", "nonsense"] {
        let request = Request::json("POST", "/api/v1/jobs", r#"{"prompt":"a"}"#).header("sec-fetch-site", site);
        assert_eq!(server.send(&request).status, 403, "{site}");
    }
    let kinds = [
        "text/plain",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=b",
    ];
    let body = r#"{"prompt":"a"}"#;
    for kind in kinds.into_iter().chain(["", "TEXT/PLAIN", "application/jsonp", NONE]) {
        let request = Request::new("POST", "/api/v1/jobs").header("content-type", kind).body(body);
        let reply = server.send(&request);
        assert_eq!((reply.status, &reply.json()["code"]), (415, &"unsupported_media_type".into()), "{kind}");
    }
    let upload = Request::json("POST", "/api/v1/uploads", body);
    assert_eq!(server.send(&upload).status, 415);
    assert_eq!(server.get("/api/v1/jobs").json()["jobs"], serde_json::json!([]));
    for site in ["same-origin", "none"] {
        let request = Request::json("POST", "/api/v1/jobs", body).header("sec-fetch-site", site);
        assert_eq!(server.send(&request).status, 202, "{site}");
    }
}

#[test]
fn every_response_is_hardened_and_none_is_for_other_origins() {
    let server = start();
    let targets =
        ["/", "/assets/app.js", "/assets/icon.svg", "/docs", "/api/v1/jobs", "/none", "/files/none.png", "/metrics"];
    for target in targets {
        let reply = server.get(target);
        let policy = reply.header("content-security-policy");
        for part in ["default-src 'self';", "object-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(part), "{target}: {policy}");
        }
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{target}");
        assert_eq!(reply.header("cross-origin-resource-policy"), "same-origin", "{target}");
        assert_eq!(reply.header("referrer-policy"), "no-referrer", "{target}");
        assert_eq!(reply.header("access-control-allow-origin"), "", "{target}");
    }
    let preflight = Request::new("OPTIONS", "/api/v1/jobs").header("access-control-request-method", "POST");
    let reply = server.send(&preflight);
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (405, ""));
}

#[test]
fn a_public_address_needs_a_key() {
    let public = |options: &mut zimage_server::ServerOptions| options.address = "0.0.0.0:0".parse().unwrap();
    let error = refuses_to_start(public);
    assert!(matches!(error, ServerError::NoKey { .. }));
    assert!(error.to_string().contains("\nhint: "), "{error}");
    let open = start_with(|options| {
        public(options);
        options.insecure_no_auth = true;
    });
    let local = std::net::SocketAddr::from(([127, 0, 0, 1], open.address.port()));
    assert_eq!(Request::get("/api/v1/jobs").send(local).status, 200);
    assert_eq!(Request::get("/api/v1/jobs").header("host", "0.0.0.0").send(local).status, 403);
    let closed = start_with(|options| {
        public(options);
        options.tokens = vec!["secret".into()];
    });
    let local = std::net::SocketAddr::from(([127, 0, 0, 1], closed.address.port()));
    assert_eq!(Request::get("/api/v1/jobs").send(local).status, 401);
}
