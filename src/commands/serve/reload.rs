//! A new configuration while the exporter runs: on SIGHUP, or asked for over HTTP. It is read as at the start, and used
//! only if all of it is valid; else everything stays as it was. What can only be set at the start stays too, and says
//! so.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use hyper::StatusCode;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use crate::commands::serve::access;
use crate::commands::serve::fleet::Fleet;
use crate::config::Config;
use crate::config::error::ConfigError;
use crate::http::gate::Gate;
use crate::http::reply::Reply;
use crate::notify::Notifiers;
use crate::self_metrics::SelfMetrics;
use redis_stream_core::clock::unix_time;

/// Reloads that wait for the one under way; further ones wait to be let in.
const WAITING: usize = 8;

/// Reads the configuration as at the start.
pub(super) type Reader = Arc<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>;

/// All that a new configuration changes.
pub(super) struct Parts {
    /// The configuration in force.
    pub(super) config: Config,
    pub(super) fleet: Fleet,
    pub(super) notifiers: Notifiers,
    pub(super) gate: watch::Sender<Gate>,
    pub(super) metrics: SelfMetrics,
}

/// Where reloads are asked for. Cheap to clone.
#[derive(Clone)]
pub(super) struct Requests(mpsc::Sender<oneshot::Sender<Answer>>);

/// Takes reloads that are asked for.
pub(super) struct Inbox(mpsc::Receiver<oneshot::Sender<Answer>>);

/// What came of a reload.
enum Answer {
    /// The configuration does not allow it over HTTP.
    Forbidden,
    /// It is in force, but for these.
    Done(Vec<&'static str>),
    /// Nothing has changed.
    Refused(String),
}

/// A pair of both.
pub(super) fn requests() -> (Requests, Inbox) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Requests(sender), Inbox(receiver))
}

impl Requests {
    /// Asks for a reload. It goes on even if nobody waits for the answer.
    pub(super) async fn ask(self) -> Reply {
        let (sender, answer) = oneshot::channel();
        // Both fail only at the end of the program.
        let _ = self.0.send(sender).await;
        match answer.await {
            Ok(Answer::Done(left)) => Reply::text(StatusCode::OK, told(&left)),
            Ok(Answer::Refused(error)) => {
                Reply::text(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload: {error}\n"))
            }
            Ok(Answer::Forbidden) => Reply::text(
                StatusCode::FORBIDDEN,
                "reload is not enabled; set web.enable_reload: true, or send SIGHUP\n",
            ),
            Err(_) => Reply::text(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n"),
        }
    }
}

fn told(left: &[&str]) -> String {
    let lines = left.iter().map(|what| format!("{what}: changed, but takes effect at the next start only\n"));
    std::iter::once("reloaded\n".to_owned()).chain(lines).collect()
}

/// Hears of SIGHUP from now on.
///
/// # Errors
///
/// Where the system refuses to register the signal.
pub(super) fn hangups() -> anyhow::Result<Signal> {
    signal(SignalKind::hangup()).context("cannot listen for SIGHUP")
}

impl Parts {
    /// Reloads whenever it is asked for. Must not be dropped in the midst of a reload but at the end of the program.
    pub(super) async fn reload(&mut self, reader: Reader, mut hangups: Signal, inbox: &mut Inbox) {
        loop {
            tokio::select! {
                Some(()) = hangups.recv() => {
                    self.attempt(&reader).await;
                }
                Some(asked) = inbox.0.recv() => {
                    let answer =
                        if self.config.web.enable_reload { self.attempt(&reader).await } else { Answer::Forbidden };
                    // Who asked may have left.
                    let _ = asked.send(answer);
                }
                else => return,
            }
        }
    }

    async fn attempt(&mut self, reader: &Reader) -> Answer {
        match self.try_to(reader).await {
            Ok(left) => {
                self.metrics.note_reload(unix_time());
                info!("configuration reloaded");
                for what in &left {
                    warn!(what, "changed in the configuration, but takes effect at the next start only");
                }
                Answer::Done(left)
            }
            Err(error) => {
                self.metrics.note_failed_reload();
                let error = format!("{error:#}");
                error!(error, "cannot reload the configuration; the old one stays");
                Answer::Refused(error)
            }
        }
    }

    /// What could not be changed.
    async fn try_to(&mut self, reader: &Reader) -> anyhow::Result<Vec<&'static str>> {
        let reader = Arc::clone(reader);
        let mut config = spawn_blocking(move || reader()).await??;
        let names = label_names(&config);
        if names != label_names(&self.config) {
            bail!(
                "targets[].labels: the names of labels have changed, now {:?}; restart to change them",
                names.join(", ")
            );
        }
        let gate = access::gate_after(&config.web, &self.config.web, &self.gate.borrow())?;
        // From here on nothing fails.
        let left = self.keep_what_is_fixed(&mut config);
        self.notifiers.apply_config(&config.alerts.notifiers, config.web.external_url.as_deref());
        self.fleet.follow(&config).await;
        self.gate.send_replace(gate);
        self.config = config;
        Ok(left)
    }

    /// Puts back what can be set at the start only, and names what of it has changed.
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

/// Puts the old value back; whether the new one was another.
fn keep<T: Clone + PartialEq>(new: &mut T, old: &T) -> bool {
    let has_changed = new != old;
    if has_changed {
        new.clone_from(old);
    }
    has_changed
}

/// Names of the labels that the configuration adds to every series of a target: the same for all targets.
pub(super) fn label_names(config: &Config) -> Vec<&str> {
    let first = config.targets.iter().take(1);
    first.flat_map(|target| target.labels.keys()).map(String::as_str).collect()
}
