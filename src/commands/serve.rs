//! `streamgauge serve`: a task for each target, and the HTTP server that shows what they found.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper::StatusCode;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{error, info};

use crate::cli;
use crate::clock::{now, unix_time};
use crate::commands::source;
use crate::config::environment::of_process;
use crate::config::{self, Config};
use crate::exposition::definitions::{Family, Origin};
use crate::exposition::page::{Layout, Rendered, compressed, write_plain};
use crate::http::body::Body;
use crate::http::encoding::Encoding;
use crate::http::limits::Limits;
use crate::http::reply::Reply;
use crate::http::request::Request;
use crate::http::router::Router;
use crate::http::{listener, server};
use crate::notify::Notifiers;
use crate::page;
use crate::self_metrics::{SelfMetrics, TargetMetrics};
use crate::shutdown::Shutdown;
use crate::target::{State, Target};

const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The landing page has one inline style sheet and nothing else.
const PAGE_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";
/// Wait before a target whose task panicked is begun anew.
const RESTART_PAUSE: Duration = Duration::from_secs(5);

/// Runs the exporter until it is asked to end.
///
/// # Errors
///
/// The configuration is wrong, or its address cannot be listened on.
pub async fn run(args: &cli::Serve, shutdown: Shutdown) -> anyhow::Result<()> {
    let config = source::read(&args.source, args.listen.as_deref(), &of_process)?;
    run_with(config, shutdown).await
}

/// Runs the exporter with a configuration.
///
/// # Errors
///
/// The address cannot be listened on.
pub async fn run_with(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let listener = listener::bind(config.web.listen)?;
    let address = listener.local_addr().context("cannot tell the address that is listened on")?;
    // The same names on every target.
    let label_names: Vec<_> = config.targets.iter().take(1).flat_map(|target| target.labels.keys()).collect();
    let label_names: Vec<_> = label_names.into_iter().map(String::as_str).collect();
    let metrics =
        SelfMetrics::new(unix_time(), &label_names).context("cannot register the exporter's own metrics")?;
    if config.metrics.redis_exporter_compat {
        metrics.add_redis_up().context("cannot register redis_up")?;
    }
    let external_url = config.web.external_url.as_deref();
    let notifiers = Notifiers::start(&config.alerts.notifiers, external_url, &metrics, &shutdown);
    let (site, mut tasks) = start(config, metrics.clone());
    let router = Arc::new(router(Arc::new(site)));
    for route in router.patterns() {
        metrics.note_route(route);
    }
    info!(%address, "listening");
    let observe = move |route: &'static str, code| metrics.count_request(route, code);
    server::run(listener, router, Limits::default(), observe, shutdown.requested()).await;
    tasks.shutdown().await;
    notifiers.drain().await;
    info!("stopped");
    Ok(())
}

/// What the routes can see.
struct Site {
    layout: Arc<Layout>,
    metrics: SelfMetrics,
    excluded: Vec<crate::glob::Glob>,
    targets: Vec<(String, watch::Receiver<State>)>,
}

/// Starts a task for each target.
fn start(config: Config, metrics: SelfMetrics) -> (Site, JoinSet<()>) {
    let excluded = config.metrics.exclude;
    let has_foreign = config.metrics.redis_exporter_compat;
    let is_exported = |family: &Family| {
        let is_excluded = excluded.iter().any(|glob| glob.matches(family.name.as_bytes()));
        !is_excluded && (has_foreign || family.origin == Origin::Own)
    };
    let layout = Arc::new(Layout::new(is_exported, config.metrics.consumer_max_idle));
    let mut tasks = JoinSet::new();
    let mut targets = Vec::new();
    for target in config.targets {
        let (state, watched) = watch::channel(State::default());
        targets.push((target.name.clone(), watched));
        // Here, not in the task: they are there from the first scrape on.
        let label_values: Vec<_> = target.labels.values().map(String::as_str).collect();
        let target_metrics = metrics.for_target(&target.name, &label_values);
        tasks.spawn(keep_running(target, config.poll.clone(), Arc::clone(&layout), target_metrics, state));
    }
    (Site { layout, metrics, excluded, targets }, tasks)
}

/// Runs a target's task, and begins it anew should it panic: a defect that one target's data brings to light
/// must not end the others.
async fn keep_running(
    target: config::Target,
    poll: config::Poll,
    layout: Arc<Layout>,
    target_metrics: TargetMetrics,
    state: watch::Sender<State>,
) {
    let state = Arc::new(state);
    loop {
        let (layout, state) = (Arc::clone(&layout), Arc::clone(&state));
        let running = Target::new(target.clone(), poll.clone(), layout, target_metrics.clone(), state).run();
        // In a set of its own, so that it ends with this future.
        let mut task = JoinSet::new();
        task.spawn(running);
        let Some(Err(panic)) = task.join_next().await else { return };
        target_metrics.set_up(false);
        error!(target_name = %target.name, error = %panic, "task of the target panicked; beginning anew");
        sleep(RESTART_PAUSE).await;
    }
}

fn router(site: Arc<Site>) -> Router {
    let (for_metrics, for_ready) = (Arc::clone(&site), site);
    Router::new()
        .get("/", |_| landing())
        .get("/metrics", move |request| for_metrics.metrics(request))
        .get("/-/healthy", |_| Reply::text(StatusCode::OK, "healthy\n"))
        .get("/-/ready", move |_| for_ready.ready())
}

fn landing() -> Reply {
    Reply::new(StatusCode::OK, "text/html; charset=utf-8", Body::Whole(page::landing().into()))
        .header(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY))
}

impl Site {
    fn ready(&self) -> Reply {
        let waiting: Vec<_> = self
            .targets
            .iter()
            .filter(|(_, state)| !state.borrow().was_tried)
            .map(|(name, _)| name)
            .collect();
        if waiting.is_empty() {
            return Reply::text(StatusCode::OK, "ready\n");
        }
        let names: Vec<_> = waiting.iter().map(|name| name.as_str()).collect();
        Reply::text(StatusCode::SERVICE_UNAVAILABLE, format!("not polled yet: {}\n", names.join(", ")))
    }

    fn metrics(&self, request: &Request) -> Reply {
        let only = request.parameters("target").next();
        if let Some(name) = only.filter(|name| self.targets.iter().all(|(target, _)| target != name)) {
            return Reply::text(StatusCode::NOT_FOUND, format!("there is no target {name:?}\n"));
        }
        let is_excluded = |name: &str| self.excluded.iter().any(|glob| glob.matches(name.as_bytes()));
        let own = match self.metrics.render(only, is_excluded) {
            Ok(own) => own,
            Err(error) => {
                error!(%error, "cannot render the exporter's own metrics");
                return Reply::text(StatusCode::INTERNAL_SERVER_ERROR, "cannot render own metrics\n");
            }
        };
        let rendered = self.rendered(only);
        let body = match request.encoding {
            Encoding::Gzip => Body::Chunks(compressed(&self.layout, &rendered, &own)),
            Encoding::Identity => {
                let layout = Arc::clone(&self.layout);
                Body::stream(move |out| write_plain(&layout, &rendered, &own, out))
            }
        };
        Reply::new(StatusCode::OK, METRICS_TYPE, body).encoding(request.encoding)
    }

    /// The series of the targets whose last report is not too old.
    fn rendered(&self, only: Option<&str>) -> Vec<Arc<Rendered>> {
        let now = now();
        let wanted = self.targets.iter().filter(|(name, _)| only.is_none_or(|only| only == name));
        wanted
            .filter_map(|(_, state)| {
                state.borrow().fresh(now).map(|published| Arc::clone(&published.rendered))
            })
            .collect()
    }
}
