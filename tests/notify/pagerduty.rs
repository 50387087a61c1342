//! The events that PagerDuty is sent.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use streamgauge::alert::notification::Alert;
use streamgauge::notify::probe;

use crate::alerts::{again, changed, firing, resolved};
use crate::fixture::{SOON, config, notifying};
use crate::support::receiver::TestReceiver;
use crate::support::wait::{wait_for, wait_until};

const KEY: &str = "0123456789hunter2";
const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\nContent-Length: 20\r\n\r\n{\"status\":\"success\"}";
const REJECTED: &str = "HTTP/1.1 400 Bad Request\r\nContent-Length: 26\r\n\r\n{\"status\":\"invalid event\"}";

/// A notifier `duty` with the key in a file; the folder is to be kept.
fn duty(receiver: &TestReceiver) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, format!("{KEY}\n")).unwrap();
    let list = format!(
        "{{name: duty, pagerduty: {{url: 'http://{}/v2/enqueue', routing_key_file: '{}'}}}}",
        receiver.address,
        file.display()
    );
    (folder, list)
}

/// The group and the action of each event.
fn events(receiver: &TestReceiver) -> Vec<(String, String)> {
    let received = receiver.received();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let event = |body: &serde_json::Value| {
        (text(&body["payload"]["custom_details"]["labels"]["group"]), text(&body["event_action"]))
    };
    received.iter().map(|request| event(&request.body)).collect()
}

#[tokio::test]
async fn each_alert_triggers_once_and_resolves_with_the_same_key() {
    let receiver = TestReceiver::answering(ACCEPTED).await;
    let (_folder, list) = duty(&receiver);
    let running = notifying(&list);
    let alerts = [firing("mail"), firing("audit")];
    running.send(&alerts.each_ref().map(changed));
    running.until_counted("duty", "delivered", 2.0).await;
    for _ in 0..100 {
        running.send(&alerts.each_ref().map(again));
    }
    assert_eq!(running.waiting("duty"), 0.0);
    running.send(&[changed(&resolved(&alerts[0]))]);
    let log = running.log();
    let counted = running.end().await;
    assert_eq!(counted["streamgauge_notifications_total{notifier=\"duty\",result=\"delivered\"}"], 3.0);

    let received = receiver.received();
    let [audit, mail, over] = &received[..] else { panic!("not three events: {received:?}") };
    assert_eq!(mail.head.lines().next(), Some("POST /v2/enqueue HTTP/1.1"));
    assert_eq!(mail.header("content-type"), Some("application/json"));
    assert_eq!(audit.body["payload"]["custom_details"]["labels"]["group"], "audit");
    assert_ne!(audit.body["dedup_key"], mail.body["dedup_key"]);
    assert_eq!(over.body["dedup_key"], mail.body["dedup_key"]);
    assert_eq!(
        (&mail.body["event_action"], &over.body["event_action"]),
        (&json!("trigger"), &json!("resolve"))
    );
    let page = "https://gauge.example.com/groups/cache/db0/orders/mail";
    let started = humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + alerts[0].starts_at);
    let expected = json!({
        "routing_key": KEY,
        "event_action": "trigger",
        "dedup_key": format!("{:016x}", alerts[0].fingerprint()),
        "payload": {
            "summary": "LagHigh: a group is \"behind\" <&>",
            "source": "cache",
            "severity": "warning",
            "timestamp": started.to_string(),
            "custom_details": { "labels": alerts[0].labels, "annotations": alerts[0].annotations },
        },
        "client": "streamgauge",
        "client_url": page,
        "links": [{ "href": page, "text": "streamgauge" }],
    });
    assert_eq!(mail.body, expected);
    assert!(!log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn errors_and_rate_limits_are_waited_out() {
    for (answer, logged) in [
        ("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", "answers 500"),
        ("HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n", "answers 429"),
    ] {
        let receiver = TestReceiver::answering(answer).await;
        let (_folder, list) = duty(&receiver);
        let running = notifying(&list);
        running.send(&[changed(&firing("mail"))]);
        running.until_counted("duty", "failed", 2.0).await;
        assert!(running.log().contains(logged), "{}", running.log());
        receiver.answer(ACCEPTED);
        running.until_counted("duty", "delivered", 1.0).await;
        assert_eq!((running.waiting("duty"), running.counted("duty", "rejected")), (0.0, 0.0));
        assert!(running.log().contains("receiver accepts notifications again"), "{}", running.log());
    }
}

#[tokio::test]
async fn a_rejected_event_is_not_sent_again_and_blocks_no_other() {
    let receiver = TestReceiver::answering(REJECTED).await;
    let (_folder, list) = duty(&receiver);
    let running = notifying(&list);
    let bad = firing("bad");
    running.send(&[changed(&bad)]);
    running.until_counted("duty", "rejected", 1.0).await;
    for text in ["receiver rejected alerts", "answers 400 Bad Request: ", "invalid event"] {
        assert!(running.log().contains(text), "{}", running.log());
    }
    receiver.answer(ACCEPTED);
    running.send(&[changed(&firing("good")), again(&bad)]);
    running.until_counted("duty", "delivered", 1.0).await;
    assert_eq!(running.waiting("duty"), 0.0);
    let _ = running.end().await;
    let trigger = |group: &str| (group.to_owned(), "trigger".to_owned());
    assert_eq!(events(&receiver), [trigger("bad"), trigger("good")]);
}

#[tokio::test]
async fn the_key_is_read_for_each_event_and_never_shown() {
    let echo = format!("invalid key {KEY}");
    let answer = format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{echo}", echo.len());
    let receiver = TestReceiver::answering(&answer).await;
    let (folder, list) = duty(&receiver);
    let loaded = config(&list);
    assert!(!format!("{loaded:?}").contains("hunter2"), "{loaded:?}");
    let reached = probe(&loaded.alerts.notifiers[0]).await;
    assert_eq!(reached, [Ok(format!("http://{}", receiver.address))]);
    assert!(receiver.received().is_empty(), "a probe sends no event");

    let running = notifying(&list);
    running.send(&[changed(&firing("mail"))]);
    let until_logged = async |text: &str| {
        wait_for(SOON, text, async || {
            let log = running.log();
            if log.contains(text) { Ok(()) } else { Err(log) }
        })
        .await;
    };
    until_logged("answers 403 Forbidden").await;
    let file = folder.path().join("key");
    std::fs::write(&file, "\n").unwrap();
    until_logged("the file with the routing key is empty").await;
    let requests = receiver.received().len();
    std::fs::remove_file(&file).unwrap();
    until_logged(&format!("cannot read {}", file.display())).await;
    assert!(matches!(&probe(&loaded.alerts.notifiers[0]).await[..], [Err(_)]));
    assert_eq!(receiver.received().len(), requests, "no event without a key");
    receiver.answer(ACCEPTED);
    std::fs::write(&file, "another").unwrap();
    running.until_counted("duty", "delivered", 1.0).await;
    assert_eq!(receiver.received().pop().unwrap().body["routing_key"], "another");
    assert!(!running.log().contains("hunter2"), "{}", running.log());
}

#[tokio::test]
async fn a_changed_notifier_goes_on_with_its_log_and_one_with_another_key_does_not() {
    let receiver = TestReceiver::answering(ACCEPTED).await;
    let with = |key: &str, timeout: &str| {
        format!(
            "{{name: duty, pagerduty: {{url: 'http://{}', routing_key: {key}, timeout: {timeout}}}}}",
            receiver.address
        )
    };
    let mut running = notifying(&with("one", "20s"));
    let alert = firing("mail");
    running.send(&[changed(&alert)]);
    running.until_counted("duty", "delivered", 1.0).await;
    running.follow(&with("one", "19s"));
    running.send(&[again(&alert)]);
    assert_eq!(running.waiting("duty"), 0.0);
    running.follow(&with("two", "19s"));
    running.send(&[again(&alert)]);
    running.until_counted("duty", "delivered", 2.0).await;
    let keys: Vec<_> =
        receiver.received().iter().map(|request| request.body["routing_key"].clone()).collect();
    assert_eq!(keys, ["one", "two"]);
}

#[tokio::test]
async fn two_thousand_alerts_at_once_are_as_many_events() {
    let receiver = TestReceiver::answering(ACCEPTED).await;
    let (_folder, list) = duty(&receiver);
    let running = notifying(&list);
    let alert = |n: usize| Alert { notifiers: Arc::new(["duty".to_owned()]), ..firing(&format!("g{n}")) };
    let alerts: Vec<_> = (0..2_000).map(|n| changed(&alert(n))).collect();
    running.send(&alerts);
    running.until_counted_within(Duration::from_secs(60), "duty", "delivered", 2_000.0).await;
    wait_until(SOON, "nothing waits", async || running.waiting("duty") == 0.0).await;
    assert_eq!(receiver.received().len(), 2_000);
}
