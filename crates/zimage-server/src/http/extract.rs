//! What handlers take from requests: names in paths, queries, JSON and pictures, each refused in our own words.

use std::error::Error as _;
use std::str::FromStr;

use axum::extract::multipart::MultipartError;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Multipart, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use super::App;
use super::deadline::TookTooLong;
use super::error::Problem;
use crate::job::{JobId, Sha256};
use crate::refusal::Refusal;

/// The job that a path names.
pub struct OfJob(pub JobId);

/// The file that a path names.
pub struct OfFile(pub Sha256);

impl<S: Send + Sync> FromRequestParts<S> for OfJob {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<OfJob, Problem> {
        let name = path_segment(parts, state).await.and_then(|name| JobId::from_str(&name).ok());
        Ok(OfJob(name.ok_or(Refusal::NotFound { what: "job" })?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for OfFile {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<OfFile, Problem> {
        let name = path_segment(parts, state).await.and_then(|name| Sha256::try_from(name).ok());
        Ok(OfFile(name.ok_or(Refusal::NotFound { what: "picture" })?))
    }
}

async fn path_segment<S: Send + Sync>(parts: &mut Parts, state: &S) -> Option<String> {
    Path::<String>::from_request_parts(parts, state).await.ok().map(|Path(name)| name)
}

/// The part of an address behind `?`.
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Query<T>, Problem> {
        let query = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        let refused = |_| Problem::malformed("the part of the address behind `?` cannot be used; /docs has its fields");
        query.map(|axum::extract::Query(query)| Query(query)).map_err(refused)
    }
}

/// A JSON body.
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Json<T>, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(Problem::media_type("application/json"));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(unreadable)?;
        parse(&bytes).map(Json)
    }
}

fn unreadable(rejection: BytesRejection) -> Problem {
    if came_late(&rejection) {
        return Problem::timeout();
    }
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        _ => Problem::malformed("the body could not be read"),
    }
}

fn too_large() -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the request is larger than this route takes")
}

fn came_late(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut source = Some(error);
    while let Some(error) = source {
        if error.is::<TookTooLong>() {
            return true;
        }
        source = error.source();
    }
    false
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // An object could be read from a list as well, field by field.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::malformed("the body must be a JSON object"));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        explain(&path, &error.into_inner())
    })?;
    json.end().map_err(|error| explain("", &error))?;
    Ok(value)
}

/// What is wrong with a JSON body, in words that know nothing of the parser's.
fn explain(path: &str, error: &serde_json::Error) -> Problem {
    if !error.is_data() {
        let (line, column) = (error.line(), error.column());
        return Problem::malformed(format!("the body is not valid JSON; see line {line}, column {column}"));
    }
    let message = error.to_string();
    let quoted = |prefix: &str| message.strip_prefix(prefix).and_then(|rest| rest.split('`').next());
    if let Some(field) = quoted("unknown field `") {
        return field_problem(field, "is not a field of this request");
    }
    if let Some(field) = quoted("missing field `") {
        return field_problem(field, "is missing");
    }
    if let Some(field) = quoted("duplicate field `") {
        return field_problem(field, "is there twice");
    }
    let choices = message.split(", expected one of ").nth(1).filter(|_| message.starts_with("unknown variant"));
    let choices = choices.and_then(|choices| choices.split(" at line ").next());
    let expected = message.split(", expected ").nth(1).unwrap_or_default();
    match (choices, kind(expected)) {
        (Some(choices), _) => field_problem(path, &format!("must be one of {choices}")),
        (None, Some(kind)) => field_problem(path, &format!("must be {kind}")),
        (None, None) => field_problem(path, "has a value that cannot be used"),
    }
}

fn kind(expected: &str) -> Option<&'static str> {
    let kinds = [
        ("u64", "a whole number from 0 to 18446744073709551615"),
        ("u32", "a whole number from 0 to 4294967295"),
        ("u8", "a whole number from 0 to 255"),
        ("f64", "a number"),
        ("a string", "a text"),
        ("a boolean", "true or false"),
        ("a sequence", "a list"),
        ("struct ", "an object"),
    ];
    kinds.iter().find(|(prefix, _)| expected.starts_with(prefix)).map(|(_, kind)| *kind)
}

fn field_problem(field: &str, what: &str) -> Problem {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_.[]".contains(&byte);
    let begins_well = field.starts_with(|first: char| first.is_ascii_alphanumeric());
    if field.len() > 64 || !begins_well || !field.bytes().all(is_name) {
        return Problem::malformed(format!("the body, or one of its fields, {what}"));
    }
    Problem::invalid(field, format!("`{field}` {what}"))
}

/// A form with a picture.
#[derive(ToSchema)]
pub struct PictureForm {
    /// A PNG, JPEG or WebP file.
    #[schema(value_type = String, format = Binary)]
    pub image: Vec<u8>,
}

impl FromRequest<App> for PictureForm {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<PictureForm, Problem> {
        let limits = app.service.limits();
        let too_large = Refusal::TooLarge { limit_bytes: limits.max_upload_bytes };
        if content_length(request.headers()).is_some_and(|length| length > longest_form(app)) {
            return Err(too_large.into());
        }
        let multipart = Multipart::from_request(request, app).await;
        let mut multipart = multipart.map_err(|_| Problem::media_type("multipart/form-data"))?;
        for _ in 0..limits.max_parts {
            let Some(mut part) = multipart.next_field().await.map_err(broken)? else {
                return Err(Problem::invalid("image", "the form has no part `image`"));
            };
            if part.name() != Some("image") {
                continue;
            }
            let mut image = Vec::new();
            while let Some(chunk) = part.chunk().await.map_err(broken)? {
                if image.len() + chunk.len() > limits.max_upload_bytes {
                    return Err(too_large.into());
                }
                image.extend_from_slice(&chunk);
            }
            return Ok(PictureForm { image });
        }
        Err(Problem::malformed(format!("a form may have {} parts at most", limits.max_parts)))
    }
}

/// The longest form that can be a picture of the permitted length.
pub fn longest_form(app: &App) -> usize {
    /// What else is in a form with a picture.
    const SLACK: usize = 64 << 10;
    app.service.limits().max_upload_bytes + SLACK
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn broken(error: MultipartError) -> Problem {
    if error.source().is_some_and(came_late) {
        return Problem::timeout();
    }
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        _ => Problem::malformed("the form is damaged"),
    }
}

#[cfg(test)]
mod tests;
