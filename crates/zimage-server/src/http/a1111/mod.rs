//! The API of the Stable Diffusion web UI, as far as its clients use it with a model like this one.
//!
//! Its clients send settings for other models with every request. What would spoil a picture here (`cfg_scale`), or
//! means nothing (samplers, scripts), has no effect, and `info.extra_generation_params` of the response says so.

mod error;
mod generate;
mod info;
mod lists;
mod panel;
mod png_info;
mod progress;
mod request;
mod timestamp;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::HeaderMap;
use axum::routing::{get, post};
use axum::{Extension, Router};

use crate::http::fields::Fields;
use crate::http::{App, body};
use crate::limits::Limits;
use error::ApiError;
use panel::Panel;

/// The routes.
pub fn routes() -> Router<App> {
    let routes = Router::new()
        .route("/txt2img", post(generate::from_text))
        .route("/img2img", post(generate::from_image))
        .route("/progress", get(progress::show))
        .route("/interrupt", post(progress::interrupt))
        .route("/skip", post(progress::interrupt))
        .route("/options", get(lists::options).post(lists::set_options))
        .route("/sd-models", get(lists::models))
        .route("/samplers", get(lists::samplers))
        .route("/schedulers", get(lists::schedulers))
        .route("/upscalers", get(lists::upscalers))
        .route("/loras", get(lists::loras))
        .route("/scripts", get(lists::scripts))
        .route("/memory", get(lists::memory))
        .route("/cmd-flags", get(lists::flags))
        .route("/sd-vae", get(lists::vaes))
        .route("/refresh-checkpoints", post(lists::refresh))
        .route("/png-info", post(png_info::read))
        .layer(Extension(Arc::new(Panel::default())))
        // Bodies are measured while they are read, by the server's own limits.
        .layer(DefaultBodyLimit::disable());
    Router::new().nest("/sdapi/v1", routes)
}

/// The fields of a JSON body that may carry so many pictures.
async fn fields(headers: &HeaderMap, body: Body, limits: &Limits, pictures: usize) -> Result<Fields, ApiError> {
    if !body::is_json(headers) {
        return Err(ApiError::media_type());
    }
    // Base64 takes four characters for three bytes.
    let limit_bytes = limits.max_body_bytes + pictures * limits.max_upload_bytes.div_ceil(3) * 4;
    let bytes = body::read(body, limit_bytes).await?;
    Ok(Fields::from_json(&bytes)?)
}
