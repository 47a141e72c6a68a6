//! Moments of the queues: events of the driver under numbers of ours, used again once they are forgotten.

use super::context::{Context, Event, Stream, milliseconds, wait_for};
use crate::Result;
use crate::backend::cuda::driver::Moment;
use cudarc::driver::sys::CUevent;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The moments that somebody may still ask for. No event is destroyed before the device is given up, so that a handle
/// stays valid outside of the lock.
#[derive(Debug)]
pub struct Moments {
    context: Arc<Context>,
    events: Mutex<Events>,
}

#[derive(Debug, Default)]
struct Events {
    made: u64,
    known: HashMap<u64, Event>,
    free: Vec<Event>,
}

impl Moments {
    /// None yet.
    pub fn new(context: &Arc<Context>) -> Moments {
        Moments { context: context.clone(), events: Mutex::default() }
    }

    /// The moment at which all work in the queue so far is done.
    pub fn record(&self, stream: &Stream) -> Result<Moment> {
        let free = self.lock().free.pop();
        let event = match free {
            Some(event) => event,
            None => Event::new(&self.context)?,
        };
        let recorded = event.record(stream);
        let mut events = self.lock();
        if let Err(error) = recorded {
            events.free.push(event);
            return Err(error);
        }
        events.made += 1;
        let id = events.made;
        events.known.insert(id, event);
        Ok(Moment(id))
    }

    /// Lets a queue go on only after a moment.
    pub fn hold_back(&self, stream: &Stream, moment: Moment) -> Result<()> {
        stream.follow(self.event(moment))
    }

    /// Waits for a moment.
    pub fn wait(&self, moment: Moment) -> Result<()> {
        wait_for(&self.context, self.event(moment))
    }

    /// The time between two moments, which are forgotten.
    pub fn elapsed(&self, from: Moment, to: Moment) -> Result<Duration> {
        let events = [from, to].map(|moment| self.event(moment));
        let passed = events.iter().try_for_each(|event| wait_for(&self.context, *event));
        let passed = passed.and_then(|()| milliseconds(&self.context, events[0], events[1]));
        self.forget(from);
        self.forget(to);
        // Two moments of different queues may be in either order; no time passed backwards.
        Ok(Duration::from_secs_f64(f64::from(passed?).max(0.0) / 1e3))
    }

    /// Nobody will ask for it again. Work that already follows it is not concerned.
    pub fn forget(&self, moment: Moment) {
        let mut events = self.lock();
        let event = events.known.remove(&moment.0);
        events.free.extend(event);
    }

    fn event(&self, moment: Moment) -> CUevent {
        self.lock().known.get(&moment.0).expect("a moment that is not forgotten: this is a bug").raw()
    }

    fn lock(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
