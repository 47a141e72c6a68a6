//! Takes connections, a limited number, none of which can be held by sending slowly; and ends them when the server does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::guard::Ends;

const MAX_HEADER_BYTES: usize = 32 << 10;

/// What connections may take.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Connections at the same time; others wait.
    pub max_connections: usize,
    /// How long a client may take to send the head of a request, and to send the next one on the same connection.
    pub header_timeout: Duration,
    /// How long requests may take to end once the server goes down.
    pub grace: Duration,
}

/// Serves until `shutdown`; then calls `drain`, and lets requests end. While they do, others still get their answers,
/// which say that the server goes down.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    shutdown: impl Future<Output = ()>,
    drain: impl FnOnce(),
) {
    let permits = Arc::new(Semaphore::new(limits.max_connections));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &permits) => {
                let connection = Connection { accepted, router: router.clone(), limits };
                connections.spawn(connection.serve(Some(graceful.watcher())));
            }
            Some(_) = connections.join_next() => {}
        }
    }
    drain();
    let ended = graceful.shutdown();
    let grace = tokio::time::sleep(limits.grace);
    tokio::pin!(ended, grace);
    loop {
        tokio::select! {
            () = &mut ended => break,
            () = &mut grace => break tracing::warn!("requests were cut off, since they took too long to end"),
            accepted = accept(&listener, &permits) => {
                let connection = Connection { accepted, router: router.clone(), limits };
                connections.spawn(connection.serve(None));
            }
        }
    }
    drop(listener);
    connections.shutdown().await;
}

struct Accepted {
    stream: TcpStream,
    ends: Ends,
    permit: OwnedSemaphorePermit,
}

async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> Accepted {
    /// When the system has no more files to open, there may be some soon.
    const PAUSE: Duration = Duration::from_millis(100);
    loop {
        let permit = Arc::clone(permits).acquire_owned().await.expect("nobody closes it: this is a bug");
        match listener.accept().await.and_then(with_ends) {
            Ok((stream, ends)) => return Accepted { stream, ends, permit },
            Err(error) => {
                tracing::warn!("a connection could not be taken: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn with_ends((stream, peer): (TcpStream, SocketAddr)) -> std::io::Result<(TcpStream, Ends)> {
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    Ok((stream, Ends { peer, local }))
}

struct Connection {
    accepted: Accepted,
    router: Router,
    limits: ConnectionLimits,
}

impl Connection {
    /// Without a watcher, the server goes down, and the connection is for one request.
    async fn serve(self, watcher: Option<Watcher>) {
        let Accepted { stream, ends, permit: _permit } = self.accepted;
        let router = TowerToHyperService::new(self.router);
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(ends);
            router.call(request.map(Body::new))
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.limits.header_timeout).max_header_size(MAX_HEADER_BYTES);
        let connection = http.keep_alive(watcher.is_some()).serve_connection(TokioIo::new(stream), service);
        let ended = match watcher {
            Some(watcher) => watcher.watch(connection).await,
            None => connection.await,
        };
        if let Err(error) = ended {
            tracing::debug!("a connection ended: {error}");
        }
    }
}
