//! PagerDuty's Events API, version 2: one event for each alert. The fingerprint of the alert is the `dedup_key`, so that
//! repetitions, and a second streamgauge, find the same incident.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::alert::link;
use crate::alert::notification::{Alert, AlertStatus};
use crate::format::unicode::printable;
use crate::format::units::rfc3339;
use crate::notify::model::Batch;
use crate::notify::render::{
    PayloadFormat, RenderContext, all_labels, one_line, resolved_summary, summary, write,
};
use crate::notify::severity::AlertSeverity;

pub(super) const FORMAT: PayloadFormat = PayloadFormat { group_labels: all_labels, body };

/// PagerDuty cuts off longer summaries.
const SUMMARY_CHARS: usize = 1024;
/// PagerDuty rejects events above 512 KB.
const EVENT_BYTES: usize = 512_000;
const DETAILS_LEFT_OUT: &str = "labels and annotations are left out: the event would be above 512 KB";

fn body(batch: &Batch, context: &RenderContext) -> Bytes {
    let alert = batch.alerts().next().expect("a batch has at least one alert");
    let event = event(alert, context, &json!({ "labels": alert.labels, "annotations": alert.annotations }));
    if event.len() <= EVENT_BYTES {
        return event;
    }
    self::event(alert, context, &json!({ "error": DETAILS_LEFT_OUT }))
}

fn event(alert: &Alert, context: &RenderContext, custom_details: &Value) -> Bytes {
    let label = |name: &str| alert.labels.get(name).map_or("", String::as_str);
    let (event_action, since, text) = match alert.status {
        AlertStatus::Firing => ("trigger", alert.starts_at, summary(alert, SUMMARY_CHARS)),
        AlertStatus::Resolved => ("resolve", alert.ends_at, resolved_summary(alert, SUMMARY_CHARS)),
    };
    let mut event = json!({
        "routing_key": context.routing_key.as_ref().map_or("", |key| key.expose().trim()),
        "event_action": event_action,
        "dedup_key": format!("{:016x}", alert.fingerprint()),
        "payload": {
            "summary": one_line(&format!("{}: {text}", printable(label("alertname"))), SUMMARY_CHARS),
            "source": one_line(&printable(label("target")), SUMMARY_CHARS),
            "severity": AlertSeverity::of(alert).as_str(),
            "timestamp": rfc3339(since),
            "custom_details": custom_details,
        },
        "client": "streamgauge",
    });
    if let Some(url) = &context.external_url {
        let page = link::of_alert(url, &alert.labels);
        event["links"] = json!([{ "href": page, "text": "streamgauge" }]);
        event["client_url"] = page.into();
    }
    write(&event)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::notify::test_support::{firing, resolved};
    use redis_stream_core::secret::Secret;

    fn context(external_url: Option<&str>) -> RenderContext {
        RenderContext {
            notifier: "duty".into(),
            max_alerts: 1,
            external_url: external_url.map(Into::into),
            routing_key: Some(Secret::new("0123456789abcdef \n")),
        }
    }

    fn batch(alert: Alert) -> Batch {
        Batch { group: all_labels(&alert), changed: vec![Arc::new(alert)], still_firing: Vec::new() }
    }

    fn rendered(alert: Alert, context: &RenderContext) -> serde_json::Value {
        serde_json::from_slice(&body(&batch(alert), context)).unwrap()
    }

    #[test]
    fn a_firing_alert_triggers() {
        let event = rendered(firing("LagHigh", "mail"), &context(Some("https://gauge.example.com/")));
        insta::assert_snapshot!(serde_json::to_string_pretty(&event).unwrap(), @r#"
        {
          "client": "streamgauge",
          "client_url": "https://gauge.example.com/groups/cache/db0/orders/mail",
          "dedup_key": "059996fe98a11bd0",
          "event_action": "trigger",
          "links": [
            {
              "href": "https://gauge.example.com/groups/cache/db0/orders/mail",
              "text": "streamgauge"
            }
          ],
          "payload": {
            "custom_details": {
              "annotations": {
                "summary": "mail is behind"
              },
              "labels": {
                "alertname": "LagHigh",
                "db": "db0",
                "group": "mail",
                "stream": "orders",
                "target": "cache"
              }
            },
            "severity": "warning",
            "source": "cache",
            "summary": "LagHigh: mail is behind",
            "timestamp": "2026-11-22T20:00:00.000Z"
          },
          "routing_key": "0123456789abcdef"
        }
        "#);
    }

    #[test]
    fn a_resolved_alert_resolves_with_the_same_key() {
        let event = rendered(resolved("LagHigh", "mail", 90), &context(None));
        insta::assert_snapshot!(serde_json::to_string_pretty(&event).unwrap(), @r#"
        {
          "client": "streamgauge",
          "dedup_key": "059996fe98a11bd0",
          "event_action": "resolve",
          "payload": {
            "custom_details": {
              "annotations": {
                "summary": "mail is behind"
              },
              "labels": {
                "alertname": "LagHigh",
                "db": "db0",
                "group": "mail",
                "stream": "orders",
                "target": "cache"
              }
            },
            "severity": "warning",
            "source": "cache",
            "summary": "LagHigh: no longer: mail is behind",
            "timestamp": "2026-11-22T20:01:30.000Z"
          },
          "routing_key": "0123456789abcdef"
        }
        "#);
    }

    #[test]
    fn a_reminder_triggers_again() {
        let alert = firing("LagHigh", "mail");
        let reminder = Batch {
            group: all_labels(&alert),
            changed: Vec::new(),
            still_firing: vec![Arc::new(alert.clone())],
        };
        assert_eq!(body(&reminder, &context(None)), body(&batch(alert), &context(None)));
    }

    #[test]
    fn events_keep_the_limits_of_pagerduty() {
        let mut alert = firing("LagHigh", "mail");
        alert.annotations.insert("summary".to_owned(), "ä\n".repeat(2_000));
        let event = rendered(alert.clone(), &context(None));
        let summary = event["payload"]["summary"].as_str().unwrap();
        assert_eq!(summary.chars().count(), SUMMARY_CHARS);
        assert!(summary.starts_with("LagHigh: ä ä") && summary.ends_with('…'), "{summary}");
        assert_eq!(event["payload"]["custom_details"]["labels"]["group"], "mail");

        for name in ["group", "target"] {
            Arc::make_mut(&mut alert.labels).insert(name.to_owned(), "\u{1}".repeat(EVENT_BYTES));
        }
        let context = context(Some("https://gauge.example.com"));
        assert!(body(&batch(alert.clone()), &context).len() < EVENT_BYTES / 10);
        let event = rendered(alert, &context);
        assert_eq!(event["payload"]["custom_details"], serde_json::json!({ "error": DETAILS_LEFT_OUT }));
        assert_eq!(event["event_action"], "trigger");
    }
}
