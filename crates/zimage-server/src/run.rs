//! A server from its start to its end, on a runtime of its own: what `zimage serve` and `zimage mcp` do.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::http::{App, mcp};
use crate::server::{Server, ServerError, ServerOptions};
use crate::setup::{self, Opened, Settings, SetupError};
use std::thread::JoinHandle;

use crate::worker;

/// How long threads that wait for the disk may take to end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to, and what ran came to its end.
    Drained,
    /// It was asked to a second time. What ran goes on with the next start.
    Aborted,
}

/// Serves until the first signal (Ctrl-C, SIGTERM), then lets what runs come to its end, or stops at once with the second.
/// `ready` is told of the server once it listens.
///
/// # Errors
/// [`ServerError`], when it does not start.
pub fn serve(
    options: ServerOptions,
    ready: impl FnOnce(&Server) -> Result<(), ServerError>,
) -> Result<Ended, ServerError> {
    let runtime = runtime().map_err(ServerError::Worker)?;
    let ended = runtime.block_on(async {
        let mut server = Server::bind(options).await?;
        let workers = server.start_workers()?;
        ready(&server)?;
        let signals = Signals::listen().map_err(ServerError::Worker)?;
        let service = server.service().clone();
        let first = signals.clone();
        let drained = async {
            server.run(async move { first.nth(1).await }).await;
            // Connections may have been closed by their clients before the worker is done.
            service.drain();
            let joined = tokio::task::spawn_blocking(move || join(workers)).await;
            joined.unwrap_or_else(|error| tracing::error!("{error}"));
        };
        Ok(tokio::select! {
            () = drained => Ended::Drained,
            () = signals.nth(2) => Ended::Aborted,
        })
    });
    // An aborted worker is in the middle of a step, and nobody waits for it.
    match ended {
        Ok(Ended::Aborted) => runtime.shutdown_background(),
        _ => runtime.shutdown_timeout(LAST_WORDS),
    }
    ended
}

/// Serves MCP on stdin and stdout until stdin ends.
///
/// # Errors
/// [`SetupError`] when the home directory cannot be used, and errors of the pipe.
pub fn serve_mcp(settings: Settings) -> Result<(), McpError> {
    let Opened { service, workers, .. } = setup::open(settings)?;
    let threads = workers.into_iter().map(|options| worker::start(service.clone(), options));
    let threads = threads.collect::<io::Result<Vec<_>>>()?;
    let runtime = runtime()?;
    let served = runtime.block_on(mcp::serve_stdio(App { service: service.clone() }));
    service.drain();
    runtime.shutdown_timeout(LAST_WORDS);
    join(threads);
    served.map_err(McpError::Pipe)
}

/// Why MCP is not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum McpError {
    /// The home directory cannot be used.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A thread could not be started.
    #[error("the server cannot be started: {0}")]
    Thread(#[from] io::Error),
    /// The other side of the pipe is no client of ours.
    #[error("the client on stdin failed: {0}")]
    Pipe(io::Error),
}

fn join(workers: Vec<JoinHandle<()>>) {
    for worker in workers {
        if worker.join().is_err() {
            tracing::error!("a worker ended by a panic");
        }
    }
}

fn runtime() -> io::Result<Runtime> {
    // Pictures are computed elsewhere; these threads speak to clients.
    const THREADS: usize = 2;
    Builder::new_multi_thread().worker_threads(THREADS).thread_name("zimage-http").enable_all().build()
}

/// Counts the signals that ask the process to end.
#[derive(Clone)]
struct Signals(watch::Receiver<u32>);

impl Signals {
    fn listen() -> io::Result<Signals> {
        let (count, counted) = watch::channel(0);
        #[cfg(unix)]
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::spawn(async move {
            loop {
                #[cfg(unix)]
                let heard = tokio::select! {
                    heard = tokio::signal::ctrl_c() => heard.is_ok(),
                    heard = terminate.recv() => heard.is_some(),
                };
                #[cfg(not(unix))]
                let heard = tokio::signal::ctrl_c().await.is_ok();
                if !heard {
                    return;
                }
                count.send_modify(|count| *count += 1);
            }
        });
        Ok(Signals(counted))
    }

    /// Waits until there have been so many.
    async fn nth(mut self, count: u32) {
        if self.0.wait_for(|heard| *heard >= count).await.is_err() {
            // Nobody listens for signals any more: none will come.
            std::future::pending::<()>().await;
        }
    }
}
