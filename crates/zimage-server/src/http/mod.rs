//! The HTTP face: one router per family of clients, each with its own words for the same [`crate::refusal::Refusal`].
//! Types of HTTP never leave this folder.

pub mod a1111;
mod archive;
mod asker;
mod assets;
mod auth;
mod awaited;
mod body;
mod connections;
mod deadline;
mod docs;
mod error;
mod events;
mod extract;
mod fields;
mod files;
mod gallery;
mod guard;
mod health;
mod infotext;
mod links;
mod log;
pub mod mcp;
mod metadata;
mod moment;
mod native;
pub mod openai;
mod openapi;
mod picture;
mod pledge;
mod restore;
mod uploads;

pub use asker::Asker;
pub use auth::Auth;
pub use connections::{ConnectionLimits, serve};
pub use guard::Hosts;
pub use pledge::Pledge;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, OriginalUri};
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;

use crate::service::Service;
use error::Problem;
use openapi::Texts;

/// What every handler has.
#[derive(Clone)]
pub struct App {
    /// What all clients speak to.
    pub service: Arc<Service>,
}

/// What some handlers know beside.
pub struct Context {
    /// Whether clients need keys.
    auth_is_required: bool,
}

impl Context {
    /// Of a server whose clients need keys, or not.
    pub fn new(auth_is_required: bool) -> Context {
        Context { auth_is_required }
    }
}

/// Everything that the server answers.
pub fn router(app: App, context: Arc<Context>, hosts: Hosts, auth: Arc<Auth>) -> Router {
    let limits = app.service.limits();
    let (max_body_bytes, body_timeout) = (limits.max_body_bytes, limits.body_timeout);
    let (native, description) = native(&app).split_for_parts();
    native
        .merge(openai::routes())
        .merge(a1111::routes())
        .merge(mcp::routes())
        .merge(assets::routes())
        .route("/login", get(auth::login).with_state(Arc::clone(&auth)))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(Extension(Arc::new(Texts::of(&description))))
        .layer(Extension(context))
        .layer(Extension(Arc::clone(&auth)))
        .layer(DefaultBodyLimit::max(max_body_bytes))
        .layer(from_fn_with_state(body_timeout, deadline::limit))
        .layer(from_fn_with_state(auth, auth::authenticate))
        .layer(from_fn_with_state(Arc::new(hosts), guard::guard))
        .layer(CatchPanicLayer::custom(log::panicked))
        .layer(from_fn(log::log))
        .layer(from_fn(guard::harden))
        .with_state(app)
}

fn native(app: &App) -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::frame())
        .merge(native::routes())
        .merge(events::routes())
        .merge(uploads::routes(app))
        .merge(metadata::routes(app))
        .merge(gallery::routes())
        .merge(files::routes())
        .merge(health::routes())
        .merge(openapi::routes())
}

async fn unknown(OriginalUri(uri): OriginalUri) -> Response {
    Problem::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this address; /docs lists what there is")
        .for_path(uri.path())
}

async fn wrong_method(OriginalUri(uri): OriginalUri) -> Response {
    let detail = "this address does not take this method; /docs lists what it takes";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail).for_path(uri.path())
}
