//! The `zimage` command: argument parsing, terminal output and exit codes. Everything else is in the libraries.

mod args;
mod cancel;
mod commands;
mod device;
mod digests;
mod env;
mod failure;
mod loras;
mod output;
mod progress;
mod request;
mod served;
mod speed;

use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::filter::LevelFilter;

use args::{Cli, Command};
use env::Environment;
use failure::Failure;
use progress::Progress;

fn main() -> ExitCode {
    let cli = Cli::parse();
    panic::set_hook(Box::new(report_panic));
    log_to_stderr(&cli);
    match panic::catch_unwind(AssertUnwindSafe(|| run(cli))) {
        Ok(Ok(code)) => code,
        Ok(Err(failure)) => {
            eprintln!("{failure}");
            failure.exit_code()
        }
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let progress = Progress::new(cli.quiet);
    match cli.command {
        Command::Generate(args) => commands::generate::run(&args, &Environment::load()?, &progress),
        Command::Plan(args) => commands::plan::run(&args, &Environment::load()?, &progress),
        Command::Bench(args) => commands::bench::run(&args, &progress),
        Command::Serve(args) => commands::serve::run(&args, Environment::load()?, &progress),
        Command::Mcp(args) => commands::serve::run_mcp(&args, Environment::load()?, &progress),
        Command::Keys(command) => commands::keys::run(&command, &Environment::load()?),
        Command::Db(command) => commands::db::run(&command, &Environment::load()?, &progress),
        Command::Inspect(args) => commands::inspect::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Convert(args) => commands::convert::run(&args, &Environment::load()?, &progress),
        Command::Merge(args) => commands::merge::run(&args, &Environment::load()?, &progress),
        Command::Lora(command) => commands::lora::run(&command, &Environment::load()?, &progress),
        Command::Models(command) => commands::models::run(&command, &Environment::load()?, &progress),
        Command::Completions { shell } => commands::completions::run(shell),
    }
}

fn log_to_stderr(cli: &Cli) {
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::DEBUG,
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .init();
}

/// A panic is our bug, and is told like any other error.
fn report_panic(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let message = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let failure = Failure::failed(format!("internal error at {place}: {}", message.unwrap_or("no message")))
        .with_hint("this is a bug in zimage; please report it with the command that shows it");
    eprintln!("{failure}");
}
