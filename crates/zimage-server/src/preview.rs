//! The newest previews of running jobs, in memory only.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;

use crate::job::{JobId, Progress};
use crate::service::locked;

/// A preview.
#[derive(Clone, Debug)]
pub struct Preview {
    /// Which picture, and after which step.
    pub progress: Progress,
    /// A JPEG.
    pub jpeg: Bytes,
}

/// The newest preview of each running job.
#[derive(Default)]
pub struct Previews(Mutex<BTreeMap<JobId, Preview>>);

impl Previews {
    /// Replaces a job's preview.
    pub fn set(&self, job: JobId, preview: Preview) {
        locked(&self.0).insert(job, preview);
    }

    /// A job's preview.
    pub fn get(&self, job: JobId) -> Option<Preview> {
        locked(&self.0).get(&job).cloned()
    }

    /// Forgets a job's preview.
    pub fn remove(&self, job: JobId) {
        locked(&self.0).remove(&job);
    }
}
