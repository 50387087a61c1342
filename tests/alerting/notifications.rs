//! Alerts as sent to Alertmanager, as shown by it, and as reported by streamgauge itself.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use crate::support::alertmanager::Alertmanager;
use crate::support::program::Exporter;
use crate::support::receiver::{Received, TestReceiver};
use crate::support::wait::wait_for;

/// Deadline of everything that is not delayed on purpose.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// An alert in one request.
#[derive(Clone, Debug)]
pub(crate) struct SentAlert {
    pub(crate) labels: Value,
    pub(crate) annotations: Value,
    /// The start, since the Unix epoch.
    pub(crate) starts_at: Duration,
    /// The end, or the time until which it fires without a reminder; since the Unix epoch.
    pub(crate) ends_at: Duration,
    /// The arrival of the request, since the Unix epoch.
    pub(crate) at: Duration,
}

impl SentAlert {
    pub(crate) fn is(&self, name: &str) -> bool {
        self.labels["alertname"] == name
    }

    pub(crate) fn is_over(&self) -> bool {
        self.ends_at <= self.at
    }
}

/// Returns all alerts of this name that were sent, in order.
pub(crate) fn sent_alerts(receiver: &TestReceiver, name: &str) -> Vec<SentAlert> {
    let all = receiver.received().into_iter().flat_map(|request| alerts(&request));
    all.filter(|sent| sent.is(name)).collect()
}

/// Waits until an alert of this name is sent as firing, and returns it.
pub(crate) async fn until_firing(receiver: &TestReceiver, name: &str) -> SentAlert {
    until(receiver, name, "fires", |sent| !sent.is_over()).await
}

/// Waits until an alert of this name is sent as resolved, and returns it.
pub(crate) async fn until_resolved(receiver: &TestReceiver, name: &str) -> SentAlert {
    until(receiver, name, "resolves", SentAlert::is_over).await
}

async fn until(
    receiver: &TestReceiver,
    name: &str,
    what: &str,
    is_so: impl Fn(&SentAlert) -> bool,
) -> SentAlert {
    wait_for(SOON, &format!("{name} {what}"), async || {
        let sent = sent_alerts(receiver, name);
        sent.iter().find(|sent| is_so(sent)).cloned().ok_or_else(|| format!("{sent:?}"))
    })
    .await
}

/// Waits until Alertmanager shows alerts of these names and no others, each once.
pub(crate) async fn shows(alertmanager: &Alertmanager, names: &[&str]) {
    wait_for(SOON, &format!("Alertmanager shows {names:?}"), async || {
        let alerts = alertmanager.alerts().await;
        let mut shown: Vec<_> =
            alerts.iter().map(|alert| alert["labels"]["alertname"].as_str().unwrap()).collect();
        shown.sort_unstable();
        if shown == names { Ok(()) } else { Err(format!("it shows {shown:?}")) }
    })
    .await;
}

/// Returns since when the condition of an alert holds, as reported by streamgauge, since the Unix epoch.
pub(crate) async fn active_at(exporter: &Exporter, name: &str) -> Duration {
    let answer: Value = serde_json::from_str(&exporter.get("/api/v1/alerts").await.text()).unwrap();
    let alerts = answer["data"]["alerts"].as_array().unwrap();
    time(&alerts.iter().find(|alert| alert["labels"]["alertname"] == name).unwrap()["activeAt"])
}

fn time(text: &Value) -> Duration {
    let time = humantime::parse_rfc3339(text.as_str().unwrap()).unwrap();
    time.duration_since(UNIX_EPOCH).unwrap()
}

fn alerts(request: &Received) -> Vec<SentAlert> {
    let read = |alert: &Value| SentAlert {
        labels: alert["labels"].clone(),
        annotations: alert["annotations"].clone(),
        starts_at: time(&alert["startsAt"]),
        ends_at: time(&alert["endsAt"]),
        at: request.at,
    };
    request.body.as_array().unwrap().iter().map(read).collect()
}
