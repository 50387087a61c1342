//! Builds the queue and the notifier of a receiver from its settings.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::alert::notification_log::NotificationLog;
use crate::config::notifiers::{Messages, Receiver};
use crate::config::receiver::Http;
use crate::notify::alertmanager::Alertmanagers;
use crate::notify::client::Client;
use crate::notify::grouping::AggregationGroups;
use crate::notify::http_notifier::{HttpNotifier, RenderContext};
use crate::notify::notifier::Notifier;
use crate::notify::queue::{AlertQueue, CAPACITY_ALERTS, NotificationQueue};
use crate::notify::send_loop::SendLoop;
use crate::notify::shared_queue::SharedQueue;
use crate::notify::{slack, webhook};
use crate::self_metrics::notifier::NotifierMetrics;
use redis_stream_core::tls::Verification;

pub(super) struct Builder<'a> {
    pub(super) name: Arc<str>,
    /// The base of links; `None` for no links.
    pub(super) external_url: Option<Arc<str>>,
    pub(super) metrics: NotifierMetrics,
    pub(super) shutdown: &'a CancellationToken,
    pub(super) log_changes: &'a watch::Sender<()>,
}

/// Returns how often alerts that still fire are sent again. Alertmanager is sent the evaluator's reminders instead.
pub(super) fn repeat_interval(receiver: &Receiver) -> Duration {
    match receiver {
        Receiver::Alertmanager(_) => Duration::MAX,
        Receiver::Webhook(settings) => settings.messages.repeat_interval,
        Receiver::Slack(settings) => settings.messages.repeat_interval,
    }
}

impl Builder<'_> {
    /// Builds the queue, with the log of an earlier process.
    pub(super) fn queue(&self, receiver: &Receiver, log: Option<&NotificationLog>) -> Arc<SharedQueue> {
        let queue: Box<dyn NotificationQueue> = match receiver {
            Receiver::Alertmanager(_) => Box::new(AlertQueue::new(CAPACITY_ALERTS)),
            Receiver::Webhook(_) | Receiver::Slack(_) => {
                let repeat_interval = repeat_interval(receiver);
                let mut groups = AggregationGroups::new(repeat_interval, CAPACITY_ALERTS);
                if let Some(NotificationLog { until, receivers }) = log {
                    let known = receivers.get(&*self.name).map_or(&[][..], Vec::as_slice);
                    groups = groups.restore(known, *until);
                }
                Box::new(groups)
            }
        };
        let (metrics, log_changes) = (self.metrics.clone(), self.log_changes.clone());
        Arc::new(SharedQueue::new(Arc::clone(&self.name), queue, metrics, log_changes))
    }

    pub(super) fn send_loop(&self, queue: &Arc<SharedQueue>, receiver: &Receiver) -> SendLoop {
        SendLoop {
            name: Arc::clone(&self.name),
            queue: Arc::clone(queue),
            notifier: self.notifier(receiver),
            metrics: self.metrics.clone(),
            shutdown: self.shutdown.clone(),
        }
    }

    fn notifier(&self, receiver: &Receiver) -> Box<dyn Notifier> {
        match receiver {
            Receiver::Alertmanager(settings) => {
                let (name, external_url) = (Arc::clone(&self.name), self.external_url.clone());
                Box::new(Alertmanagers::new(name, self.client(&settings.http), settings, external_url))
            }
            Receiver::Webhook(settings) => Box::new(HttpNotifier {
                client: self.client(&settings.http),
                url: settings.url.clone(),
                headers: settings.headers.clone(),
                context: self.context(settings.messages),
                body: webhook::body,
            }),
            Receiver::Slack(settings) => Box::new(HttpNotifier {
                client: self.client(&settings.http),
                url: settings.url.clone(),
                headers: BTreeMap::new(),
                context: self.context(settings.messages),
                body: slack::body,
            }),
        }
    }

    fn client(&self, http: &Http) -> Client {
        if http.tls.verification == Verification::Skipped {
            warn!(notifier = %self.name, "insecure_skip_verify: the receiver is not authenticated, and others may read and change what is sent");
        }
        Client::new(http.clone())
    }

    fn context(&self, messages: Messages) -> RenderContext {
        let (notifier, external_url) = (Arc::clone(&self.name), self.external_url.clone());
        RenderContext { notifier, max_alerts: messages.max_alerts, external_url }
    }
}
