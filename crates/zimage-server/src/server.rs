//! The server as a whole: what it is made with, where it listens, and how it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;

use crate::http::{App, Auth, ConnectionLimits, Context, Hosts, router, serve};
use crate::queue::QueueError;
use crate::service::Service;
use crate::setup::{self, Opened, Settings, SetupError};
use crate::worker::{self, WorkerOptions};

/// What a server is made with.
pub struct ServerOptions {
    /// Where to listen.
    pub address: SocketAddr,
    /// What is served, and how it is worked at.
    pub settings: Settings,
    /// Of connections.
    pub connections: ConnectionLimits,
    /// Names under which the server may be asked, beside the loopback ones.
    pub hosts: Vec<String>,
    /// Tokens that are good, beside the keys of the database.
    pub tokens: Vec<String>,
    /// Nobody needs a key, even if there are some.
    pub insecure_no_auth: bool,
    /// Prompts may stand in the log, at the level debug.
    pub log_prompts: bool,
}

impl ServerOptions {
    /// The usual ones, on the loopback address and the usual port.
    pub fn new(settings: Settings) -> ServerOptions {
        const PORT: u16 = 7860;
        ServerOptions {
            address: SocketAddr::from(([127, 0, 0, 1], PORT)),
            settings,
            connections: ConnectionLimits {
                max_connections: 512,
                header_timeout: Duration::from_secs(10),
                grace: Duration::from_secs(30),
            },
            hosts: Vec::new(),
            tokens: Vec::new(),
            insecure_no_auth: false,
            log_prompts: false,
        }
    }
}

/// Why a server does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServerError {
    /// Everybody in the network could use it.
    #[error(
        "{address} can be reached by others, and there is no API key\nhint: make one with `zimage keys create NAME`, or \
         start with `--insecure-no-auth`"
    )]
    NoKey {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// Somebody else listens there, or the address is not ours.
    #[error("cannot listen on {address}: {source}\nhint: another port can be given with `--port`")]
    Address {
        /// Where it was to listen.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The home directory cannot be used.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] QueueError),
    /// No thread could be started.
    #[error("a worker cannot be started: {0}")]
    Worker(std::io::Error),
    /// The system has no random numbers.
    #[error("the system has no random numbers")]
    Random,
}

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    service: Arc<Service>,
    workers: Vec<WorkerOptions>,
    auth: Arc<Auth>,
    context: Arc<Context>,
    hosts: Hosts,
    connections: ConnectionLimits,
}

impl Server {
    /// Opens the store and listens. Requests are answered once it [runs](Server::run).
    ///
    /// # Errors
    /// See [`ServerError`].
    pub async fn bind(options: ServerOptions) -> Result<Server, ServerError> {
        let settings = options.settings;
        let opened = tokio::task::spawn_blocking(move || setup::open(settings)).await;
        let Opened { service, keys, workers } = opened.expect("opening the store panicked: this is a bug")?;
        if options.log_prompts {
            service.log_prompts();
        }
        let needs_key = !options.insecure_no_auth && (!options.tokens.is_empty() || keys.any()?);
        let address = options.address;
        if !address.ip().is_loopback() && !needs_key && !options.insecure_no_auth {
            return Err(ServerError::NoKey { address });
        }
        let cannot = |source| ServerError::Address { address, source };
        let listener = TcpListener::bind(address).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        Ok(Server {
            listener,
            address,
            service,
            workers,
            auth: Arc::new(Auth::new(needs_key, keys, &options.tokens, address.port())),
            context: Arc::new(Context::new(needs_key)),
            hosts: Hosts::new(&options.hosts, address.ip()),
            connections: options.connections,
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What it serves; workers take their jobs from it.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Starts the workers of this process, unless that was done before. Their threads end once the server has been told
    /// to go down and nothing runs.
    ///
    /// # Errors
    /// [`ServerError::Worker`].
    pub fn start_workers(&mut self) -> Result<Vec<JoinHandle<()>>, ServerError> {
        let start = |options| worker::start(Arc::clone(&self.service), options).map_err(ServerError::Worker);
        std::mem::take(&mut self.workers).into_iter().map(start).collect()
    }

    /// An address that logs a browser in, once; `None` where no keys are needed.
    ///
    /// # Errors
    /// [`ServerError::Random`].
    pub fn login_url(&self) -> Result<Option<String>, ServerError> {
        if !self.auth.is_required() {
            return Ok(None);
        }
        let code = self.auth.code().map_err(|_| ServerError::Random)?;
        let (ip, port) = (self.address.ip(), self.address.port());
        let host = if ip.is_unspecified() { "localhost".into() } else { SocketAddr::new(ip, 0).to_string() };
        let host = host.trim_end_matches(":0");
        Ok(Some(format!("http://{host}:{port}/login?code={code}")))
    }

    /// Serves until `shutdown`. Then it takes no more jobs, says so to all that follow events, and lets requests end.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let app = App { service: Arc::clone(&self.service) };
        let router = router(app, self.context, self.hosts, self.auth);
        let service = self.service;
        serve(self.listener, router, self.connections, shutdown, || service.drain()).await;
    }
}
