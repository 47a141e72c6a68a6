//! How long work took, which a GPU tells later.

#[cfg(all(test, feature = "cuda-emulator"))]
mod tests;

use super::Cuda;
use super::driver::Moment;
use super::memory::Port;
use crate::meter::{Kind, Work};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How many spans are held before the oldest are asked for, which are done long since.
const HELD: usize = 4096;

/// Some work between two moments.
#[derive(Debug)]
pub struct Span {
    pub kind: Kind,
    pub flop: f64,
    pub from: Moment,
    pub to: Moment,
}

/// Work whose time is known, and work whose time is not.
#[derive(Debug, Default)]
pub struct Timed(Mutex<([Work; 3], VecDeque<Span>)>);

impl Timed {
    /// Counts some work.
    pub fn add(&self, port: &Port, span: Span) {
        let mut timed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        timed.1.push_back(span);
        if timed.1.len() > HELD {
            settle(&mut timed, port, HELD / 2);
        }
    }

    /// All work of a kind so far; waits for it.
    pub fn work(&self, port: &Port, kind: Kind) -> Work {
        let mut timed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        settle(&mut timed, port, 0);
        timed.0[kind as usize]
    }
}

/// Asks for the times of the oldest spans until so many are left. A GPU's time is both what passed and what it worked.
fn settle((done, spans): &mut ([Work; 3], VecDeque<Span>), port: &Port, left: usize) {
    while spans.len() > left
        && let Some(Span { kind, flop, from, to }) = spans.pop_front()
    {
        let time = port.attempt(|driver| driver.elapsed(from, to)).unwrap_or_default();
        let work = &mut done[kind as usize];
        *work = Work { wall: work.wall + time, cpu: work.cpu + time, flop: work.flop + flop };
    }
}

impl Cuda {
    /// The time between two moments in the queue: when all work before is done, and when what `work` puts into it is done
    /// too; waits for both. Zero after something went wrong: see [`Cuda::check`].
    pub fn elapsed(&self, work: impl FnOnce()) -> Duration {
        let from = self.port.attempt(|driver| driver.mark());
        work();
        let to = self.port.attempt(|driver| driver.mark());
        let time = from.zip(to).and_then(|(from, to)| self.port.attempt(|driver| driver.elapsed(from, to)));
        time.unwrap_or_default()
    }
}
