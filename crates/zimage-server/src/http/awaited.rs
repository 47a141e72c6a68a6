//! A job that its client waits for.

use std::sync::Arc;

use crate::draft::Draft;
use crate::http::Pledge;
use crate::job::{ImageRecord, Job};
use crate::refusal::Refusal;
use crate::service::{Client, Service};

/// A job that was submitted for a client that waits: cancelled if this is dropped before the job has ended.
pub struct Awaited {
    service: Arc<Service>,
    job: Job,
    pledge: Pledge,
}

impl Awaited {
    /// Submits a job.
    ///
    /// # Errors
    /// As [`Service::submit`].
    pub async fn submit(service: &Arc<Service>, draft: Draft, client: Client) -> Result<Awaited, Refusal> {
        let owned = Arc::clone(service);
        // The pledge is made beside the job: a client that hangs up meanwhile leaves no job behind.
        let submit = move |service: &Service| {
            let job = service.submit(draft, &client, None)?.job;
            let pledge = Pledge::new(owned, job.id);
            Ok((job, pledge))
        };
        let (job, pledge) = service.run(submit).await?;
        Ok(Awaited { service: Arc::clone(service), job, pledge })
    }

    /// The job as it was submitted.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// Waits until it has ended, however it ends.
    ///
    /// # Errors
    /// As [`Service::wait`].
    pub async fn ended(self) -> Result<Job, Refusal> {
        let job = self.service.wait(self.job.id).await?;
        self.pledge.keep();
        Ok(job)
    }

    /// Its client has seen it end.
    pub fn settle(self) {
        self.pledge.keep();
    }
}

/// The files of a job's pictures, in order.
///
/// # Errors
/// [`Refusal::NotFound`] when one was deleted meanwhile.
pub async fn pictures(service: &Arc<Service>, images: &[ImageRecord]) -> Result<Vec<Vec<u8>>, Refusal> {
    let images = images.to_vec();
    let read = |service: &Service, image: &ImageRecord| {
        let file = service.files().image(&image.sha256, image.format).map_err(Refusal::internal)?;
        file.ok_or(Refusal::NotFound { what: "picture" })
    };
    service.run(move |service| images.iter().map(|image| read(service, image)).collect()).await
}
