//! Streams: partial pictures while a job runs, each picture when it is finished, and errors amid it all.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde_json::{Value, json};

use crate::http::awaited::{Awaited, pictures};
use crate::http::openai::ApiError;
use crate::http::openai::request::Partials;
use crate::http::openai::response::{Family, format_name, size_name, usage};
use crate::http::picture::to_base64;
use crate::job::{Event, EventKind, ImageRecord, Job, Progress};
use crate::preview::Preview;
use crate::refusal::Refusal;
use crate::service::{Changes, Service};

/// Proxies cut streams that say nothing.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How a stream looks.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Names its events.
    pub family: Family,
    /// Which partial pictures it has.
    pub partials: Partials,
    /// Echoed.
    pub quality: &'static str,
}

/// The response.
pub fn respond(service: Arc<Service>, awaited: Awaited, style: Style) -> Response {
    let stream = unfold(Stream::new(service, awaited, style), |mut stream| async move {
        let event = stream.next().await?;
        Some((Ok::<_, Infallible>(event), stream))
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive")).into_response()
}

struct Stream {
    service: Arc<Service>,
    changes: Changes,
    /// Given up when the job has ended; dropped with the stream when the client hangs up.
    awaited: Option<Awaited>,
    job: Job,
    style: Style,
    pace: Pace,
    after: u64,
    ready: VecDeque<SseEvent>,
}

impl Stream {
    fn new(service: Arc<Service>, awaited: Awaited, style: Style) -> Stream {
        let (changes, job) = (service.changes(), awaited.job().clone());
        let pace = Pace::new(style.partials);
        Stream { service, changes, awaited: Some(awaited), job, style, pace, after: 0, ready: VecDeque::new() }
    }

    async fn next(&mut self) -> Option<SseEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            self.awaited.as_ref()?;
            match self.read().await {
                Ok(true) => {}
                Ok(false) => {
                    self.changes.next().await;
                }
                Err(refusal) => self.fail(&refusal.into()),
            }
        }
    }

    /// Reads what has happened since; says whether anything has.
    async fn read(&mut self) -> Result<bool, Refusal> {
        let (id, after) = (self.job.id, self.after);
        let events = self.service.run(move |service| service.events(Some(id), after)).await?;
        self.partial();
        for event in &events {
            self.after = event.seq;
            self.take(event).await?;
        }
        Ok(!events.is_empty())
    }

    async fn take(&mut self, event: &Event) -> Result<(), Refusal> {
        match &event.kind {
            EventKind::Queued | EventKind::Running => {}
            EventKind::Step(_) => self.partial(),
            EventKind::Image(image) => {
                let files = pictures(&self.service, std::slice::from_ref(image)).await?;
                files.iter().for_each(|file| self.completed(image, file));
            }
            EventKind::Done => self.end(),
            EventKind::Failed(failure) => self.fail(&failure.clone().into()),
            EventKind::Cancelled => self.fail(&ApiError::cancelled()),
        }
        Ok(())
    }

    /// Sends the newest preview, if one is due.
    fn partial(&mut self) {
        let Some(Preview { progress, jpeg }) = self.service.previews().get(self.job.id) else { return };
        let Some(index) = self.pace.due(progress) else { return };
        let mut data = self.common();
        data["b64_json"] = to_base64(&jpeg).into();
        data["partial_image_index"] = index.into();
        data["image_index"] = progress.image.into();
        // Previews are small and of a format of their own.
        data["output_format"] = "jpeg".into();
        self.send("partial_image", data);
    }

    fn completed(&mut self, image: &ImageRecord, file: &[u8]) {
        let mut data = self.common();
        data["b64_json"] = to_base64(file).into();
        data["image_index"] = image.index.into();
        data["seed"] = image.seed.into();
        data["usage"] = usage(&self.job, 1);
        self.send("completed", data);
    }

    fn common(&self) -> Value {
        let spec = &self.job.spec;
        json!({
            "created_at": self.service.now() / 1000,
            "size": size_name(spec),
            "quality": self.style.quality,
            "background": "opaque",
            "output_format": format_name(spec.format),
        })
    }

    fn send(&mut self, what: &str, mut data: Value) {
        let family = match self.style.family {
            Family::Generation => "image_generation",
            Family::Edit => "image_edit",
        };
        let name = format!("{family}.{what}");
        data["type"] = name.as_str().into();
        self.ready.push_back(SseEvent::default().event(name).data(data.to_string()));
    }

    fn fail(&mut self, error: &ApiError) {
        let data = json!({"type": "error", "error": error.to_json()});
        self.ready.push_back(SseEvent::default().event("error").data(data.to_string()));
        self.end();
    }

    fn end(&mut self) {
        if let Some(awaited) = self.awaited.take() {
            awaited.settle();
        }
    }
}

/// Decides which previews become partial pictures: so many a picture, spread evenly over its steps.
struct Pace {
    partials: Partials,
    image: u32,
    passed: u32,
    sent: u32,
}

impl Pace {
    fn new(partials: Partials) -> Pace {
        Pace { partials, image: 0, passed: 0, sent: 0 }
    }

    /// The number of the partial picture that is due at this point, if one is.
    fn due(&mut self, at: Progress) -> Option<u32> {
        if at.image != self.image {
            *self = Pace { image: at.image, ..Pace::new(self.partials) };
        }
        let passed = match self.partials {
            Partials::EveryStep => at.step,
            // Of 2 partial pictures over 9 steps, one is due after step 3 and one after step 6.
            Partials::Count(count) => (1..=count).filter(|k| at.step * (count + 1) >= at.steps * k).count() as u32,
        };
        if passed <= self.passed {
            return None;
        }
        self.passed = passed;
        self.sent += 1;
        Some(self.sent - 1)
    }
}

#[cfg(test)]
mod tests;
