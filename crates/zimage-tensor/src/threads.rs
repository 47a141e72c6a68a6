//! The thread pool of the CPU backend, and the one way work is split over it.
//!
//! Work is always cut into pieces of a size that depends on shapes alone, never on the number of threads: so every
//! sum is formed in the same order, and results are bit-identical for any number of threads.

use crate::{Error, Result};
use rayon::prelude::*;
use std::sync::Arc;

/// A pool of worker threads; clones share it.
#[derive(Clone)]
pub struct Threads {
    pool: Arc<rayon::ThreadPool>,
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
        Ok(Threads { pool: Arc::new(pool) })
    }

    /// Number of threads.
    pub fn count(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs `work` once per piece. Each worker keeps one scratch buffer over the pieces it takes.
    pub fn for_each<P: Send>(&self, pieces: Vec<P>, work: impl Fn(P, &mut Vec<f32>) + Sync + Send) {
        self.pool.install(|| {
            pieces.into_par_iter().with_max_len(1).for_each_init(Vec::new, |scratch, piece| work(piece, scratch));
        });
    }

    /// Runs `work(out rows, in rows)` over matching chunks of `out` and `x`, whole rows of `cols` values each.
    pub fn for_rows(&self, out: &mut [f32], x: &[f32], cols: usize, work: impl Fn(&mut [f32], &[f32]) + Sync + Send) {
        let chunk = rows_per_chunk(cols) * cols;
        self.pool.install(|| {
            out.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(out, x)| work(out, x));
        });
    }

    /// Runs `work(index of the first row, rows)` over chunks of whole rows of `x`, in place.
    pub fn for_rows_mut(&self, x: &mut [f32], cols: usize, work: impl Fn(usize, &mut [f32]) + Sync + Send) {
        let rows = rows_per_chunk(cols);
        self.pool.install(|| {
            x.par_chunks_mut(rows * cols).enumerate().for_each(|(i, x)| work(i * rows, x));
        });
    }
}

/// Rows that make a piece of about 64 Ki values: large enough to hide the cost of handing it out.
fn rows_per_chunk(cols: usize) -> usize {
    ((1 << 16) / cols.max(1)).max(1)
}
