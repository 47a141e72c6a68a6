//! How far "the" job is, and how it is stopped: of the jobs that the same client waits for through this dialect.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::a1111::error::ApiError;
use crate::http::a1111::panel::Panel;
use crate::http::a1111::timestamp;
use crate::http::picture::to_base64;
use crate::http::{App, Asker};
use crate::job::Job;

#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    skip_current_image: Flag,
}

/// Python clients write `True`.
#[derive(Default)]
struct Flag(bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Flag, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(Flag(text.eq_ignore_ascii_case("true") || text == "1"))
    }
}

pub(super) async fn show(
    State(app): State<App>,
    Extension(panel): Extension<Arc<Panel>>,
    asker: Asker,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, ApiError> {
    let active = app.service.run(|service| service.active()).await?;
    let jobs = panel.of(&asker.0, active);
    let Some(job) = jobs.first() else { return Ok(Json(idle())) };
    let preview = app.service.previews().get(job.id).filter(|_| !wanted.skip_current_image.0);
    let at = job.progress.unwrap_or_default();
    let of_picture = f64::from(at.step) / f64::from(at.steps.max(1));
    Ok(Json(json!({
        "progress": (f64::from(at.image) + of_picture) / f64::from(job.spec.n),
        "eta_relative": eta_s(job),
        "state": {
            "skipped": false,
            "interrupted": false,
            "stopping_generation": false,
            "job": job.id,
            "job_count": jobs.iter().map(|job| job.spec.n).sum::<u32>(),
            "job_timestamp": timestamp::of(job.created_ms),
            "job_no": at.image,
            "sampling_step": at.step,
            "sampling_steps": at.steps,
        },
        "current_image": preview.map(|preview| to_base64(&preview.jpeg)),
        "textinfo": null,
    })))
}

fn eta_s(job: &Job) -> f64 {
    job.eta_ms.map_or(0.0, |eta| eta as f64 / 1000.0)
}

/// Clients take the server for ready when they see this.
fn idle() -> Value {
    json!({
        "progress": 0.0,
        "eta_relative": 0.0,
        "state": {
            "skipped": false,
            "interrupted": false,
            "stopping_generation": false,
            "job": "",
            "job_count": 0,
            "job_timestamp": "0",
            "job_no": 0,
            "sampling_step": 0,
            "sampling_steps": 0,
        },
        "current_image": null,
        "textinfo": null,
    })
}

/// Stops the client's jobs. To skip one picture of several is the same: their steps are one job.
pub(super) async fn interrupt(
    State(app): State<App>,
    Extension(panel): Extension<Arc<Panel>>,
    asker: Asker,
) -> Result<Json<Value>, ApiError> {
    let active = app.service.run(|service| service.active()).await?;
    for job in panel.of(&asker.0, active) {
        app.service.run(move |service| service.cancel(job.id)).await?;
    }
    Ok(Json(json!({})))
}
