//! The body of Alertmanager's webhook receiver, version 4, for whatever accepts that.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use crate::alert::link;
use crate::alert::notification::{Alert, AlertStatus};
use crate::format::units::rfc3339;
use crate::notify::model::Batch;
use crate::notify::render::{PayloadFormat, RenderContext, name_and_target, write};

pub(super) const FORMAT: PayloadFormat = PayloadFormat { group_labels: name_and_target, body };

/// Go's zero time, which Alertmanager writes where an alert has not ended.
const NOT_ENDED: &str = "0001-01-01T00:00:00Z";

/// The keys are in Alertmanager's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WebhookMessage<'a> {
    receiver: &'a str,
    status: &'static str,
    alerts: Vec<Item<'a>>,
    group_labels: &'a BTreeMap<String, String>,
    common_labels: BTreeMap<&'a str, &'a str>,
    common_annotations: BTreeMap<&'a str, &'a str>,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    version: &'static str,
    group_key: String,
    truncated_alerts: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    status: &'static str,
    labels: &'a BTreeMap<String, String>,
    annotations: &'a BTreeMap<String, String>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
    fingerprint: String,
}

/// Renders the whole group, as Alertmanager does: first the changed alerts, then those that still fire.
fn body(batch: &Batch, context: &RenderContext) -> Bytes {
    let external_url = context.external_url.as_deref();
    let alerts: Vec<_> =
        batch.alerts().take(context.max_alerts).map(|alert| item(alert, external_url)).collect();
    write(&WebhookMessage {
        receiver: &context.notifier,
        status: status(if batch.firing() > 0 { AlertStatus::Firing } else { AlertStatus::Resolved }),
        truncated_alerts: batch.alerts().count() - alerts.len(),
        alerts,
        group_labels: &batch.group,
        common_labels: common(batch, |alert| &alert.labels),
        common_annotations: common(batch, |alert| &alert.annotations),
        external_url: external_url.unwrap_or_default(),
        version: "4",
        group_key: group_key(batch),
    })
}

fn item<'a>(alert: &'a Alert, external_url: Option<&str>) -> Item<'a> {
    Item {
        status: status(alert.status),
        labels: &alert.labels,
        annotations: &alert.annotations,
        starts_at: rfc3339(alert.starts_at),
        ends_at: match alert.status {
            AlertStatus::Firing => NOT_ENDED.to_owned(),
            AlertStatus::Resolved => rfc3339(alert.ends_at),
        },
        generator_url: external_url.map(|url| link::of_alert(url, &alert.labels)).unwrap_or_default(),
        fingerprint: format!("{:016x}", alert.fingerprint()),
    }
}

fn status(status: AlertStatus) -> &'static str {
    match status {
        AlertStatus::Firing => "firing",
        AlertStatus::Resolved => "resolved",
    }
}

/// Returns the labels or annotations that all alerts of the batch have in common, shown or not.
fn common(batch: &Batch, of: fn(&Alert) -> &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    let mut alerts = batch.alerts().map(|alert| of(alert));
    let mut common: BTreeMap<_, _> =
        alerts.next().into_iter().flatten().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for others in alerts {
        common.retain(|name, value| others.get(*name).is_some_and(|other| other == value));
        if common.is_empty() {
            break;
        }
    }
    common
}

/// Returns `{}:{alertname="...", target="..."}`: the route and the group labels.
fn group_key(batch: &Batch) -> String {
    let labels: Vec<_> = batch.group.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{}}:{{{}}}", labels.join(", "))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::notify::model::GroupLabels;
    use crate::notify::test_support::{firing, resolved};

    fn context(max_alerts: usize) -> RenderContext {
        RenderContext {
            notifier: "hook".into(),
            max_alerts,
            external_url: Some("https://gauge.example.com".into()),
            routing_key: None,
        }
    }

    fn batch(changed: Vec<Alert>, still_firing: Vec<Alert>) -> Batch {
        let labels = [("alertname", "Lag\"High"), ("target", "cache")];
        let group = GroupLabels::from(labels.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let shared = |alerts: Vec<Alert>| alerts.into_iter().map(Arc::new).collect();
        Batch { group, changed: shared(changed), still_firing: shared(still_firing) }
    }

    fn pretty(body: &[u8]) -> String {
        let value: serde_json::Value = serde_json::from_slice(body).unwrap();
        serde_json::to_string_pretty(&value).unwrap()
    }

    #[test]
    fn a_whole_body() {
        let changed = vec![firing("Lag\"High", "mail"), resolved("Lag\"High", "audit", 90)];
        let batch = batch(changed, vec![firing("Lag\"High", "b"), firing("Lag\"High", "c")]);
        insta::assert_snapshot!(pretty(&body(&batch, &context(2))), @r#"
        {
          "alerts": [
            {
              "annotations": {
                "summary": "mail is behind"
              },
              "endsAt": "0001-01-01T00:00:00Z",
              "fingerprint": "d588a2fe771c2790",
              "generatorURL": "https://gauge.example.com/groups/cache/db0/orders/mail",
              "labels": {
                "alertname": "Lag\"High",
                "db": "db0",
                "group": "mail",
                "stream": "orders",
                "target": "cache"
              },
              "startsAt": "2026-11-22T20:00:00.000Z",
              "status": "firing"
            },
            {
              "annotations": {
                "summary": "audit is behind"
              },
              "endsAt": "2026-11-22T20:01:30.000Z",
              "fingerprint": "1c85696b9b6fe13c",
              "generatorURL": "https://gauge.example.com/groups/cache/db0/orders/audit",
              "labels": {
                "alertname": "Lag\"High",
                "db": "db0",
                "group": "audit",
                "stream": "orders",
                "target": "cache"
              },
              "startsAt": "2026-11-22T20:00:00.000Z",
              "status": "resolved"
            }
          ],
          "commonAnnotations": {},
          "commonLabels": {
            "alertname": "Lag\"High",
            "db": "db0",
            "stream": "orders",
            "target": "cache"
          },
          "externalURL": "https://gauge.example.com",
          "groupKey": "{}:{alertname=\"Lag\\\"High\", target=\"cache\"}",
          "groupLabels": {
            "alertname": "Lag\"High",
            "target": "cache"
          },
          "receiver": "hook",
          "status": "firing",
          "truncatedAlerts": 2,
          "version": "4"
        }
        "#);
    }

    #[test]
    fn a_group_of_which_nothing_fires_is_resolved() {
        let batch = batch(vec![resolved("Lag\"High", "audit", 90)], vec![]);
        insta::assert_snapshot!(pretty(&body(&batch, &RenderContext { external_url: None, ..context(20) })), @r#"
        {
          "alerts": [
            {
              "annotations": {
                "summary": "audit is behind"
              },
              "endsAt": "2026-11-22T20:01:30.000Z",
              "fingerprint": "1c85696b9b6fe13c",
              "generatorURL": "",
              "labels": {
                "alertname": "Lag\"High",
                "db": "db0",
                "group": "audit",
                "stream": "orders",
                "target": "cache"
              },
              "startsAt": "2026-11-22T20:00:00.000Z",
              "status": "resolved"
            }
          ],
          "commonAnnotations": {
            "summary": "audit is behind"
          },
          "commonLabels": {
            "alertname": "Lag\"High",
            "db": "db0",
            "group": "audit",
            "stream": "orders",
            "target": "cache"
          },
          "externalURL": "",
          "groupKey": "{}:{alertname=\"Lag\\\"High\", target=\"cache\"}",
          "groupLabels": {
            "alertname": "Lag\"High",
            "target": "cache"
          },
          "receiver": "hook",
          "status": "resolved",
          "truncatedAlerts": 0,
          "version": "4"
        }
        "#);
    }

    #[test]
    fn keys_are_in_alertmanager_s_order() {
        let body = body(&batch(vec![firing("A", "x")], vec![]), &context(1));
        let text = String::from_utf8(body.to_vec()).unwrap();
        let keys = [
            "receiver",
            "status",
            "alerts",
            "groupLabels",
            "commonLabels",
            "commonAnnotations",
            "externalURL",
            "version",
            "groupKey",
            "truncatedAlerts",
        ];
        let places: Vec<_> = keys.iter().map(|key| text.find(&format!("\"{key}\":")).unwrap()).collect();
        assert!(places.is_sorted(), "{text}");
    }
}
