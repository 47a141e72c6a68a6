//! A time by which a request's body must have come, so that a client that sends a byte now and then holds nothing.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::{StreamExt as _, stream};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

/// The body did not come in time.
#[derive(Debug, Error)]
#[error("the body did not come in time")]
pub struct TookTooLong;

/// Ends a body with [`TookTooLong`] once it has taken longer than this.
pub async fn limit(State(patience): State<Duration>, request: Request, next: Next) -> Response {
    let deadline = Instant::now() + patience;
    let (head, body) = request.into_parts();
    let chunks = stream::unfold(body.into_data_stream(), move |mut chunks| async move {
        match timeout_at(deadline, chunks.next()).await {
            Ok(chunk) => Some((chunk?.map_err(axum::BoxError::from), chunks)),
            Err(_) => Some((Err(TookTooLong.into()), chunks)),
        }
    });
    next.run(Request::from_parts(head, Body::from_stream(chunks))).await
}
