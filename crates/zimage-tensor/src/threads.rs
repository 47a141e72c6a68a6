//! The thread pool of the CPU backend, and the one way work is split over it.
//!
//! Work is always cut into pieces of a size that depends on shapes alone, never on the number of threads: so every
//! sum is formed in the same order, and results are bit-identical for any number of threads.

use crate::{Error, Result};
use rayon::prelude::*;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A pool of worker threads; clones share it.
#[derive(Clone)]
pub struct Threads(Arc<Workers>);

struct Workers {
    pool: rayon::ThreadPool,
    /// One buffer per worker, which only that worker locks while it works.
    scratch: Vec<Mutex<Vec<f32>>>,
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Threads({})", self.count())
    }
}

impl Threads {
    /// A pool of `count` threads (at least one).
    pub fn new(count: usize) -> Result<Threads> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(count.max(1))
            .thread_name(|i| format!("zimage-cpu-{i}"))
            .build()
            .map_err(|e| Error::Threads { threads: count, reason: e.to_string() })?;
        let scratch = (0..pool.current_num_threads()).map(|_| Mutex::default()).collect();
        Ok(Threads(Arc::new(Workers { pool, scratch })))
    }

    /// Number of threads.
    pub fn count(&self) -> usize {
        self.0.pool.current_num_threads()
    }

    /// Runs `work` once per piece. Each worker keeps one scratch buffer, whose contents are those of the piece before;
    /// it grows as pieces need, and stays until [`Threads::release`]. `work` must not call this.
    pub fn for_each<P: Send>(&self, pieces: Vec<P>, work: impl Fn(P, &mut Vec<f32>) + Sync + Send) {
        self.0.pool.install(|| {
            pieces.into_par_iter().with_max_len(1).for_each(|piece| {
                let worker = rayon::current_thread_index().expect("pieces run on workers: this is a bug");
                work(piece, &mut locked(&self.0.scratch[worker]));
            });
        });
    }

    /// Gives the scratch buffers back to the operating system.
    pub fn release(&self) {
        self.0.scratch.iter().for_each(|scratch| *locked(scratch) = Vec::new());
    }

    /// Runs `work(out rows, in rows)` over matching chunks of `out` and `x`, whole rows of `cols` values each.
    pub fn for_rows(&self, out: &mut [f32], x: &[f32], cols: usize, work: impl Fn(&mut [f32], &[f32]) + Sync + Send) {
        let chunk = rows_per_chunk(cols) * cols;
        self.0.pool.install(|| {
            out.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(out, x)| work(out, x));
        });
    }

    /// Runs `work(index of the first row, rows)` over chunks of whole rows of `x`, in place.
    pub fn for_rows_mut(&self, x: &mut [f32], cols: usize, work: impl Fn(usize, &mut [f32]) + Sync + Send) {
        let rows = rows_per_chunk(cols);
        self.0.pool.install(|| {
            x.par_chunks_mut(rows * cols).enumerate().for_each(|(i, x)| work(i * rows, x));
        });
    }
}

fn locked(scratch: &Mutex<Vec<f32>>) -> MutexGuard<'_, Vec<f32>> {
    // A piece that panicked leaves a buffer of unspecified contents, which every buffer has.
    scratch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rows that make a piece of about 64 Ki values: large enough to hide the cost of handing it out.
fn rows_per_chunk(cols: usize) -> usize {
    ((1 << 16) / cols.max(1)).max(1)
}
