//! Builds the queue and the notifier of a receiver from its settings.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::alert::notification_log::NotificationLog;
use crate::config::notifiers::{Integration, IntegrationKind, Receiver};
use crate::http_client::HttpClient;
use crate::notify::alertmanager::AlertmanagerSet;
use crate::notify::grouping::AggregationGroups;
use crate::notify::http_notifier::HttpNotifier;
use crate::notify::notifier::Notifier;
use crate::notify::queue::{AlertQueue, CAPACITY_ALERTS, NotificationQueue};
use crate::notify::render::{PayloadFormat, RenderContext};
use crate::notify::send_loop::SendLoop;
use crate::notify::shared_queue::SharedQueue;
use crate::notify::{pagerduty, slack, webhook};
use crate::self_metrics::notifier::NotifierMetrics;
use redis_stream_core::tls::Verification;

fn format(kind: &IntegrationKind) -> PayloadFormat {
    match kind {
        IntegrationKind::Webhook => webhook::FORMAT,
        IntegrationKind::Slack => slack::FORMAT,
        IntegrationKind::PagerDuty { .. } => pagerduty::FORMAT,
    }
}

/// Builds the notifier called `name`. `external_url` is the base of links.
pub(super) fn notifier(
    name: &Arc<str>,
    receiver: &Receiver,
    external_url: Option<Arc<str>>,
) -> Box<dyn Notifier> {
    match receiver {
        Receiver::Alertmanager(settings) => {
            let client = HttpClient::new(settings.http.clone());
            Box::new(AlertmanagerSet::new(Arc::clone(name), client, settings, external_url))
        }
        Receiver::Integration(settings) => Box::new(HttpNotifier {
            client: HttpClient::new(settings.http.clone()),
            url: settings.url.clone(),
            headers: settings.headers.clone(),
            routing_key: settings.kind.routing_key().cloned(),
            format: format(&settings.kind),
            context: RenderContext {
                notifier: Arc::clone(name),
                max_alerts: settings.max_alerts,
                external_url,
                routing_key: None,
            },
        }),
    }
}

/// Returns the time after which alerts that still fire are sent again. Alertmanager is sent the evaluator's reminders
/// instead.
pub(super) fn repeat_interval(receiver: &Receiver) -> Duration {
    match receiver {
        Receiver::Alertmanager(_) => Duration::MAX,
        Receiver::Integration(settings) => settings.repeat_interval,
    }
}

pub(super) struct Builder<'a> {
    pub(super) name: Arc<str>,
    /// The base of links; `None` for no links.
    pub(super) external_url: Option<Arc<str>>,
    pub(super) metrics: NotifierMetrics,
    pub(super) shutdown: &'a CancellationToken,
    pub(super) log_changes: &'a watch::Sender<()>,
}

impl Builder<'_> {
    /// Builds the queue, with the log of an earlier process.
    pub(super) fn queue(&self, receiver: &Receiver, log: Option<&NotificationLog>) -> Arc<SharedQueue> {
        let queue: Box<dyn NotificationQueue> = match receiver {
            Receiver::Alertmanager(_) => Box::new(AlertQueue::new(CAPACITY_ALERTS)),
            Receiver::Integration(settings) => Box::new(self.groups(settings, log)),
        };
        let (metrics, log_changes) = (self.metrics.clone(), self.log_changes.clone());
        Arc::new(SharedQueue::new(Arc::clone(&self.name), queue, metrics, log_changes))
    }

    fn groups(&self, settings: &Integration, log: Option<&NotificationLog>) -> AggregationGroups {
        let group_labels = format(&settings.kind).group_labels;
        let groups = AggregationGroups::new(group_labels, settings.repeat_interval, CAPACITY_ALERTS);
        let Some(NotificationLog { until, receivers }) = log else { return groups };
        groups.restore(receivers.get(&*self.name).map_or(&[][..], Vec::as_slice), *until)
    }

    pub(super) fn send_loop(&self, queue: &Arc<SharedQueue>, receiver: &Receiver) -> SendLoop {
        if receiver.http().tls.verification == Verification::Skipped {
            warn!(notifier = %self.name, "insecure_skip_verify: the receiver is not authenticated, and others may read and change what is sent");
        }
        SendLoop {
            name: Arc::clone(&self.name),
            queue: Arc::clone(queue),
            notifier: notifier(&self.name, receiver, self.external_url.clone()),
            metrics: self.metrics.clone(),
            shutdown: self.shutdown.clone(),
        }
    }
}
