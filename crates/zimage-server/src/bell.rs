//! Wakes the threads that wait for work.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use crate::service::locked;

/// Rings for all that wait. A ring that nobody hears is kept for the next one.
#[derive(Default)]
pub struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    /// Wakes the threads.
    pub fn ring(&self) {
        *locked(&self.rung) = true;
        self.heard.notify_all();
    }

    /// Waits for a ring, or as long as `patience`.
    pub fn wait(&self, patience: Duration) {
        let rung = locked(&self.rung);
        if let Ok((mut rung, _)) = self.heard.wait_timeout_while(rung, patience, |rung| !*rung) {
            *rung = false;
        }
    }
}
