//! The OpenAI Images API, as the SDKs speak it: generations, edits, models.
//!
//! Known fields act as documented or are refused; unknown ones, which SDKs keep adding, are named in the response header
//! `x-zimage-ignored`.

mod edits;
mod error;
mod generations;
mod models;
mod request;
mod response;
mod size;
mod stream;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

use crate::http::App;
pub use error::ApiError;

/// The routes.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/images/generations", post(generations::create))
        .route("/v1/images/edits", post(edits::create))
        .route("/v1/images/variations", post(no_variations))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{id}", get(models::show))
        // Bodies are measured while they are read, by the server's own limits.
        .layer(DefaultBodyLimit::disable())
}

async fn no_variations() -> ApiError {
    ApiError::not_found("variations are not made by this server; send the picture to /v1/images/edits with a prompt")
}

#[cfg(test)]
mod tests;
