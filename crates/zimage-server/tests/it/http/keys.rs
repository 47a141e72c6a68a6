use base64::Engine as _;

use super::client::{Reply, Request};
use super::openapi::every_route;
use super::server::{TOKEN, TestServer, start_with};

fn locked() -> TestServer {
    start_with(|options| options.tokens = vec![TOKEN.into()])
}

fn bearer(request: Request, token: &str) -> Request {
    request.header("authorization", &format!("Bearer {token}"))
}

#[test]
fn every_route_but_two_needs_a_key() {
    let server = locked();
    let mut routes = every_route(&server);
    assert!(routes.len() > 20, "{routes:?}");
    let others = [
        "/",
        "/assets/app.js",
        "/v1/models",
        "/sdapi/v1/options",
        "/mcp",
        "/none",
        "/healthz/",
        "/login/",
        "//healthz",
    ];
    routes.extend(others.map(|path| ("GET".to_owned(), path.to_owned())));
    for (method, path) in routes {
        let reply = server.send(&Request::new(&method, &path));
        let expected = if path == "/healthz" { 200 } else { 401 };
        assert_eq!(reply.status, expected, "{method} {path}");
        // The body of a stream would not end.
        let known = bearer(Request::new(&method, &path), TOKEN).start(server.address).head();
        assert_ne!(known.status, 401, "{method} {path}");
    }
}

impl TestServer {
    fn asked_with(&self, authorization: &str) -> Reply {
        self.send(&Request::get("/api/v1/jobs").header("authorization", authorization))
    }
}

#[test]
fn only_a_good_token_in_the_right_place_lets_in() {
    let server = locked();
    let good = format!("Bearer {TOKEN}");
    for authorization in [good.as_str(), &format!("bearer  {TOKEN}")] {
        assert_eq!(server.asked_with(authorization).status, 200, "{authorization}");
    }
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("user:{TOKEN}"));
    let bad = ["", "Bearer", "Bearer x", TOKEN, "Digest x", &format!("Bearer {TOKEN}x"), &format!("Basic {basic}")];
    for authorization in bad {
        let reply = server.asked_with(authorization);
        assert_eq!((reply.status, reply.header("www-authenticate")), (401, "Bearer"), "{authorization}");
        assert_eq!(reply.json()["code"], "unauthorized");
    }
    let twice = Request::get("/api/v1/jobs").header("authorization", &good).header("authorization", &good);
    assert_eq!(server.send(&twice).status, 401);
    for query in [format!("?token={TOKEN}"), format!("?key={TOKEN}"), format!("?access_token={TOKEN}")] {
        assert_eq!(server.get(&format!("/api/v1/jobs{query}")).status, 401, "{query}");
    }
    let a1111 = |password: &str| {
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("user:{password}"));
        server.send(&Request::get("/sdapi/v1/none").header("authorization", &format!("Basic {basic}"))).status
    };
    assert_eq!((a1111(TOKEN), a1111("x")), (404, 401));
}

#[test]
fn families_hear_of_a_missing_key_in_their_own_words() {
    let server = locked();
    assert_eq!(server.get("/v1/models").json()["error"]["code"], "invalid_api_key");
    assert_eq!(server.get("/sdapi/v1/options").json()["error"], "HTTPException");
    let page = server.send(&Request::get("/").header("accept", "text/html,*/*"));
    assert_eq!((page.status, page.header("content-type")), (401, "text/html; charset=utf-8"));
    assert!(page.text().contains("zimage serve"));
}

#[test]
fn a_key_of_the_database_lets_in_until_it_is_taken_back_and_names_the_owner() {
    use zimage_server::queue::system_clock;
    use zimage_server::store::{Database, Keys};
    let mut kept = None;
    let server = start_with(|options| {
        std::fs::create_dir_all(&options.settings.home).unwrap();
        let database = Database::open(&options.settings.home.join("zimage.db")).unwrap();
        let keys = Keys::new(std::sync::Arc::new(database), system_clock());
        let token = keys.create("laptop").unwrap().unwrap().token;
        kept = Some((keys, token));
    });
    let (keys, token) = kept.unwrap();
    let reply = server.send(&bearer(Request::json("POST", "/api/v1/jobs", r#"{"prompt":"a"}"#), &token));
    assert_eq!(reply.status, 202);
    assert_eq!(server.claim().job.owner, "laptop");
    assert!(keys.revoke("laptop").unwrap());
    assert_eq!(server.send(&bearer(Request::get("/api/v1/jobs"), &token)).status, 401);
}

#[test]
fn without_keys_the_owner_is_the_address_and_a_stray_token_does_no_harm() {
    let server = start_with(|_| {});
    assert_eq!(server.login, None);
    let request = bearer(Request::json("POST", "/api/v1/jobs", r#"{"prompt":"a"}"#), "sk-anything");
    assert_eq!(server.send(&request).status, 202);
    assert_eq!(server.claim().job.owner, "127.0.0.1");
}

#[test]
fn the_login_address_works_once_and_its_cookie_is_for_our_page_only() {
    let server = locked();
    let url = server.login.clone().unwrap();
    let target = url.strip_prefix(&format!("http://{}", server.address)).unwrap();
    let reply = server.get(target);
    assert_eq!((reply.status, reply.header("location")), (303, "/"));
    let cookie = reply.header("set-cookie").to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let session = cookie.split(';').next().unwrap().to_owned();
    assert_eq!(server.send(&Request::get("/").header("cookie", &format!("a=b; {session}"))).status, 200);
    for target in [target, "/login", "/login?code=", "/login?code=x"] {
        let reply = server.get(target);
        assert_eq!((reply.status, reply.header("set-cookie")), (401, ""), "{target}");
    }
    for cookie in ["", "zimage-session=x", &format!("{session}x"), &session.replace('=', "x=")] {
        assert_eq!(server.send(&Request::get("/").header("cookie", cookie)).status, 401, "{cookie}");
    }
}
