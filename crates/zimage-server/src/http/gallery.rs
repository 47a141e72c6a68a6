//! Finished pictures: list, look, mark, delete and take back, save.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zimage::pipeline::metadata::Embedded;

use super::App;
use super::archive::archive;
use super::error::{Body, Problem};
use super::extract::{Json, OfFile, Query};
use super::restore::from_metadata;
use crate::draft::Draft;
use crate::job::{ImageRecord, Sha256};
use crate::queue::QueueError;
use crate::refusal::Refusal;
use crate::service::Service;
use crate::store::{Page, Query as Wanted};

/// Pictures that one request may name.
const MOST_PICTURES: usize = 500;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, mark))
        .routes(routes!(delete))
        .routes(routes!(restore))
        .routes(routes!(zip))
}

/// Lists finished pictures, newest first.
#[utoipa::path(
    get, path = "/api/v1/images", tag = "pictures", params(Wanted),
    responses(
        (status = 200, description = "A page", body = Page),
        (status = 400, description = "A field cannot be used", body = Body, content_type = "application/problem+json"),
    ),
)]
async fn list(State(app): State<App>, Query(wanted): Query<Wanted>) -> Result<axum::Json<Page>, Problem> {
    let page = app.service.run(move |service| service.gallery().page(&wanted).map_err(refused_page));
    Ok(axum::Json(page.await?))
}

fn refused_page(error: QueueError) -> Refusal {
    match error {
        QueueError::Damaged(_) => Refusal::invalid("cursor", "cursor: it is none that this server gave"),
        error => Refusal::internal(error),
    }
}

/// A picture with all that is known about it.
#[derive(Serialize, ToSchema)]
struct Details {
    /// Its entry in the gallery.
    image: ImageRecord,
    /// The request that makes it again.
    draft: Draft,
    /// The text that other programs read.
    parameters: String,
    /// What its file says about how it was made.
    #[schema(value_type = Object)]
    metadata: serde_json::Value,
}

/// Shows a picture with the settings it was made by.
#[utoipa::path(
    get, path = "/api/v1/images/{sha256}", tag = "pictures",
    params(("sha256" = String, Path, description = "The picture")),
    responses(
        (status = 200, description = "The picture", body = Details),
        (status = 404, description = "There is no such picture", body = Body, content_type = "application/problem+json"),
    ),
)]
async fn show(State(app): State<App>, OfFile(sha256): OfFile) -> Result<axum::Json<Details>, Problem> {
    Ok(axum::Json(app.service.decode(move |service| details(service, &sha256)).await?))
}

fn details(service: &Service, sha256: &Sha256) -> Result<Details, Refusal> {
    let image = service.image(sha256)?;
    let bytes = service.files().image(sha256, image.format).map_err(Refusal::internal)?;
    let bytes = bytes.ok_or(Refusal::NotFound { what: "picture" })?;
    let embedded = Embedded::from_image_bytes("a picture of the gallery", &bytes).map_err(Refusal::internal)?;
    let parameters = embedded.as_ref().and_then(|embedded| embedded.parameters.clone()).unwrap_or_default();
    let Some(metadata) = embedded.and_then(|embedded| embedded.metadata) else {
        // A picture that was stripped of its metadata still has what the gallery knows.
        let draft = Draft { prompt: image.prompt.clone(), seed: Some(image.seed), ..Draft::default() };
        return Ok(Details { image, draft, parameters, metadata: serde_json::Value::Null });
    };
    let (mut draft, _) = from_metadata(service, &metadata);
    draft.format = Some(image.format);
    let metadata = serde_json::to_value(&metadata).map_err(Refusal::internal)?;
    Ok(Details { image, draft, parameters, metadata })
}

/// What to change of a picture.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Mark {
    /// Whether it is marked.
    favourite: bool,
}

/// Marks a picture, or takes its mark away.
#[utoipa::path(
    patch, path = "/api/v1/images/{sha256}", tag = "pictures",
    params(("sha256" = String, Path, description = "The picture")),
    request_body(content = Mark, example = json!({ "favourite": true })),
    responses(
        (status = 200, description = "The picture", body = ImageRecord),
        (status = 404, description = "There is no such picture", body = Body, content_type = "application/problem+json"),
    ),
)]
async fn mark(
    State(app): State<App>,
    OfFile(sha256): OfFile,
    Json(mark): Json<Mark>,
) -> Result<axum::Json<ImageRecord>, Problem> {
    let image = app.service.run(move |service| {
        service.gallery().set_favourite(&sha256, mark.favourite).map_err(Refusal::internal)?;
        service.gallery_changed();
        service.image(&sha256)
    });
    Ok(axum::Json(image.await?))
}

/// Some pictures.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Selection {
    /// Up to 500.
    sha256: Vec<Sha256>,
}

/// What became of them.
#[derive(Serialize, ToSchema)]
struct Count {
    /// How many there were.
    count: usize,
}

/// Deletes pictures. For a day they can be restored.
#[utoipa::path(
    post, path = "/api/v1/images/delete", tag = "pictures", request_body(content = Selection),
    responses((status = 200, description = "How many there were", body = Count)),
)]
async fn delete(State(app): State<App>, Json(selection): Json<Selection>) -> Result<axum::Json<Count>, Problem> {
    let chosen = chosen(selection.sha256)?;
    change(&app, move |service| service.gallery().delete(&chosen)).await
}

/// Takes deletions back.
#[utoipa::path(
    post, path = "/api/v1/images/restore", tag = "pictures", request_body(content = Selection),
    responses((status = 200, description = "How many there were", body = Count)),
)]
async fn restore(State(app): State<App>, Json(selection): Json<Selection>) -> Result<axum::Json<Count>, Problem> {
    let chosen = chosen(selection.sha256)?;
    change(&app, move |service| service.gallery().restore(&chosen)).await
}

async fn change(
    app: &App,
    work: impl FnOnce(&Service) -> Result<usize, QueueError> + Send + 'static,
) -> Result<axum::Json<Count>, Problem> {
    let count = app.service.run(move |service| {
        let count = work(service).map_err(Refusal::internal)?;
        service.gallery_changed();
        Ok(count)
    });
    Ok(axum::Json(Count { count: count.await? }))
}

fn chosen(sha256: Vec<Sha256>) -> Result<Vec<Sha256>, Refusal> {
    if !(1..=MOST_PICTURES).contains(&sha256.len()) {
        return Err(Refusal::invalid("sha256", format!("sha256: it takes 1 to {MOST_PICTURES} pictures")));
    }
    Ok(sha256)
}

/// What to put into an archive.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct Archived {
    /// Up to 500 pictures, with commas between.
    sha256: String,
}

/// An archive of pictures.
#[utoipa::path(
    get, path = "/api/v1/images/zip", tag = "pictures", params(Archived),
    responses(
        (status = 200, description = "A ZIP file, streamed", content_type = "application/zip", body = Vec<u8>),
        (status = 404, description = "One of them is not there", body = Body, content_type = "application/problem+json"),
    ),
)]
async fn zip(State(app): State<App>, Query(archived): Query<Archived>) -> Result<Response, Problem> {
    let names = archived.sha256.split(',').map(|name| Sha256::try_from(name.to_owned()));
    let names: Result<Vec<Sha256>, String> = names.collect();
    let names = chosen(names.map_err(|_| Refusal::NotFound { what: "picture" })?)?;
    let images =
        app.service.run(move |service| names.iter().map(|name| service.image(name)).collect::<Result<Vec<_>, _>>());
    let body = archive(app.service.clone(), images.await?);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/zip")),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"zimage.zip\"")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, body).into_response())
}
