//! For those who watch the server.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::error::{Body, Problem};
use crate::refusal::Refusal;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(lives)).routes(routes!(ready)).routes(routes!(metrics))
}

/// How the server is.
#[derive(Serialize, ToSchema)]
struct Health {
    /// `ok`.
    #[schema(example = "ok")]
    status: &'static str,
    /// Of the program.
    #[schema(example = "0.1.0")]
    version: &'static str,
}

const HEALTHY: Health = Health { status: "ok", version: env!("CARGO_PKG_VERSION") };

/// Whether the process lives. Needs no key.
#[utoipa::path(
    get, path = "/healthz", tag = "server",
    responses((status = 200, description = "It does", body = Health)),
)]
async fn lives() -> axum::Json<Health> {
    axum::Json(HEALTHY)
}

/// Whether jobs are taken and served.
#[utoipa::path(
    get, path = "/readyz", tag = "server",
    responses(
        (status = 200, description = "They are", body = Health),
        (status = 503, description = "The server goes down, or its worker is gone", body = Body, content_type = "application/problem+json"),
    ),
)]
async fn ready(State(app): State<App>) -> Result<axum::Json<Health>, Problem> {
    const RETRY_AFTER_S: u64 = 10;
    let unavailable = |state| Refusal::Unavailable { state, retry_after_s: RETRY_AFTER_S };
    if app.service.is_draining() {
        return Err(unavailable("shutting down").into());
    }
    if app.service.lost_its_worker() {
        return Err(unavailable("without a worker").into());
    }
    app.service.run(|service| service.queue().depth().map_err(Refusal::internal)).await?;
    Ok(axum::Json(HEALTHY))
}

/// Counters in Prometheus' text format.
#[utoipa::path(
    get, path = "/metrics", tag = "server",
    responses((status = 200, description = "Counters", content_type = "text/plain", body = String)),
)]
async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    let text = app.service.run(|service| {
        let depth = service.queue().depth().map_err(Refusal::internal)?;
        Ok(service.metrics().text(depth))
    });
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], text.await?).into_response())
}
