//! One client's place in the events.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use axum::response::sse::Event as Message;
use serde_json::json;

use crate::job::{Event, EventKind, Job, JobId, JobState, Millis};
use crate::refusal::Refusal;
use crate::service::{Changes, Service};

/// Turns what happens into messages.
pub struct Follower {
    service: Arc<Service>,
    changes: Changes,
    gallery: Changes,
    job: Option<JobId>,
    /// The last event that was sent.
    after: u64,
    /// Messages to send.
    ready: VecDeque<Message>,
    /// The last places in the queue that were sent.
    places: BTreeMap<JobId, Place>,
    /// Whether the client has the job as it is.
    introduced: bool,
    gallery_changed: bool,
    ended: bool,
}

#[derive(Clone, Copy, PartialEq)]
struct Place {
    position: Option<u32>,
    eta_ms: Option<Millis>,
}

/// What there is to tell.
struct News {
    /// Read before the events, so that a job that has ended has all its events here.
    job: Option<Job>,
    events: Vec<Event>,
    /// Read behind the events, so that the time that is left knows of each step among them.
    active: Vec<Job>,
}

impl News {
    fn read(service: &Service, job: Option<JobId>, after: u64) -> Result<News, Refusal> {
        let one = job.map(|id| service.job(id)).transpose()?;
        let events = service.events(job, after)?;
        let active = match job {
            Some(id) => vec![service.job(id)?],
            None => service.active()?,
        };
        Ok(News { job: one, events, active })
    }
}

impl Follower {
    /// Follows one job. `changes` is older than anything that the client was told.
    pub fn of_job(service: Arc<Service>, changes: Changes, job: JobId, after: u64) -> Follower {
        Follower { job: Some(job), ..Follower::of_all(service, changes, after) }
    }

    /// Follows all jobs.
    pub fn of_all(service: Arc<Service>, changes: Changes, after: u64) -> Follower {
        Follower {
            gallery: service.gallery_changes(),
            service,
            changes,
            job: None,
            after,
            ready: VecDeque::new(),
            places: BTreeMap::new(),
            introduced: false,
            gallery_changed: false,
            ended: false,
        }
    }

    /// The next message; `None` at the end.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            if self.ended {
                return None;
            }
            self.gather().await;
            if self.ready.is_empty() && !self.ended {
                self.wait().await;
            }
        }
    }

    async fn gather(&mut self) {
        let is_draining = self.service.is_draining();
        let (job, after) = (self.job, self.after);
        match self.service.run(move |service| News::read(service, job, after)).await {
            Ok(news) => self.tell(news),
            // The client comes back, and goes on from what it has.
            Err(_) => self.ended = true,
        }
        if std::mem::take(&mut self.gallery_changed) {
            self.ready.push_back(Message::default().event("gallery").data("{}"));
        }
        if is_draining && !self.ended && self.ready.is_empty() {
            self.ready.push_back(Message::default().event("shutdown").data("{}"));
            self.ended = true;
        }
    }

    fn tell(&mut self, news: News) {
        if let Some(job) = news.job.as_ref().filter(|_| !self.introduced) {
            self.introduced = true;
            self.ready.extend(message("job", job));
        }
        for event in &news.events {
            self.after = event.seq;
            self.ready.extend(message(event.kind.name(), event).map(|message| message.id(event.seq.to_string())));
            if let (EventKind::Step(_), Some(job)) = (&event.kind, news.active.iter().find(|job| job.id == event.job)) {
                let eta = json!({ "job": job.id, "eta_ms": job.eta_ms });
                self.ready.extend(message("eta", &eta).filter(|_| job.eta_ms.is_some()));
            }
        }
        self.tell_places(&news.active);
        let has_ended = news.job.is_some_and(|job| job.state.is_final());
        self.ended = has_ended && is_at_end(&news.events);
    }

    fn tell_places(&mut self, active: &[Job]) {
        let waiting: Vec<&Job> = active.iter().filter(|job| job.state == JobState::Queued).collect();
        self.places.retain(|id, _| waiting.iter().any(|job| job.id == *id));
        for job in waiting {
            // To the followers of all jobs, the time of each would be told anew with each step of any.
            let eta_ms = job.eta_ms.filter(|_| self.job.is_some());
            let place = Place { position: job.position, eta_ms };
            if self.places.insert(job.id, place) != Some(place) {
                let data = json!({ "job": job.id, "position": job.position, "eta_ms": job.eta_ms });
                self.ready.extend(message("position", &data));
            }
        }
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.changes.next() => {}
            changed = self.gallery.next(), if self.job.is_none() => self.gallery_changed |= changed,
        }
    }
}

/// A job that has ended is told to its end by its final event; a client that had that one already gets no more.
fn is_at_end(events: &[Event]) -> bool {
    let is_final = |kind: &EventKind| matches!(kind, EventKind::Done | EventKind::Failed(_) | EventKind::Cancelled);
    events.last().is_none_or(|event| is_final(&event.kind))
}

fn message(name: &str, data: &impl serde::Serialize) -> Option<Message> {
    let message = Message::default().event(name).json_data(data);
    message.inspect_err(|error| tracing::error!("an event has no JSON form: {error}")).ok()
}
