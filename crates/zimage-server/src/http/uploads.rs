//! Pictures that clients send: to start from, and to read their settings.

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::error::{Body, Problem};
use super::extract::{PictureForm, longest_form};
use crate::job::Sha256;

pub(super) fn routes(app: &App) -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(upload)).layer(DefaultBodyLimit::max(longest_form(app)))
}

/// A stored picture.
#[derive(Serialize, ToSchema)]
struct Stored {
    /// How it is asked for from now on, in `start` of a request and at `/files/{sha256}.png`.
    sha256: Sha256,
    /// Pixels.
    width: u32,
    /// Pixels.
    height: u32,
}

/// Stores a picture to start from: decoded, and encoded anew as PNG.
#[utoipa::path(
    post, path = "/api/v1/uploads", tag = "pictures",
    request_body(content = PictureForm, content_type = "multipart/form-data"),
    responses(
        (status = 201, description = "It is stored", body = Stored),
        (status = 400, description = "It is no picture, or has too many pixels", body = Body, content_type = "application/problem+json"),
        (status = 413, description = "It is too long", body = Body, content_type = "application/problem+json"),
    ),
)]
async fn upload(
    State(app): State<App>,
    PictureForm { image }: PictureForm,
) -> Result<(StatusCode, axum::Json<Stored>), Problem> {
    let upload = app.service.decode(move |service| service.upload(&image)).await?;
    let stored = Stored { sha256: upload.sha256, width: upload.width, height: upload.height };
    Ok((StatusCode::CREATED, axum::Json(stored)))
}
