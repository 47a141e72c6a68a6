//! Errors as the SDKs read them.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::job::{Failure, FailureCode};
use crate::refusal::Refusal;

/// Tells the SDKs, which repeat any failure of the server's twice, whether that makes sense.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// An error of this dialect.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    /// Of the response.
    pub status: StatusCode,
    /// Which class of errors.
    pub kind: &'static str,
    /// For programs.
    pub code: Option<&'static str>,
    /// The field that is to blame.
    pub param: Option<&'static str>,
    /// For people.
    pub message: String,
    /// When it is worth another try.
    pub retry: Retry,
}

/// Whether the same request may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// As the status says.
    Unsaid,
    /// It would fail again.
    Never,
    /// In so many seconds.
    After(u64),
}

impl ApiError {
    /// The request cannot be served.
    pub fn invalid(param: Option<&'static str>, code: Option<&'static str>, message: impl Into<String>) -> ApiError {
        let (status, kind) = (StatusCode::BAD_REQUEST, "invalid_request_error");
        ApiError { status, kind, code, param, message: message.into(), retry: Retry::Unsaid }
    }

    /// A field has a value that is known elsewhere, and not here.
    pub fn unsupported(param: &'static str, message: impl Into<String>) -> ApiError {
        ApiError::invalid(Some(param), Some("unsupported_value"), message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> ApiError {
        let error = ApiError::invalid(None, Some("not_found"), message);
        ApiError { status: StatusCode::NOT_FOUND, ..error }
    }

    /// There is no such model.
    pub fn unknown_model(name: &str) -> ApiError {
        let message = format!("the model `{name}` does not exist; GET /v1/models lists those that do");
        let error = ApiError::invalid(Some("model"), Some("model_not_found"), message);
        ApiError { status: StatusCode::NOT_FOUND, ..error }
    }

    /// The body is of another kind.
    pub fn media_type(expected: &str) -> ApiError {
        let message = format!("the request needs the content-type {expected}");
        let error = ApiError::invalid(None, Some("unsupported_media_type"), message);
        ApiError { status: StatusCode::UNSUPPORTED_MEDIA_TYPE, ..error }
    }

    /// A job was cancelled by somebody else while its client waited.
    pub fn cancelled() -> ApiError {
        let error = ApiError::invalid(None, Some("cancelled"), "the job was cancelled");
        ApiError { status: StatusCode::CONFLICT, retry: Retry::Never, ..error }
    }

    fn server(code: &'static str, message: impl Into<String>, retry: Retry) -> ApiError {
        let (status, kind) = (StatusCode::INTERNAL_SERVER_ERROR, "server_error");
        ApiError { status, kind, code: Some(code), param: None, message: message.into(), retry }
    }

    /// The body, also of an `error` event.
    pub fn to_json(&self) -> Value {
        json!({"message": self.message, "type": self.kind, "param": self.param, "code": self.code})
    }
}

/// The name of a field of the native API in this dialect.
fn param(native: &'static str) -> Option<&'static str> {
    match native {
        "width" | "height" => Some("size"),
        "loras" => Some("lora"),
        "start" => Some("strength"),
        "format" => Some("output_format"),
        // Quality of JPEG files; this dialect's `quality` never gets so far.
        "quality" => Some("output_compression"),
        "guidance" => Some("guidance_scale"),
        "body" => None,
        same => Some(same),
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        let message = refusal.to_string();
        match refusal {
            Refusal::Invalid { param: native, .. } => ApiError::invalid(param(native), Some("invalid_value"), message),
            Refusal::UnknownModel { name } => ApiError::unknown_model(&name),
            Refusal::NotFound { .. } => ApiError::not_found(message),
            Refusal::TooLarge { .. } => ApiError {
                status: StatusCode::PAYLOAD_TOO_LARGE,
                ..ApiError::invalid(None, Some("request_too_large"), message)
            },
            Refusal::OutOfMemory { .. } => ApiError::invalid(Some("size"), Some("out_of_memory"), message),
            Refusal::KeyReused => ApiError::invalid(None, Some("key_reused"), message),
            Refusal::QueueFull { retry_after_s, .. } => ApiError {
                status: StatusCode::TOO_MANY_REQUESTS,
                kind: "rate_limit_error",
                ..ApiError::server("queue_full", message, Retry::After(retry_after_s))
            },
            Refusal::Unavailable { retry_after_s, .. } => ApiError {
                status: StatusCode::SERVICE_UNAVAILABLE,
                ..ApiError::server("unavailable", message, Retry::After(retry_after_s))
            },
            Refusal::Internal => ApiError::server("internal", message, Retry::Unsaid),
        }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> ApiError {
        let code = match failure.code {
            FailureCode::OutOfMemory => "out_of_memory",
            FailureCode::NotFinite => "not_finite",
            FailureCode::ModelUnusable => "model_unusable",
            FailureCode::InvalidRequest => return ApiError::invalid(None, Some("invalid_value"), failure.message),
            FailureCode::TimedOut => "timed_out",
            FailureCode::Abandoned => "abandoned",
            FailureCode::Internal => "internal",
        };
        // Jobs are deterministic: what failed once fails again, and each try may take minutes.
        ApiError::server(code, failure.message, Retry::Never)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({"error": self.to_json()}))).into_response();
        let headers = response.headers_mut();
        match self.retry {
            Retry::Unsaid => {}
            Retry::Never => drop(headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"))),
            Retry::After(seconds) => drop(headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds))),
        }
        response
    }
}
