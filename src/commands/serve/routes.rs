//! The routes of `streamgauge serve`: what each answers, from what the targets' tasks have published.

use std::sync::Arc;

use hyper::StatusCode;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::error;

use crate::alert::active::Active;
use crate::api;
use crate::api::groups::filter::Filter;
use crate::commands::serve::pages;
use crate::commands::serve::reload::Requests;
use crate::commands::serve::target_tasks::Targets;
use crate::commands::target_snapshots::target_snapshots;
use crate::exposition::alerts::{self, RenderedAlerts};
use crate::exposition::render::{FamilySelection, Rendered, compressed, write_plain};
use crate::http::body::Body;
use crate::http::encoding::Encoding;
use crate::http::reply::Reply;
use crate::http::request::Request;
use crate::http::routes::Router;
use crate::self_metrics::SelfMetrics;
use redis_stream_core::clock::now;
use redis_stream_core::glob::Glob;

const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the routes can see.
pub(super) struct Site {
    pub(super) families: Arc<FamilySelection>,
    pub(super) metrics: SelfMetrics,
    /// Names of metrics that are not exported.
    pub(super) excluded: Vec<Glob>,
    /// The targets that there are now.
    pub(super) targets: watch::Receiver<Targets>,
    pub(super) reloads: Requests,
}

/// Which route answers what.
pub(super) fn router(site: Arc<Site>) -> Router {
    let with = |reply: fn(&Arc<Site>, &Request) -> Reply| {
        let site = Arc::clone(&site);
        move |request: &Request| reply(&site, request)
    };
    probes(Arc::clone(&site))
        .get("/", with(pages::overview))
        .get("/groups/{target}/{db}/{stream}/{group}", with(pages::group))
        .get("/assets/{hash}/{name}", |request| pages::asset(&request.path))
        .get("/metrics", with(|site, request| site.metrics(request)))
        .get("/api/v1/alerts", with(|site, _| site.alerts()))
        .get("/api/v1/groups", with(|site, request| site.groups(request)))
        .post_and_wait("/-/reload", move |_| site.reloads.clone().ask())
}

/// The routes that need no authentication, which are all there is at `web.probe_listen`.
pub(super) fn probes(site: Arc<Site>) -> Router {
    Router::new()
        .open("/-/healthy", |_| Reply::text(StatusCode::OK, "healthy\n"))
        .open("/-/ready", move |_| site.ready())
}

impl Site {
    /// The targets, in the order of the configuration.
    pub(super) fn targets(&self) -> Targets {
        Arc::clone(&self.targets.borrow())
    }

    fn ready(&self) -> Reply {
        let targets = self.targets();
        let waiting: Vec<_> = targets
            .iter()
            .filter(|(_, state)| !state.borrow().was_tried)
            .map(|(labels, _)| labels.name.as_str())
            .collect();
        if waiting.is_empty() {
            return Reply::text(StatusCode::OK, "ready\n");
        }
        Reply::text(StatusCode::SERVICE_UNAVAILABLE, format!("not polled yet: {}\n", waiting.join(", ")))
    }

    fn metrics(&self, request: &Request) -> Reply {
        let only = request.parameters("target").next();
        if let Some(name) = only.filter(|name| self.targets().iter().all(|(labels, _)| labels.name != *name))
        {
            return Reply::text(StatusCode::NOT_FOUND, format!("there is no target {name:?}\n"));
        }
        let is_excluded = |name: &str| self.excluded.iter().any(|glob| glob.matches(name.as_bytes()));
        self.metrics.set_tasks(Handle::current().metrics().num_alive_tasks());
        let own = match self.metrics.render(only, is_excluded) {
            Ok(own) => own,
            Err(error) => {
                error!(%error, "cannot render the exporter's own metrics");
                return Reply::text(StatusCode::INTERNAL_SERVER_ERROR, "cannot render own metrics\n");
            }
        };
        let rendered = self.rendered(only);
        let alerts = if is_excluded(alerts::NAME) { Vec::new() } else { self.rendered_alerts(only) };
        let body = match request.encoding {
            Encoding::Gzip => Body::Chunks(compressed(&self.families, &rendered, &alerts, &own)),
            Encoding::Identity => {
                let families = Arc::clone(&self.families);
                Body::stream(move |out| write_plain(&families, &rendered, &alerts, &own, out))
            }
        };
        Reply::new(StatusCode::OK, METRICS_TYPE, body).encoding(request.encoding)
    }

    /// What is pending or firing, as JSON.
    fn alerts(&self) -> Reply {
        let active: Vec<Arc<Active>> =
            self.targets().iter().map(|(_, state)| Arc::clone(&state.borrow().alerts.active)).collect();
        let body = Body::stream(move |out| api::alerts::write(&active, out));
        Reply::new(StatusCode::OK, "application/json", body)
    }

    /// The groups and what is known of them, as JSON.
    fn groups(&self, request: &Request) -> Reply {
        let filter = match Filter::read(&request.query) {
            Ok(filter) => filter,
            Err(error) => return Reply::text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        };
        let seen = target_snapshots(&self.targets(), now());
        let body = Body::stream(move |out| api::groups::write(&seen, &filter, out));
        Reply::new(StatusCode::OK, "application/json", body)
    }

    /// The series of the alerts of the targets, however old their last report is.
    fn rendered_alerts(&self, only: Option<&str>) -> Vec<Arc<RenderedAlerts>> {
        let targets = self.targets();
        let wanted = targets.iter().filter(|(labels, _)| only.is_none_or(|only| only == labels.name));
        wanted.map(|(_, state)| Arc::clone(&state.borrow().alerts.rendered)).collect()
    }

    /// The series of the targets whose last report is not too old.
    fn rendered(&self, only: Option<&str>) -> Vec<Arc<Rendered>> {
        let now = now();
        let targets = self.targets();
        let wanted = targets.iter().filter(|(labels, _)| only.is_none_or(|only| only == labels.name));
        wanted
            .filter_map(|(_, state)| {
                state.borrow().fresh(now).map(|published| Arc::clone(&published.rendered))
            })
            .collect()
    }
}
