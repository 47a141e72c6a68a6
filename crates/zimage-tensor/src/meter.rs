//! How much work of each kind a device has done, and how long that took: what `zimage bench` tells.

use std::ops::Sub;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use zimage_kernels::{Level, gemm_i8, peak};

pub use zimage_kernels::peak::process_time;

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Linear layers.
    Linear,
    /// Attention.
    Attention,
    /// Convolutions.
    Convolution,
}

/// Work that was done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Time that passed.
    pub wall: Duration,
    /// CPU time of all threads, where the system tells it; else the time that passed.
    pub cpu: Duration,
    /// Operations: a multiply-add counts two, a convolution as if it were done directly.
    pub flop: f64,
}

impl Sub for Work {
    type Output = Work;

    fn sub(self, before: Work) -> Work {
        Work { wall: self.wall - before.wall, cpu: self.cpu - before.cpu, flop: self.flop - before.flop }
    }
}

/// The work of a device; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<Mutex<[Work; 3]>>);

impl Meter {
    /// Does some work, and counts it. Two clocks are read, which takes less than a microsecond.
    pub fn measure<T>(&self, kind: Kind, flop: f64, work: impl FnOnce() -> T) -> T {
        let (wall, cpu) = (Instant::now(), process_time());
        let result = work();
        let wall = wall.elapsed();
        let cpu = process_time().zip(cpu).map_or(wall, |(after, before)| after - before);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total = &mut all[kind as usize];
        *total = Work { wall: total.wall + wall, cpu: total.cpu + cpu, flop: total.flop + flop };
        result
    }

    /// All work of a kind so far.
    pub fn work(&self, kind: Kind) -> Work {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[kind as usize]
    }
}

/// What a core of this machine can do at best, measured now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    /// Fused multiply-adds, in GFLOP/s.
    pub f32_gflops: f64,
    /// Dot products of bytes, in GOP/s.
    pub int8_gops: f64,
    /// Reading memory, in GB/s.
    pub read_gbytes_per_s: f64,
    /// The instructions that these were measured with: `avx512`, `AVX-512 VNNI`.
    pub instructions: [&'static str; 2],
}

impl Peak {
    /// Measures for about a second, on the calling thread alone.
    pub fn measure() -> Peak {
        let level = Level::detect();
        Peak {
            f32_gflops: peak::f32_gflops(level),
            int8_gops: peak::int8_gops(level),
            read_gbytes_per_s: peak::read_gbytes_per_s(),
            instructions: [level.name(), gemm_i8::describe(level)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_by_its_kind() {
        let meter = Meter::default();
        let before = meter.work(Kind::Attention);
        let value =
            meter.clone().measure(Kind::Attention, 12.0, || (0..100_000u64).map(std::hint::black_box).sum::<u64>());
        let work = meter.work(Kind::Attention) - before;
        assert_eq!((value, work.flop), (4_999_950_000, 12.0));
        assert!(work.wall > Duration::ZERO && work.cpu > Duration::ZERO);
        assert_eq!(meter.work(Kind::Linear), Work::default());
    }
}
