//! The server's parts from the outside.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop

mod bench;
mod dialects;
mod files;
mod gallery;
mod http;
mod keys;
mod queue;
mod samples;
mod worker;
