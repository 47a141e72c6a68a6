//! Speed of the whole VAE decoder on random weights of the real shape, one thread, beside the core's own peak.
//!
//! `cargo bench -p zimage --bench vae [-- SIDE...]` decodes pictures of these sides, 512 pixels when none is named. The
//! operations are those of direct convolutions, so that the share may exceed the peak.

use zimage::Device;
use zimage::bench::{Bench, Peak};
use zimage_weights::convert::Precision;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sides: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let device = Device::cpu(1)?;
    println!("{}", device.describe());
    let bench = Bench::turbo(Precision::Keep, device.clone());
    for side in if sides.is_empty() { vec![512] } else { sides } {
        let peak = Peak::measure().f32_gflops;
        let work = bench.vae_decode(side, side)?.work;
        let (seconds, memory) = (work.cpu.as_secs_f64(), device.memory().peak_held_bytes >> 20);
        let speed = work.flop / seconds / 1e9;
        let share = 100.0 * speed / peak;
        println!(
            "{side} x {side}: {seconds:.2} s, {speed:.0} GFLOP/s, {share:.0} % of {peak:.0}, {memory} MiB of tensors"
        );
    }
    Ok(())
}
