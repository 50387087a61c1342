//! Entries that come and go, what holds a stream, and groups that come and go, as `/metrics` shows them of real servers.

mod support;

use std::time::Duration;

use serde_json::Value;

use support::client::RedisClient;
use support::config::serving;
use support::metrics::Metrics;
use support::program::Exporter;
use support::series::{group, polls, status, stream};
use support::server::Server;
use support::servers::{Program, ServerKind, for_each_server};
use support::wait::wait_for;

const SOON: Duration = Duration::from_secs(30);
const POLL: &str = "poll: {interval: 300ms, timeout: 290ms, stale_after: 5s, discovery_interval: 300ms}
status: {window: 2s}\n";

async fn watched(server: &Server, streams: &str) -> Exporter {
    serving(&format!("{POLL}targets: [{{name: t, url: '{}', streams: [{streams}]}}]", server.url())).await
}

/// Waits until two more polls have ended and these series have these values; `None` is a series that is absent.
async fn until(exporter: &Exporter, what: &str, expected: &[(String, Option<f64>)]) -> Metrics {
    let done = |metrics: &Metrics| metrics.get(&polls("ok")).copied().unwrap_or(0.0);
    let before = done(&exporter.metrics().await);
    wait_for(SOON, what, async || {
        let metrics = exporter.metrics().await;
        let wrong: Vec<_> = expected
            .iter()
            .map(|(series, value)| (series, *value, metrics.get(series).copied()))
            .filter(|(_, value, found)| value != found)
            .collect();
        let is_new = done(&metrics) >= before + 2.0;
        if is_new && wrong.is_empty() {
            Ok(metrics)
        } else {
            Err(format!("{wrong:?}, {}", exporter.stderr()))
        }
    })
    .await
}

fn counts_added(program: &Program) -> bool {
    program.kind != ServerKind::Redis || program.version >= (7, 0, 0)
}

#[tokio::test]
async fn what_is_delivered_and_acknowledged_is_counted_and_never_falls() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        client.run(&"XADD s * f v\n".repeat(100)).await;
        client.run("XGROUP CREATE s g 0").await;
        let exporter = watched(&server, "s").await;
        let of =
            |name: &str, value: f64| (group(&format!("redis_stream_group_{name}"), "s", "g"), Some(value));
        let counted = |delivered: f64, acknowledged: f64, backlog: f64| {
            let known = counts_added(server.program());
            let counter = |name: &str, value: f64| (of(name, value).0, Some(value).filter(|_| known));
            [
                counter("entries_delivered_total", delivered),
                counter("entries_acknowledged_total", acknowledged),
                of("backlog", backlog),
            ]
        };
        until(&exporter, "it was first seen", &counted(0.0, 0.0, 100.0)).await;
        client.run("XREADGROUP GROUP g c COUNT 40 STREAMS s >").await;
        until(&exporter, "40 are delivered", &counted(40.0, 0.0, 100.0)).await;
        let entries: Vec<(String, redis::Value)> = client.ask(&["XRANGE", "s", "-", "+"]).await;
        for (id, _) in &entries[..10] {
            client.run(&format!("XACK s g {id}")).await;
        }
        until(&exporter, "10 are acknowledged", &counted(40.0, 10.0, 90.0)).await;
        client.run("XGROUP SETID s g 0").await;
        until(&exporter, "it is set back", &counted(40.0, 10.0, 130.0)).await;
        client.run("XREADGROUP GROUP g c COUNT 100 NOACK STREAMS s >").await;
        let found = until(&exporter, "all are delivered again", &counted(140.0, 110.0, 30.0)).await;
        assert_eq!(found[&of("drain_seconds", 0.0).0], 0.0);
        let rate = found.get(&of("delivered_per_second", 0.0).0).copied();
        assert!(rate.is_none_or(|rate| rate >= 0.0), "{rate:?}");
        client.run("DEL s\nXADD s * f v\nXGROUP CREATE s g 0").await;
        until(&exporter, "the stream is another one", &counted(140.0, 110.0, 1.0)).await;
    })
    .await;
}

#[tokio::test]
async fn a_lag_that_shrinks_is_gone_after_a_while() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        client.run(&"XADD s * f v\n".repeat(2_000)).await;
        client.run("XGROUP CREATE s g 0").await;
        let exporter = watched(&server, "s").await;
        let drain = group("redis_stream_group_drain_seconds", "s", "g");
        let lag = group("redis_stream_group_lag", "s", "g");
        wait_for(SOON, "it shrinks", async || {
            client.run("XREADGROUP GROUP g c COUNT 20 NOACK STREAMS s >\nXADD s * f v").await;
            let found = exporter.metrics().await;
            let is_known = found.get(&drain).is_some_and(|time| *time > 0.0);
            if is_known { Ok(()) } else { Err(format!("{:?}", found.get(&lag))) }
        })
        .await;
    })
    .await;
}

async fn listing(exporter: &Exporter) -> Value {
    serde_json::from_str(&exporter.get("/api/v1/groups").await.text()).expect("the answer is JSON")
}

#[tokio::test]
async fn the_group_that_needs_the_oldest_entry_holds_the_stream() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        client.run(&"XADD s * f v\n".repeat(10)).await;
        client.run("XGROUP CREATE s a 0\nXGROUP CREATE s b 0").await;
        client.run("XREADGROUP GROUP a c COUNT 6 NOACK STREAMS s >").await;
        client.run("XREADGROUP GROUP b c COUNT 4 STREAMS s >").await;
        let entries: Vec<(String, redis::Value)> = client.ask(&["XRANGE", "s", "-", "+"]).await;
        client.run(&format!("XACK s b {} {}", entries[0].0, entries[1].0)).await;
        let exporter = watched(&server, "s").await;
        let others = watched(&server, "{key: s, groups: {exclude: [b]}}").await;
        let trimmable = |entries| (stream("redis_stream_trimmable_entries", "s"), entries);
        let held_by = |name: &str, is_held| (group("redis_stream_held_by_info", "s", name), is_held);
        let held = [trimmable(Some(2.0)), held_by("b", Some(1.0)), held_by("a", None)];
        until(&exporter, "the pending entry is needed", &held).await;
        until(&others, "a group is not read", &[trimmable(None), held_by("a", None)]).await;

        let json = listing(&exporter).await;
        let holds =
            json["groups"].as_array().unwrap().iter().find(|group| group["group"] == "b").unwrap()["holds"]
                .clone();
        let (port, min_id) = (server.port(), &entries[2].0);
        let command = format!("redis-cli -h 127.0.0.1 -p {port} XTRIM s MINID '~' {min_id}");
        assert_eq!(holds["trim_command"].as_str(), Some(&*command), "{json:#}");
        assert_eq!(
            (&holds["waits_for"], &holds["trimmable_entries"]),
            (&"acknowledgement".into(), &2.into())
        );
        let page = exporter.get("/groups/t/db0/s/a").await.text();
        assert!(page.contains(&format!("XTRIM s MINID '~' {}", entries[2].0)), "{page}");

        client.run(&format!("XTRIM s MINID = {}", entries[2].0)).await;
        until(&exporter, "nothing more can go", &[trimmable(Some(0.0)), held_by("b", Some(1.0))]).await;
        client.run(&format!("XTRIM s MINID = {}", entries[5].0)).await;
        let undelivered = [trimmable(Some(0.0)), held_by("b", Some(1.0))];
        until(&exporter, "what is pending is gone, and what was not delivered is needed", &undelivered).await;
        client.run("XREADGROUP GROUP b c NOACK STREAMS s >").await;
        until(&exporter, "the other is behind", &[trimmable(Some(1.0)), held_by("a", Some(1.0))]).await;
        client.run("XREADGROUP GROUP a c NOACK STREAMS s >").await;
        until(&exporter, "all is read", &[trimmable(Some(5.0)), held_by("a", None), held_by("b", None)])
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_grows_without_a_group_is_unread() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        client.run("XADD log * f v\nXADD capped * f v\nXADD quiet * f v").await;
        let exporter = watched(&server, "'*'").await;
        let json = wait_for(SOON, "it has grown for a window", async || {
            client.run("XADD log * f v\nXADD capped MAXLEN 3 * f v").await;
            let json = listing(&exporter).await;
            let is_there = json["targets"][0]["streams_unread"] != Value::Array(Vec::new());
            if is_there { Ok(json) } else { Err(json.to_string()) }
        })
        .await;
        assert_eq!(json["targets"][0]["streams_unread"], serde_json::json!(["log"]));
        let page = exporter.get("/").await.text();
        assert!(
            page.contains("Streams without groups")
                && page.contains("grows, not trimmed")
                && page.contains("Readers without a group"),
            "{page}"
        );
    })
    .await;
}

#[tokio::test]
async fn groups_that_come_and_go_are_counted_and_what_one_skips_is_not_lost() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        client.run("XADD s * f v\nXADD s * f v\nXGROUP CREATE s g 0").await;
        let exporter = watched(&server, "s").await;
        let changes = |created: f64, destroyed: f64, recreated: f64| {
            let of = |change: &str, value: f64| {
                let labels = format!(r#"target="t",db="db0",stream="s",change="{change}""#);
                (format!("redis_stream_group_changes_total{{{labels}}}"), Some(value))
            };
            vec![of("created", created), of("destroyed", destroyed), of("recreated", recreated)]
        };
        let is_counted = counts_added(server.program());
        let of_group = |name: &str, value: f64| {
            (group(&format!("redis_stream_group_{name}_total"), "s", "g"), Some(value).filter(|_| is_counted))
        };
        until(&exporter, "it is there", &changes(0.0, 0.0, 0.0)).await;
        client.run("XREADGROUP GROUP g c NOACK STREAMS s >\nXGROUP CREATE s h 0").await;
        until(&exporter, "another was created", &changes(1.0, 0.0, 0.0)).await;
        client.run("XGROUP DESTROY s g").await;
        until(&exporter, "it is destroyed", &changes(1.0, 1.0, 0.0)).await;
        client.run("XADD s * f v\nXADD s * f v\nXADD s * f v\nXGROUP CREATE s g $").await;
        let mut expected = changes(1.0, 1.0, 1.0);
        expected.extend([of_group("entries_lost", 0.0), of_group("entries_delivered", 2.0)]);
        until(&exporter, "it is back, ahead", &expected).await;
        let page = exporter.get("/groups/t/db0/s/g").await.text();
        assert!(page.contains("ahead of where it was"), "{page}");

        client.run("XADD s * f v\nXREADGROUP GROUP g c STREAMS s >").await;
        until(&exporter, "it is in use", &[of_group("entries_delivered", 3.0)]).await;
        client.run("MULTI\nXGROUP DESTROY s g\nXGROUP CREATE s g 0\nEXEC").await;
        let mut expected = changes(1.0, 1.0, 2.0);
        expected.push(of_group("entries_delivered", 3.0));
        until(&exporter, "it is another one", &expected).await;
        let page = exporter.get("/groups/t/db0/s/g").await.text();
        assert!(page.contains("further back: entries are delivered again"), "{page}");
        client.run("DEL s").await;
        let up = stream("redis_stream_up", "s");
        until(&exporter, "the stream is gone", &[(up, Some(0.0))]).await;
        client.run("XADD s * f v\nXGROUP CREATE s g 0").await;
        let mut expected = changes(1.0, 3.0, 3.0);
        expected.push(of_group("entries_delivered", 3.0));
        until(&exporter, "it is there again", &expected).await;
    })
    .await;
}

#[tokio::test]
async fn groups_that_are_abandoned_for_a_day_are_counted() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        let (seconds, _): (u64, u64) = client.ask(&["TIME"]).await;
        let days_ago = |days: u64| (seconds - days * 86_400) * 1_000;
        for days in [3, 2] {
            client
                .run(&format!("XADD s {}-0 f v\nXADD recent {}-0 f v", days_ago(days), days_ago(days)))
                .await;
        }
        client.run("XADD recent * f v").await;
        let last: Vec<(String, redis::Value)> =
            client.ask(&["XREVRANGE", "recent", "+", "-", "COUNT", "1"]).await;
        client.run("XADD recent * f v").await;
        for group in ["forgotten", "idle", "read"] {
            client.run(&format!("XGROUP CREATE s {group} 0")).await;
        }
        client.run("XGROUP CREATECONSUMER s forgotten gone").await;
        client.age_consumer("s", "gone", Duration::from_secs(2 * 86_400)).await;
        // It was read a moment ago by a consumer that was deleted, which no time of the server shows.
        for days in [4, 3, 2] {
            client.run(&format!("XADD back {}-0 f v", days_ago(days))).await;
        }
        client.run("XGROUP CREATE back g 0\nXREADGROUP GROUP g pod COUNT 1 NOACK STREAMS back >").await;
        client.run("XGROUP DELCONSUMER back g pod").await;
        // Its consumer has read a moment ago, and the third group everything.
        client.run("XREADGROUP GROUP idle c COUNT 1 STREAMS s >\nXREADGROUP GROUP read c STREAMS s >").await;
        client.run(&format!("XGROUP CREATE recent g {}", last[0].0)).await;
        let exporter = watched(&server, "'*'").await;
        let abandoned = |key: &str, groups| (stream("redis_stream_groups_abandoned", key), Some(groups));
        let not_known = (stream("redis_stream_groups_abandoned", "back"), None);
        let expected = [
            abandoned("s", 1.0),
            abandoned("recent", 0.0),
            not_known,
            (status("back", "g", "abandoned"), Some(1.0)),
        ];
        until(&exporter, "one was not read for days", &expected).await;

        client.run("XGROUP CREATE s later 0").await;
        let expected = [(status("s", "later", "abandoned"), Some(1.0)), abandoned("s", 1.0)];
        until(&exporter, "another one is abandoned, but not for a day", &expected).await;

        client.run("DEL back").await;
        let up = stream("redis_stream_up", "back");
        until(&exporter, "the stream of which it is not known is gone", &[(up, None)]).await;
        let json = listing(&exporter).await;
        let target = &json["targets"][0];
        assert_eq!(target["groups_abandoned"], 1, "{target:#}");
        assert_eq!(target["streams_with_groups_abandoned"][0]["stream"], "s", "{target:#}");
        let page = exporter.get("/").await.text();
        assert!(page.contains("1 group abandoned for a day"), "{page}");
        client.run("XREADGROUP GROUP forgotten c COUNT 1 NOACK STREAMS s >").await;
        until(&exporter, "it reads again", &[abandoned("s", 0.0)]).await;
    })
    .await;
}
