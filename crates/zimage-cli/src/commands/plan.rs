//! `zimage plan`: what `generate` would take, before anything is loaded.

use std::process::ExitCode;

use serde::Serialize;
use zimage::pipeline::Cut;
use zimage::pipeline::plan::Phase;

use crate::args::GenerateArgs;
use crate::env::Environment;
use crate::failure::Failure;
use crate::output::print_line;
use crate::progress::Progress;
use crate::request::Job;

/// The JSON form of a plan.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    width: usize,
    height: usize,
    steps: usize,
    phases: &'a [Phase],
    peak_phase: &'a str,
    peak_bytes: u64,
    tiled: bool,
}

/// Prints the plan of the most demanding prompt.
pub fn run(args: &GenerateArgs, environment: &Environment, progress: &Progress) -> Result<ExitCode, Failure> {
    let job = Job::new(args, environment, progress)?;
    let plans = job.requests.iter().map(|request| job.pipeline.plan(request, job.memory));
    let plans = plans.collect::<Result<Vec<_>, _>>()?;
    let planned = job.requests.iter().zip(&plans).max_by_key(|(_, plan)| plan.peak().peak_bytes());
    let Some((request, plan)) = planned else { return Ok(ExitCode::SUCCESS) };
    let report = Report {
        model: &job.label,
        width: request.width,
        height: request.height,
        steps: request.steps,
        phases: &plan.phases,
        peak_phase: plan.peak().name,
        peak_bytes: plan.peak().peak_bytes(),
        tiled: plan.cut == Cut::Tiles,
    };
    if args.output.json {
        let line = serde_json::to_string(&report).expect("a plan is plain data: this is a bug");
        print_line(&line)?;
    } else {
        print(&report)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(report: &Report<'_>) -> Result<(), Failure> {
    print_line(&format!("{:<14} {:>10} {:>10} {:>10} {:>10}", "phase", "weights", "working", "peak", "TFLOP"))?;
    for phase in report.phases {
        print_line(&format!(
            "{:<14} {:>10} {:>10} {:>10} {:>10.3}",
            phase.name,
            mebibytes(phase.weights_bytes),
            mebibytes(phase.working_bytes),
            mebibytes(phase.peak_bytes()),
            phase.flop / 1e12
        ))?;
    }
    let vae = if report.tiled { "in tiles" } else { "whole" };
    print_line(&format!("peak {} in {}; the VAE works {vae}", mebibytes(report.peak_bytes), report.peak_phase))
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
