//! What this machine can do at best, measured: the yardstick of every speed that is told.
//!
//! Rates are per core, in CPU time of the thread where the system tells it, so that other programs disturb them less.

use crate::Level;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// How long one measurement runs.
const LENGTH: Duration = Duration::from_millis(60);
/// Measurements, of which the best counts: a virtual machine may be interrupted during any of them.
const RUNS: usize = 5;
/// Rounds of a loop between two looks at the clock.
const ROUNDS: usize = 100_000;

/// CPU time of this thread, where the system tells it.
pub fn thread_time() -> Option<Duration> {
    clock(ClockId::Thread)
}

/// CPU time of this process, all threads together, where the system tells it.
pub fn process_time() -> Option<Duration> {
    clock(ClockId::Process)
}

#[derive(Clone, Copy)]
enum ClockId {
    Process = 2,
    Thread = 3,
}

#[cfg(target_os = "linux")]
fn clock(id: ClockId) -> Option<Duration> {
    #[repr(C)]
    struct Timespec {
        seconds: std::ffi::c_long,
        nanos: std::ffi::c_long,
    }
    unsafe extern "C" {
        fn clock_gettime(clock: std::ffi::c_int, time: *mut Timespec) -> std::ffi::c_int;
    }
    let mut time = Timespec { seconds: 0, nanos: 0 };
    // SAFETY: the C library of the standard library has the function, and `time` is its struct.
    let status = unsafe { clock_gettime(id as std::ffi::c_int, &mut time) };
    (status == 0).then(|| Duration::new(time.seconds as u64, time.nanos as u32))
}

#[cfg(not(target_os = "linux"))]
fn clock(id: ClockId) -> Option<Duration> {
    let _ = (ClockId::Process, id);
    None
}

/// Fused multiply-adds in registers, in GFLOP/s of one core: a multiply-add counts two.
pub fn f32_gflops(level: Level) -> f64 {
    level.check();
    rate(|| match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `check` found that this CPU has the level.
        Level::Avx512 => unsafe { x86::fma_512(ROUNDS) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `check` found that this CPU has the level.
        Level::Avx2 => unsafe { x86::fma_256(ROUNDS) },
        _ => multiply_adds(ROUNDS),
    })
}

/// Dot products of bytes in registers, in GOP/s of one core, by the best instruction that the level has.
pub fn int8_gops(level: Level) -> f64 {
    level.check();
    #[cfg(target_arch = "x86_64")]
    {
        if level >= Level::Avx512 && is_x86_feature_detected!("avx512vnni") {
            // SAFETY: the features were just found.
            return rate(|| unsafe { x86::dot_512(ROUNDS) });
        }
        if level >= Level::Avx2 && is_x86_feature_detected!("avxvnni") {
            // SAFETY: the features were just found.
            return rate(|| unsafe { x86::dot_256(ROUNDS) });
        }
        if level >= Level::Avx2 {
            // SAFETY: `check` found that this CPU has the level.
            return rate(|| unsafe { x86::widened_256(ROUNDS) });
        }
    }
    rate(|| integer_multiply_adds(ROUNDS))
}

/// Bytes read from memory, in GB/s of one core: a buffer far larger than any cache, read once.
pub fn read_gbytes_per_s() -> f64 {
    let buffer = vec![1u64; 32 << 20];
    let bytes = (buffer.len() * size_of::<u64>()) as f64;
    let once = || {
        let before = now();
        let sum = buffer.chunks(1024).fold(0u64, |sum, chunk| sum.wrapping_add(chunk.iter().sum()));
        black_box(sum);
        bytes / (now() - before).as_secs_f64() / 1e9
    };
    (0..RUNS).map(|_| once()).fold(0.0, f64::max)
}

fn now() -> Duration {
    thread_time().unwrap_or_else(|| {
        thread_local!(static START: Instant = Instant::now());
        START.with(Instant::elapsed)
    })
}

/// Billions of operations per second of a loop that returns how many it did.
fn rate(mut run: impl FnMut() -> f64) -> f64 {
    let mut best = 0.0f64;
    for _ in 0..RUNS {
        let (start, mut done) = (now(), 0.0);
        while now() - start < LENGTH {
            done += run();
        }
        best = best.max(done / (now() - start).as_secs_f64() / 1e9);
    }
    best
}

fn multiply_adds(rounds: usize) -> f64 {
    let (mut sums, factor) = ([1.0f32; 64], black_box(0.999f32));
    for _ in 0..rounds / 8 {
        for sum in &mut sums {
            *sum = *sum * factor + factor;
        }
    }
    black_box(&mut sums);
    (rounds / 8 * sums.len() * 2) as f64
}

fn integer_multiply_adds(rounds: usize) -> f64 {
    let (mut sums, factor) = ([1i32; 64], black_box(3i8));
    for _ in 0..rounds / 8 {
        for sum in &mut sums {
            *sum = sum.wrapping_add(i32::from(factor) * (*sum & 0x7f));
        }
    }
    black_box(&mut sums);
    (rounds / 8 * sums.len() * 2) as f64
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// A loop over 24 (or, with 16 registers, 12) independent sums; returns the number of operations done.
    macro_rules! loop_of {
        ($name:ident, $features:literal, $sums:literal, $operations:literal, $start:expr, $next:expr) => {
            #[target_feature(enable = $features)]
            pub fn $name(rounds: usize) -> f64 {
                let factor = black_box($start);
                let mut sums = [factor; $sums];
                for _ in 0..rounds {
                    for sum in &mut sums {
                        *sum = $next(*sum, factor);
                    }
                }
                black_box(sums);
                (rounds * $sums * $operations) as f64
            }
        };
    }
    loop_of!(fma_256, "avx2,fma", 12, 16, _mm256_set1_ps(0.999), |sum, f| _mm256_fmadd_ps(sum, f, f));
    loop_of!(fma_512, "avx512f", 24, 32, _mm512_set1_ps(0.999), |sum, f| _mm512_fmadd_ps(sum, f, f));
    loop_of!(dot_256, "avx2,avxvnni", 12, 64, _mm256_set1_epi8(3), |sum, f| _mm256_dpbusd_avx_epi32(sum, f, f));
    loop_of!(dot_512, "avx512f,avx512vnni", 24, 128, _mm512_set1_epi8(3), |sum, f| _mm512_dpbusd_epi32(sum, f, f));
    loop_of!(widened_256, "avx2", 12, 32, _mm256_set1_epi16(3), |sum, f| {
        _mm256_add_epi32(sum, _mm256_madd_epi16(f, black_box(f)))
    });
}

#[cfg(test)]
#[path = "peak/tests.rs"]
mod tests;
