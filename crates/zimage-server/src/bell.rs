//! Wakes the threads that wait for work.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use crate::service::locked;

/// Rings for all that wait. A ring that somebody was too busy to hear is kept for them.
#[derive(Default)]
pub struct Bell {
    rings: Mutex<u64>,
    rung: Condvar,
}

/// The rings that one thread has heard.
#[derive(Default)]
pub struct Heard(u64);

impl Bell {
    /// Wakes the threads.
    pub fn ring(&self) {
        *locked(&self.rings) += 1;
        self.rung.notify_all();
    }

    /// Waits for a ring that was not heard yet, or as long as `patience`.
    pub fn wait(&self, heard: &mut Heard, patience: Duration) {
        let rings = locked(&self.rings);
        if let Ok((rings, _)) = self.rung.wait_timeout_while(rings, patience, |rings| *rings == heard.0) {
            heard.0 = *rings;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_hears_a_ring_once() {
        let bell = Bell::default();
        let (mut one, mut other) = (Heard::default(), Heard::default());
        bell.ring();
        for heard in [&mut one, &mut other] {
            bell.wait(heard, Duration::from_secs(3600));
            bell.wait(heard, Duration::ZERO);
            assert_eq!(heard.0, 1);
        }
    }
}
