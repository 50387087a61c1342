//! The listeners of `streamgauge serve`: one for all routes, and one for probes where `web.probe_listen` is set.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::info;

use crate::commands::serve::routes::{App, Probes, ROUTES};
use crate::config::Web;
use crate::http::access::AccessControl;
use crate::http::limits::ServerLimits;
use crate::http::{listener, server};
use tokio_util::sync::CancellationToken;

const PROBE_CONNECTIONS: usize = 16;

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
        app: Arc<App>,
        access: watch::Receiver<AccessControl>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        let metrics = app.metrics.clone();
        for route in ROUTES {
            metrics.note_route(route);
        }
        let observe = move |route: &'static str, code| metrics.count_request(route, code);
        let address = self.main.local_addr().context("cannot read the address of the listener")?;
        let is_secure = access.borrow().tls.is_some();
        info!(%address, tls = is_secure, "listening");
        let targets = app.targets.borrow().len();
        let (limits, ended) = (ServerLimits::within_descriptors(targets), shutdown.cancelled());
        let main = server::run(self.main, Arc::clone(&app), access, limits, observe.clone(), ended);
        let probes = async {
            let Some(listener) = self.probes else { return };
            if let Ok(address) = listener.local_addr() {
                info!(%address, "serving probes");
            }
            let (_open, access) = watch::channel(AccessControl::default());
            let limits =
                ServerLimits { connections: PROBE_CONNECTIONS.min(limits.connections.div_ceil(3)), ..limits };
            let routes = Arc::new(Probes(app));
            server::run(listener, routes, access, limits, observe, shutdown.cancelled()).await;
        };
        tokio::join!(main, probes);
        Ok(())
    }
}
