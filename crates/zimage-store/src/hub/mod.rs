//! A hub of models: the HTTP interface of Hugging Face, and the cache on disk that its own programs share.
//!
//! From the bottom up: [`Repo`] is a checked name; `http` asks and says whether asking again may help; `listing` is what
//! a repository holds; `choice` which of it Z-Image needs; `cache` the layout on disk; `blob` fetches one file; `fetch`
//! all of them, four at a time.

mod blob;
mod cache;
mod choice;
mod fetch;
mod http;
mod listing;
mod repo;
mod settings;

pub use repo::Repo;
pub use settings::{Hub, Retry};

pub(crate) use cache::{Cache, release};
pub(crate) use choice::choose;
pub(crate) use fetch::{Fetch, fetch};
pub(crate) use http::Http;
pub(crate) use listing::{Listing, RemoteFile};
