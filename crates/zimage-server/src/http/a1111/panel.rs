//! What this dialect keeps between requests: its clients choose a model once, and ask for "the" progress.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::job::{Job, JobId};
use crate::service::{Client, locked};

/// Settings, and the jobs that clients of this dialect wait for.
#[derive(Default)]
pub struct Panel {
    settings: Mutex<Settings>,
    jobs: Mutex<BTreeMap<JobId, Client>>,
}

/// Settings that outlast a request.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The chosen model; the server's default one if absent.
    pub checkpoint: Option<String>,
    /// Whether `cfg_scale` acts.
    pub honor_cfg: bool,
}

impl Panel {
    /// The settings as they are.
    pub fn settings(&self) -> Settings {
        locked(&self.settings).clone()
    }

    /// Changes the settings.
    pub fn change(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut locked(&self.settings));
    }

    /// Remembers a job for as long as its client waits.
    pub fn wait_for(self: &Arc<Panel>, job: JobId, client: Client) -> Waiting {
        locked(&self.jobs).insert(job, client);
        Waiting { panel: Arc::clone(self), job }
    }

    /// Those of the jobs that a client waits for through this dialect.
    pub fn of(&self, client: &Client, active: Vec<Job>) -> Vec<Job> {
        let jobs = locked(&self.jobs);
        active.into_iter().filter(|job| jobs.get(&job.id) == Some(client)).collect()
    }
}

/// A client waits for a job while this lives.
pub struct Waiting {
    panel: Arc<Panel>,
    job: JobId,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        locked(&self.panel.jobs).remove(&self.job);
    }
}
