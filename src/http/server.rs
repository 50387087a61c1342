//! Accepts connections and ends them at shutdown. The caller binds the socket and triggers the shutdown.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{debug, error, info, warn};

use crate::http::access::AccessControl;
use crate::http::activity::Activity;
use crate::http::connection::{self, ServerState};
use crate::http::limits::ServerLimits;
use crate::http::routes::Routes;

/// Pause after a failed accept: a process without free file descriptors would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` completes; then idle connections are closed, and replies in progress have [`ServerLimits::drain`] to
/// finish.
///
/// `observe` is called once per request, with its route and the status of the reply. Malformed requests and those beyond
/// the limits are answered by hyper (400 or 431) and not observed.
pub async fn run<R: Routes>(
    listener: TcpListener,
    routes: Arc<R>,
    access: watch::Receiver<AccessControl>,
    limits: ServerLimits,
    observe: impl Fn(&'static str, u16) + Send + Sync + 'static,
    shutdown: impl Future<Output = ()>,
) {
    let connection_permits = Arc::new(Semaphore::new(limits.connections.max(1)));
    let reply_permits = Arc::new(Semaphore::new(limits.answers.max(1)));
    let observe = Box::new(observe);
    let state = ServerState { routes, limits, access, observe, connection_permits, reply_permits };
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    accept_until(listener, Arc::new(state), stopped, &mut connections, shutdown).await;
    drop(stop);
    drain(connections, limits.drain).await;
}

async fn accept_until<R: Routes>(
    listener: impl Accept,
    state: Arc<ServerState<R>>,
    stopped: watch::Receiver<()>,
    connections: &mut JoinSet<()>,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let mut problem = None;
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            Some(ended) = connections.join_next() => report(ended),
            // A permit becomes free when a connection ends, which wakes the arm above.
            (stream, peer) = next(&listener, &mut problem), if state.connection_permits.available_permits() > 0 => {
                let Ok(permit) = Arc::clone(&state.connection_permits).try_acquire_owned() else { continue };
                let (state, stopped) = (Arc::clone(&state), stopped.clone());
                debug!(%peer, "connection accepted");
                connections.spawn(async move {
                    serve_while_allowed(stream, peer, state, stopped).await;
                    drop(permit);
                });
            }
        }
    }
}

async fn serve_while_allowed<R: Routes>(
    stream: TcpStream,
    peer: SocketAddr,
    state: Arc<ServerState<R>>,
    stopped: watch::Receiver<()>,
) {
    let activity = Arc::new(Activity::new());
    tokio::select! {
        () = serve(stream, peer, Arc::clone(&activity), Arc::clone(&state), stopped) => {}
        () = state.is_held_up_by(&activity) => debug!(%peer, "idle connection closed to make room for others"),
    }
}

async fn serve<R: Routes>(
    stream: TcpStream,
    peer: SocketAddr,
    activity: Arc<Activity>,
    state: Arc<ServerState<R>>,
    mut stopped: watch::Receiver<()>,
) {
    let tls = state.access.borrow().tls.clone();
    let served = match tls {
        None => connection::serve(stream, activity, state, stopped).await,
        Some(tls) => {
            let handshake = tokio::select! {
                handshake = timeout(state.limits.handshake, tls.accept(stream)) => handshake,
                _ = stopped.changed() => return,
            };
            match handshake {
                Ok(Ok(stream)) => connection::serve(stream, activity, state, stopped).await,
                Ok(Err(error)) => return debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => return debug!(%peer, "TLS handshake timed out"),
            }
        }
    };
    if let Err(error) = served {
        debug!(%peer, error = &error as &(dyn Error + 'static), "connection closed");
    }
}

async fn drain(mut connections: JoinSet<()>, drain: Duration) {
    let all_ended = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    if timeout(drain, all_ended).await.is_err() {
        warn!(connections = connections.len(), "connections dropped at shutdown");
        connections.shutdown().await;
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        error!(%error, "connection ended by a panic");
    }
}

/// A source of connections; tests have one that fails.
trait Accept {
    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send;
}

impl Accept for TcpListener {
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        // Replies are written whole or in large chunks: nothing is gained by delaying them.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "cannot set TCP_NODELAY");
        }
        Ok((stream, peer))
    }
}

/// Accepts the next connection. A failure is logged when it differs from the last one.
async fn next(listener: &impl Accept, problem: &mut Option<String>) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => {
                if problem.take().is_some() {
                    info!("connections accepted again");
                }
                return accepted;
            }
            // The client closed the connection before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                let error = error.to_string();
                if problem.as_ref() != Some(&error) {
                    warn!(error, "cannot accept connections");
                    *problem = Some(error);
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Fails a number of times, then takes what the listener has.
    struct Failing {
        calls: AtomicU32,
        failures: u32,
        listener: TcpListener,
    }

    impl Failing {
        async fn times(failures: u32) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            Self { calls: AtomicU32::new(0), failures, listener }
        }
    }

    impl Accept for Failing {
        async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
            if self.calls.fetch_add(1, Ordering::Relaxed) < self.failures {
                const TOO_MANY_OPEN_FILES: i32 = 24;
                return Err(io::Error::from_raw_os_error(TOO_MANY_OPEN_FILES));
            }
            self.listener.accept().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_system_that_refuses_is_not_asked_without_pause() {
        let refusing = Failing::times(u32::MAX).await;
        let mut problem = None;
        assert!(timeout(Duration::from_millis(950), next(&refusing, &mut problem)).await.is_err());
        assert_eq!(refusing.calls.load(Ordering::Relaxed), 10);
        assert!(problem.is_some());
    }

    #[tokio::test]
    async fn connections_are_accepted_again_after_the_system_refused() {
        let failing = Failing::times(2).await;
        let _client = TcpStream::connect(failing.listener.local_addr().unwrap()).await.unwrap();
        let mut problem = None;
        timeout(Duration::from_secs(10), next(&failing, &mut problem)).await.unwrap();
        assert_eq!(failing.calls.load(Ordering::Relaxed), 3);
        assert_eq!(problem, None);
    }
}
