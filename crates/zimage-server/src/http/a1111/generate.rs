//! `txt2img` and `img2img`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::{Extension, Json};
use serde_json::{Value, json};

use crate::http::a1111::error::ApiError;
use crate::http::a1111::panel::Panel;
use crate::http::a1111::request::Asked;
use crate::http::a1111::{fields, info};
use crate::http::awaited::{Awaited, pictures};
use crate::http::picture::to_base64;
use crate::http::{App, Asker};
use crate::job::JobState;

/// A picture and its mask.
const PICTURES: usize = 2;

pub(super) async fn from_text(
    State(app): State<App>,
    Extension(panel): Extension<Arc<Panel>>,
    asker: Asker,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let (parts, body) = request.into_parts();
    let mut fields = fields(&parts.headers, body, app.service.limits(), 0).await?;
    let settings = panel.settings();
    let asked = app.service.run(move |service| Asked::from_text(&mut fields, &settings, service)).await?;
    answer(app, panel, asker, asked).await
}

pub(super) async fn from_image(
    State(app): State<App>,
    Extension(panel): Extension<Arc<Panel>>,
    asker: Asker,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let (parts, body) = request.into_parts();
    let mut fields = fields(&parts.headers, body, app.service.limits(), PICTURES).await?;
    let settings = panel.settings();
    let asked = app.service.decode(move |service| Asked::from_image(&mut fields, &settings, service)).await?;
    answer(app, panel, asker, asked).await
}

async fn answer(app: App, panel: Arc<Panel>, asker: Asker, asked: Asked) -> Result<Json<Value>, ApiError> {
    let client = asker.on_behalf_of(None);
    let awaited = Awaited::submit(&app.service, asked.draft, client.clone()).await?;
    let waiting = panel.wait_for(awaited.job().id, client);
    let job = awaited.ended().await?;
    drop(waiting);
    if let (JobState::Failed, Some(failure)) = (job.state, job.error.clone()) {
        return Err(failure.into());
    }
    // A job that was interrupted has the pictures that were finished before.
    let files = pictures(&app.service, &job.images).await?;
    let images: Vec<String> =
        if asked.send_images { files.iter().map(|file| to_base64(file)).collect() } else { vec![] };
    let info = info::of(&job, &files, asked.notes);
    Ok(Json(json!({"images": images, "parameters": asked.echo, "info": info.to_string()})))
}
