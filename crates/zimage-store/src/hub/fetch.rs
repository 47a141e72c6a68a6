//! All files of a pull, four at a time.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::blob::{Transfer, Watcher};
use super::http::{Http, encoded};
use super::{Cache, RemoteFile, Repo};
use crate::{Error, Event, Result};

/// One connection rarely fills a fast line; more than four get in each other's way, and in the server's.
const PARALLEL: usize = 4;
/// How much must have arrived to be worth telling.
const NEWS_BYTES: u64 = 1 << 20;
/// How often another program's lock is looked at, and how soon a pause notices that it is over.
const TICK: Duration = Duration::from_millis(100);

/// What to fetch into where.
pub(crate) struct Fetch<'a> {
    pub(crate) http: &'a Http,
    pub(crate) repo: &'a Repo,
    pub(crate) cache: &'a Cache,
    pub(crate) commit: &'a str,
    pub(crate) files: &'a [RemoteFile],
}

/// Fetches the files that are not in the cache, in their order, and links all into the snapshot. The caller hears of it on
/// its own thread. The first error stops the rest; what was received stays.
pub(crate) fn fetch(fetch: &Fetch<'_>, on: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<()> {
    let next = Mutex::new(0..fetch.files.len());
    let stopped = AtomicBool::new(false);
    let (sender, receiver) = channel();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..PARALLEL.min(fetch.files.len()))
            .map(|_| {
                let (sender, next, stopped) = (sender.clone(), &next, &stopped);
                scope.spawn(move || work(fetch, next, stopped, sender))
            })
            .collect();
        drop(sender);
        listen(receiver, &stopped, on);
        let mut result = Ok(());
        for worker in workers {
            let ended = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // An error that stops the others is their reason to say that they were cancelled.
            if result.is_ok() || matches!(result, Err(Error::Cancelled)) && ended.is_err() {
                result = ended;
            }
        }
        result
    })
}

/// Hands events on until all workers have ended.
fn listen(receiver: Receiver<Event>, stopped: &AtomicBool, on: &mut dyn FnMut(Event) -> ControlFlow<()>) {
    for event in receiver {
        if !stopped.load(Ordering::Relaxed) && on(event).is_break() {
            stopped.store(true, Ordering::Relaxed);
        }
    }
}

fn work(
    fetch: &Fetch<'_>,
    next: &Mutex<std::ops::Range<usize>>,
    stopped: &AtomicBool,
    sender: Sender<Event>,
) -> Result<()> {
    loop {
        let index = next.lock().unwrap_or_else(PoisonError::into_inner).next();
        let Some(index) = index else { return Ok(()) };
        let one = One { index, file: &fetch.files[index], told: Cell::new(None), stopped, sender: &sender };
        one.run(fetch).inspect_err(|_| stopped.store(true, Ordering::Relaxed))?;
    }
}

/// One file, and who hears of it.
struct One<'a> {
    index: usize,
    file: &'a RemoteFile,
    /// The bytes that were told of last.
    told: Cell<Option<u64>>,
    stopped: &'a AtomicBool,
    sender: &'a Sender<Event>,
}

impl One<'_> {
    fn run(&self, fetch: &Fetch<'_>) -> Result<()> {
        if !fetch.cache.is_whole(self.file, fetch.commit) {
            let _lock = self.wait_for_lock(fetch.cache)?;
            // The other program may have fetched it.
            if !fetch.cache.is_whole(self.file, fetch.commit) {
                self.transfer(fetch)?;
            }
        }
        if self.is_stopped() {
            return Err(Error::Cancelled);
        }
        fetch.cache.link(self.file, fetch.commit)?;
        self.tell(Event::Finished { file: self.index });
        Ok(())
    }

    fn transfer(&self, fetch: &Fetch<'_>) -> Result<()> {
        let (endpoint, id) = (&fetch.http.hub.endpoint, fetch.repo.id());
        let url = format!("{endpoint}/{id}/resolve/{}/{}", fetch.commit, encoded(&self.file.path, true));
        let (blob, incomplete): (PathBuf, PathBuf) =
            (fetch.cache.blob(&self.file.id), fetch.cache.incomplete(&self.file.id));
        Transfer { http: fetch.http, repo: fetch.repo, url, file: self.file, incomplete, blob }.run(self)
    }

    fn wait_for_lock(&self, cache: &Cache) -> Result<std::fs::File> {
        let mut told = false;
        loop {
            if let Some(lock) = cache.lock(&self.file.id)? {
                return Ok(lock);
            }
            if !told {
                self.tell(Event::Locked { file: self.index });
                told = true;
            }
            if self.is_stopped() {
                return Err(Error::Cancelled);
            }
            thread::sleep(TICK);
        }
    }

    /// Nobody listens any more once the work was stopped.
    fn tell(&self, event: Event) {
        let _ = self.sender.send(event);
    }
}

impl Watcher for One<'_> {
    fn received(&self, bytes: u64) {
        let told = self.told.get();
        if bytes == self.file.size || told.is_none_or(|told| bytes < told || bytes - told >= NEWS_BYTES) {
            self.told.set(Some(bytes));
            self.tell(Event::Received { file: self.index, bytes });
        }
    }

    fn retrying(&self, reason: String, pause: Duration) {
        self.tell(Event::Retrying { what: self.file.path.clone(), reason, pause });
        let end = Instant::now() + pause;
        while Instant::now() < end && !self.is_stopped() {
            thread::sleep(TICK.min(end.saturating_duration_since(Instant::now())));
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}
