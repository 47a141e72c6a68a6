//! Reading bodies within their limits.

use axum::body::{Body, Bytes, to_bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;

use crate::refusal::Refusal;

/// Whether a request says that its body is JSON. A page of another site cannot say so unasked.
pub fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// A whole body.
///
/// # Errors
/// [`Refusal::TooLarge`]; [`Refusal::Invalid`] when the client went away amid it.
pub async fn read(body: Body, limit_bytes: usize) -> Result<Bytes, Refusal> {
    to_bytes(body, limit_bytes).await.map_err(|error| {
        if is_too_long(&error) {
            Refusal::TooLarge { limit_bytes }
        } else {
            Refusal::invalid("body", "the body could not be read")
        }
    })
}

fn is_too_long(error: &axum::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
}
