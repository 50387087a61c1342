//! The routes of `streamgauge serve`, answered from what the monitors have published.
//!
//! | method | route | reply |
//! | --- | --- | --- |
//! | GET | `/` | overview page |
//! | GET | `/groups/{target}/{db}/{stream}/{group}` | page of a group |
//! | GET | `/streams/{target}/{db}/{stream}` | page of a stream |
//! | GET | `/assets/{hash}/{name}` | style sheet, script, icon |
//! | GET | `/metrics` | Prometheus text |
//! | GET | `/api/v1/alerts` | pending and firing alerts as JSON |
//! | GET | `/api/v1/backlog` | a number to scale by |
//! | GET | `/api/v1/events` | events of the last day as JSON |
//! | GET | `/api/v1/groups` | groups as JSON |
//! | GET | `/api/v1/probe` | fails while a group has a condition |
//! | POST | `/-/reload` | reloads the configuration |
//! | GET | `/-/healthy`, `/-/ready` | probes: open, and the only routes on `web.probe_listen` |
//!
//! HEAD is answered wherever GET is.

use std::sync::Arc;

use hyper::StatusCode;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tracing::error;

use crate::api;
use crate::api::backlog::{self, BacklogError, BacklogQuery};
use crate::api::events::EventQuery;
use crate::api::groups::filter::GroupFilter;
use crate::api::probe::{self, ProbeOutcome, ProbeQuery};
use crate::commands::serve::pages;
use crate::commands::serve::reload::Requests;
use crate::commands::serve::target_tasks::Targets;
use crate::commands::target_events::target_events;
use crate::commands::target_snapshots::target_snapshots;
use crate::exposition::alerts::AlertSeries;
use crate::exposition::render::{FamilySelection, TargetSeries, compressed, write_plain};
use crate::format::unicode::printable;
use crate::http::body::Body;
use crate::http::encoding::Encoding;
use crate::http::reply::Reply;
use crate::http::request::Request;
use crate::http::routes::{OTHER, Routes};
use crate::monitor::published::TargetState;
use crate::self_metrics::SelfMetrics;
use redis_stream_core::clock::now;
use redis_stream_core::glob::Glob;

const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const GROUP: &str = "/groups/{target}/{db}/{stream}/{group}";
const STREAM: &str = "/streams/{target}/{db}/{stream}";
const ASSET: &str = "/assets/{hash}/{name}";

/// All routes, which label the metric of requests.
pub(super) const ROUTES: [&str; 14] = [
    "/",
    GROUP,
    STREAM,
    ASSET,
    "/metrics",
    "/api/v1/alerts",
    "/api/v1/backlog",
    "/api/v1/events",
    "/api/v1/groups",
    "/api/v1/probe",
    "/-/reload",
    "/-/healthy",
    "/-/ready",
    OTHER,
];

fn route(path: &str) -> &'static str {
    match path.split('/').collect::<Vec<_>>()[..] {
        ["", "groups", _, _, _, _] => GROUP,
        ["", "streams", _, _, _] => STREAM,
        ["", "assets", _, _] => ASSET,
        _ => ROUTES.into_iter().find(|route| *route == path).unwrap_or(OTHER),
    }
}

fn is_probe(route: &str) -> bool {
    matches!(route, "/-/healthy" | "/-/ready")
}

/// The state that replies are made from.
pub(super) struct App {
    pub(super) families: Arc<FamilySelection>,
    pub(super) metrics: SelfMetrics,
    /// Metrics that are not exported.
    pub(super) excluded: Vec<Glob>,
    pub(super) targets: watch::Receiver<Targets>,
    pub(super) reloads: Requests,
}

impl Routes for App {
    fn route(&self, path: &str) -> &'static str {
        route(path)
    }

    fn is_open(&self, route: &str) -> bool {
        is_probe(route)
    }

    async fn reply(&self, route: &'static str, request: &Request) -> Reply {
        match (request.method.as_str(), route) {
            ("GET" | "HEAD", "/") => pages::overview(&self.targets(), request),
            ("GET" | "HEAD", GROUP) => pages::group(&self.targets(), request),
            ("GET" | "HEAD", STREAM) => pages::stream(&self.targets(), request),
            ("GET" | "HEAD", ASSET) => pages::asset(&request.path),
            ("GET" | "HEAD", "/metrics") => self.metrics(request).await,
            ("GET" | "HEAD", "/api/v1/alerts") => self.alerts(),
            ("GET" | "HEAD", "/api/v1/backlog") => self.backlog(request),
            ("GET" | "HEAD", "/api/v1/events") => self.events(request),
            ("GET" | "HEAD", "/api/v1/groups") => self.groups(request),
            ("GET" | "HEAD", "/api/v1/probe") => self.probe(request),
            ("GET" | "HEAD", "/-/healthy") => Reply::text(StatusCode::OK, "healthy\n"),
            ("GET" | "HEAD", "/-/ready") => self.ready(),
            ("POST", "/-/reload") => self.reloads.clone().ask(request.origin.clone()).await,
            (_, "/-/reload") => Reply::method_not_allowed("POST"),
            (_, OTHER) => Reply::not_found(),
            _ => Reply::method_not_allowed("GET, HEAD"),
        }
    }
}

/// Everything that a page of metrics is written from, of one moment. Alerts are evaluated after a report is published, so
/// they may be those of the poll before.
struct Gathered {
    /// The text of the exporter's own metrics.
    own: Vec<u8>,
    series: Vec<Arc<TargetSeries>>,
    alerts: Vec<Arc<AlertSeries>>,
}

/// The routes of `web.probe_listen`.
pub(super) struct Probes(pub(super) Arc<App>);

impl Routes for Probes {
    fn route(&self, path: &str) -> &'static str {
        Some(route(path)).filter(|route| is_probe(route)).unwrap_or(OTHER)
    }

    fn is_open(&self, route: &str) -> bool {
        is_probe(route)
    }

    async fn reply(&self, route: &'static str, request: &Request) -> Reply {
        self.0.reply(route, request).await
    }
}

impl App {
    /// Returns the current targets, in the order of the configuration.
    fn targets(&self) -> Targets {
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

    /// Gathers what `/metrics` shows of all targets, or of one.
    fn gather(&self, only: Option<&str>) -> Result<Gathered, prometheus::Error> {
        let is_excluded = |name: &str| self.excluded.iter().any(|glob| glob.matches(name.as_bytes()));
        self.metrics.set_tasks(Handle::current().metrics().num_alive_tasks());
        let (_of_one_time, now) = (self.metrics.between_publications(), now());
        let own = self.metrics.render(only, is_excluded)?;
        let read = |state: &TargetState| {
            let series = state.fresh(now).map(|published| Arc::clone(&published.series));
            Some((series, Arc::clone(&state.alerts.series)))
        };
        let (series, alerts): (Vec<_>, _) = self.read(only, read).into_iter().unzip();
        Ok(Gathered { own, series: series.into_iter().flatten().collect(), alerts })
    }

    async fn metrics(&self, request: &Request) -> Reply {
        let only = request.parameters("target").next();
        if let Some(name) = only.filter(|name| self.targets().iter().all(|(labels, _)| labels.name != *name))
        {
            return Reply::text(StatusCode::NOT_FOUND, format!("there is no target {name:?}\n"));
        }
        let Gathered { own, series, alerts } = match self.gather(only) {
            Ok(gathered) => gathered,
            Err(error) => {
                error!(%error, "cannot render the exporter's own metrics");
                return Reply::text(StatusCode::INTERNAL_SERVER_ERROR, "cannot render own metrics\n");
            }
        };
        let families = Arc::clone(&self.families);
        let body = match request.encoding {
            Encoding::Gzip => {
                let chunks = spawn_blocking(move || compressed(&families, &series, &alerts, &own)).await;
                match chunks {
                    Ok(chunks) => Body::Chunks(chunks),
                    Err(error) => {
                        error!(%error, "cannot render the metrics");
                        return Reply::text(StatusCode::INTERNAL_SERVER_ERROR, "cannot render the metrics\n");
                    }
                }
            }
            Encoding::Identity => {
                Body::stream(move |out| write_plain(&families, &series, &alerts, &own, out))
            }
        };
        Reply::new(StatusCode::OK, METRICS_TYPE, body).encoding(request.encoding)
    }

    fn alerts(&self) -> Reply {
        let active = self.read(None, |state| Some(Arc::clone(&state.alerts.active)));
        let body = Body::stream(move |out| api::alerts::write(&active, out));
        Reply::new(StatusCode::OK, "application/json", body)
    }

    fn backlog(&self, request: &Request) -> Reply {
        let found = BacklogQuery::read(&request.query)
            .and_then(|query| backlog::of(&target_snapshots(&self.targets(), now()), &query));
        match found {
            Ok(found) => {
                let body = Body::stream(move |out| api::json::write(&found, out));
                Reply::new(StatusCode::OK, "application/json", body)
            }
            Err(error) => {
                let status = match &error {
                    BacklogError::Query(_) => StatusCode::BAD_REQUEST,
                    BacklogError::NotFound(_) => StatusCode::NOT_FOUND,
                    BacklogError::Unknown(_) => StatusCode::SERVICE_UNAVAILABLE,
                };
                Reply::text(status, format!("{}\n", printable(&error.to_string())))
            }
        }
    }

    fn probe(&self, request: &Request) -> Reply {
        let query = match ProbeQuery::read(&request.query) {
            Ok(query) => query,
            Err(error) => return Reply::text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        };
        match probe::run(&target_snapshots(&self.targets(), now()), &query) {
            ProbeOutcome::Passed(line) => Reply::text(StatusCode::OK, line),
            ProbeOutcome::Failed(line) => Reply::text(StatusCode::SERVICE_UNAVAILABLE, line),
        }
    }

    fn events(&self, request: &Request) -> Reply {
        let query = match EventQuery::read(&request.query) {
            Ok(query) => query,
            Err(error) => return Reply::text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        };
        let listing = target_events(&self.targets(), &query);
        let body = Body::stream(move |out| {
            api::json::write(&listing, out)?;
            out.write_all(b"\n")
        });
        Reply::new(StatusCode::OK, "application/json", body)
    }

    fn groups(&self, request: &Request) -> Reply {
        let filter = match GroupFilter::read(&request.query) {
            Ok(filter) => filter,
            Err(error) => return Reply::text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        };
        let snapshots = target_snapshots(&self.targets(), now());
        let body = Body::stream(move |out| api::groups::write(&snapshots, &filter, out));
        Reply::new(StatusCode::OK, "application/json", body)
    }

    /// Reads the states of all targets, or of one.
    fn read<T>(&self, only: Option<&str>, read: impl Fn(&TargetState) -> Option<T>) -> Vec<T> {
        let targets = self.targets();
        let wanted = targets.iter().filter(|(labels, _)| only.is_none_or(|only| only == labels.name));
        wanted.filter_map(|(_, state)| read(&state.borrow())).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::Method;
    use hyper::header::ALLOW;

    use super::*;
    use crate::commands::serve::reload;
    use crate::http::request::RequestOrigin;

    fn app() -> App {
        App {
            families: Arc::new(FamilySelection::new(|_, _| true, Duration::ZERO)),
            metrics: SelfMetrics::new(Duration::ZERO, &[]).unwrap(),
            excluded: Vec::new(),
            targets: watch::channel(Targets::from([])).1,
            reloads: reload::requests().0,
        }
    }

    #[tokio::test]
    async fn a_request_is_answered_by_path_and_method() {
        let app = app();
        for (method, path, route, code, allow) in [
            (Method::GET, "/", "/", 200, None),
            (Method::HEAD, "/", "/", 200, None),
            (Method::GET, "/metrics", "/metrics", 200, None),
            (Method::GET, "/api/v1/alerts", "/api/v1/alerts", 200, None),
            (Method::GET, "/api/v1/events", "/api/v1/events", 200, None),
            (Method::GET, "/api/v1/groups", "/api/v1/groups", 200, None),
            (Method::GET, "/api/v1/backlog", "/api/v1/backlog", 400, None),
            (Method::GET, "/api/v1/probe", "/api/v1/probe", 200, None),
            (Method::GET, "/-/healthy", "/-/healthy", 200, None),
            (Method::GET, "/-/ready", "/-/ready", 200, None),
            (Method::POST, "/-/reload", "/-/reload", 503, None),
            (Method::DELETE, "/", "/", 405, Some("GET, HEAD")),
            (Method::OPTIONS, "/metrics", "/metrics", 405, Some("GET, HEAD")),
            (Method::GET, "/-/reload", "/-/reload", 405, Some("POST")),
            (Method::HEAD, "/-/reload", "/-/reload", 405, Some("POST")),
            (Method::GET, "/metrics/", OTHER, 404, None),
            (Method::GET, "", OTHER, 404, None),
            (Method::OPTIONS, "*", OTHER, 404, None),
            (Method::GET, "/groups/a%2Fb/0/s/g", GROUP, 404, None),
            (Method::HEAD, "/groups//0/s/g", GROUP, 404, None),
            (Method::POST, "/groups/a/0/s/g", GROUP, 405, Some("GET, HEAD")),
            (Method::GET, "/groups/a/0/s", OTHER, 404, None),
            (Method::GET, "/streams/a%2Fb/0/s", STREAM, 404, None),
            (Method::POST, "/streams/a/0/s", STREAM, 405, Some("GET, HEAD")),
            (Method::GET, "/streams/a/0/s/g", OTHER, 404, None),
            (Method::GET, "/groups/a/0/s/g/", OTHER, 404, None),
            (Method::GET, "/assets/0/none.css", ASSET, 404, None),
        ] {
            let encoding = Encoding::Identity;
            let request = Request {
                method: method.clone(),
                path: path.to_owned(),
                query: Vec::new(),
                encoding,
                origin: RequestOrigin::default(),
            };
            assert_eq!(app.route(path), route);
            let reply = app.reply(route, &request).await;
            assert_eq!(reply.status().as_u16(), code, "{method} {path}");
            let sent = reply.headers().iter().find(|(name, _)| *name == ALLOW);
            assert_eq!(sent.map(|(_, value)| value.to_str().unwrap()), allow, "{method} {path}");
        }
    }

    #[test]
    fn only_probes_are_open_and_only_they_are_on_the_probe_listener() {
        let app = Arc::new(app());
        let probes = Probes(Arc::clone(&app));
        for route in ROUTES {
            let is_open = ["/-/healthy", "/-/ready"].contains(&route);
            assert_eq!(app.is_open(route), is_open, "{route}");
            assert_eq!(probes.route(route), if is_open { route } else { OTHER });
        }
        assert!(!app.is_open(app.route("/-/healthy/")));
    }
}
