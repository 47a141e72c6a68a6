//! The files of pictures, by their digests. Names are taken apart, never joined to a path; what a digest names never
//! changes, so browsers keep it for good.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::error::{Body, Problem};
use super::extract::Query;
use crate::job::{Format, Sha256};
use crate::refusal::Refusal;
use crate::service::Service;

const FOREVER: &str = "public, max-age=31536000, immutable";

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(file)).routes(routes!(thumbnail))
}

/// How a file is asked for.
#[derive(Deserialize, IntoParams)]
struct Wish {
    /// 1 to save it instead of showing it.
    download: Option<u8>,
}

/// A picture of the gallery, or an upload.
#[utoipa::path(
    get, path = "/files/{name}", tag = "pictures",
    params(("name" = String, Path, description = "64 hexadecimal digits, and .png, .jpg or .webp"), Wish),
    responses(
        (status = 200, description = "The file", content_type = "image/png", body = Vec<u8>),
        (status = 304, description = "The client has it"),
        (status = 404, description = "There is no such picture", body = Body, content_type = "application/problem+json"),
    ),
)]
async fn file(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
    Query(wish): Query<Wish>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (sha256, format) =
        name.ok().and_then(|Path(name)| parse(&name)).ok_or(Refusal::NotFound { what: "picture" })?;
    if is_known(&headers, &sha256) {
        return Ok(unchanged(&sha256));
    }
    let asked = sha256.clone();
    let bytes = app.service.run(move |service| read(service, &asked, format)).await?;
    let mut response = respond(&sha256, format.media_type(), bytes);
    if wish.download == Some(1) {
        let saved =
            format!("attachment; filename=\"{}.{}\"", sha256.as_str().get(..8).unwrap_or(""), format.extension());
        let saved = HeaderValue::try_from(saved).map_err(Refusal::internal)?;
        response.headers_mut().insert(header::CONTENT_DISPOSITION, saved);
    }
    Ok(response)
}

/// A small JPEG of a picture of the gallery.
#[utoipa::path(
    get, path = "/thumbnails/{name}", tag = "pictures",
    params(("name" = String, Path, description = "64 hexadecimal digits, and .jpg")),
    responses(
        (status = 200, description = "At most 320 pixels a side", content_type = "image/jpeg", body = Vec<u8>),
        (status = 304, description = "The client has it"),
        (status = 404, description = "There is no such picture", body = Body, content_type = "application/problem+json"),
    ),
)]
async fn thumbnail(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = name.ok().and_then(|Path(name)| parse(&name)).filter(|(_, format)| *format == Format::Jpeg);
    let (sha256, _) = name.ok_or(Refusal::NotFound { what: "picture" })?;
    if is_known(&headers, &sha256) {
        return Ok(unchanged(&sha256));
    }
    let asked = sha256.clone();
    let jpeg = app.service.decode(move |service| {
        let format = service.image(&asked)?.format;
        let jpeg = service.files().thumbnail(&asked, format).map_err(Refusal::internal)?;
        jpeg.ok_or(Refusal::NotFound { what: "picture" })
    });
    Ok(respond(&sha256, "image/jpeg", jpeg.await?))
}

/// `{sha256}.{extension}`.
fn parse(name: &str) -> Option<(Sha256, Format)> {
    let (digits, extension) = name.split_once('.')?;
    let format =
        [Format::Png, Format::Jpeg, Format::Webp].into_iter().find(|format| format.extension() == extension)?;
    Some((Sha256::try_from(digits.to_owned()).ok()?, format))
}

fn read(service: &Service, sha256: &Sha256, format: Format) -> Result<Vec<u8>, Refusal> {
    if let Some(bytes) = service.files().image(sha256, format).map_err(Refusal::internal)? {
        return Ok(bytes);
    }
    let found = service.files().find(sha256).map_err(Refusal::internal)?.filter(|found| found.format == format);
    found.map(|found| found.bytes).ok_or(Refusal::NotFound { what: "picture" })
}

fn is_known(headers: &HeaderMap, sha256: &Sha256) -> bool {
    let tags = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).unwrap_or_default();
    tags.split(',').any(|tag| tag.trim().trim_start_matches("W/").trim_matches('"') == sha256.as_str())
}

fn unchanged(sha256: &Sha256) -> Response {
    (StatusCode::NOT_MODIFIED, [(header::ETAG, format!("\"{sha256}\"")), (header::CACHE_CONTROL, FOREVER.into())])
        .into_response()
}

fn respond(sha256: &Sha256, media_type: &'static str, bytes: Vec<u8>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, media_type.to_owned()),
        (header::CACHE_CONTROL, FOREVER.to_owned()),
        (header::ETAG, format!("\"{sha256}\"")),
    ];
    (headers, bytes).into_response()
}
