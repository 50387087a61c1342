//! Reloads the configuration on SIGHUP or on a request over HTTP. An invalid configuration changes nothing. Settings that
//! are fixed at the start keep their values, and a log line names them.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use hyper::StatusCode;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use crate::commands::serve::target_tasks::TargetTasks;
use crate::config::Config;
use crate::config::error::ConfigError;
use crate::http::access::AccessControl;
use crate::http::reply::Reply;
use crate::http::request::RequestOrigin;
use crate::notify::Notifiers;
use crate::self_metrics::SelfMetrics;
use redis_stream_core::clock::unix_time;

/// Capacity of the queue of reload requests.
const QUEUE: usize = 8;

/// Reads the configuration the same way as at the start.
pub(super) type ConfigReader = Arc<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>;

/// The parts that a new configuration changes.
pub(super) struct Parts {
    /// The configuration in force.
    pub(super) config: Config,
    pub(super) tasks: TargetTasks,
    pub(super) notifiers: Notifiers,
    pub(super) access: watch::Sender<AccessControl>,
    pub(super) metrics: SelfMetrics,
}

/// Requests reloads. Cheap to clone.
#[derive(Clone)]
pub(super) struct Requests(mpsc::Sender<ReloadRequest>);

/// Receives the requests.
pub(super) struct Inbox(mpsc::Receiver<ReloadRequest>);

struct ReloadRequest {
    origin: RequestOrigin,
    answer: oneshot::Sender<ReloadResult>,
}

/// The result of a reload.
enum ReloadResult {
    /// The configuration does not allow it over HTTP.
    Forbidden,
    /// A page of another site may have sent the request.
    Foreign,
    /// Applied, except for these settings.
    Done(Vec<&'static str>),
    /// Invalid; nothing has changed.
    Refused(String),
}

impl Inbox {
    /// Refuses all requests, as there is no configuration file to read again.
    pub(super) async fn refuse_all(&mut self) {
        while let Some(asked) = self.0.recv().await {
            // The client may be gone.
            let _ = asked.answer.send(ReloadResult::Forbidden);
        }
    }
}

/// Returns a connected pair.
pub(super) fn requests() -> (Requests, Inbox) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Requests(sender), Inbox(receiver))
}

impl Requests {
    /// Requests a reload. It continues even if the caller drops this future.
    pub(super) async fn ask(self, origin: RequestOrigin) -> Reply {
        let (sender, answer) = oneshot::channel();
        // Both fail only at the end of the program.
        let _ = self.0.send(ReloadRequest { origin, answer: sender }).await;
        match answer.await {
            Ok(ReloadResult::Done(left)) => Reply::text(StatusCode::OK, reply_text(&left)),
            Ok(ReloadResult::Refused(error)) => {
                Reply::text(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload: {error}\n"))
            }
            Ok(ReloadResult::Forbidden) => Reply::text(
                StatusCode::FORBIDDEN,
                "reload is not enabled; set web.enable_reload: true, or send SIGHUP\n",
            ),
            Ok(ReloadResult::Foreign) => Reply::text(
                StatusCode::FORBIDDEN,
                "the headers Host and Origin name another site; set web.external_url, or send SIGHUP\n",
            ),
            Err(_) => Reply::text(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n"),
        }
    }
}

fn reply_text(left: &[&str]) -> String {
    let lines = left.iter().map(|what| format!("{what}: changed, but takes effect at the next start only\n"));
    std::iter::once("reloaded\n".to_owned()).chain(lines).collect()
}

/// Registers for SIGHUP.
///
/// # Errors
///
/// The system refuses to register the signal.
pub(super) fn hangups() -> anyhow::Result<Signal> {
    signal(SignalKind::hangup()).context("cannot listen for SIGHUP")
}

impl Parts {
    /// Reloads on every request. Dropping this future during a reload leaves it half done, so it is dropped at shutdown
    /// only.
    pub(super) async fn reload(&mut self, reader: ConfigReader, mut hangups: Signal, inbox: &mut Inbox) {
        loop {
            tokio::select! {
                Some(()) = hangups.recv() => {
                    self.attempt(&reader).await;
                }
                Some(asked) = inbox.0.recv() => {
                    let web = &self.config.web;
                    let answer = match web.enable_reload {
                        false => ReloadResult::Forbidden,
                        true if asked.origin.is_foreign(web.external_url.as_deref()) => ReloadResult::Foreign,
                        true => self.attempt(&reader).await,
                    };
                    // The requester may be gone.
                    let _ = asked.answer.send(answer);
                }
                else => return,
            }
        }
    }

    async fn attempt(&mut self, reader: &ConfigReader) -> ReloadResult {
        match self.try_to(reader).await {
            Ok(left) => {
                self.metrics.note_reload(unix_time());
                info!("configuration reloaded");
                for what in &left {
                    warn!(what, "changed in the configuration, but takes effect at the next start only");
                }
                ReloadResult::Done(left)
            }
            Err(error) => {
                self.metrics.note_failed_reload();
                let error = format!("{error:#}");
                // Each fault of the configuration is a line.
                error!(
                    error = error.replace('\n', "; "),
                    "cannot reload the configuration; the old one stays"
                );
                ReloadResult::Refused(error)
            }
        }
    }

    /// Applies a new configuration. Returns the settings that keep their old values.
    async fn try_to(&mut self, reader: &ConfigReader) -> anyhow::Result<Vec<&'static str>> {
        let reader = Arc::clone(reader);
        let mut config = spawn_blocking(move || reader()).await??;
        let names = label_names(&config);
        if names != label_names(&self.config) {
            bail!(
                "targets[].labels: the names of labels have changed, now {:?}; restart to change them",
                names.join(", ")
            );
        }
        let access = self.access.borrow().updated(&self.config.web, &config.web)?;
        // From here on nothing fails.
        let left = self.keep_what_is_fixed(&mut config);
        self.notifiers.apply_config(&config.alerts.notifiers, config.web.external_url.as_deref());
        self.tasks.apply(&config).await;
        self.access.send_replace(access);
        self.config = config;
        Ok(left)
    }

    /// Restores the settings that are fixed at the start, and returns the names of those that had changed.
    fn keep_what_is_fixed(&self, config: &mut Config) -> Vec<&'static str> {
        let (new, old) = (config, &self.config);
        [
            ("web.listen", keep(&mut new.web.listen, &old.web.listen)),
            ("web.probe_listen", keep(&mut new.web.probe_listen, &old.web.probe_listen)),
            ("metrics", keep(&mut new.metrics, &old.metrics)),
            ("alerts.state_file", keep(&mut new.alerts.state_file, &old.alerts.state_file)),
        ]
        .into_iter()
        .filter_map(|(what, has_changed)| has_changed.then_some(what))
        .collect()
    }
}

/// Restores the old value. Returns true if the new one was different.
fn keep<T: Clone + PartialEq>(new: &mut T, old: &T) -> bool {
    let has_changed = new != old;
    if has_changed {
        new.clone_from(old);
    }
    has_changed
}

/// Returns the names of the configured labels, which are the same for all targets.
pub(super) fn label_names(config: &Config) -> Vec<&str> {
    let first = config.targets.iter().take(1);
    first.flat_map(|target| target.labels.keys()).map(String::as_str).collect()
}
