//! The store on real files, and pulls from a hub on this machine that misbehaves on request.

// The exemption for tests covers only the test functions themselves, not what they share.
#![allow(clippy::unwrap_used)]

mod listings;
mod network;
mod pull;
mod remove;
mod server;
mod store;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use zimage_store::hub::Retry;
use zimage_store::{Error, Event, Hub, Pulled, Store};

use server::Server;

/// A file or directory of the goldens.
fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens").join(path)
}

/// A machine with an empty home directory and an empty cache.
struct Machine {
    directory: TempDir,
}

impl Machine {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn home(&self) -> PathBuf {
        self.path("home")
    }

    fn store(&self) -> Store {
        Store::new(&self.home())
    }

    fn hub(&self, server: &Server) -> Hub {
        let milliseconds = Duration::from_millis;
        let retry = Retry {
            attempts: 4,
            first_pause: milliseconds(1),
            longest_pause: milliseconds(1500),
            silence: milliseconds(700),
        };
        Hub { endpoint: server.url(), token: Some("hf_secret".into()), cache: self.path("hub"), offline: false, retry }
    }

    fn pull(&self, server: &Server, repo: &str) -> Result<Pulled, Error> {
        self.pull_heard(server, repo, &mut |_| ControlFlow::Continue(()))
    }

    fn pull_heard(
        &self,
        server: &Server,
        repo: &str,
        on: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Pulled, Error> {
        self.store().pull(&self.hub(server), &repo.parse()?, None, on)
    }

    /// The cache's folder of the repository `tiny/model`.
    fn repository(&self) -> PathBuf {
        self.path("hub/models--tiny--model")
    }

    /// Names of the blobs, sorted.
    fn blobs(&self) -> Vec<String> {
        names(&self.repository().join("blobs"))
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy(&from.join(&name), &to.join(&name));
        }
    } else {
        fs::copy(from, to).unwrap();
    }
}

fn deaf(_: Event) -> ControlFlow<()> {
    ControlFlow::Continue(())
}
