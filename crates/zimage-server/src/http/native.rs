//! Jobs: submit, look, cancel; and what the server can do.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::{Body, Problem};
use super::extract::{Json, OfJob};
use super::{App, Asker, Context};
use crate::capabilities::Capabilities;
use crate::draft::Draft;
use crate::job::Job;
use crate::queue::Cancelled;
use crate::refusal::Refusal;

const LONGEST_KEY: usize = 255;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(submit, list))
        .routes(routes!(show, cancel))
        .routes(routes!(preview))
        .routes(routes!(capabilities))
        .routes(routes!(unload))
}

/// Jobs that wait or run.
#[derive(Serialize, ToSchema)]
struct ActiveJobs {
    /// In the order in which they will be served, running ones first.
    jobs: Vec<Job>,
}

/// Puts a job into the queue.
///
/// With a header `Idempotency-Key` a repetition of the request gives the same job.
#[utoipa::path(
    post, path = "/api/v1/jobs", tag = "jobs",
    params(("Idempotency-Key" = Option<String>, Header, description = "Up to 255 characters; the same key means the same job for a day")),
    request_body(content = Draft, example = json!({ "prompt": "a red balloon over the sea", "steps": 8, "seed": 5 })),
    responses(
        (status = 202, description = "It waits", body = Job, headers(("Location" = String, description = "The job"))),
        (status = 200, description = "A job that an earlier request with this key had made", body = Job),
        (status = 400, description = "A field cannot be used", body = Body, content_type = "application/problem+json"),
        (status = 409, description = "The key was used for another request", body = Body, content_type = "application/problem+json"),
        (status = 429, description = "The queue is full; see Retry-After", body = Body, content_type = "application/problem+json"),
        (status = 503, description = "The server goes down; see Retry-After", body = Body, content_type = "application/problem+json"),
    ),
)]
async fn submit(
    State(app): State<App>,
    asker: Asker,
    headers: HeaderMap,
    Json(draft): Json<Draft>,
) -> Result<Response, Problem> {
    let key = idempotency_key(&headers)?;
    let client = asker.on_behalf_of(None);
    let submitted = app.service.run(move |service| service.submit(draft, &client, key)).await?;
    let status = if submitted.repeated { StatusCode::OK } else { StatusCode::ACCEPTED };
    let location = format!("/api/v1/jobs/{}", submitted.job.id);
    Ok((status, [(header::LOCATION, location)], axum::Json(submitted.job)).into_response())
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    match key.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= LONGEST_KEY => Ok(Some(key.to_owned())),
        _ => Err(Problem::malformed(format!("`Idempotency-Key` takes 1 to {LONGEST_KEY} ASCII characters"))),
    }
}

/// Lists the jobs that wait or run.
#[utoipa::path(
    get, path = "/api/v1/jobs", tag = "jobs",
    responses((status = 200, description = "In the order of service", body = ActiveJobs)),
)]
async fn list(State(app): State<App>) -> Result<axum::Json<ActiveJobs>, Problem> {
    let jobs = app.service.run(|service| service.active()).await?;
    Ok(axum::Json(ActiveJobs { jobs }))
}

/// Shows a job.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}", tag = "jobs",
    params(("id" = String, Path, description = "The job")),
    responses(
        (status = 200, description = "The job, with its place in the queue and the time that is left", body = Job),
        (status = 404, description = "There is no such job", body = Body, content_type = "application/problem+json"),
    ),
)]
async fn show(State(app): State<App>, OfJob(id): OfJob) -> Result<axum::Json<Job>, Problem> {
    Ok(axum::Json(app.service.run(move |service| service.job(id)).await?))
}

/// Cancels a job. Pictures that it has already stay.
#[utoipa::path(
    delete, path = "/api/v1/jobs/{id}", tag = "jobs",
    params(("id" = String, Path, description = "The job")),
    responses(
        (status = 200, description = "It is cancelled", body = Job),
        (status = 404, description = "There is no such job", body = Body, content_type = "application/problem+json"),
        (status = 409, description = "It had ended before", body = Body, content_type = "application/problem+json"),
    ),
)]
async fn cancel(State(app): State<App>, OfJob(id): OfJob) -> Result<axum::Json<Job>, Problem> {
    let (cancelled, job) = app.service.run(move |service| Ok((service.cancel(id)?, service.job(id)?))).await?;
    match cancelled {
        Cancelled::TooLate => {
            Err(Problem::new(StatusCode::CONFLICT, "invalid_request", "the job has ended; it cannot be cancelled"))
        }
        Cancelled::Now | Cancelled::Unknown => Ok(axum::Json(job)),
    }
}

/// The newest preview of a running job.
///
/// The header `x-zimage-step` says after which step it was made.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/preview", tag = "jobs",
    params(("id" = String, Path, description = "The job")),
    responses(
        (status = 200, description = "A small picture", content_type = "image/jpeg", body = Vec<u8>),
        (status = 404, description = "There is none", body = Body, content_type = "application/problem+json"),
    ),
)]
async fn preview(State(app): State<App>, OfJob(id): OfJob) -> Result<Response, Problem> {
    let preview = app.service.previews().get(id).ok_or(Refusal::NotFound { what: "preview" })?;
    let step = HeaderValue::from(preview.progress.step);
    let fixed = [
        (header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (HeaderName::from_static("x-zimage-step"), step),
    ];
    Ok((fixed, preview.jpeg).into_response())
}

/// What this server can do, and whether it needs keys.
#[derive(Serialize, ToSchema)]
struct ServerCapabilities {
    #[serde(flatten)]
    capabilities: Capabilities,
    /// Whether keys are needed.
    auth: bool,
}

/// What the server can do: models, sizes, LoRAs, limits, features.
#[utoipa::path(
    get, path = "/api/v1/capabilities", tag = "server",
    responses((status = 200, description = "What pages build their controls from", body = ServerCapabilities)),
)]
async fn capabilities(
    State(app): State<App>,
    Extension(context): Extension<Arc<Context>>,
) -> Result<axum::Json<ServerCapabilities>, Problem> {
    let capabilities = app.service.run(|service| service.capabilities()).await?;
    Ok(axum::Json(ServerCapabilities { capabilities, auth: context.auth_is_required }))
}

/// What became of a wish to unload.
#[derive(Serialize, ToSchema)]
struct Unloaded {
    /// Whether there was a model to unload.
    unloaded: bool,
}

/// Unloads the model, as soon as no job runs.
#[utoipa::path(
    post, path = "/api/v1/models/unload", tag = "server",
    responses((status = 200, description = "Whether there is memory to be freed", body = Unloaded)),
)]
async fn unload(State(app): State<App>) -> axum::Json<Unloaded> {
    axum::Json(Unloaded { unloaded: app.service.unload() })
}
