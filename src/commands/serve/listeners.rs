//! The HTTP side of `streamgauge serve`: what clients must pass, and the listeners.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::info;

use crate::commands::serve::routes::{self, Site};
use crate::config::Web;
use crate::http::gate::Gate;
use crate::http::limits::Limits;
use crate::http::{listener, server};
use tokio_util::sync::CancellationToken;

/// Probes are few: a place for each that hangs.
const PROBE_CONNECTIONS: usize = 16;

/// The sockets.
pub(super) struct Listeners {
    main: TcpListener,
    probes: Option<TcpListener>,
}

impl Listeners {
    pub(super) fn bind(web: &Web) -> anyhow::Result<Self> {
        let main = listener::bind(web.listen)?;
        let probes = web.probe_listen.map(|address| listener::bind(Some(address)));
        Ok(Self { main, probes: probes.transpose().context("web.probe_listen")? })
    }

    /// Serves until the shutdown.
    pub(super) async fn serve(
        self,
        site: Arc<Site>,
        gate: watch::Receiver<Gate>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        let router = Arc::new(routes::router(Arc::clone(&site)));
        let metrics = site.metrics.clone();
        for route in router.patterns() {
            metrics.note_route(route);
        }
        let observe = move |route: &'static str, code| metrics.count_request(route, code);
        let address = self.main.local_addr().context("cannot tell the address that is listened on")?;
        let is_secure = gate.borrow().tls.is_some();
        info!(%address, tls = is_secure, "listening");
        let ended = shutdown.cancelled();
        let main = server::run(self.main, router, gate, Limits::default(), observe.clone(), ended);
        let probes = async {
            let Some(listener) = self.probes else { return };
            if let Ok(address) = listener.local_addr() {
                info!(%address, "serving probes");
            }
            let router = Arc::new(routes::probes(site));
            let (_open, gate) = watch::channel(Gate::default());
            let limits = Limits { connections: PROBE_CONNECTIONS, ..Limits::default() };
            server::run(listener, router, gate, limits, observe, shutdown.cancelled()).await;
        };
        tokio::join!(main, probes);
        Ok(())
    }
}
