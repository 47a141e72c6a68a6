//! The server over real connections.

mod client;
mod drain;
mod events;
mod gallery;
mod guard;
mod hostile;
mod jobs;
mod keys;
mod openapi;
mod paths;
mod pictures;
mod server;
mod slow;
