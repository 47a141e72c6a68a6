//! The Model Context Protocol: pictures as tools of a language model, over HTTP or over a pipe.
//!
//! A picture comes back three times: as a small JPEG to look at, as a link to the file, and as data. Nothing that a client
//! sends is ever taken for a path or fetched from an address.

mod parameters;
mod pictures;
mod results;
mod server;
mod tools;

use std::io;
use std::sync::{Arc, OnceLock};

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Extension, Router};
use rmcp::ServiceExt;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};

use crate::http::App;
use server::McpServer;

/// One for all requests, since it keeps the sessions that older clients need; made by the first of them.
type Endpoint = Arc<OnceLock<StreamableHttpService<McpServer, LocalSessionManager>>>;

/// The routes.
pub fn routes() -> Router<App> {
    Router::new().route("/mcp", any(handle)).layer(Extension(Endpoint::default()))
}

async fn handle(State(app): State<App>, Extension(endpoint): Extension<Endpoint>, request: Request) -> Response {
    let service = endpoint.get_or_init(|| {
        // A picture in base64, and what is around it.
        let limits = app.service.limits();
        let body_bytes = limits.max_upload_bytes.div_ceil(3) * 4 + limits.max_body_bytes;
        // Which hosts are ours is known to the guard, which every request has passed; no page has business here.
        let config = StreamableHttpServerConfig::default()
            .disable_allowed_hosts()
            .enforce_origin_validation()
            .with_max_request_body_bytes(body_bytes);
        StreamableHttpService::new(move || Ok(McpServer::new(app.clone())), Arc::default(), config)
    });
    service.handle(request).await.into_response()
}

/// Serves one client on standard input and output until it hangs up. Nothing else may write to standard output.
///
/// # Errors
/// When the client does not speak the protocol.
pub async fn serve_stdio(app: App) -> io::Result<()> {
    let running = McpServer::new(app).serve(rmcp::transport::stdio()).await.map_err(io::Error::other)?;
    running.waiting().await.map_err(io::Error::other)?;
    Ok(())
}
