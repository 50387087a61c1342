//! `streamgauge serve`: a task for each target, and the HTTP server that shows what they found.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{error, info};

use crate::alert::evaluator::{Evaluator, Settings};
use crate::alert::notification::Notification;
use crate::alert::rule::TargetLabels;
use crate::cli;
use crate::clock::unix_time;
use crate::commands::{seen, source};
use crate::config::environment::of_process;
use crate::config::{self, Config};
use crate::exposition::definitions::{Family, Origin};
use crate::exposition::page::Layout;
use crate::notify::Notifiers;
use crate::self_metrics::{SelfMetrics, TargetMetrics};
use crate::shutdown::Shutdown;
use crate::state_file::Saved;
use crate::target::alerting::{Alerting, Alerts, Outlet};
use crate::target::{State, Target};

mod saved;
mod site;
mod web;

use site::Site;

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
    let listeners = web::Listeners::bind(&config.web)?;
    let (_gate, gate) = watch::channel(web::gate(&config.web)?);
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
    let handle = notifiers.handle();
    let outlet: Outlet = Arc::new(move |notifications: &[Notification]| handle.send(notifications));
    let state_file = config.alerts.state_file.clone();
    let saved = state_file.as_deref().and_then(saved::load);
    let (site, mut tasks) = start(config, metrics.clone(), saved.as_ref(), outlet).await;
    let watched = site.targets.iter().map(|(_, state)| state.clone()).collect();
    let mut keeper = state_file.map(|path| saved::Keeper::new(path, watched));
    let serving = listeners.serve(Arc::new(site), gate, &shutdown);
    tokio::pin!(serving);
    if let Some(keeper) = &mut keeper {
        tokio::select! {
            served = &mut serving => served?,
            () = keeper.run() => serving.await?,
        }
        tasks.shutdown().await;
        keeper.write_at_last().await;
    } else {
        serving.await?;
        tasks.shutdown().await;
    }
    notifiers.drain().await;
    info!("stopped");
    Ok(())
}

/// Starts a task for each target, with the alerts that were saved.
async fn start(
    config: Config,
    metrics: SelfMetrics,
    saved: Option<&Saved>,
    outlet: Outlet,
) -> (Site, JoinSet<()>) {
    let excluded = config.metrics.exclude;
    let has_foreign = config.metrics.redis_exporter_compat;
    let is_exported = |family: &Family| {
        let is_excluded = excluded.iter().any(|glob| glob.matches(family.name.as_bytes()));
        !is_excluded && (has_foreign || family.origin == Origin::Own)
    };
    let layout = Arc::new(Layout::new(is_exported, config.metrics.consumer_max_idle));
    let mut tasks = JoinSet::new();
    let (mut targets, mut redis_cli) = (Vec::new(), Vec::new());
    for target in config.targets {
        let labels = seen::labels(&target);
        let evaluator = evaluator(labels.clone(), &config.alerts, config.poll.interval);
        let alerts = resumed(&evaluator, saved).await;
        let (state, watched) = watch::channel(State { alerts, ..State::default() });
        targets.push((Arc::new(labels), watched));
        redis_cli.push(site::redis_cli::words(&target));
        // Here, not in the task: they are there from the first scrape on.
        let label_values: Vec<_> = target.labels.values().map(String::as_str).collect();
        let target_metrics = metrics.for_target(&target.name, &label_values);
        let alerting = (evaluator, Arc::clone(&outlet));
        let poll = config.poll.clone();
        tasks.spawn(keep_running(target, poll, Arc::clone(&layout), target_metrics, state, alerting));
    }
    (Site { layout, metrics, excluded, targets, redis_cli, interval: config.poll.interval }, tasks)
}

fn evaluator(labels: TargetLabels, alerts: &config::Alerts, interval: Duration) -> Evaluator {
    let settings = Settings { hold: alerts.hold, external_labels: alerts.external_labels.clone(), interval };
    Evaluator::new(&alerts.rules, labels, settings)
}

/// The alerts of a target as they were saved, as far as there are still rules for them.
async fn resumed(evaluator: &Evaluator, saved: Option<&Saved>) -> Alerts {
    let mut evaluator = evaluator.clone();
    if let Some(saved) = saved {
        evaluator.resume(saved.alerts.iter().cloned(), saved.saved_at);
    }
    Alerts::of(&evaluator).await
}

/// Runs a target's task, and begins it anew should it panic: a defect that one target's data brings to light
/// must not end the others.
async fn keep_running(
    target: config::Target,
    poll: config::Poll,
    layout: Arc<Layout>,
    target_metrics: TargetMetrics,
    state: watch::Sender<State>,
    (evaluator, outlet): (Evaluator, Outlet),
) {
    let state = Arc::new(state);
    loop {
        // What was pending or firing before goes on.
        let mut evaluator = evaluator.clone();
        let active = Arc::clone(&state.borrow().alerts.active);
        evaluator.resume(active.alerts(), unix_time());
        let alerting = Alerting::new(evaluator, Arc::clone(&outlet));
        let (layout, state) = (Arc::clone(&layout), Arc::clone(&state));
        let running = Target::new(target.clone(), poll.clone(), layout, target_metrics.clone(), state)
            .with_alerting(alerting)
            .run();
        // In a set of its own, so that it ends with this future.
        let mut task = JoinSet::new();
        task.spawn(running);
        let Some(Err(panic)) = task.join_next().await else { return };
        target_metrics.set_up(false);
        error!(target_name = %target.name, error = %panic, "task of the target panicked; beginning anew");
        sleep(RESTART_PAUSE).await;
    }
}
