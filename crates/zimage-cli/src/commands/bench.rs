//! `zimage bench`: speed on random weights of the real shape, beside this machine's own peak.

use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use zimage::bench::{Bench, DevicePeak, Peak, Stage};
use zimage::{Compute, Device};

use crate::args::{BenchArgs, Shape};
use crate::device;
use crate::env::{Config, machine, peak_memory};
use crate::failure::Failure;
use crate::output::print_line;
use crate::progress::Progress;

/// The JSON form; its keys are a contract.
#[derive(Serialize)]
struct Report {
    machine: String,
    threads: usize,
    shape: String,
    precision: String,
    compute: &'static str,
    width: usize,
    height: usize,
    steps: usize,
    peak: PeakReport,
    /// The GPU's own, where one is measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_peak: Option<DevicePeakReport>,
    stages: Vec<StageReport>,
    load_ms: u64,
    peak_rss_bytes: Option<u64>,
}

#[derive(Serialize)]
struct PeakReport {
    f32_gflops_per_core: f64,
    int8_gops_per_core: f64,
    read_gbytes_per_s: f64,
}

#[derive(Serialize)]
struct DevicePeakReport {
    device: String,
    gflops: f64,
    gbytes_per_s: f64,
}

#[derive(Serialize)]
struct StageReport {
    name: &'static str,
    wall_ms: f64,
    cpu_ms: f64,
    flop: f64,
    gflops_per_core: f64,
    share_of_peak: f64,
    /// Which peak: `f32` or `int8` of a core, `bf16`, `fp8`, ... of a GPU.
    of: &'static str,
}

/// Runs every stage, and prints what each took.
pub fn run(args: &BenchArgs, progress: &Progress) -> Result<ExitCode, Failure> {
    let (device, threads) = chosen_device(args, progress)?;
    progress.note(&format!("device: {}", device.describe()));
    progress.stage("measuring this machine");
    let peak = Peak::measure();
    let bench = match args.shape {
        Shape::Turbo => Bench::turbo(args.precision, device.clone()),
        Shape::Demo => Bench::demo(args.precision, device.clone())?,
    };
    let (width, height) = (args.width as usize, args.height as usize);
    let device_peak = bench.device_peak()?;
    device.release_memory();
    progress.stage("text encoder");
    let mut stages = vec![bench.text_encoder()?];
    progress.stage("loading the transformer");
    let steps = bench.steps(width, height)?;
    progress.stage("steps of the transformer");
    stages.extend(bench.run(&steps, args.steps.get())?);
    let load = steps.load;
    drop(steps);
    device.release_memory();
    progress.stage("decoder of the VAE");
    stages.push(bench.vae_decode(width, height)?);
    progress.finish();
    let report = Report {
        machine: format!("{}, {} and {}", machine(), peak.instructions[0], peak.instructions[1]),
        threads,
        shape: args.shape.to_string(),
        precision: args.precision.to_string(),
        compute: device.compute().name(),
        width,
        height,
        steps: args.steps.get(),
        stages: stages.iter().map(|stage| StageReport::of(stage, &peak, device_peak)).collect(),
        peak: PeakReport {
            f32_gflops_per_core: rounded(peak.f32_gflops),
            int8_gops_per_core: rounded(peak.int8_gops),
            read_gbytes_per_s: rounded(peak.read_gbytes_per_s),
        },
        device_peak: device_peak.map(|peak| DevicePeakReport {
            device: device.describe(),
            gflops: rounded(peak.gflops),
            gbytes_per_s: rounded(peak.gbytes_per_s),
        }),
        load_ms: load.as_millis() as u64,
        peak_rss_bytes: peak_memory(),
    };
    if args.json {
        print_line(&serde_json::to_string(&report).expect("a report is plain data: this is a bug"))?;
    } else {
        print(&report)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The device with the arithmetic that `generate` would choose for such weights.
fn chosen_device(args: &BenchArgs, progress: &Progress) -> Result<(Device, usize), Failure> {
    let threads = device::threads(args.device.threads.map(usize::from))?;
    let device = device::one(&args.device, &Config::default(), progress)?;
    let bits = if args.precision.is_quantized() { 8 } else { 16 };
    let compute = args.device.compute.unwrap_or_default().resolved(bits, &device);
    device.supports(compute).map_err(zimage::Error::from)?;
    Ok((device.with_compute(compute), threads))
}

impl StageReport {
    fn of(stage: &Stage, peak: &Peak, device: Option<DevicePeak>) -> StageReport {
        let (best, of) = match (device, stage.compute) {
            (Some(device), compute) => (device.gflops, compute.name()),
            (None, Compute::Int8) => (peak.int8_gops, "int8"),
            (None, _) => (peak.f32_gflops, "f32"),
        };
        // On a GPU the CPU only waits, in which it may be busy or not.
        let time = if device.is_some() { stage.work.wall } else { stage.work.cpu };
        let speed = stage.work.flop / time.as_secs_f64().max(f64::MIN_POSITIVE) / 1e9;
        StageReport {
            name: stage.name,
            wall_ms: millis(stage.work.wall),
            cpu_ms: millis(stage.work.cpu),
            flop: stage.work.flop,
            gflops_per_core: rounded(speed),
            share_of_peak: (speed / best * 1000.0).round() / 1000.0,
            of,
        }
    }
}

fn millis(time: Duration) -> f64 {
    rounded(time.as_secs_f64() * 1e3)
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn print(report: &Report) -> Result<(), Failure> {
    let peak = &report.peak;
    print_line(&format!("{}, {} threads", report.machine, report.threads))?;
    print_line(&format!(
        "peak of a core: {} GFLOP/s f32, {} GOP/s int8, {} GB/s read",
        peak.f32_gflops_per_core, peak.int8_gops_per_core, peak.read_gbytes_per_s
    ))?;
    if let Some(DevicePeakReport { device, gflops, gbytes_per_s }) = &report.device_peak {
        print_line(&format!("{device}: {gflops} GFLOP/s, {gbytes_per_s} GB/s at best; its rates are of all of it"))?;
    }
    print_line(&format!(
        "{} shape, {} weights, compute {}, {}x{}, {} steps",
        report.shape, report.precision, report.compute, report.width, report.height, report.steps
    ))?;
    let head = ["stage", "wall ms", "cpu ms", "GFLOP", "GFLOP/s a core", "of the peak"];
    print_line(&format!("{:<16}{:>12}{:>12}{:>12}{:>16}{:>16}", head[0], head[1], head[2], head[3], head[4], head[5]))?;
    for stage in &report.stages {
        let share = format!("{:.0} % {}", 100.0 * stage.share_of_peak, stage.of);
        print_line(&format!(
            "{:<16}{:>12}{:>12}{:>12.0}{:>16}{:>16}",
            stage.name,
            stage.wall_ms,
            stage.cpu_ms,
            stage.flop / 1e9,
            stage.gflops_per_core,
            share
        ))?;
    }
    let memory = report.peak_rss_bytes.map_or(String::new(), |bytes| format!("; peak memory {} MiB", bytes >> 20));
    print_line(&format!("load {} ms{memory}", report.load_ms))
}
