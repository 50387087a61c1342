//! Connections that a server, a proxy or an administrator closes between two polls.

use std::time::Duration;

use tokio::time::sleep;

use crate::support::client::RedisClient;
use crate::support::config::serving;
use crate::support::series::{TARGET_UP, errors, group, polls};
use crate::support::server::Server;
use crate::support::servers::{for_each_program, newest};
use crate::support::wait::wait_for;
use crate::support::watch::{count, log_changes, until_within};

const SOON: Duration = Duration::from_secs(30);

const ENTRIES: u64 = 30_000;

/// A stream whose group stands in the middle, and cannot be placed without counting: an entry was deleted above it.
async fn with_group_in_the_middle(server: &Server) {
    let mut client = RedisClient::to(server).await;
    let mut lines = String::new();
    for entry in 1..=ENTRIES {
        lines.push_str(&format!("XADD s {entry}-0 f v\n"));
    }
    lines.push_str("XGROUP CREATE s g 10000-0\nXDEL s 20000-0\n");
    client.run(&lines).await;
}

#[tokio::test]
async fn a_connection_that_is_closed_while_idle_is_opened_again_within_the_same_poll() {
    for_each_program(async |program| {
        let server = Server::start(program, &["--timeout", "1"]).await;
        with_group_in_the_middle(&server).await;
        // A third of what must be counted in each poll: exact only if earlier counts stay.
        let exporter = serving(&format!(
            "poll: {{interval: 2500ms, timeout: 2s, discovery_interval: 1m, count_budget: 7000}}\n\
             targets: [{{name: t, url: '{}'}}]",
            server.url()
        ))
        .await;
        let lag = group("redis_stream_group_lag", "s", "g");
        let found = until_within(SOON, &exporter, "an exact lag", |metrics| {
            metrics.get(&lag) == Some(&(ENTRIES as f64 - 10_001.0))
        })
        .await;
        assert!(found[&polls("ok")] >= 3.0, "it took several polls");
        assert_eq!((found[TARGET_UP], found[&errors("io")], found[&polls("failed")]), (1.0, 0.0, 0.0));
        let log_changes = log_changes(&exporter);
        assert_eq!(count(&log_changes, "connected"), 1, "{log_changes:#?}");
        assert_eq!(count(&log_changes, "WARN"), 0, "{log_changes:#?}");
    })
    .await;
}

#[tokio::test]
async fn a_connection_is_kept_alive_between_polls_that_are_far_apart() {
    let server = Server::start(newest(), &["--timeout", "20"]).await;
    RedisClient::to(&server).await.run("XADD s * f v\nXGROUP CREATE s g 0").await;
    let exporter = serving(&format!(
        "poll: {{interval: 1h, timeout: 2s}}\ntargets: [{{name: t, url: '{}', streams: [{{key: s}}]}}]",
        server.url()
    ))
    .await;
    until_within(SOON, &exporter, "a poll", |metrics| metrics[&polls("ok")] >= 1.0).await;
    let connections = async || -> String {
        let mut client = RedisClient::to(&server).await;
        let list: String = client.ask(&["CLIENT", "LIST"]).await;
        let ours = list.lines().filter(|line| !line.contains("cmd=client")).map(|line| {
            line.split(' ').find(|field| field.starts_with("id=")).unwrap_or_default().to_owned()
        });
        ours.collect::<Vec<_>>().join(" ")
    };
    let before = connections().await;
    assert!(!before.is_empty());
    // Longer than the server's timeout.
    sleep(Duration::from_secs(30)).await;
    assert_eq!(connections().await, before);
}

#[tokio::test]
async fn what_was_counted_is_counted_again_if_another_process_answers() {
    let mut server = Server::start(newest(), &["--appendonly", "yes"]).await;
    with_group_in_the_middle(&server).await;
    let exporter = serving(&format!(
        "poll: {{interval: 500ms, timeout: 400ms, count_budget: 40000}}\ntargets: [{{name: t, url: '{}'}}]",
        server.url()
    ))
    .await;
    let (lag, counted) =
        (group("redis_stream_group_lag", "s", "g"), r#"streamgauge_counted_entries_total{target="t"}"#);
    let known = |expected: f64| {
        let lag = lag.clone();
        move |metrics: &crate::support::metrics::Metrics| metrics.get(&lag) == Some(&expected)
    };
    let before =
        until_within(SOON, &exporter, "an exact lag", known(ENTRIES as f64 - 10_001.0)).await[counted];
    let mut client = RedisClient::to(&server).await;

    client.run("CLIENT KILL TYPE normal SKIPME yes").await;
    let polled = exporter.metrics().await[&polls("ok")];
    let kept = until_within(SOON, &exporter, "polls over another connection", |metrics| {
        metrics[&polls("ok")] >= polled + 3.0 && metrics.contains_key(&lag)
    })
    .await;
    assert_eq!(kept[counted], before, "the same process: nothing is counted again");

    server.restart().await;
    let again = wait_for(SOON, "a new count", async || {
        let metrics = exporter.metrics().await;
        if metrics[counted] > before && metrics.contains_key(&lag) { Ok(metrics) } else { Err("not yet") }
    })
    .await;
    assert_eq!(again[&lag], ENTRIES as f64 - 10_001.0);
}
