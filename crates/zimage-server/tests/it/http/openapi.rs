use serde_json::Value;

use super::client::Request;
use super::server::{TestServer, start};

/// Every route of the native API, with something in the places of names.
pub fn every_route(server: &TestServer) -> Vec<(String, String)> {
    let request = Request::get("/openapi.json").header("authorization", &format!("Bearer {}", super::server::TOKEN));
    let description = server.send(&request).json();
    let id = "01990b53-6c5e-7cc3-8b3c-1f2a7c3d9e10";
    let fill = |path: &str| path.replace("{id}", id).replace("{sha256}", &"a".repeat(64)).replace("{name}", "a.png");
    let paths = description["paths"].as_object().unwrap();
    let routes = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().keys().map(|method| method.to_uppercase());
        methods.map(move |method| (method, fill(path)))
    });
    routes.collect()
}

#[test]
fn the_description_that_is_checked_in_is_the_one_that_is_served() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let served = start().get("/openapi.json");
    if std::env::var_os("ZIMAGE_WRITE_OPENAPI").is_some() {
        std::fs::write(path, served.text()).unwrap();
    }
    let checked_in = std::fs::read_to_string(path).unwrap();
    assert!(checked_in == served.text(), "run this test with ZIMAGE_WRITE_OPENAPI=1, and look at what changed");
}

#[test]
fn every_described_type_is_there() {
    let description = start().get("/openapi.json");
    let value = description.json();
    let mut references = description.text().split("\"#/components/schemas/").skip(1);
    assert!(references.all(|rest| {
        let name = rest.split('"').next().unwrap();
        !value["components"]["schemas"][name].is_null()
    }));
}

#[test]
fn the_documentation_names_every_route_and_needs_nothing_from_elsewhere() {
    let server = start();
    let (description, page) = (server.get("/openapi.json").json(), server.get("/docs"));
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    for (path, methods) in description["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let heading = format!("{}</span><code>{path}</code>", method.to_uppercase());
            assert!(page.text().contains(&heading), "{method} {path}");
        }
    }
    for foreign in ["<script", "style=", "https://", "src="] {
        assert!(!page.text().contains(foreign), "{foreign}");
    }
}

#[test]
fn refusals_of_every_family_have_its_own_shape() {
    let server = start();
    let native = server.get("/api/v1/none");
    assert_eq!((native.status, native.header("content-type")), (404, "application/problem+json"));
    assert_eq!(server.get("/v1/none").json()["error"]["type"], "invalid_request_error");
    assert_eq!(server.get("/sdapi/v1/none").json()["error"], Value::from("HTTPException"));
    let method = server.send(&Request::new("DELETE", "/api/v1/jobs"));
    assert_eq!((method.status, &method.json()["code"]), (405, &"method_not_allowed".into()));
    let mut allowed: Vec<&str> = method.header("allow").split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
}
