//! Builds the queue and the notifier of a receiver from its settings.

use std::sync::Arc;
use std::time::Duration;

use crate::alert::notification_log::NotificationLog;
use crate::config::notifiers::{IntegrationKind, NotifierConfig, Receiver};
use crate::http_client::HttpClient;
use crate::notify::alertmanager::AlertmanagerSet;
use crate::notify::grouping::AggregationGroups;
use crate::notify::http_notifier::HttpNotifier;
use crate::notify::notifier::Notifier;
use crate::notify::queue::{AlertQueue, CAPACITY_ALERTS, NotificationQueue};
use crate::notify::render::{PayloadFormat, RenderContext};
use crate::notify::{pagerduty, slack, webhook};

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

/// Builds the queue, with the log of an earlier process.
pub(super) fn queue(config: &NotifierConfig, log: Option<&NotificationLog>) -> Box<dyn NotificationQueue> {
    let Receiver::Integration(settings) = &config.receiver else {
        return Box::new(AlertQueue::new(CAPACITY_ALERTS));
    };
    let group_labels = format(&settings.kind).group_labels;
    let groups = AggregationGroups::new(group_labels, settings.repeat_interval, CAPACITY_ALERTS);
    let Some(NotificationLog { until, receivers }) = log else { return Box::new(groups) };
    Box::new(groups.restore(receivers.get(&config.name).map_or(&[][..], Vec::as_slice), *until))
}
