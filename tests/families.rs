//! Families of streams on real servers: one set of series for all of them.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use support::client::RedisClient;
use support::config::{ConfigFile, QUICK, serving};
use support::http;
use support::metrics::{Metrics, named};
use support::program::Exporter;
use support::receiver::{OK, TestReceiver};
use support::series::{group, stream};
use support::server::Server;
use support::servers::newest;
use support::wait::wait_for;

const SOON: Duration = Duration::from_secs(60);
const ADDED: &str = "redis_stream_entries_added_total";
const LOST: &str = "redis_stream_group_entries_lost_total";

fn config(server: &Server, streams: &str) -> String {
    format!("{QUICK}targets: [{{name: t, url: '{}', streams: [{streams}]}}]", server.url())
}

/// Waits until these series have these values, and returns all.
async fn metrics_with(exporter: &Exporter, expected: &[(String, f64)]) -> Metrics {
    wait_for(SOON, "the values", async || {
        let metrics = exporter.metrics().await;
        let wrong: Vec<_> = expected
            .iter()
            .filter(|(series, value)| metrics.get(series) != Some(value))
            .map(|(series, value)| format!("{series} is {:?} for {value}", metrics.get(series)))
            .collect();
        if wrong.is_empty() { Ok(metrics) } else { Err(wrong.join("\n")) }
    })
    .await
}

fn streams(count: f64) -> (String, f64) {
    (stream("redis_stream_family_streams", "rooms"), count)
}

/// Names and labels of all series of a stream, with another key.
fn series_of(metrics: &Metrics, key: &str) -> BTreeSet<String> {
    let label = format!("stream=\"{key}\"");
    metrics.keys().filter(|series| series.contains(&label)).map(|series| series.replace(&label, "")).collect()
}

#[tokio::test]
async fn ten_thousand_streams_in_one_family_have_the_series_of_one() {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    let script = "for n = 1, 10000 do redis.call('XADD', 'room:' .. n, '*', 'n', n) \
        redis.call('XGROUP', 'CREATE', 'room:' .. n, 'g', '$') end";
    let _: redis::Value = client.ask(&["EVAL", script, "0"]).await;
    client.run("XADD one * n 1\nXGROUP CREATE one g $").await;
    let exporter = serving(&format!(
        "poll: {{interval: 20s, timeout: 19s, stale_after: 120s, discovery_interval: 1s}}\n\
         targets: [{{name: t, url: '{}', streams: [{{key: one}}, {{key: 'room:*', as: rooms}}]}}]",
        server.url()
    ))
    .await;
    let expected = [
        streams(10_000.0),
        (stream("redis_stream_length", "rooms"), 10_000.0),
        (group("redis_stream_group_lag", "rooms", "g"), 0.0),
        (group("redis_stream_group_status", "rooms", "g").replace('}', ",status=\"ok\"}"), 1.0),
        (group("redis_stream_family_groups", "rooms", "g").replace('}', ",status=\"ok\"}"), 10_000.0),
    ];
    let metrics = metrics_with(&exporter, &expected).await;
    let mut of_family = series_of(&metrics, "rooms");
    of_family.retain(|series| !series.starts_with("redis_stream_family_"));
    assert_eq!(of_family, series_of(&metrics, "one"));
    assert!(metrics.keys().all(|series| !series.contains("room:")), "a stream of the family has series");
    exporter.stop().await;
}

#[tokio::test]
async fn counters_of_a_family_never_fall_while_its_streams_come_and_go() {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    for room in 1..=3 {
        client
            .run(&format!("XADD room:{room} * n 1\nXADD room:{room} * n 2\nXGROUP CREATE room:{room} g 0"))
            .await;
    }
    let exporter = serving(&config(&server, "{key: 'room:*', as: rooms}")).await;
    let (added, lost) = (stream(ADDED, "rooms"), group(LOST, "rooms", "g"));
    let lag = group("redis_stream_group_lag", "rooms", "g");
    let counters =
        [added.clone(), lost.clone(), group("redis_stream_group_entries_delivered_total", "rooms", "g")];
    let mut before = metrics_with(&exporter, &[streams(3.0), (added.clone(), 0.0), (lag.clone(), 6.0)]).await;
    for (commands, members, entries, undelivered, removed) in [
        ("XADD room:1 * n 3", 3.0, 1.0, 7.0, 0.0),
        ("XREADGROUP GROUP g c COUNT 1 STREAMS room:1 >", 3.0, 1.0, 6.0, 0.0),
        ("DEL room:1", 2.0, 1.0, 4.0, 0.0),
        ("XADD room:1 * n 1\nXGROUP CREATE room:1 g 0", 3.0, 2.0, 5.0, 0.0),
        ("PEXPIRE room:2 1", 2.0, 2.0, 3.0, 0.0),
        ("XTRIM room:3 MAXLEN 0", 2.0, 2.0, 1.0, 2.0),
        ("XGROUP DESTROY room:3 g", 2.0, 2.0, 1.0, 2.0),
        ("DEL room:3\nXADD room:4 * n 1\nXGROUP CREATE room:4 g $", 2.0, 3.0, 1.0, 2.0),
    ] {
        client.run(commands).await;
        let expected =
            [streams(members), (added.clone(), entries), (lag.clone(), undelivered), (lost.clone(), removed)];
        let after = metrics_with(&exporter, &expected).await;
        for counter in &counters {
            assert!(after.get(counter) >= before.get(counter), "{counter} fell after {commands}");
        }
        before = after;
    }
    exporter.stop().await;
}

#[tokio::test]
async fn a_family_has_a_backlog_a_page_a_probe_and_alerts_that_name_the_worst_stream() {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    for (room, entries) in [(1, 1), (2, 5), (3, 2)] {
        for n in 0..entries {
            client.run(&format!("XADD room:{room} * n {n}")).await;
        }
        client.run(&format!("XGROUP CREATE room:{room} g 0")).await;
    }
    let receiver = TestReceiver::answering(OK).await;
    let rule = format!(
        "alerts: {{recommended: false, rules: [{{alert: Behind, expr: lag > 7, stream: rooms}}], \
         notifiers: [{{name: hook, webhook: {{url: 'http://{}'}}}}]}}\n",
        receiver.address,
    );
    let exporter = serving(&format!("{rule}{}", config(&server, "{key: 'room:*', as: rooms}"))).await;
    metrics_with(&exporter, &[streams(3.0), (group("redis_stream_group_lag", "rooms", "g"), 8.0)]).await;
    let json =
        async |path: &str| -> Value { serde_json::from_str(&exporter.get(path).await.text()).unwrap() };

    let backlog = json("/api/v1/backlog?stream=rooms&group=g").await;
    assert_eq!(backlog, serde_json::json!({"backlog": 8, "lag": 8, "messages_pending": 0}));
    let missing = exporter.get("/api/v1/backlog?stream=rooms&group=none").await;
    assert_eq!(
        (missing.status.as_u16(), missing.text().as_str()),
        (404, "no stream of family rooms has a group none\n")
    );
    let all = json("/api/v1/backlog?stream=rooms&group=none&missing=length").await;
    assert_eq!(all["backlog"], 8);

    let groups = json("/api/v1/groups?stream=rooms").await;
    let members = groups["groups"].as_array().unwrap().iter();
    let members: BTreeSet<_> =
        members.map(|group| format!("{} of {}", group["stream"], group["family"])).collect();
    let expected = [1, 2, 3].map(|room| format!("\"room:{room}\" of \"rooms\""));
    assert_eq!(members, BTreeSet::from(expected));
    assert_eq!(exporter.get("/api/v1/probe?stream=rooms&fail=losing").await.text(), "ok: 3 groups\n");

    let page = exporter.get("/groups/t/db0/rooms/g").await;
    assert!(page.status.as_u16() == 200 && page.text().contains("room:2"), "{}", page.text());

    let received = receiver.until_received(1).await;
    let alert = &received[0].body["alerts"][0];
    let shown = (&alert["labels"]["stream"], &alert["annotations"]["worst_stream"]);
    assert_eq!(shown, (&"rooms".into(), &"room:2".into()), "{alert}");
    exporter.stop().await;
}

#[tokio::test]
async fn a_reload_makes_a_family_of_streams_and_takes_it_apart() {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    for room in 1..=2 {
        client.run(&format!("XADD room:{room} * n 1\nXGROUP CREATE room:{room} g 0")).await;
    }
    let with = |streams: &str| format!("web: {{enable_reload: true}}\n{}", config(&server, streams));
    let file = ConfigFile::new(&with("{key: 'room:*'}"));
    let exporter = file.serve().serving().await;
    let keys = async |expected: &[&str]| {
        wait_for(SOON, "the series", async || {
            let found = named(&exporter.metrics().await, "redis_stream_group_lag");
            let expected: Vec<_> =
                expected.iter().map(|key| group("redis_stream_group_lag", key, "g")).collect();
            if found.keys().eq(&expected) { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    };
    keys(&["room:1", "room:2"]).await;
    for (streams, expected) in [
        ("{key: 'room:*', as: rooms}", &["rooms"][..]),
        ("{key: 'room:1', as: halls}, {key: 'room:*', as: rooms}", &["halls", "rooms"]),
        ("{key: 'room:*'}", &["room:1", "room:2"]),
    ] {
        file.put("config.yaml", &with(streams));
        let reply = http::post(exporter.address, "/-/reload").await;
        assert_eq!(reply.text(), "reloaded\n");
        keys(expected).await;
    }
    exporter.stop().await;
}

#[tokio::test]
async fn shards_each_have_the_family_of_their_streams() {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    let rooms: String = (0..40).map(|room| format!("XADD room:{room} * n 1\n")).collect();
    client.run(&rooms).await;
    let file = ConfigFile::new(&config(&server, "{key: 'room:*', as: rooms}"));
    let mut exporters = Vec::new();
    for shard in ["0/2", "1/2"] {
        exporters.push(file.serve().args(["--shard", shard]).serving().await);
    }
    wait_for(SOON, "all streams", async || {
        let mut lengths = Vec::new();
        for exporter in &exporters {
            let metrics = exporter.metrics().await;
            lengths.push(metrics.get(&stream("redis_stream_length", "rooms")).copied().unwrap_or(0.0));
        }
        let is_shared = lengths.iter().all(|length| *length > 0.0);
        if is_shared && lengths.iter().sum::<f64>() == 40.0 { Ok(()) } else { Err(format!("{lengths:?}")) }
    })
    .await;
}
