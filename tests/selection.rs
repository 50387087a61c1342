//! Which streams, groups and consumers are polled, and how the server is spared.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

mod support;

use support::client::RedisClient;
use support::config::{ONCE, QUICK, serving};
use support::metrics::{Metrics, named};
use support::program::Exporter;
use support::series::{consumer, errors, group, limited, polls, stream, up};
use support::server::Server;
use support::servers::{for_each_server, newest};
use support::wait::wait_for;

const SOON: Duration = Duration::from_secs(15);

/// Waits until the metrics are as they should be.
async fn until(exporter: &Exporter, what: &str, holds: impl Fn(&Metrics) -> bool) -> Metrics {
    wait_for(SOON, what, async || {
        let metrics = exporter.metrics().await;
        if holds(&metrics) { Ok(metrics) } else { Err(format!("{metrics:#?}")) }
    })
    .await
}

/// The streams that have a series `redis_stream_up`, each with its value.
fn streams(metrics: &Metrics) -> Vec<(String, f64)> {
    labels(metrics, "redis_stream_up", "stream")
}

/// The values of a label over the series of a metric.
fn labels(metrics: &Metrics, metric: &str, label: &str) -> Vec<(String, f64)> {
    let value = |series: &str| {
        let (_, rest) = series.split_once(&format!("{label}=\"")).expect("the metric has this label");
        rest.split_once('"').expect("labels are quoted").0.to_owned()
    };
    named(metrics, metric).iter().map(|(series, number)| (value(series), *number)).collect()
}

fn all_up(names: &[&str]) -> Vec<(String, f64)> {
    names.iter().map(|name| ((*name).to_owned(), 1.0)).collect()
}

#[tokio::test]
async fn keys_globs_excludes_and_group_filters_select_and_the_first_item_rules() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        for key in ["orders:1", "orders:2", "orders:tmp:3", "audit", "other", "h[a]llo", "hallo"] {
            client.run(&format!("XADD {key} * f v")).await;
            for name in ["billing", "shipping", "tmp-1", "tmp-2"] {
                client.run(&format!("XGROUP CREATE {key} {name} 0\nXGROUP CREATECONSUMER {key} {name} c")).await;
            }
        }
        client.run("SET orders:text value\nRPUSH orders:list value").await;
        let url = server.url();
        let exporter = serving(&format!(
            "{ONCE}targets:
              - name: t
                url: '{url}'
                streams:
                  - {{key: 'orders:2', consumers: false, groups: {{include: ['*'], exclude: ['tmp-*', billing]}}}}
                  - {{key: 'orders:*', exclude: ['orders:tmp:*'], groups: {{include: [billing, 'tmp-?'], exclude: [tmp-2]}}}}
                  - {{key: 'a[a-u]dit'}}
                  - {{key: 'h\\[a\\]llo'}}
                  - {{key: 'orders:tmp:*'}}"
        ))
        .await;
        let found = until(&exporter, "the streams", |metrics| metrics[&polls("ok")] > 0.0).await;
        assert_eq!(streams(&found), all_up(&["audit", "h[a]llo", "orders:1", "orders:2"]));
        let groups_of = |key: &str| {
            let series = named(&found, "redis_stream_group_lag");
            let of_key: Metrics =
                series.into_iter().filter(|(series, _)| series.contains(&format!("stream=\"{key}\""))).collect();
            labels(&of_key, "redis_stream_group_lag", "group").into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(groups_of("orders:1"), ["billing", "tmp-1"]);
        assert_eq!(groups_of("orders:2"), ["shipping"]);
        assert_eq!(groups_of("audit"), ["billing", "shipping", "tmp-1", "tmp-2"]);
        // All groups of the stream are counted, shown or not.
        assert_eq!(found[&stream("redis_stream_groups", "orders:2")], 4.0);
        let consumers = labels(&found, "redis_stream_group_consumer_messages_pending", "stream");
        assert!(consumers.iter().all(|(key, _)| key != "orders:2") && consumers.len() == 10, "{consumers:?}");
        assert_eq!(found[r#"streamgauge_discovered_streams{target="t"}"#], 4.0);
    })
    .await;
}

#[tokio::test]
async fn names_that_are_missing_are_shown_as_0_until_they_are_there() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        client.run("XADD there * f v\nXGROUP CREATE there g 0").await;
        let url = server.url();
        let exporter = serving(&format!(
            "{QUICK}targets: [{{name: t, url: '{url}', streams: [
                {{key: there, groups: {{include: [g, awaited, 'x*']}}}},
                {{key: absent, groups: {{include: [g]}}}},
                {{key: \"odd \\\\xff\"}}]}}]"
        ))
        .await;
        let found = until(&exporter, "there", |metrics| metrics.get(&up("there")) == Some(&1.0)).await;
        let ups = streams(&found);
        assert_eq!(ups.iter().map(|(_, up)| *up).collect::<Vec<_>>(), [0.0, 0.0, 1.0], "{ups:?}");
        let group_up = |metrics: &Metrics, key: &str, name: &str| {
            metrics.get(&group("redis_stream_group_up", key, name)).copied()
        };
        assert_eq!(named(&found, "redis_stream_group_up").len(), 3);
        assert_eq!(group_up(&found, "there", "g"), Some(1.0));
        assert_eq!(group_up(&found, "there", "awaited"), Some(0.0));
        assert_eq!(group_up(&found, "absent", "g"), Some(0.0));
        assert!(found[&errors("missing_key")] > 0.0 && found[&errors("missing_group")] > 0.0);
        assert_eq!(named(&found, "redis_stream_group_lag").len(), 1, "nothing is known of what is missing");

        client.run("XGROUP CREATE there awaited 0\nXGROUP CREATE absent g $ MKSTREAM").await;
        client.ask::<String>(&[&b"XADD"[..], b"odd \xff", b"*", b"f", b"v"]).await;
        let found = until(&exporter, "all are there", |metrics| {
            streams(metrics).iter().all(|(_, up)| *up == 1.0)
                && group_up(metrics, "there", "awaited") == Some(1.0)
                && group_up(metrics, "absent", "g") == Some(1.0)
        })
        .await;
        assert_eq!(found[&stream("redis_stream_length", r"odd \\xff")], 1.0);
    })
    .await;
}

#[tokio::test]
async fn streams_that_are_deleted_go_with_the_next_poll_and_new_ones_are_found_within_a_turn() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        client.run("XADD a * f v\nXADD b * f v").await;
        let url = server.url();
        let exporter = serving(&format!(
            "poll: {{interval: 200ms, timeout: 180ms, discovery_interval: 1s}}\ntargets: [{{name: t, url: '{url}'}}]"
        ))
        .await;
        until(&exporter, "both", |metrics| streams(metrics) == all_up(&["a", "b"])).await;
        client.run("DEL a").await;
        let deleted = exporter.metrics().await[&polls("ok")];
        let found = until(&exporter, "one is gone", |metrics| {
            let is_gone = streams(metrics) == all_up(&["b"]);
            // The poll under way when it was deleted may have seen it, the next has not.
            assert!(is_gone || metrics[&polls("ok")] <= deleted + 1.0, "{metrics:#?}");
            is_gone
        })
        .await;
        assert!(!found.keys().any(|series| series.contains("stream=\"a\"")), "{found:#?}");

        let began = now();
        client.run("XADD c * f v").await;
        until(&exporter, "the new one", |metrics| streams(metrics) == all_up(&["b", "c"])).await;
        // A turn, the poll after it, and time for a loaded machine.
        assert!(began.elapsed() < Duration::from_millis(1_000 + 200 + 2_000), "{:?}", began.elapsed());
    })
    .await;
}

#[tokio::test]
async fn past_the_limits_those_shown_stay_and_the_rest_is_counted() {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    for key in ["s3", "s4", "s5"] {
        for name in ["g2", "g3", "g4"] {
            client.run(&format!("XGROUP CREATE {key} {name} $ MKSTREAM")).await;
        }
    }
    client.run("XGROUP CREATECONSUMER s3 g2 c1\nXGROUP CREATECONSUMER s3 g2 c2").await;
    client
        .run("XGROUP CREATECONSUMER s3 g3 c1\nXGROUP CREATECONSUMER s3 g3 c2\nXGROUP CREATECONSUMER s3 g3 c3")
        .await;
    let url = server.url();
    let exporter = serving(&format!(
        "{QUICK}targets: [{{name: t, url: '{url}', limits: {{streams: 2, groups_per_stream: 2, consumers_per_group: 2}}}}]"
    ))
    .await;
    let groups = |metrics: &Metrics, key: &str| {
        let series = named(metrics, "redis_stream_group_messages_pending");
        let of_key =
            series.into_iter().filter(|(series, _)| series.contains(&format!("stream=\"{key}\""))).collect();
        let names = labels(&of_key, "redis_stream_group_messages_pending", "group");
        names.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    let found = until(&exporter, "two of them", |metrics| streams(metrics).len() == 2).await;
    assert_eq!(streams(&found), all_up(&["s3", "s4"]));
    assert_eq!(
        (groups(&found, "s3"), groups(&found, "s4")),
        (vec!["g2".into(), "g3".into()], vec!["g2".into(), "g3".into()])
    );
    let left_out = |metrics: &Metrics| ["streams", "groups", "consumers"].map(|what| metrics[&limited(what)]);
    // Consumers are known to be too many once they were read.
    until(&exporter, "all is left out", |metrics| left_out(metrics) == [1.0, 2.0, 3.0]).await;
    let consumers = named(&found, "redis_stream_group_consumer_messages_pending");
    let expected =
        ["c1", "c2"].map(|name| consumer("redis_stream_group_consumer_messages_pending", "s3", "g2", name));
    assert_eq!(consumers.keys().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    assert_eq!(found[&group("redis_stream_group_consumers", "s3", "g3")], 3.0, "counted all the same");

    // Names that come first now do not push out what is shown.
    client.run("XGROUP CREATE s1 g $ MKSTREAM\nXGROUP CREATE s3 g1 $\nXGROUP CREATE s4 g1 $").await;
    let found = until(&exporter, "more is left out", |metrics| left_out(metrics) == [2.0, 4.0, 3.0]).await;
    assert_eq!(streams(&found), all_up(&["s3", "s4"]));
    assert_eq!(
        (groups(&found, "s3"), groups(&found, "s4")),
        (vec!["g2".into(), "g3".into()], vec!["g2".into(), "g3".into()])
    );

    client.run("DEL s4\nXGROUP DESTROY s3 g2\nXGROUP DELCONSUMER s3 g3 c2").await;
    let found = until(&exporter, "others take their places", |metrics| {
        streams(metrics) == all_up(&["s1", "s3"]) && left_out(metrics) == [1.0, 1.0, 0.0]
    })
    .await;
    assert_eq!(groups(&found, "s3"), ["g1", "g3"]);

    // Groups and consumers at first, groups alone at last.
    for (told, key, times) in [
        ("limits of the target leave out streams", "", 1),
        ("leave out groups or consumers", "stream=s3", 2),
        ("leave out groups or consumers", "stream=s4", 1),
    ] {
        let lines = async || {
            let log = exporter.stderr();
            let count = log.lines().filter(|line| line.contains(told) && line.contains(key)).count();
            if count >= times { Ok(count) } else { Err(log) }
        };
        assert_eq!(wait_for(SOON, told, lines).await, times, "{}", exporter.stderr());
    }
}

#[tokio::test]
async fn consumers_are_not_asked_for_where_they_are_not_wanted() {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    client.run("XADD s * f v\nXGROUP CREATE s g 0\nXREADGROUP GROUP g c STREAMS s >").await;
    let url = server.url();
    let exporter = serving(&format!(
        "{QUICK}targets: [{{name: t, url: '{url}', streams: [{{key: '*', consumers: false}}]}}]"
    ))
    .await;
    let found = until(&exporter, "some polls", |metrics| metrics[&polls("ok")] >= 3.0).await;
    assert!(!found.keys().any(|series| series.starts_with("redis_stream_group_consumer_")), "{found:#?}");
    assert_eq!(found[&group("redis_stream_group_consumers", "s", "g")], 1.0);
    assert_eq!(found[&group("redis_stream_group_messages_pending", "s", "g")], 1.0);
    assert_eq!(client.calls("xinfo|consumers").await, 0);
    assert!(client.calls("xinfo|groups").await >= 3);
    assert_eq!(found[r#"streamgauge_redis_commands_total{command="xinfo_consumers",target="t"}"#], 0.0);
}

#[tokio::test]
async fn the_commands_counted_are_those_that_the_server_got() {
    let server = Server::start(newest(), &["--requirepass", "pw"]).await;
    let url = format!("redis://:pw@{}", server.address());
    let mut client = RedisClient::at(&format!("{url}/2")).await;
    client.run("XADD s 1-1 f v\nXADD s 2-1 f v\nXADD s 3-1 f v\nXGROUP CREATE s g 0\nXREADGROUP GROUP g c COUNT 2 STREAMS s >")
        .await;
    client.run("CONFIG RESETSTAT").await;
    let exporter = serving(&format!("{ONCE}targets: [{{name: t, url: '{url}/2'}}]")).await;
    let found = until(&exporter, "a poll", |metrics| metrics[&polls("ok")] >= 1.0).await;
    for (label, command) in [
        ("auth", "auth"),
        ("select", "select"),
        ("hello", "hello"),
        ("client_no_touch", "client|no-touch"),
        ("scan", "scan"),
        ("time", "time"),
        ("xinfo_groups", "xinfo|groups"),
        ("xinfo_stream", "xinfo|stream"),
        ("xinfo_consumers", "xinfo|consumers"),
        ("xpending", "xpending"),
        ("xrange", "xrange"),
    ] {
        let counted = found[&format!(r#"streamgauge_redis_commands_total{{command="{label}",target="t"}}"#)];
        // The oldest pending entry, and a page of the census.
        let expected = if label == "xpending" { (2.0, 2) } else { (1.0, 1) };
        assert_eq!((counted, client.calls(command).await), expected, "{label}");
    }
    let info: String = client.ask(&["INFO", "commandstats"]).await;
    let others: Vec<_> = info
        .lines()
        .filter_map(|line| line.strip_prefix("cmdstat_")?.split(':').next())
        .filter(|name| {
            !name.starts_with("xinfo|") && !name.starts_with("client|") && !name.starts_with("config|")
        })
        .filter(|name| {
            !["auth", "select", "hello", "scan", "time", "xpending", "xrange", "info"].contains(name)
        })
        .collect();
    assert_eq!(others, Vec::<&str>::new());
    assert_eq!(found[r#"streamgauge_counted_entries_total{target="t"}"#], 1.0);
}

#[tokio::test]
async fn idle_consumers_are_counted_also_where_they_are_too_many_to_be_listed() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        client.run("XADD s * f v\nXADD s * f v\nXGROUP CREATE s many 0\nXGROUP CREATE s more 0").await;
        client.run("XREADGROUP GROUP many holds COUNT 1 STREAMS s >\nXREADGROUP GROUP more holds COUNT 1 STREAMS s >").await;
        let script = "for n = 1, 5500 do redis.call('XGROUP', 'CREATECONSUMER', 's', 'many', n) \
                      redis.call('XGROUP', 'CREATECONSUMER', 's', 'more', n) end";
        let _: redis::Value = client.ask(&["EVAL", script, "0"]).await;
        let url = server.url();
        let exporter = serving(&format!(
            "{QUICK}metrics: {{consumer_max_idle: 0s}}\ntargets: [{{name: t, url: '{url}'}}]"
        ))
        .await;
        // One in a poll.
        let silent = |metrics: &Metrics, name: &str| {
            ["idle", "stranded"].map(|kind| metrics.get(&group(&format!("redis_stream_group_consumers_{kind}"), "s", name)).copied())
        };
        let found = until(&exporter, "both are counted", |metrics| {
            ["many", "more"].iter().all(|name| silent(metrics, name) == [Some(5_500.0), Some(1.0)])
        })
        .await;
        assert_eq!(named(&found, "redis_stream_group_consumer_idle_seconds"), Metrics::new());
        assert_eq!(found[&limited("consumers")], 11_002.0);
        let later =
            until(&exporter, "more polls", |metrics| metrics[&polls("ok")] >= found[&polls("ok")] + 4.0).await;
        let asked = later[r#"streamgauge_redis_commands_total{command="xinfo_consumers",target="t"}"#];
        assert_eq!(asked, 2.0, "not again within an hour");
    })
    .await;
}

#[tokio::test]
async fn a_consumer_that_is_idle_for_long_with_nothing_pending_has_no_series() {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    client.run("XADD s * f v\nXGROUP CREATE s g 0\nXREADGROUP GROUP g holds STREAMS s >").await;
    client.run("XGROUP CREATECONSUMER s g idles").await;
    let url = server.url();
    let exporter =
        serving(&format!("{QUICK}metrics: {{consumer_max_idle: 1s}}\ntargets: [{{name: t, url: '{url}'}}]"))
            .await;
    let shown = |metrics: &Metrics| -> BTreeSet<String> {
        let names = labels(metrics, "redis_stream_group_consumer_idle_seconds", "consumer");
        names.into_iter().map(|(name, _)| name).collect()
    };
    let only_the_holder = |metrics: &Metrics| shown(metrics) == BTreeSet::from(["holds".to_owned()]);
    let found = until(&exporter, "only one is shown", only_the_holder).await;
    let idle = || found[&consumer("redis_stream_group_consumer_idle_seconds", "s", "g", "holds")];
    assert!(idle() >= 1.0, "the other has no series from then on, and not before: {}", idle());
    assert_eq!(found[&group("redis_stream_group_consumers", "s", "g")], 2.0);
    client.run("XREADGROUP GROUP g idles COUNT 1 STREAMS s >").await;
    until(&exporter, "it is back", |metrics| shown(metrics).len() == 2).await;
    let found = until(&exporter, "it is gone again", only_the_holder).await;
    assert!(!found.keys().any(|series| series.contains("consumer=\"idles\"")), "{found:#?}");
}

#[tokio::test]
async fn scan_keeps_its_pace() {
    /// Keys per second; a SCAN walks a thousand.
    const PACE: f64 = 10_000.0;
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    for chunk in 0..40 {
        let mut mset = vec!["MSET".to_owned()];
        mset.extend((0..1_000).flat_map(|n| [format!("key:{chunk}:{n}"), "v".to_owned()]));
        let _: String = client.ask(&mset).await;
    }
    client.run("XADD stream * f v").await;
    let url = server.url();
    let exporter = serving(&format!(
        "poll: {{interval: 200ms, timeout: 150ms, discovery_interval: 10ms, scan_keys_per_second: {PACE}}}
targets: [{{name: t, url: '{url}'}}]"
    ))
    .await;
    wait_for(
        SOON,
        "SCAN began",
        async || if client.calls("scan").await > 0 { Ok(()) } else { Err("no call") },
    )
    .await;
    // 40,000 keys, walked at least once.
    let (from, at_first) = (now(), client.calls("scan").await);
    let (at_last, took) = wait_for(Duration::from_secs(60), "forty more SCANs", async || {
        let calls = client.calls("scan").await;
        if calls >= at_first + 40 { Ok((calls, from.elapsed())) } else { Err(calls) }
    })
    .await;
    // One may have been due at either end.
    let most = took.as_secs_f64() * PACE / 1_000.0 + 2.0;
    let calls = (at_last - at_first) as f64;
    assert!(calls <= most, "{calls} calls in {took:?}, at most {most}");
    until(&exporter, "it is found", |metrics| streams(metrics) == all_up(&["stream"])).await;
}

#[tokio::test]
async fn a_slow_pace_is_kept_within_each_second() {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    for n in 0..200 {
        client.run(&format!("SET key:{n} v")).await;
    }
    client.run("XADD stream * f v").await;
    let (url, began) = (server.url(), now());
    let exporter = serving(&format!(
        "poll: {{interval: 200ms, timeout: 150ms, discovery_interval: 10ms, scan_keys_per_second: 100}}
targets: [{{name: t, url: '{url}'}}]"
    ))
    .await;
    until(&exporter, "it is found", |metrics| streams(metrics) == all_up(&["stream"])).await;
    wait_for(SOON, "a turn", async || {
        let calls = client.calls("scan").await;
        if calls >= 3 { Ok(()) } else { Err(calls) }
    })
    .await;
    // The first at once, and one in each second after: 100 keys each.
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_small_keyspace_is_walked_once_in_a_discovery_interval() {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    client.run("XADD s * f v").await;
    let url = server.url();
    let exporter = serving(&format!(
        "poll: {{interval: 100ms, timeout: 80ms, discovery_interval: 500ms}}\ntargets: [{{name: t, url: '{url}'}}]"
    ))
    .await;
    wait_for(
        SOON,
        "SCAN began",
        async || if client.calls("scan").await > 0 { Ok(()) } else { Err("no call") },
    )
    .await;
    let (from, at_first) = (now(), client.calls("scan").await);
    until(&exporter, "many polls", |metrics| metrics[&polls("ok")] >= 20.0).await;
    let (calls, took) = (client.calls("scan").await - at_first, from.elapsed());
    assert!(calls as f64 <= took.as_secs_f64() / 0.5 + 1.0, "{calls} in {took:?}");
    // A named stream is not looked for.
    let exporter =
        serving(&format!("{QUICK}targets: [{{name: t, url: '{url}', streams: [{{key: s}}]}}]")).await;
    let found = until(&exporter, "some polls", |metrics| metrics[&polls("ok")] >= 3.0).await;
    assert_eq!(found[r#"streamgauge_redis_commands_total{command="scan",target="t"}"#], 0.0);
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "measures a process from outside")]
    Instant::now()
}

#[tokio::test]
async fn groups_that_are_named_are_there_whatever_the_limit_leaves_out() {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    let mut lines = "XADD bus * f v\nXGROUP CREATE bus zz-real 0\n".to_owned();
    for pod in 0..1_500 {
        lines.push_str(&format!("XGROUP CREATE bus pod-{pod:04} $\n"));
    }
    client.run(&lines).await;
    let url = server.url();
    let exporter = serving(&format!(
        "{QUICK}targets: [{{name: t, url: '{url}', streams: [{{key: bus, groups: {{include: [zz-real, gone, '*']}}}}]}}]"
    ))
    .await;
    let found = until(&exporter, "it is read", |metrics| metrics.get(&up("bus")) == Some(&1.0)).await;
    assert_eq!(found.get(&group("redis_stream_group_up", "bus", "zz-real")), Some(&1.0));
    assert_eq!(found.get(&group("redis_stream_group_lag", "bus", "zz-real")), Some(&1.0));
    assert_eq!(found.get(&group("redis_stream_group_up", "bus", "gone")), Some(&0.0), "this one is missing");
    assert_eq!(found[&limited("groups")], 500.0);
}

#[tokio::test]
async fn streams_with_groups_come_before_those_without_also_when_they_get_their_groups_later() {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    let mut lines = String::new();
    for queue in 0..250 {
        lines.push_str(&format!("XADD bull:q{queue:03}:events * event added\n"));
    }
    lines.push_str("XADD orders * f v\nXADD zebra * f v\nXGROUP CREATE orders g 0\n");
    client.run(&lines).await;
    let url = server.url();
    let exporter =
        serving(&format!("{QUICK}targets: [{{name: t, url: '{url}', limits: {{streams: 200}}}}]")).await;
    let found = until(&exporter, "a poll", |metrics| metrics.contains_key(&up("orders"))).await;
    assert_eq!(streams(&found).len(), 200);
    assert_eq!(found[&limited("streams")], 52.0);

    client.run("XGROUP CREATE zebra g 0\nXGROUP CREATE bull:q249:events g 0").await;
    let found = until(&exporter, "streams that got a group", |metrics| {
        metrics.contains_key(&up("zebra")) && metrics.contains_key(&up("bull:q249:events"))
    })
    .await;
    assert_eq!((streams(&found).len(), found.get(&up("orders"))), (200, Some(&1.0)));
}
