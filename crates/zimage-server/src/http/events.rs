//! What happens, as it happens: server-sent events with exact resume.
//!
//! Every event of the queue carries its number as `id:`, and nothing else does, so that the last id that a client saw is
//! where it goes on. A follower subscribes to changes before it reads, and then reads all that is behind the last event
//! it sent: what comes in between is read twice, and sent once.

mod follower;

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::error::{Body, Problem};
use super::extract::{OfJob, Query};
use crate::job::Event as JobEvent;
use follower::Follower;

const KEEP_ALIVE: Duration = Duration::from_secs(10);

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(of_job)).routes(routes!(of_all))
}

/// Where to go on.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct Resume {
    /// The number of the last event that was seen; the header `Last-Event-ID` goes first.
    after: Option<u64>,
}

/// Follows a job to its end.
///
/// The first message, `job`, is the job as it is. Each event of it follows with its number as `id:`; between them come
/// `position` while it waits and `eta` while it runs, without one. The stream ends behind the last event.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/events", tag = "events",
    params(("id" = String, Path, description = "The job"), Resume, ("Last-Event-ID" = Option<u64>, Header, description = "Goes on behind this event")),
    responses(
        (status = 200, description = "Events", content_type = "text/event-stream", body = JobEvent),
        (status = 404, description = "There is no such job", body = Body, content_type = "application/problem+json"),
    ),
)]
async fn of_job(
    State(app): State<App>,
    OfJob(id): OfJob,
    Query(resume): Query<Resume>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let changes = app.service.changes();
    app.service.run(move |service| service.job(id)).await?;
    let after = last_seen(&headers, &resume).unwrap_or(0);
    Ok(respond(Follower::of_job(app.service, changes, id, after)))
}

/// Follows all jobs.
///
/// Begins now, unless the client says where it was. Beside the events of all jobs there is `gallery` when favourites or
/// deletions have changed, and `shutdown` when the server goes down.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "events",
    params(Resume, ("Last-Event-ID" = Option<u64>, Header, description = "Goes on behind this event")),
    responses((status = 200, description = "Events", content_type = "text/event-stream", body = JobEvent)),
)]
async fn of_all(State(app): State<App>, Query(resume): Query<Resume>, headers: HeaderMap) -> Result<Response, Problem> {
    let changes = app.service.changes();
    let last = app.service.run(|service| service.last_seq()).await?;
    // A database that was made anew counts from the start, and the client's number is of another one.
    let after = last_seen(&headers, &resume).map_or(last, |seen| seen.min(last));
    Ok(respond(Follower::of_all(app.service, changes, after)))
}

fn last_seen(headers: &HeaderMap, resume: &Resume) -> Option<u64> {
    let header = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.trim().parse().ok());
    header.or(resume.after)
}

fn respond(follower: Follower) -> Response {
    let messages = stream::unfold(follower, |mut follower| async move {
        let message = follower.next().await?;
        Some((Ok::<Event, Infallible>(message), follower))
    });
    let messages = Sse::new(messages).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive"));
    ([(HeaderName::from_static("x-accel-buffering"), "no")], messages).into_response()
}
