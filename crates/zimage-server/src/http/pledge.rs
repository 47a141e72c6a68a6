//! What is done for a client that waits ends when the client goes.

use std::sync::Arc;

use crate::job::JobId;
use crate::service::Service;

/// Cancels a job when it is dropped, unless it was kept: held by the handler or the stream of a synchronous request, which
/// is dropped when its client hangs up.
pub struct Pledge {
    service: Arc<Service>,
    job: Option<JobId>,
}

impl Pledge {
    /// A pledge on a job.
    pub fn new(service: Arc<Service>, job: JobId) -> Pledge {
        Pledge { service, job: Some(job) }
    }

    /// The client has its answer.
    pub fn keep(mut self) {
        self.job = None;
    }
}

impl Drop for Pledge {
    fn drop(&mut self) {
        let Some(job) = self.job.take() else { return };
        let service = Arc::clone(&self.service);
        let cancel = move || {
            if let Err(refusal) = service.cancel(job) {
                tracing::warn!("job {job} was left behind: {refusal}");
            }
        };
        // A stream may be dropped on one of the runtime's threads, which must not wait for the database.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(cancel)),
            Err(_) => cancel(),
        }
    }
}
