//! What reaches a real Alertmanager.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use streamgauge::alert::notification::Alert;

use crate::alerts::{again, changed, firing, resolved};
use crate::fixture::{SOON, notifying};
use crate::support::alertmanager::{Alertmanager, SILENT};
use crate::support::receiver::TestReceiver;
use crate::support::wait::{wait_for, wait_until};

/// The hash of "secret", as cheap as bcrypt can be.
const USERS: &str =
    "basic_auth_users: {gauge: $2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW}\n";
/// `gauge:secret`.
const LOGIN: (&str, &str) = ("authorization", "Basic Z2F1Z2U6c2VjcmV0");

fn one(url: &str) -> String {
    format!("{{name: main, alertmanager: {{urls: ['{url}']}}}}")
}

#[tokio::test]
async fn an_alert_arrives_with_labels_and_annotations_stays_one_and_resolves() {
    let Some(alertmanager) = Alertmanager::start().await else { return };
    let running = notifying(&one(&alertmanager.url()));
    let alert = firing("mail");
    running.send(&[changed(&alert)]);
    alertmanager.shows(&["mail"]).await;
    let shown = alertmanager.alerts().await.remove(0);
    assert_eq!(shown["labels"], json!(alert.labels));
    assert_eq!(shown["annotations"], json!(alert.annotations));
    let link = shown["generatorURL"].as_str().expect("it has a link");
    assert_eq!(link, streamgauge::alert::link::of_alert("https://gauge.example.com", &alert.labels));
    assert!(link.ends_with("/mail"), "{link}");
    assert_eq!(shown["startsAt"].as_str().unwrap()[..19], humantime(&alert)[..19]);

    for told in 2..6 {
        running.send(&[again(&alert)]);
        running.until_counted("main", "delivered", f64::from(told)).await;
    }
    assert_eq!(alertmanager.groups().await, ["mail"]);
    let ends_at = alertmanager.alerts().await[0]["endsAt"].clone();
    assert_ne!(ends_at, shown["endsAt"], "it holds longer");

    running.send(&[changed(&resolved(&alert))]);
    alertmanager.shows(&[]).await;
    let counted = running.end().await;
    assert_eq!(counted["streamgauge_notifications_total{notifier=\"main\",result=\"delivered\"}"], 6.0);
    for result in ["failed", "rejected", "dropped"] {
        let series = format!("streamgauge_notifications_total{{notifier=\"main\",result=\"{result}\"}}");
        assert_eq!(counted[&series], 0.0, "{result}");
    }
}

fn humantime(alert: &Alert) -> String {
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + alert.starts_at).to_string()
}

#[tokio::test]
async fn every_url_gets_every_alert_and_a_name_with_two_addresses_is_no_trouble() {
    let (Some(first), Some(second)) = (Alertmanager::start().await, Alertmanager::start().await) else {
        return;
    };
    // "localhost" is an address of each family in most places; Alertmanager listens on one of them here.
    let urls = format!("http://localhost:{}', '{}", first.process.address().port(), second.url());
    let running = notifying(&one(&urls));
    running.send(&[changed(&firing("mail")), changed(&firing("audit"))]);
    for alertmanager in [&first, &second] {
        alertmanager.shows(&["audit", "mail"]).await;
    }
    running.until_counted("main", "delivered", 4.0).await;
    assert_eq!(running.counted("main", "failed"), 0.0, "{}", running.log());
}

#[tokio::test]
async fn only_notifiers_that_a_rule_names_are_notified() {
    let (Some(first), Some(second)) = (Alertmanager::start().await, Alertmanager::start().await) else {
        return;
    };
    let list = [("one", &first), ("two", &second)]
        .map(|(name, receiver)| format!("{{name: {name}, alertmanager: {{urls: ['{}']}}}}", receiver.url()));
    let running = notifying(&list.join(", "));
    let named = |names: &[&str], group| {
        let notifiers = names.iter().map(|name| (*name).to_owned()).collect();
        changed(&Alert { notifiers, ..firing(group) })
    };
    running.send(&[
        named(&[], "all"),
        named(&["one"], "a"),
        named(&["two", "three"], "b"),
        named(&["three"], "c"),
    ]);
    first.shows(&["a", "all"]).await;
    second.shows(&["all", "b"]).await;
}

#[tokio::test]
async fn ten_thousand_alerts_that_begin_at_once_all_arrive_and_are_one_message_for_people() {
    let Some(alertmanager) = Alertmanager::start().await else { return };
    let (hook, chat) = (TestReceiver::new().await, TestReceiver::new().await);
    let running = notifying(&format!(
        "{}, {{name: hook, webhook: {{url: 'http://{}'}}}}, {{name: chat, slack: {{webhook_url: 'http://{}'}}}}",
        one(&alertmanager.url()),
        hook.address,
        chat.address
    ));
    let alerts: Vec<_> = (0..10_000).map(|n| changed(&firing(&format!("g{n}")))).collect();
    running.send(&alerts);
    for notifier in ["main", "hook", "chat"] {
        running.until_counted_within(Duration::from_secs(60), notifier, "delivered", 10_000.0).await;
        assert_eq!(running.waiting(notifier), 0.0);
    }
    assert_eq!(alertmanager.alerts().await.len(), 10_000);
    let [to_hook] = &hook.received()[..] else { panic!("not one message") };
    assert_eq!(to_hook.body["alerts"].as_array().unwrap().len(), 20);
    assert_eq!(to_hook.body["truncatedAlerts"], 9_980);
    let [to_chat] = &chat.received()[..] else { panic!("not one message") };
    let attachments = to_chat.body["attachments"].as_array().unwrap();
    let texts: Vec<_> = attachments.iter().map(|attachment| attachment["text"].as_str().unwrap()).collect();
    let [worst, rest] = texts[..] else { panic!("{texts:?}") };
    assert!(worst.starts_with("• ") && worst.contains("\nand 17 more: "), "{worst}");
    assert_eq!(rest, "and 9,980 more");
}

#[tokio::test]
async fn a_path_before_the_api_is_kept() {
    let Some(alertmanager) = Alertmanager::with(SILENT) else { return };
    let mut alertmanager = alertmanager.below("/am/prefix");
    alertmanager.launch().await;
    let running = notifying(&one(&format!("{}/am/prefix/", alertmanager.url())));
    running.send(&[changed(&firing("mail"))]);
    alertmanager.shows(&["mail"]).await;
}

#[tokio::test]
async fn a_login_is_needed_and_a_password_file_that_is_fixed_is_read_again() {
    let Some(alertmanager) = Alertmanager::with(SILENT) else { return };
    let mut alertmanager = alertmanager.guarded(USERS, &[LOGIN]);
    alertmanager.launch().await;
    let file = alertmanager.process.put("password", "not-the-secret\n");
    let with_url = format!("http://gauge:secret@{}", alertmanager.process.address());
    let running = notifying(&format!(
        "{{name: main, alertmanager: {{urls: ['{}'], basic_auth: {{username: gauge, password_file: '{}'}}}}}},
         {{name: other, alertmanager: {{urls: ['{with_url}']}}}}",
        alertmanager.url(),
        file.display()
    ));
    running.send(&[changed(&firing("mail"))]);
    running.until_counted("other", "delivered", 1.0).await;
    running.until_counted("main", "failed", 2.0).await;
    assert_eq!(running.counted("main", "delivered"), 0.0);
    assert!(running.log().contains("answers 401 Unauthorized"), "{}", running.log());
    alertmanager.process.put("password", "secret\n");
    running.until_counted("main", "delivered", 1.0).await;
    assert_eq!(alertmanager.groups().await, ["mail"]);
    assert!(running.log().contains("receiver accepts notifications again"));
    let log = running.log().replace("password", "");
    assert!(!log.contains("secret") && !log.contains("Z2F1Z2U6"), "{log}");
}

#[tokio::test]
async fn a_bad_alert_is_left_out_of_its_batch_and_logged() {
    let Some(alertmanager) = Alertmanager::start().await else { return };
    let running = notifying(&one(&alertmanager.url()));
    let mut alerts: Vec<_> = (0..300).map(|n| firing(&format!("g{n}"))).collect();
    Arc::make_mut(&mut alerts[123].labels).insert("not a label".to_owned(), "x".to_owned());
    running.send(&alerts.iter().map(changed).collect::<Vec<_>>());
    running.until_counted("main", "rejected", 1.0).await;
    running.until_counted("main", "delivered", 299.0).await;
    assert_eq!(running.counted("main", "rejected") + running.counted("main", "delivered"), 300.0);
    assert_eq!(running.counted("main", "failed"), 0.0);
    assert_eq!(alertmanager.alerts().await.len(), 299);
    assert!(running.log().contains("receiver rejected alerts"), "{}", running.log());
    assert!(running.log().contains("g123"), "the alert is named: {}", running.log());
}

#[tokio::test]
async fn alerts_that_alertmanager_lost_in_a_restart_are_sent_again() {
    let Some(mut alertmanager) = Alertmanager::start().await else { return };
    let running = notifying(&one(&alertmanager.url()));
    let (stays, ends) = (firing("stays"), firing("ends"));
    running.send(&[changed(&stays), changed(&ends)]);
    alertmanager.shows(&["ends", "stays"]).await;
    alertmanager.process.kill();
    // What a minute of outage, or hours of it, hands in.
    for _ in 0..100 {
        running.send(&[again(&stays), again(&ends)]);
    }
    running.send(&[changed(&resolved(&ends)), changed(&firing("new"))]);
    running.until_counted("main", "failed", 3.0).await;
    let only_newest_wait = async || running.waiting("main") == 3.0;
    wait_until(SOON, "of each alert the newest state waits", only_newest_wait).await;
    alertmanager.launch().await;
    wait_until(SOON, "nothing waits", async || running.waiting("main") == 0.0).await;
    alertmanager.shows(&["new", "stays"]).await;
    assert_eq!(running.counted("main", "dropped"), 0.0);
}

#[tokio::test]
async fn what_waits_is_sent_at_the_end() {
    let Some(alertmanager) = Alertmanager::start().await else { return };
    let hook = TestReceiver::new().await;
    let running = notifying(&format!(
        "{}, {{name: hook, webhook: {{url: 'http://{}'}}}}",
        one(&alertmanager.url()),
        hook.address
    ));
    running.send(&[changed(&firing("first"))]);
    hook.until_received(1).await;
    let alerts: Vec<_> = (0..3_000).map(|n| changed(&firing(&format!("g{n}")))).collect();
    running.send(&alerts);
    let counted = running.end().await;
    assert_eq!(alertmanager.alerts().await.len(), 3_001);
    assert_eq!(hook.received().len(), 2, "the message that was held back is sent too");
    for notifier in ["main", "hook"] {
        assert_eq!(
            counted[&format!("streamgauge_notification_queue_length{{notifier=\"{notifier}\"}}")],
            0.0
        );
        let series = format!("streamgauge_notifications_total{{notifier=\"{notifier}\",result=\"dropped\"}}");
        assert_eq!(counted[&series], 0.0);
    }
}

#[tokio::test]
async fn alertmanager_s_own_webhook_has_the_same_body() {
    let (ours, theirs) = (TestReceiver::new().await, TestReceiver::new().await);
    let config = format!(
        "route: {{receiver: hook, group_by: [alertname, target], group_wait: 1s}}\n\
         receivers: [{{name: hook, webhook_configs: [{{url: 'http://{}'}}]}}]",
        theirs.address
    );
    let Some(mut alertmanager) = Alertmanager::with(&config) else { return };
    alertmanager.launch().await;
    let running = notifying(&format!(
        "{}, {{name: hook, webhook: {{url: 'http://{}'}}}}",
        one(&alertmanager.url()),
        ours.address
    ));
    let mut odd = firing("größe \\xff \"x\"");
    odd.annotations.clear();
    running.send(&[changed(&firing("audit")), changed(&firing("mail")), changed(&odd)]);
    let [ours, theirs] = [&ours.until_received(1).await[0], &theirs.until_received(1).await[0]]
        .map(|request| request.body.clone());
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&ours), keys(&theirs));
    for key in [
        "receiver",
        "status",
        "version",
        "groupLabels",
        "commonLabels",
        "commonAnnotations",
        "groupKey",
        "truncatedAlerts",
    ] {
        assert_eq!(ours[key], theirs[key], "{key}");
    }
    let by_fingerprint = |body: &serde_json::Value| {
        let mut alerts = body["alerts"].as_array().unwrap().clone();
        for alert in &mut alerts {
            // A fraction of nothing is written by one and not by the other.
            let starts_at = alert["startsAt"].as_str().unwrap().replace(".000Z", "Z");
            alert["startsAt"] = starts_at.into();
        }
        alerts.sort_by_key(|alert| alert["fingerprint"].as_str().unwrap().to_owned());
        alerts
    };
    assert_eq!(by_fingerprint(&ours), by_fingerprint(&theirs));
}

#[tokio::test]
async fn a_token_is_read_from_its_file_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let receiver = TestReceiver::new().await;
    let running = notifying(&format!(
        "{{name: main, alertmanager: {{urls: ['http://{}'], bearer_token_file: '{}'}}}}",
        receiver.address,
        file.display()
    ));
    running.send(&[changed(&firing("mail"))]);
    let first = receiver.until_received(1).await.remove(0);
    assert_eq!(first.head.lines().next(), Some("POST /api/v2/alerts HTTP/1.1"));
    assert_eq!(first.header("authorization"), Some("Bearer first"));
    assert_eq!(first.header("host"), Some(receiver.address.to_string().as_str()));
    assert_eq!(first.header("content-type"), Some("application/json"));
    std::fs::write(&file, "second").unwrap();
    running.send(&[changed(&firing("mail"))]);
    assert_eq!(receiver.until_received(2).await[1].header("authorization"), Some("Bearer second"));

    std::fs::remove_file(&file).unwrap();
    running.send(&[changed(&firing("mail"))]);
    running.until_counted("main", "failed", 1.0).await;
    assert!(running.log().contains(&format!("cannot read {}", file.display())), "{}", running.log());
    std::fs::write(&file, "third").unwrap();
    let received = wait_for(SOON, "the third token", async || {
        receiver.received().get(2).cloned().ok_or("it did not come")
    });
    assert_eq!(received.await.header("authorization"), Some("Bearer third"));
}
