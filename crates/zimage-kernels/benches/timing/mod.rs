//! Timing of the benches: CPU time of the thread, and inputs.

use std::time::{Duration, Instant};

/// CPU time of this thread; wall time where there is no such clock.
fn now() -> Duration {
    zimage_kernels::peak::thread_time().unwrap_or_else(|| {
        thread_local!(static START: Instant = Instant::now());
        START.with(Instant::elapsed)
    })
}

/// Seconds of the fastest of several runs; the first one only warms up.
pub fn seconds(mut run: impl FnMut()) -> f64 {
    let started = Instant::now();
    run();
    let mut best = f64::INFINITY;
    let mut runs = 0;
    while runs < 3 || runs < 200 && started.elapsed() < Duration::from_secs(2) {
        let before = now();
        run();
        best = best.min((now() - before).as_secs_f64());
        runs += 1;
    }
    best
}

/// Values between -1/2 and 1/2.
pub fn values(n: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..n).map(|_| next()).collect()
}
