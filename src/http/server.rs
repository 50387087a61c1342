//! Accepts connections and ends them at shutdown. The caller owns the socket and says when to end.

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

use crate::http::activity::Activity;
use crate::http::connection::{self, Site};
use crate::http::gate::Gate;
use crate::http::limits::Limits;
use crate::http::routes::Router;

/// How long nothing is accepted after the system refused to: out of file descriptors, it would refuse again at
/// once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves those who pass the gate, until `shutdown` completes; then no connection is accepted any more, idle ones
/// are closed at once, and answers under way have [`Limits::drain`] to finish.
///
/// `observe` is called once per request, with the pattern of its route ([`OTHER`](crate::http::routes::OTHER)
/// where none matched) and the status of its reply. What is no well-formed request within the limits is
/// answered by hyper (400 or 431) and not observed.
pub async fn run(
    listener: TcpListener,
    router: Arc<Router>,
    gate: watch::Receiver<Gate>,
    limits: Limits,
    observe: impl Fn(&'static str, u16) + Send + Sync + 'static,
    shutdown: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(limits.connections.max(1)));
    let answers = Arc::new(Semaphore::new(limits.answers.max(1)));
    let site = Site { router, limits, gate, observe: Box::new(observe), places, answers };
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    accept_until(listener, Arc::new(site), stopped, &mut connections, shutdown).await;
    drop(stop);
    drain(connections, limits.drain).await;
}

async fn accept_until(
    listener: impl Accept,
    site: Arc<Site>,
    stopped: watch::Receiver<()>,
    connections: &mut JoinSet<()>,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let mut trouble = None;
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            Some(ended) = connections.join_next() => report(ended),
            // A place becomes free when a connection ends, which the arm above notices.
            (stream, peer) = next(&listener, &mut trouble), if site.places.available_permits() > 0 => {
                let Ok(place) = Arc::clone(&site.places).try_acquire_owned() else { continue };
                let (site, stopped) = (Arc::clone(&site), stopped.clone());
                debug!(%peer, "connection accepted");
                connections.spawn(async move {
                    admit(stream, peer, site, stopped).await;
                    drop(place);
                });
            }
        }
    }
}

/// Serves a connection for as long as it may stay.
async fn admit(stream: TcpStream, peer: SocketAddr, site: Arc<Site>, stopped: watch::Receiver<()>) {
    let activity = Arc::new(Activity::new());
    tokio::select! {
        () = secure(stream, peer, Arc::clone(&activity), Arc::clone(&site), stopped) => {}
        () = site.is_held_up_by(&activity) => debug!(%peer, "connection cut off: others wait"),
    }
}

/// Serves a connection, behind TLS where that is on.
async fn secure(
    stream: TcpStream,
    peer: SocketAddr,
    activity: Arc<Activity>,
    site: Arc<Site>,
    mut stopped: watch::Receiver<()>,
) {
    let tls = site.gate.borrow().tls.clone();
    let served = match tls {
        None => connection::serve(stream, activity, site, stopped).await,
        Some(tls) => {
            let secured = tokio::select! {
                secured = timeout(site.limits.handshake, tls.accept(stream)) => secured,
                _ = stopped.changed() => return,
            };
            match secured {
                Ok(Ok(stream)) => connection::serve(stream, activity, site, stopped).await,
                Ok(Err(error)) => return debug!(%peer, %error, "no TLS with the client"),
                Err(_) => return debug!(%peer, "TLS handshake takes too long"),
            }
        }
    };
    if let Err(error) = served {
        debug!(%peer, error = &error as &(dyn Error + 'static), "connection cut off");
    }
}

/// Gives the connections time to end by themselves, then drops them.
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

/// Where connections come from.
trait Accept {
    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send;
}

impl Accept for TcpListener {
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        // Answers are written whole or in large chunks, so there is nothing to wait for.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "cannot set TCP_NODELAY");
        }
        Ok((stream, peer))
    }
}

/// The next connection. A failure is logged when it differs from the last one.
async fn next(listener: &impl Accept, trouble: &mut Option<String>) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => {
                if trouble.take().is_some() {
                    info!("connections accepted again");
                }
                return accepted;
            }
            // The client has gone before it was accepted: that says nothing about the next.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                let error = error.to_string();
                if trouble.as_ref() != Some(&error) {
                    warn!(error, "cannot accept connections");
                    *trouble = Some(error);
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
        let mut trouble = None;
        assert!(timeout(Duration::from_millis(950), next(&refusing, &mut trouble)).await.is_err());
        assert_eq!(refusing.calls.load(Ordering::Relaxed), 10);
        assert!(trouble.is_some());
    }

    #[tokio::test]
    async fn connections_are_accepted_again_after_the_system_refused() {
        let failing = Failing::times(2).await;
        let _client = TcpStream::connect(failing.listener.local_addr().unwrap()).await.unwrap();
        let mut trouble = None;
        timeout(Duration::from_secs(10), next(&failing, &mut trouble)).await.unwrap();
        assert_eq!(failing.calls.load(Ordering::Relaxed), 3);
        assert_eq!(trouble, None);
    }
}
