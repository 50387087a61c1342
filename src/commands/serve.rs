//! `streamgauge serve`: starts and stops a monitor for each target, the notifiers, and the HTTP server.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::ArgMatches;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::alert::notification::Notification;
use crate::commands::config_source;
use crate::commands::exit_code::UsageError;
use crate::config::Config;
use crate::config::env::of_process;
use crate::exposition::render::FamilySelection;
use crate::http::access::AccessControl;
use crate::logging;
use crate::monitor::alerting::AlertSink;
use crate::notify::Notifiers;
use crate::self_metrics::SelfMetrics;
use crate::values::family::MetricOrigin;
use redis_stream_core::clock::{now, unix_time};
use tokio_util::sync::CancellationToken;

mod listeners;
mod pages;
mod reload;
mod routes;
mod state_saver;
mod target_tasks;

use reload::{ConfigReader, Parts};
use routes::App;
use state_saver::StateSaver;
use target_tasks::{SharedParts, TargetTasks};

/// Time to end everything, within the 10 s that Docker allows.
const SHUTDOWN_TIME: Duration = Duration::from_secs(8);
/// The part of it for unsent alerts and the state file after them.
const DRAIN_TIME: Duration = Duration::from_secs(6);
/// The part of that for the state file.
const SAVE_TIME: Duration = Duration::from_secs(2);

/// Runs the exporter until `shutdown`.
///
/// # Errors
///
/// The configuration is invalid, or its address cannot be listened on.
pub async fn run(args: ArgMatches, shutdown: CancellationToken) -> anyhow::Result<()> {
    let hangups = reload::hangups()?;
    let reader: ConfigReader = Arc::new(move || config_source::read(&args, &of_process));
    let first = Arc::clone(&reader);
    let config = tokio::select! {
        // In a thread of its own, since a file system may hang.
        config = spawn_blocking(move || first()) => config??,
        () = shutdown.cancelled() => return Ok(()),
    };
    run_until(config, shutdown, Some((reader, hangups))).await
}

/// Runs the exporter with a configuration that does not change.
///
/// # Errors
///
/// The address cannot be listened on.
pub async fn run_with(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    run_until(config, shutdown, None).await
}

async fn run_until(
    config: Config,
    shutdown: CancellationToken,
    reloading: Option<(ConfigReader, tokio::signal::unix::Signal)>,
) -> anyhow::Result<()> {
    let listeners = listeners::Listeners::bind(&config.web)?;
    let access = AccessControl::new(&config.web).map_err(|error| UsageError(error.to_string()))?;
    let (access, current_access) = watch::channel(access);
    let (reloads, mut inbox) = reload::requests();
    let (mut parts, app) = tokio::select! {
        // In a task of its own, since many targets or saved alerts take long.
        started = tokio::spawn(start(config, access, reloads, shutdown.clone())) => started??,
        () = shutdown.cancelled() => return Ok(()),
    };
    let mut saver = parts
        .config
        .alerts
        .state_file
        .clone()
        .map(|path| StateSaver::new(path, parts.tasks.targets(), parts.notifiers.handle()));
    let saving = async {
        match &mut saver {
            Some(saver) => saver.run().await,
            None => std::future::pending().await,
        }
    };
    let changing = async {
        match reloading {
            Some((reader, hangups)) => parts.reload(reader, hangups, &mut inbox).await,
            None => inbox.refuse_all().await,
        }
    };
    let mut serving = pin!(listeners.serve(Arc::new(app), current_access, &shutdown));
    let has_ended = tokio::select! {
        biased;
        served = &mut serving => {
            served?;
            true
        }
        () = shutdown.cancelled() => false,
        ((), ()) = async { tokio::join!(saving, changing) } => true,
    };
    // Replies in progress are finished meanwhile.
    let replying = async { if has_ended { Ok(()) } else { serving.await } };
    let (served, ()) = tokio::join!(replying, stop(parts, saver, now() + SHUTDOWN_TIME));
    served?;
    info!("stopped");
    Ok(())
}

/// Ends everything except the HTTP server, at the latest at a deadline.
async fn stop(mut parts: Parts, mut saver: Option<StateSaver>, deadline: Instant) {
    let saved = async {
        parts.tasks.shut_down().await;
        if let Some(saver) = &mut saver {
            saver.save().await;
        }
    };
    if timeout_at(deadline - DRAIN_TIME, saved).await.is_err() {
        warn!("the state file is not written in time");
        saver = None;
    }
    // Draining sends notifications, which the state file must show.
    if timeout_at(deadline - SAVE_TIME, parts.notifiers.drain()).await.is_err() {
        warn!("alerts not sent in time");
    }
    if let Some(saver) = &mut saver
        && timeout_at(deadline, saver.save()).await.is_err()
    {
        warn!("the state file is not written in time");
    }
}

/// Starts everything except the HTTP server.
async fn start(
    config: Config,
    access: watch::Sender<AccessControl>,
    reloads: reload::Requests,
    shutdown: CancellationToken,
) -> anyhow::Result<(Parts, App)> {
    let metrics = SelfMetrics::new(unix_time(), &reload::label_names(&config))
        .context("cannot register the exporter's own metrics")?;
    logging::count_dropped_lines(metrics.dropped_log_lines());
    if config.metrics.redis_exporter_compat {
        metrics.add_redis_up().context("cannot register redis_up")?;
    }
    let external_url = config.web.external_url.as_deref();
    let saved = match config.alerts.state_file.clone() {
        Some(path) => spawn_blocking(move || state_saver::load(&path)).await?,
        None => None,
    };
    let log = saved.as_ref().map(|saved| state_saver::notification_log(saved, &config));
    let notifiers = Notifiers::start(&config.alerts.notifiers, external_url, &metrics, &shutdown, log);
    let handle = notifiers.handle();
    let sink: AlertSink = Arc::new(move |notifications: &[Notification]| handle.send(notifications));
    let shared = SharedParts { metrics: metrics.clone(), sink };
    let families = families(&config);
    let tasks = TargetTasks::start(&config, shared, saved.as_ref());
    let app = App {
        families,
        metrics: metrics.clone(),
        excluded: config.metrics.exclude.clone(),
        targets: tasks.targets(),
        reloads,
    };
    Ok((Parts { config, tasks, notifiers, access, metrics }, app))
}

/// Returns the families that are exported.
fn families(config: &Config) -> Arc<FamilySelection> {
    let excluded = &config.metrics.exclude;
    let has_foreign = config.metrics.redis_exporter_compat;
    let is_exported = |name: &str, origin: MetricOrigin| {
        let is_excluded = excluded.iter().any(|glob| glob.matches(name.as_bytes()));
        !is_excluded && (has_foreign || origin == MetricOrigin::Own)
    };
    Arc::new(FamilySelection::new(is_exported, config.metrics.consumer_max_idle))
}
