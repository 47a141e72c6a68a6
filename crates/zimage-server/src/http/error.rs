//! Refusals as problems (RFC 9457), and the few that are made before a family of clients has been reached in that
//! family's own words.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::refusal::Refusal;

/// Why a request is refused. Clients may rely on `code`; `detail` is for people.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem, example = json!({
    "type": "about:blank", "title": "Bad Request", "status": 400, "code": "invalid_request", "param": "steps",
    "detail": "steps: 99 is not in the range 1 to 50",
}))]
pub struct Body {
    /// Always `about:blank`.
    r#type: &'static str,
    /// The status in words.
    title: &'static str,
    /// The status.
    status: u16,
    /// What is wrong, and what would be right.
    detail: String,
    /// One of a closed list.
    #[schema(example = "invalid_request")]
    code: &'static str,
    /// The field that cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    param: Option<String>,
}

/// A refusal on its way to a client.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    param: Option<String>,
    retry_after_s: Option<u64>,
}

impl Problem {
    /// A problem with a code of the closed list.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Problem {
        Problem { status, code, detail: detail.into(), param: None, retry_after_s: None }
    }

    /// A field, or another part of the request, that cannot be used.
    pub fn invalid(param: impl Into<String>, detail: impl Into<String>) -> Problem {
        Problem { param: Some(param.into()), ..Problem::new(StatusCode::BAD_REQUEST, "invalid_request", detail) }
    }

    /// The request was not understood as a whole.
    pub fn malformed(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "invalid_request", detail)
    }

    /// The client may not do that, whoever it is.
    pub fn forbidden(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// The client must say who it is.
    pub fn unauthorized() -> Problem {
        let detail = "this server needs an API key: send `Authorization: Bearer <key>`";
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// The body is of a kind that is not taken here.
    pub fn media_type(wanted: &str) -> Problem {
        let detail = format!("the content type must be {wanted}");
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
    }

    /// The client took too long to send its request.
    pub fn timeout() -> Problem {
        Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the request did not arrive in time")
    }

    /// In the words of the family of clients that the path belongs to.
    pub fn for_path(self, path: &str) -> Response {
        let body = match path.split('/').nth(1) {
            Some("v1") => self.for_openai(),
            Some("sdapi") => json!({ "error": "HTTPException", "detail": self.detail, "body": "", "errors": "" }),
            _ => return self.into_response(),
        };
        let mut response = (self.status, Json(body)).into_response();
        self.add_headers(&mut response);
        response
    }

    fn for_openai(&self) -> serde_json::Value {
        let kind = match self.status.as_u16() {
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        let code = if self.code == "unauthorized" { "invalid_api_key" } else { self.code };
        json!({ "error": { "message": self.detail, "type": kind, "param": self.param, "code": code } })
    }

    fn add_headers(&self, response: &mut Response) {
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Body {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            code: self.code,
            param: self.param.clone(),
        };
        let mut response = (self.status, Json(body)).into_response();
        let problem = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, problem);
        self.add_headers(&mut response);
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let detail = refusal.to_string();
        let new = |status, code| Problem::new(status, code, detail.clone());
        match refusal {
            Refusal::Invalid { param, .. } => Problem::invalid(param, detail),
            Refusal::UnknownModel { .. } => {
                Problem { param: Some("model".into()), ..new(StatusCode::BAD_REQUEST, "unknown_model") }
            }
            Refusal::NotFound { .. } => new(StatusCode::NOT_FOUND, "not_found"),
            Refusal::TooLarge { .. } => new(StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Refusal::OutOfMemory { .. } => new(StatusCode::BAD_REQUEST, "out_of_memory"),
            Refusal::QueueFull { retry_after_s, .. } => {
                Problem { retry_after_s: Some(retry_after_s), ..new(StatusCode::TOO_MANY_REQUESTS, "queue_full") }
            }
            Refusal::KeyReused => new(StatusCode::CONFLICT, "key_reused"),
            Refusal::Unavailable { retry_after_s, .. } => {
                Problem { retry_after_s: Some(retry_after_s), ..new(StatusCode::SERVICE_UNAVAILABLE, "unavailable") }
            }
            Refusal::Internal => new(StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }
}
