//! What Alertmanager is told, as it passes by, what it shows, and what streamgauge says itself.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use crate::support::alertmanager::Alertmanager;
use crate::support::program::Exporter;
use crate::support::receiver::{Received, TestReceiver};
use crate::support::wait::wait_for;

/// How long anything may take that is not waited for on purpose.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// An alert, as one request told of it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// What identifies it.
    pub(crate) labels: Value,
    /// What is said of it.
    pub(crate) annotations: Value,
    /// When it began to fire, since the Unix epoch.
    pub(crate) starts_at: Duration,
    /// When it resolved, or until when it fires unless it is told of again. Likewise.
    pub(crate) ends_at: Duration,
    /// When the request came. Likewise.
    pub(crate) at: Duration,
}

impl Told {
    /// Whether it is of an alert of this name.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.labels["alertname"] == name
    }

    /// Whether it has resolved.
    pub(crate) fn is_over(&self) -> bool {
        self.ends_at <= self.at
    }
}

/// All that was told of alerts of this name, in the order in which it came.
pub(crate) fn told(receiver: &TestReceiver, name: &str) -> Vec<Told> {
    let all = receiver.received().into_iter().flat_map(|request| alerts(&request));
    all.filter(|told| told.is(name)).collect()
}

/// Waits until an alert of this name is told to fire, and returns what was told then.
pub(crate) async fn until_firing(receiver: &TestReceiver, name: &str) -> Told {
    until(receiver, name, "fires", |told| !told.is_over()).await
}

/// Waits until an alert of this name is told to have resolved, and returns what was told then.
pub(crate) async fn until_resolved(receiver: &TestReceiver, name: &str) -> Told {
    until(receiver, name, "resolves", Told::is_over).await
}

async fn until(receiver: &TestReceiver, name: &str, what: &str, is_so: impl Fn(&Told) -> bool) -> Told {
    wait_for(SOON, &format!("{name} {what}"), async || {
        let told = told(receiver, name);
        told.iter().find(|told| is_so(told)).cloned().ok_or_else(|| format!("{told:?}"))
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

/// Since when the condition of an alert holds, by what streamgauge says itself; since the Unix epoch.
pub(crate) async fn active_at(exporter: &Exporter, name: &str) -> Duration {
    let answer: Value = serde_json::from_str(&exporter.get("/api/v1/alerts").await.text()).unwrap();
    let alerts = answer["data"]["alerts"].as_array().unwrap();
    time(&alerts.iter().find(|alert| alert["labels"]["alertname"] == name).unwrap()["activeAt"])
}

fn time(text: &Value) -> Duration {
    let time = humantime::parse_rfc3339(text.as_str().unwrap()).unwrap();
    time.duration_since(UNIX_EPOCH).unwrap()
}

fn alerts(request: &Received) -> Vec<Told> {
    let read = |alert: &Value| Told {
        labels: alert["labels"].clone(),
        annotations: alert["annotations"].clone(),
        starts_at: time(&alert["startsAt"]),
        ends_at: time(&alert["endsAt"]),
        at: request.at,
    };
    request.body.as_array().unwrap().iter().map(read).collect()
}
