//! The models on this machine: what is installed, which one is the default, and how more of them get here.
//!
//! A model of `<home>/models` is either a file or directory that its user put there, or a [`Record`] in
//! `<home>/models/.store` that says where its files are: imported from anywhere on the disk, or pulled from a hub into
//! the cache that diffusers and huggingface_hub use as well, so that 33 GB are there once.
//!
//! This is the only crate that opens a network connection. It is synchronous and prints nothing: what goes on is told
//! to the caller by [`Event`]s, on the caller's thread.

pub mod hub;
pub mod store;

mod error;
mod event;
mod files;
mod inventory;
mod name;
mod record;

pub use error::{Error, Result};
pub use event::{Event, PlannedFile};
pub use hub::{Hub, Repo};
pub use inventory::{Lenders, Standing, components};
pub use name::Name;
pub use record::{FileRecord, Older, Record, Source};
pub use store::{Check, Import, Model, Pulled, Removed, Store, Verdict};
