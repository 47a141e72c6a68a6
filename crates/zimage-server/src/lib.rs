//! `zimage serve` as a library: durable jobs, a worker that owns the model, HTTP APIs and the web page.

mod bell;
pub mod capabilities;
pub mod draft;
pub mod http;
pub mod job;
pub mod limits;
pub mod metrics;
pub mod models;
pub mod preview;
pub mod queue;
pub mod refusal;
mod run;
mod server;
pub mod service;
pub mod setup;
pub mod speed;
pub mod store;
pub mod worker;

pub use http::ConnectionLimits;
pub use run::{Ended, McpError, serve, serve_mcp};
pub use server::{Server, ServerError, ServerOptions};
