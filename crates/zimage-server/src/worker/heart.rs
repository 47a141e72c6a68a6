//! Renews the leases of a worker while it computes, since a step may take longer than a lease.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::queue::Lease;
use crate::service::{Service, locked};

/// Beats for as long as it lives.
pub struct Heart {
    leases: Arc<Mutex<Vec<Lease>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Heart {
    /// Starts to beat.
    pub fn start(service: Arc<Service>, pause: Duration) -> std::io::Result<Heart> {
        let (leases, stopped) = (Arc::<Mutex<Vec<Lease>>>::default(), Arc::<AtomicBool>::default());
        let body = {
            let (leases, stopped) = (Arc::clone(&leases), Arc::clone(&stopped));
            move || {
                while !stopped.load(Ordering::SeqCst) {
                    thread::park_timeout(pause);
                    let held = locked(&leases).clone();
                    for lease in held {
                        // Whoever lost a lease learns it with the next step.
                        if let Err(error) = service.queue().renew(&lease) {
                            tracing::error!("a lease was not renewed: {error}");
                        }
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("zimage-heart".into()).spawn(body)?;
        Ok(Heart { leases, stopped, thread: Some(thread) })
    }

    /// Renews a lease from now on.
    pub fn beat_for(&self, lease: &Lease) {
        // The journal may be large, and is not needed.
        locked(&self.leases).push(Lease { journal: None, ..lease.clone() });
    }

    /// Renews a lease no more.
    pub fn stop_for(&self, lease: &Lease) {
        locked(&self.leases).retain(|held| held.job.id != lease.job.id);
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It can only fail by a panic, which has been reported.
            let _ = thread.join();
        }
    }
}
