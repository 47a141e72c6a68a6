//! `zimage plan`: what `generate` would take, before anything is loaded.

use std::process::ExitCode;

use serde::Serialize;
use zimage::pipeline::Cut;
use zimage::pipeline::cache::StepCache;
use zimage::pipeline::plan::Phase;

use crate::args::GenerateArgs;
use crate::env::Environment;
use crate::failure::Failure;
use crate::output::print_line;
use crate::progress::Progress;
use crate::request::Job;
use crate::speed::Speeds;

/// The JSON form of a plan.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    width: usize,
    height: usize,
    steps: usize,
    cache: StepCache,
    /// Steps that run the main layers.
    computed_steps: usize,
    phases: Vec<TimedPhase<'a>>,
    peak_phase: &'a str,
    peak_bytes: u64,
    seconds: f64,
    tiled: bool,
}

#[derive(Serialize)]
struct TimedPhase<'a> {
    #[serde(flatten)]
    phase: &'a Phase,
    /// At the speed of the last pictures on this machine.
    seconds: f64,
}

/// Prints the plan of the most demanding prompt.
pub fn run(args: &GenerateArgs, environment: &Environment, progress: &Progress) -> Result<ExitCode, Failure> {
    let job = Job::new(args, environment, progress)?;
    let plans = job.requests.iter().map(|request| job.pipeline.plan(request, job.memory));
    let plans = plans.collect::<Result<Vec<_>, _>>()?;
    let planned = job.requests.iter().zip(&plans).max_by_key(|(_, plan)| plan.peak().peak_bytes());
    let (request, plan) = planned.expect("there is at least one prompt: this is a bug");

    let mut speeds = Speeds::load(&environment.home, &job.device());
    speeds.calibrate(&job.device())?;
    let timed = |phase| TimedPhase { phase, seconds: speeds.seconds(phase).unwrap_or(0.0) };
    let phases: Vec<TimedPhase<'_>> = plan.phases.iter().map(timed).collect();
    let report = Report {
        model: &job.label,
        width: request.width,
        height: request.height,
        steps: request.steps,
        cache: request.cache,
        computed_steps: plan.computed_steps,
        seconds: phases.iter().map(|phase| phase.seconds).sum(),
        phases,
        peak_phase: plan.peak().name,
        peak_bytes: plan.peak().peak_bytes(),
        tiled: plan.strategy.cut == Cut::Tiles,
    };
    if args.output.json {
        print_line(&serde_json::to_string(&report).expect("a plan is plain data: this is a bug"))?;
    } else {
        print(&report)?;
        if plan.computed_steps < plan.steps {
            let (computed, steps) = (plan.computed_steps, plan.steps);
            print_line(&format!("step caching: {computed} of {steps} steps run the main layers"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(report: &Report<'_>) -> Result<(), Failure> {
    print_line(&format!("{:<14}{:>12}{:>12}{:>12}{:>12}", "phase", "weights", "working", "peak", "time"))?;
    for TimedPhase { phase, seconds } in &report.phases {
        print_line(&format!(
            "{:<14}{:>12}{:>12}{:>12}{:>12}",
            phase.name,
            mebibytes(phase.weights_bytes),
            mebibytes(phase.working_bytes),
            mebibytes(phase.peak_bytes()),
            format!("{seconds:.1} s")
        ))?;
    }
    let (peak, vae) = (mebibytes(report.peak_bytes), if report.tiled { "in tiles" } else { "whole" });
    print_line(&format!(
        "peak {peak} in {}; about {:.1} s a picture; the VAE works {vae}",
        report.peak_phase, report.seconds
    ))
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
