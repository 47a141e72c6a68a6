//! Errors as the web UI words them.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::job::{Failure, FailureCode};
use crate::refusal::Refusal;

/// An error of this dialect.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    /// Of the response.
    pub status: StatusCode,
    /// For people.
    pub message: String,
    /// When it is worth another try.
    pub retry_after_s: Option<u64>,
}

impl ApiError {
    fn new(status: StatusCode, message: String) -> ApiError {
        ApiError { status, message, retry_after_s: None }
    }

    /// The body is of another kind.
    pub fn media_type() -> ApiError {
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the request needs the content-type application/json".into())
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        let message = refusal.to_string();
        let (status, retry_after_s) = match refusal {
            Refusal::Invalid { .. } | Refusal::OutOfMemory { .. } => (StatusCode::UNPROCESSABLE_ENTITY, None),
            Refusal::UnknownModel { .. } | Refusal::NotFound { .. } => (StatusCode::NOT_FOUND, None),
            Refusal::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, None),
            Refusal::KeyReused => (StatusCode::CONFLICT, None),
            Refusal::QueueFull { retry_after_s, .. } => (StatusCode::TOO_MANY_REQUESTS, Some(retry_after_s)),
            Refusal::Unavailable { retry_after_s, .. } => (StatusCode::SERVICE_UNAVAILABLE, Some(retry_after_s)),
            Refusal::Internal => (StatusCode::INTERNAL_SERVER_ERROR, None),
        };
        ApiError { status, message, retry_after_s }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> ApiError {
        let status = match failure.code {
            FailureCode::InvalidRequest => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        ApiError::new(status, failure.message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({"error": "HTTPException", "detail": self.message, "body": "", "errors": self.message});
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
