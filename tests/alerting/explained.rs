//! Alerts that others explain, groups that are gone, and reasons: from a real server to a webhook.

use serde_json::Value;

use crate::notifications::SOON;
use crate::support::client::RedisClient;
use crate::support::config::{ConfigFile, serving};
use crate::support::http;
use crate::support::metrics::named;
use crate::support::program::Exporter;
use crate::support::receiver::TestReceiver;
use crate::support::series;
use crate::support::server::Server;
use crate::support::servers::for_each_server;
use crate::support::wait::{wait_for, wait_until};

/// Returns status, name and reason of the alerts in each request.
fn sent(receiver: &TestReceiver) -> Vec<String> {
    let alerts = receiver
        .received()
        .into_iter()
        .flat_map(|request| request.body["alerts"].as_array().expect("a webhook has alerts").clone());
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let line = |alert: Value| {
        let reason = text(&alert["annotations"]["resolved_reason"]);
        format!("{} {}: {reason}", text(&alert["status"]), text(&alert["labels"]["alertname"]))
    };
    alerts.map(line).collect()
}

/// Changes of a notification group are gathered for half a minute.
async fn until_sent(receiver: &TestReceiver, line: &str) {
    wait_for(2 * SOON, line, async || {
        let sent = sent(receiver);
        if sent.iter().any(|found| found == line) { Ok(()) } else { Err(format!("{sent:?}")) }
    })
    .await;
}

/// Returns name and inhibiting alert of each alert on `/api/v1/alerts`.
async fn active(exporter: &Exporter) -> Vec<String> {
    let answer: Value = serde_json::from_str(&exporter.get("/api/v1/alerts").await.text()).unwrap();
    let line = |alert: &Value| {
        let inhibited_by = alert["inhibitedBy"][0].as_str().unwrap_or("-");
        format!("{} {inhibited_by}", alert["labels"]["alertname"].as_str().unwrap())
    };
    answer["data"]["alerts"].as_array().unwrap().iter().map(line).collect()
}

async fn until_active(exporter: &Exporter, alerts: &[&str]) {
    wait_for(SOON, &format!("{alerts:?}"), async || {
        let active = active(exporter).await;
        if active == alerts { Ok(()) } else { Err(format!("{active:?}")) }
    })
    .await;
}

fn config(server: &Server, receiver: &TestReceiver, alerts: &str) -> String {
    format!(
        "poll: {{interval: 200ms, discovery_interval: 200ms}}
web: {{enable_reload: true}}
targets: [{{name: t, url: '{}', streams: [{{key: '*', exclude: [\"x*\"]}}]}}]
alerts:
  notifiers: [{{name: hook, webhook: {{url: 'http://{}'}}}}]
  {alerts}
",
        server.url(),
        receiver.address
    )
}

const BEHIND: &str = "recommended: false
  rules:
    - {alert: Behind, expr: lag > 1, labels: {inhibition: target}}
    - {alert: NoReader, expr: consumers == 0, labels: {inhibition: source}}";

#[tokio::test]
async fn an_inhibited_alert_is_sent_when_its_source_resolves_and_it_still_fires() {
    for_each_server(async |server| {
        let receiver = TestReceiver::new().await;
        let mut client = RedisClient::to(&server).await;
        client.run("XADD orders 1-0 n 1\nXADD orders 2-0 n 2\nXGROUP CREATE orders mail 0").await;
        let exporter = serving(&config(&server, &receiver, BEHIND)).await;
        until_sent(&receiver, "firing NoReader: -").await;
        until_active(&exporter, &["Behind NoReader", "NoReader -"]).await;
        client.run("XGROUP CREATECONSUMER orders mail c").await;
        until_sent(&receiver, "firing Behind: -").await;
        let lines = sent(&receiver);
        assert_eq!(lines[0], "firing NoReader: -", "{lines:?}");
        until_sent(&receiver, "resolved NoReader: the group has a consumer").await;
        until_active(&exporter, &["Behind -"]).await;
        exporter.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_gone_after_it_was_read_is_reported_and_what_was_not_read_or_is_not_selected_is_not() {
    for_each_server(async |server| {
        let receiver = TestReceiver::new().await;
        let mut client = RedisClient::to(&server).await;
        let create =
            |key: &str| format!("XADD {key} 1-0 n 1\nXADD {key} 2-0 n 2\nXGROUP CREATE {key} mail 0\n");
        client.run(&["deleted", "kept", "read", "unread"].map(create).concat()).await;
        let file = ConfigFile::new(&config(&server, &receiver, "recommended: true"));
        let exporter = file.serve().serving().await;
        let pending = async |key: &str| {
            let series = series::group("redis_stream_group_messages_pending", key, "mail");
            exporter.metrics().await.get(&series).copied()
        };
        for key in ["deleted", "kept", "read"] {
            wait_until(SOON, "the group is found", async || pending(key).await == Some(0.0)).await;
            client.run(&format!("XREADGROUP GROUP mail c COUNT 1 STREAMS {key} >")).await;
            wait_until(SOON, "the delivery is seen", async || pending(key).await == Some(1.0)).await;
        }
        wait_until(SOON, "the group is found", async || pending("unread").await == Some(0.0)).await;
        file.put("config.yaml", &config(&server, &receiver, "recommended: true").replace("x*", "kept"));
        assert_eq!(http::post(exporter.address, "/-/reload").await.status.as_u16(), 200);
        wait_until(SOON, "the stream is dropped", async || pending("kept").await.is_none()).await;
        client.run("XGROUP DESTROY read mail\nXGROUP DESTROY unread mail\nDEL deleted").await;
        wait_until(SOON, "the groups are gone", async || pending("deleted").await.is_none()).await;
        wait_until(SOON, "the groups are gone", async || pending("unread").await.is_none()).await;
        until_active(&exporter, &["RedisStreamGroupGone -", "RedisStreamGroupGone -"]).await;
        let gone = named(&exporter.metrics().await, "redis_stream_group_gone");
        let expected = ["deleted", "read"].map(|key| series::group("redis_stream_group_gone", key, "mail"));
        assert_eq!(gone.into_keys().collect::<Vec<_>>(), expected);
        client.run("XGROUP CREATE read mail 1-0").await;
        until_active(&exporter, &["RedisStreamGroupGone -"]).await;
        until_sent(&receiver, "resolved RedisStreamGroupGone: the group is back").await;
        exporter.stop().await;
    })
    .await;
}

#[tokio::test]
async fn dead_letters_that_are_added_are_reported_for_the_configured_streams_and_no_others() {
    for_each_server(async |server| {
        let receiver = TestReceiver::new().await;
        let mut client = RedisClient::to(&server).await;
        client.run("XADD orders * n 1\nXADD orders:dead 1700000000000-0 n 1\nXGROUP CREATE new:dead g 0 MKSTREAM").await;
        let alerts = "recommended: true\n  dead_letters: ['*:dead', failed]";
        let exporter = serving(&config(&server, &receiver, alerts)).await;
        wait_until(SOON, "the streams are found", async || {
            named(&exporter.metrics().await, "redis_stream_length").len() == 3
        })
        .await;
        // An old letter, and a stream without any.
        until_active(&exporter, &[]).await;
        client.run("XADD orders:dead * n 2\nXADD failed * n 1").await;
        until_active(&exporter, &["RedisStreamDeadLetters -", "RedisStreamDeadLetters -"]).await;
        client.run("XTRIM failed MAXLEN 0").await;
        until_active(&exporter, &["RedisStreamDeadLetters -"]).await;
        client.run("XTRIM orders:dead MAXLEN 0").await;
        until_active(&exporter, &[]).await;
        exporter.stop().await;
    })
    .await;
}
