//! Alerts from outside, on real servers: how they begin, hold, resolve and outlast the program.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

mod support;

use support::client::RedisClient;
use support::config::{ConfigFile, QUICK};
use support::metrics::named;
use support::program::Exporter;
use support::server::Server;
use support::servers::{for_each_server, newest};
use support::wait::{wait_for, wait_until};

const SOON: Duration = Duration::from_secs(15);

/// Returns state, name and group of each alert on `/api/v1/alerts`, in their order.
async fn shown(exporter: &Exporter) -> Vec<String> {
    let text = exporter.get("/api/v1/alerts").await.text();
    let answer: Value = serde_json::from_str(&text).expect("the answer is JSON");
    assert_eq!(answer["status"], "success");
    let label = |alert: &Value, name: &str| alert["labels"][name].as_str().unwrap_or("-").to_owned();
    let shown = |alert: &Value| {
        let state = alert["state"].as_str().expect("it has a state");
        format!("{state} {} {}", label(alert, "alertname"), label(alert, "group"))
    };
    let mut shown: Vec<_> = answer["data"]["alerts"].as_array().expect("a list").iter().map(shown).collect();
    shown.sort_unstable();
    shown
}

async fn wait_for_alerts(exporter: &Exporter, expected: &[&str]) {
    wait_for(SOON, "these alerts are shown", async || {
        let shown = shown(exporter).await;
        if shown == expected { Ok(()) } else { Err(format!("{shown:?}, not {expected:?}")) }
    })
    .await;
}

fn config(server: &Server, alerts: &str) -> ConfigFile {
    ConfigFile::new(&format!(
        "{QUICK}targets: [{{name: t, url: '{}', labels: {{team: x}}, streams: [{{key: s}}, {{key: '*'}}]}}]
alerts:
  recommended: false
  {alerts}",
        server.url()
    ))
}

#[tokio::test]
async fn an_alert_begins_and_resolves_with_what_it_is_about() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        client.run("XADD s * f v\nXADD s * f v\nXGROUP CREATE s a 0\nXGROUP CREATE s b 0\nXGROUP CREATE s c $").await;
        let config = config(
            &server,
            r#"rules:
    - alert: Behind
      expr: lag >= 2
      group: "[ac]"
      labels: {severity: page}
      annotations: {summary: "{{ $labels.team }}: {{ $labels.group }} is {{ $value }} behind"}
    - {alert: Waiting, expr: lag >= 2, group: b, for: 1h}
    - {alert: Short, expr: length < 10, stream: s}
    - {alert: Up, expr: target_up == 1, target: "?"}
    - {alert: Elsewhere, expr: target_up == 1, target: u}
"#,
        );
        let exporter = config.serve().serving().await;
        wait_for_alerts(&exporter, &["firing Behind a", "firing Short -", "firing Up -", "pending Waiting b"]).await;
        let answer = exporter.get("/api/v1/alerts").await;
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let answer: Value = serde_json::from_str(&answer.text()).expect("it is JSON");
        let behind = &answer["data"]["alerts"][0];
        assert_eq!(
            behind["labels"],
            serde_json::json!({"alertname": "Behind", "target": "t", "db": "db0", "stream": "s", "group": "a",
                               "team": "x", "severity": "page"})
        );
        assert_eq!(behind["annotations"], serde_json::json!({"summary": "x: a is 2 behind"}));
        assert_eq!(behind["value"], "2e+00");
        let since = behind["activeAt"].as_str().expect("it has a time");
        humantime::parse_rfc3339(since).expect("the time is one of RFC 3339");
        let expected = [
            r#"streamgauge_alerts{alertname="Behind",alertstate="firing",db="db0",group="a",severity="page",stream="s",target="t",team="x"} 1"#,
            r#"streamgauge_alerts{alertname="Short",alertstate="firing",db="db0",stream="s",target="t",team="x"} 1"#,
            r#"streamgauge_alerts{alertname="Up",alertstate="firing",target="t",team="x"} 1"#,
            r#"streamgauge_alerts{alertname="Waiting",alertstate="pending",db="db0",group="b",stream="s",target="t",team="x"} 1"#,
        ];
        wait_for(SOON, "the alerts are series", async || {
            let metrics = named(&exporter.metrics().await, "streamgauge_alerts");
            let lines: Vec<_> = metrics.iter().map(|(series, value)| format!("{series} {value}")).collect();
            if lines == expected { Ok(()) } else { Err(lines.join("\n")) }
        })
        .await;

        // One reads, one is destroyed, another falls behind; then the stream is gone.
        client.run("XREADGROUP GROUP a one COUNT 1 STREAMS s >\nXGROUP DESTROY s b\nXGROUP SETID s c 0").await;
        wait_for_alerts(&exporter, &["firing Behind c", "firing Short -", "firing Up -"]).await;
        client.run("DEL s").await;
        wait_for_alerts(&exporter, &["firing Up -"]).await;
        let finished = exporter.stop().await;
        assert!(finished.stderr.contains("alerts began to fire"), "{}", finished.stderr);
        assert!(finished.stderr.contains("alerts resolved"), "{}", finished.stderr);
    })
    .await;
}

#[tokio::test]
async fn an_alert_holds_while_its_target_cannot_be_read_and_no_longer_than_that() {
    let mut server = Server::start(newest(), &[]).await;
    RedisClient::to(&server).await.run("XADD s * f v\nXGROUP CREATE s g 0").await;
    let rules = "rules: [{alert: Behind, expr: lag > 0}, {alert: Waiting, expr: lag > 0, for: 1h}, {alert: Down, expr: target_up == 0}]\n";
    let long = config(&server, &format!("hold: 1h\n  {rules}")).serve().serving().await;
    let short = config(&server, &format!("hold: 1s\n  {rules}")).serve().serving().await;
    for exporter in [&long, &short] {
        wait_for_alerts(exporter, &["firing Behind g", "pending Waiting g"]).await;
    }
    server.kill();
    // The report is too old to be served by then, the alerts are not.
    wait_until(SOON, "the series are gone", async || {
        named(&long.metrics().await, "redis_stream_group_lag").is_empty()
    })
    .await;
    wait_for_alerts(&long, &["firing Behind g", "firing Down -", "pending Waiting g"]).await;
    wait_for_alerts(&short, &["firing Down -"]).await;
    // Without a file all is gone in a server that comes back.
    server.restart().await;
    wait_for_alerts(&long, &[]).await;
    for exporter in [long, short] {
        exporter.stop().await;
    }
}

fn kill(exporter: &Exporter) {
    let pid = Pid::from_raw(exporter.pid().cast_signed()).expect("it is a process");
    kill_process(pid, Signal::KILL).expect("it can be killed");
}

#[tokio::test]
async fn alerts_outlast_the_program() {
    let server = Server::start(newest(), &[]).await;
    RedisClient::to(&server).await.run("XADD s * f v\nXGROUP CREATE s g 0").await;
    let config = config(
        &server,
        "state_file: alerts.json
  rules: [{alert: Firing, expr: lag > 0}, {alert: Pending, expr: lag > 0, for: 6s}, {alert: Long, expr: lag > 0, for: 1h}]\n",
    );
    let file = config.path().with_file_name("alerts.json");
    let saved = async |what: &str, is_so: &dyn Fn(&str) -> bool| {
        wait_until(SOON, what, async || std::fs::read_to_string(&file).is_ok_and(|text| is_so(&text))).await;
    };
    let before = config.serve().serving().await;
    saved("all alerts are in the file", &|text| text.matches("active_at").count() == 3).await;
    let active_at = |text: &str| -> Vec<Value> {
        let answer: Value = serde_json::from_str(text).expect("the answer is JSON");
        answer["data"]["alerts"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|alert| alert["activeAt"].clone())
            .collect()
    };
    let began = active_at(&before.get("/api/v1/alerts").await.text());
    kill(&before);
    drop(before);

    let after = config.serve().serving().await;
    wait_for_alerts(&after, &["firing Firing g", "firing Pending g", "pending Long g"]).await;
    assert_eq!(active_at(&after.get("/api/v1/alerts").await.text()), began, "all hold since then");
    let finished = after.stop().await;
    assert_eq!(finished.stderr.matches("alerts began to fire").count(), 1, "{}", finished.stderr);
    assert!(finished.stderr.contains("alert=\"Pending\""), "{}", finished.stderr);

    // A file that cannot be used is named, and alerts start from scratch.
    let old = "{\"version\":1,\"saved_at\":{\"secs\":1,\"nanos\":0},\"alerts\":[],\"receivers\":{}}";
    for text in ["{\"version\":1,", "{\"version\":0}", old] {
        std::fs::write(&file, text).expect("it can be written");
        let restarted = config.serve().serving().await;
        wait_for_alerts(&restarted, &["firing Firing g", "pending Long g", "pending Pending g"]).await;
        assert!(
            restarted.stderr().contains("state file not used; alerts start without their history"),
            "{}",
            restarted.stderr()
        );
        assert_ne!(active_at(&restarted.get("/api/v1/alerts").await.text()), began);
        let finished = restarted.stop().await;
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        // It was written once more at the end.
        saved("all alerts are in the file", &|text| text.matches("active_at").count() == 3).await;
    }
}

/// The JSON of the only group.
async fn only_group(exporter: &Exporter) -> Option<Value> {
    let answer: Value = serde_json::from_str(&exporter.get("/api/v1/groups").await.text()).ok()?;
    answer["groups"].get(0).cloned()
}

#[tokio::test]
async fn the_rhythm_of_a_group_and_the_time_since_which_it_has_a_condition_outlast_the_program() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        client.run("XGROUP CREATE s g $ MKSTREAM").await;
        let config = ConfigFile::new(&format!(
            "{QUICK}status: {{window: 3s}}
targets: [{{name: t, url: '{}', streams: [s]}}]
alerts: {{recommended: false, state_file: state.json}}
",
            server.url()
        ));
        let waits = |group: &Value, least: f64| group["lag_seconds"].as_f64().is_some_and(|age| age > least);
        let is_dead = |group: &Value| group["status"] == "abandoned";

        // It pauses for longer than a window, and reads everything then.
        let exporter = config.serve().serving().await;
        wait_until(SOON, "it was polled", async || only_group(&exporter).await.is_some()).await;
        client.run("XADD s * f v").await;
        let paused = async || only_group(&exporter).await.is_some_and(|group| waits(&group, 5.0));
        wait_until(SOON, "it pauses", paused).await;
        client.run("XREADGROUP GROUP g c STREAMS s >\nXACK s g 0-1").await;
        let caught_up = async || only_group(&exporter).await.is_some_and(|group| group["lag"] == 0);
        wait_until(SOON, "it has caught up", caught_up).await;
        assert_eq!(exporter.stop().await.code, Some(0));

        let exporter = config.serve().serving().await;
        wait_until(SOON, "it was polled", async || only_group(&exporter).await.is_some()).await;
        client.run("XADD s * f v").await;
        let paused = async || {
            let group = only_group(&exporter).await.expect("it is there");
            assert!(!is_dead(&group) || waits(&group, 8.0), "a usual pause: {group}");
            waits(&group, 4.5)
        };
        wait_until(SOON, "it pauses again", paused).await;
        wait_until(SOON, "it is dead", async || only_group(&exporter).await.is_some_and(|one| is_dead(&one)))
            .await;
        let since = only_group(&exporter).await.expect("it is there")["since"].clone();
        assert_eq!(exporter.stop().await.code, Some(0));

        let exporter = config.serve().serving().await;
        wait_until(SOON, "it is dead", async || only_group(&exporter).await.is_some_and(|one| is_dead(&one)))
            .await;
        assert_eq!(only_group(&exporter).await.expect("it is there")["since"], since);
        exporter.stop().await;
    })
    .await;
}
