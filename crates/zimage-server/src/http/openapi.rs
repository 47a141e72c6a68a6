//! The description of the native API, made from the handlers themselves.

use std::sync::Arc;

use axum::Extension;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Description;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{App, docs};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "zimage",
        description = "Jobs, events and pictures. Errors are problems (RFC 9457) with a `code` of a closed list. \
            Requests that change something are JSON, or a form where a picture is sent.",
    ),
    tags(
        (name = "jobs", description = "Ask for pictures, and follow what becomes of it"),
        (name = "events", description = "What happens, as it happens"),
        (name = "pictures", description = "Finished pictures, uploads and settings"),
        (name = "server", description = "What the server can do, and how it is"),
    ),
)]
struct Frame;

/// The two texts that tell of all routes.
pub struct Texts {
    json: String,
    page: String,
}

/// The description that routes are added to.
pub(super) fn frame() -> Description {
    let mut description = Frame::openapi();
    let key = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    description.components.get_or_insert_default().add_security_scheme("key", key);
    // Where the server asks for no keys, none is needed.
    description.security = Some(vec![SecurityRequirement::default(), SecurityRequirement::new("key", [""; 0])]);
    description
}

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(openapi)).routes(routes!(docs))
}

impl Texts {
    /// Of a finished description.
    pub fn of(description: &Description) -> Texts {
        let value = serde_json::to_value(description).expect("a description has a JSON form: this is a bug");
        let json = serde_json::to_string_pretty(&value).expect("a value has a JSON form: this is a bug");
        Texts { page: docs::page(&value), json: json + "\n" }
    }
}

/// This description.
#[utoipa::path(
    get, path = "/openapi.json", tag = "server",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = String)),
)]
async fn openapi(Extension(texts): Extension<Arc<Texts>>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], texts.json.clone()).into_response()
}

/// This description as a page.
#[utoipa::path(
    get, path = "/docs", tag = "server",
    responses((status = 200, description = "A page", content_type = "text/html", body = String)),
)]
async fn docs(Extension(texts): Extension<Arc<Texts>>) -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], texts.page.clone()).into_response()
}
