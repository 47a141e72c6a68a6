//! `zimage serve` and `zimage mcp`.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use zimage::{ComputeChoice, Device};
use zimage_server::limits::Limits;
use zimage_server::queue::QueueLimits;
use zimage_server::service::Place;
use zimage_server::setup::Settings;
use zimage_server::{Ended, McpError, Server, ServerError, ServerOptions};

use crate::args::{ServeArgs, WorkArgs};
use crate::device;
use crate::env::Environment;
use crate::failure::{Failure, printable};
use crate::progress::Progress;
use crate::request;
use crate::served::Served;

pub fn run(args: &ServeArgs, environment: Environment, progress: &Progress) -> Result<ExitCode, Failure> {
    let limits = Limits {
        max_pixels: args.max_pixels,
        wait_timeout: args.max_wait_time,
        run_timeout: args.max_job_time,
        ..Limits::default()
    };
    let queue_limits =
        QueueLimits { max_waiting: args.max_queue, max_per_owner: args.max_queue_per_client, ..QueueLimits::default() };
    let (settings, model) = settings(&args.work, environment, progress)?;
    let settings = Settings { limits, queue_limits, max_batch: args.max_batch.get(), ..settings };
    let devices: Vec<String> = settings.places.iter().map(|place| place.device.describe()).collect();
    progress.note(&format!("model: {model}, on {}", devices.join(" and ")));
    let options = ServerOptions {
        address: SocketAddr::new(args.host, args.port),
        hosts: args.allow_host.clone(),
        insecure_no_auth: args.insecure_no_auth,
        log_prompts: args.log_prompts,
        ..ServerOptions::new(settings)
    };
    match zimage_server::serve(options, announce)? {
        Ended::Drained => Ok(ExitCode::SUCCESS),
        Ended::Aborted => Err(Failure::cancelled()),
    }
}

/// Says where the server listens: scripts wait for this line, so that it is said in quiet runs as well, and at once.
fn announce(server: &Server) -> Result<(), ServerError> {
    let mut text = format!("listening on http://{}\n", server.local_addr());
    if let Some(url) = server.login_url()? {
        text += &format!("open this address once to log a browser in: {}\n", printable(&url));
    }
    // Who closed stderr doesn't want to know.
    let _ = std::io::stderr().write_all(text.as_bytes());
    Ok(())
}

pub fn run_mcp(args: &WorkArgs, environment: Environment, progress: &Progress) -> Result<ExitCode, Failure> {
    let (settings, _) = settings(args, environment, progress)?;
    zimage_server::serve_mcp(settings)?;
    Ok(ExitCode::SUCCESS)
}

/// What is served, and the default model's name.
fn settings(args: &WorkArgs, environment: Environment, progress: &Progress) -> Result<(Settings, String), Failure> {
    let config = &environment.config;
    let compute = request::compute(&args.machine.device, config)?;
    let devices = device::all(&args.machine.device, config, progress)?;
    let place = |device: Device| -> Result<Place, Failure> {
        if let ComputeChoice::Always(compute) = compute {
            device.supports(compute).map_err(zimage::Error::from)?;
        }
        let budget = device::memory(&device, &args.machine, config)?;
        Ok(Place { device, budget })
    };
    let places = devices.into_iter().map(place).collect::<Result<_, _>>()?;
    let home = environment.home.clone();
    let models = Served::new(args.model.clone(), args.parts.clone(), environment)?;
    let name = models.default_name().to_owned();
    let settings = Settings::new(home, Arc::new(models), places);
    Ok((Settings { compute, keep_alive: args.keep_alive.0, ..settings }, name))
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        match &error {
            ServerError::NoKey { .. } | ServerError::Address { .. } => Failure::usage(error),
            _ => Failure::failed(error),
        }
    }
}

impl From<McpError> for Failure {
    fn from(error: McpError) -> Self {
        Failure::failed(error)
    }
}
