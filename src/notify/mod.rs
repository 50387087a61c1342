//! Sends alerts to receivers: Alertmanager, webhooks, Slack, PagerDuty. The only module that does; it knows nothing of
//! Redis and decides nothing about alerts.
//!
//! Each receiver has one bounded queue (`queue`), one task (`send_loop`) and one `notifier::Notifier`, so that a
//! slow or dead receiver delays no other, and [`Handle::send`] never waits. Alertmanager is sent each alert, repeatedly
//! while it fires. The others are sent aggregation groups (`grouping`) when something changes; which alerts make a group,
//! and the payload, are a `render::PayloadFormat`.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::alert::notification::Notification;
use crate::alert::notification_log::{LogEntry, NotificationLog};
use crate::config::notifiers::{NotifierConfig, Receiver};
pub use crate::notify::model::ProbeResult;
use crate::notify::send_loop::SendLoop;
use crate::notify::shared_queue::SharedQueue;
use crate::self_metrics::SelfMetrics;
use redis_stream_core::clock::unix_time;
use redis_stream_core::tls::Verification;

mod alertmanager;
mod build;
mod grouping;
mod http_notifier;
mod model;
mod notifier;
mod pagerduty;
mod queue;
mod render;
mod send_loop;
mod severity;
mod shared_queue;
mod slack;
#[cfg(test)]
mod test_support;
mod webhook;

/// Time to send unsent alerts at shutdown.
const GRACE: Duration = Duration::from_secs(10);

/// All notifiers and their tasks.
pub struct Notifiers {
    handle: Handle,
    external_url: Option<Arc<str>>,
    metrics: SelfMetrics,
    shutdown: CancellationToken,
    /// The notification log of an earlier process; only while starting.
    log: Option<NotificationLog>,
    running: Vec<Running>,
    /// Notifiers that left the configuration and send their unsent alerts.
    leaving: JoinSet<()>,
}

struct Running {
    settings: NotifierConfig,
    queue: Arc<SharedQueue>,
    tasks: JoinSet<()>,
}

type NamedQueues = Vec<(Arc<str>, Arc<SharedQueue>)>;

/// Takes notifications. Cheap to clone.
#[derive(Clone, Default)]
pub struct Handle {
    receivers: Arc<RwLock<NamedQueues>>,
    log_changes: watch::Sender<()>,
}

/// Connects to each address of a receiver, all at once, within its `timeout`, and sends nothing.
pub async fn probe(notifier: &NotifierConfig) -> Vec<ProbeResult> {
    let name = Arc::from(notifier.name.as_str());
    build::notifier(&name, &notifier.receiver, None).probe().await
}

impl Notifiers {
    /// Starts a task for each receiver, with the notification log of an earlier process if there is one. `external_url`
    /// is the base of links. Once `shutdown` is cancelled, retries no longer wait for `Retry-After`, and at most half a
    /// second.
    pub fn start(
        config: &[NotifierConfig],
        external_url: Option<&str>,
        metrics: &SelfMetrics,
        shutdown: &CancellationToken,
        log: Option<NotificationLog>,
    ) -> Self {
        let mut notifiers = Self {
            handle: Handle::default(),
            external_url: None,
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
            log,
            running: Vec::new(),
            leaving: JoinSet::new(),
        };
        notifiers.apply_config(config, external_url);
        notifiers.log = None;
        notifiers
    }

    /// Applies a new configuration. An unchanged notifier continues, and an integration with the same URL and key keeps
    /// its queue and log. Any other changed notifier starts from scratch, and its predecessor sends its unsent alerts, as far
    /// as that is possible within ten seconds.
    pub fn apply_config(&mut self, config: &[NotifierConfig], external_url: Option<&str>) {
        let mut before = std::mem::take(&mut self.running);
        let is_same_url = self.external_url.as_deref() == external_url;
        self.external_url = external_url.map(Into::into);
        for settings in config {
            let same = before.iter().position(|running| is_same_url && running.settings == *settings);
            let running = match same {
                Some(at) => before.swap_remove(at),
                None => match before.iter().position(|running| running.has_same_log(settings)) {
                    Some(at) => self.replace(before.swap_remove(at), settings),
                    None => self.launch(settings),
                },
            };
            self.running.push(running);
        }
        let receivers = self
            .running
            .iter()
            .map(|running| (Arc::from(running.settings.name.as_str()), Arc::clone(&running.queue)));
        self.handle.set(receivers.collect());
        for mut left in before {
            left.queue.close();
            let (handle, metrics) = (self.handle.clone(), self.metrics.clone());
            self.leaving.spawn(async move {
                left.end().await;
                if !handle.has(&left.settings.name) {
                    metrics.forget_notifier(&left.settings.name);
                }
            });
        }
        while self.leaving.try_join_next().is_some() {}
    }

    fn launch(&self, settings: &NotifierConfig) -> Running {
        let queue = Arc::new(SharedQueue::new(
            settings.name.as_str().into(),
            build::queue(settings, self.log.as_ref()),
            self.metrics.for_notifier(&settings.name),
            self.handle.log_changes.clone(),
        ));
        let mut tasks = JoinSet::new();
        tasks.spawn(self.send_loop(&queue, settings).run());
        Running { settings: settings.clone(), queue, tasks }
    }

    fn replace(&self, before: Running, settings: &NotifierConfig) -> Running {
        let Running { queue, tasks: mut old, .. } = before;
        let send_loop = self.send_loop(&queue, settings);
        let repeat_interval = build::repeat_interval(&settings.receiver);
        let mut tasks = JoinSet::new();
        let changed = Arc::clone(&queue);
        tasks.spawn(async move {
            old.shutdown().await;
            changed.reconfigure(repeat_interval, unix_time());
            send_loop.run().await;
        });
        Running { settings: settings.clone(), queue, tasks }
    }

    fn send_loop(&self, queue: &Arc<SharedQueue>, settings: &NotifierConfig) -> SendLoop {
        let name: Arc<str> = settings.name.as_str().into();
        if settings.receiver.http().tls.verification == Verification::Skipped {
            warn!(notifier = %name, "insecure_skip_verify: any host can pose as the receiver, and read and change alerts");
        }
        SendLoop {
            queue: Arc::clone(queue),
            notifier: build::notifier(&name, &settings.receiver, self.external_url.clone()),
            metrics: self.metrics.for_notifier(&name),
            shutdown: self.shutdown.clone(),
            name,
        }
    }

    /// Returns the handle that takes notifications.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Sends unsent alerts, as far as that is possible within ten seconds, and ends. Nothing may be sent to the handle
    /// from now on.
    pub async fn drain(mut self) {
        self.running.iter().for_each(|running| running.queue.close());
        let left = async { while self.leaving.join_next().await.is_some() {} };
        // Each of them has a limit of its own.
        tokio::join!(join_all(self.running.iter_mut().map(Running::end)), left);
    }
}

impl Running {
    /// Returns true if the settings are for the same receiver under the same name, so that its notification log holds.
    fn has_same_log(&self, settings: &NotifierConfig) -> bool {
        self.settings.name == settings.name
            && match (&self.settings.receiver, &settings.receiver) {
                (Receiver::Integration(old), Receiver::Integration(new)) => {
                    old.kind == new.kind && old.url == new.url
                }
                // Alertmanager has no log: the evaluator repeats every alert.
                (Receiver::Alertmanager(_), _) | (_, Receiver::Alertmanager(_)) => false,
            }
    }

    /// Waits until all is sent, for ten seconds at most.
    async fn end(&mut self) {
        let all_ended = async {
            while let Some(ended) = self.tasks.join_next().await {
                if let Err(error) = ended {
                    error!(%error, "task of a notifier ended by a panic");
                }
            }
        };
        if timeout(GRACE, all_ended).await.is_err() {
            self.tasks.shutdown().await;
        }
        self.queue.drop_remaining();
    }
}

impl Handle {
    /// Queues notifications for the receivers that they name. Never waits.
    pub fn send(&self, notifications: &[Notification]) {
        let receivers = self.receivers.read().unwrap_or_else(PoisonError::into_inner);
        for (name, queue) in receivers.iter() {
            queue.push(notifications.iter().filter(|notification| {
                let named = &notification.alert.notifiers;
                named.is_empty() || named.iter().any(|other| **other == **name)
            }));
        }
    }

    /// Returns the notification log of each notifier, by its name.
    pub fn notification_logs(&self) -> BTreeMap<String, Vec<LogEntry>> {
        let receivers = self.receivers.read().unwrap_or_else(PoisonError::into_inner);
        receivers.iter().map(|(name, queue)| (name.to_string(), queue.log())).collect()
    }

    /// Returns a channel that changes with the notification logs, except when an alert is merely repeated.
    pub fn log_changes(&self) -> watch::Receiver<()> {
        self.log_changes.subscribe()
    }

    fn set(&self, receivers: Vec<(Arc<str>, Arc<SharedQueue>)>) {
        *self.receivers.write().unwrap_or_else(PoisonError::into_inner) = receivers;
        self.log_changes.send_replace(());
    }

    fn has(&self, name: &str) -> bool {
        let receivers = self.receivers.read().unwrap_or_else(PoisonError::into_inner);
        receivers.iter().any(|(other, _)| **other == *name)
    }
}
