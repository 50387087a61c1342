//! Values of groups that rest on more than one reading, or on what is gone, on real servers.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;
use redis::aio::MultiplexedConnection;
use redis_stream_lag::report::{GroupView, Status};
use streamgauge::diagnosis;
use support::client::RedisClient;
use support::config::{QUICK, serving};
use support::metrics::Metrics;
use support::polled::Polled;
use support::program::Exporter;
use support::series::group;
use support::server::Server;
use support::servers::{Program, ServerKind, for_each_server};
use support::snapshot::{StreamSnapshot, ask};
use support::wait::wait_for;

const DEADLINE: Duration = Duration::from_secs(60);

/// What becomes of twenty entries, of which the consumer `c` of the group `g` was delivered ten. Each step is commands on
/// the stream `s`, and is followed by a poll.
const STEPS_WITH_PENDING_ENTRIES: &[&[&str]] = &[
    &["XDEL s 5-0 6-0", "XDEL s 10-0"],
    &["XDEL s 1-0", "XDEL s 3-0", "XACK s g 1-0"],
    &["XACK s g 1-0 2-0 3-0", "XDEL s 1-0 2-0", "XDEL s 4-0"],
    &["XACK s g 1-0 2-0 3-0\nXDEL s 2-0", "XDEL s 3-0"],
    &["XTRIM s MAXLEN = 15", "XACK s g 2-0", "XTRIM s MAXLEN = 11"],
    &["XTRIM s MAXLEN = 0", "XADD s 30-0 f v", "XACK s g 1-0 2-0"],
    &["XTRIM s MAXLEN = 17", "XDEL s 7-0", "XDEL s 4-0"],
    &["XDEL s 7-0\nXTRIM s MAXLEN = 15", "XDEL s 20-0"],
    &["XDEL s 5-0", "XCLAIM s g other 0 1-0 2-0 5-0", "XACK s g 1-0"],
    &["XDEL s 5-0 6-0", "XAUTOCLAIM s g other 0 0 COUNT 3", "XAUTOCLAIM s g other 0 0 COUNT 100"],
    &["XTRIM s MAXLEN = 15", "XAUTOCLAIM s g other 0 0 COUNT 3 JUSTID", "XAUTOCLAIM s g other 0 0 COUNT 100"],
    &["XDEL s 3-0 4-0", "XACK s g 3-0", "XACK s g 4-0", "XACK s g 1-0"],
    &["XDEL s 15-0", "XREADGROUP GROUP g c COUNT 100 STREAMS s >", "XDEL s 20-0"],
    &["XDEL s 2-0", "XREADGROUP GROUP g d COUNT 3 STREAMS s >", "XGROUP DELCONSUMER s g c", "XDEL s 11-0"],
    &[
        "XGROUP CREATECONSUMER s g idle\nXDEL s 4-0",
        "XGROUP SETID s g 0",
        "XREADGROUP GROUP g idle COUNT 2 STREAMS s >",
    ],
    &["XDEL s 1-0 2-0 3-0 4-0 5-0 6-0 7-0 8-0 9-0 10-0", "XACK s g 10-0"],
];

/// The same with commands of Redis 8.2.
const STEPS_SINCE_8_2: &[&[&str]] = &[
    &["XDELEX s KEEPREF IDS 2 5-0 6-0", "XDELEX s DELREF IDS 1 7-0", "XACKDEL s g KEEPREF IDS 1 4-0"],
    &["XTRIM s MAXLEN = 15 DELREF", "XTRIM s MAXLEN = 12 KEEPREF"],
    &["XACK s g 2-0 5-0\nXTRIM s MAXLEN = 5 ACKED", "XDEL s 6-0", "XTRIM s MAXLEN = 5"],
    &["XACKDEL s g DELREF IDS 2 1-0 9-0", "XDEL s 3-0"],
];

async fn send(connection: &mut MultiplexedConnection, lines: &str) {
    for line in lines.lines() {
        ask(connection, &line.split_whitespace().collect::<Vec<_>>()).await.unwrap();
    }
}

/// Compares the count with a look at each pending entry, after each step and once more.
async fn check_orphans(server: &Server, steps: &[&str]) {
    let mut connection = server.connection().await;
    send(&mut connection, "FLUSHALL").await;
    for id in 1..=20 {
        send(&mut connection, &format!("XADD s {id}-0 f v")).await;
    }
    send(&mut connection, "XGROUP CREATE s g 0\nXREADGROUP GROUP g c COUNT 10 STREAMS s >").await;
    let mut polled = Polled::new(server, &["s"], "");
    for step in [&"PING"].into_iter().chain(steps) {
        send(&mut connection, step).await;
        let snapshot = StreamSnapshot::read(&mut connection, "s").await;
        let (_, pending) = &snapshot.groups["g"];
        let gone = pending.iter().filter(|id| !snapshot.entries.contains(id)).count() as u64;
        for _ in 0..2 {
            let report = polled.poll().await.unwrap();
            let values = report.streams[0].groups[0].values.as_ref().unwrap();
            assert_eq!(values.pending_orphaned, Some(gone.into()), "after {step:?} of {steps:?}");
            assert_eq!(values.messages_pending, pending.len() as u64, "after {step:?} of {steps:?}");
            if !pending.is_empty() {
                let view = report.streams[0].view(&report.streams[0].groups[0]).unwrap();
                let advice = diagnosis::of_status(Status::Stuck, view, Duration::ZERO).advice;
                // What is gone is removed first, and only what is there can be handed to another consumer.
                let asks_for_claim = advice.contains("claim");
                assert_eq!(
                    asks_for_claim,
                    gone < pending.len() as u64,
                    "{advice} after {step:?} of {steps:?}"
                );
                assert_eq!(advice.starts_with("XACK"), gone > 0, "{advice} after {step:?} of {steps:?}");
            }
        }
    }
}

fn has_references(program: &Program) -> bool {
    program.kind == ServerKind::Redis && program.version >= (8, 2, 0)
}

#[tokio::test]
async fn pending_entries_that_are_gone_are_counted_whatever_removed_them() {
    for_each_server(async |server| {
        let since_8_2 = if has_references(server.program()) { STEPS_SINCE_8_2 } else { &[] };
        for steps in STEPS_WITH_PENDING_ENTRIES.iter().chain(since_8_2) {
            check_orphans(&server, steps).await;
        }
    })
    .await;
}

/// Waits for metrics that hold, doing `act` before each look at them.
async fn until(
    exporter: &Exporter,
    what: &str,
    mut act: impl AsyncFnMut(),
    holds: impl Fn(&Metrics) -> bool,
) -> Metrics {
    wait_for(DEADLINE, what, async || {
        act().await;
        let metrics = exporter.metrics().await;
        if holds(&metrics) { Ok(metrics) } else { Err(format!("{metrics:#?}")) }
    })
    .await
}

#[tokio::test]
async fn pending_entries_that_go_with_their_consumers_are_counted() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        client.run(&"XADD s * f v\n".repeat(9)).await;
        client.run("XGROUP CREATE s g 0\nXREADGROUP GROUP g leaves COUNT 3 STREAMS s >").await;
        client.run("XREADGROUP GROUP g stays COUNT 4 STREAMS s >\nXGROUP CREATECONSUMER s g idle").await;
        let exporter = serving(&format!("{QUICK}targets: [{{name: t, url: '{}'}}]", server.url())).await;
        let [pending, dropped] = ["messages_pending", "pending_dropped_total"]
            .map(|name| group(&format!("redis_stream_group_{name}"), "s", "g"));
        let value = |metrics: &Metrics, series: &str| metrics.get(series).copied();
        let read =
            until(&exporter, "7 are pending", async || {}, |metrics| value(metrics, &pending) == Some(7.0));
        assert_eq!(value(&read.await, &dropped), None, "none was dropped");
        client.run("XGROUP DELCONSUMER s g idle\nXGROUP DELCONSUMER s g leaves").await;
        until(&exporter, "3 were dropped", async || {}, |metrics| value(metrics, &dropped) == Some(3.0))
            .await;
        let ids: Vec<(String, String, u64, u64)> = client.ask(&["XPENDING", "s", "g", "-", "+", "2"]).await;
        client.run(&format!("XACK s g {} {}", ids[0].0, ids[1].0)).await;
        let read =
            until(&exporter, "2 are pending", async || {}, |metrics| value(metrics, &pending) == Some(2.0));
        assert_eq!(value(&read.await, &dropped), Some(3.0), "acknowledging drops nothing");
    })
    .await;
}

/// The IDs are no times: their milliseconds are a thousand times the rank.
#[tokio::test]
async fn the_time_to_loss_is_the_distance_to_the_first_entry_at_the_pace_of_trimming() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        let exporter = serving(&format!(
            "{QUICK}status: {{window: 4s}}\ntargets: [{{name: t, url: '{}'}}]",
            server.url()
        ))
        .await;
        let groups = ["near", "far", "held"];
        for name in groups {
            client.run(&format!("XGROUP CREATE s {name} 0 MKSTREAM")).await;
        }
        client.run("XGROUP CREATE grows near 0 MKSTREAM").await;
        let time = |metrics: &Metrics, name: &str| {
            metrics.get(&group("redis_stream_group_seconds_to_loss", "s", name)).copied()
        };
        let reports_trimming = server.program().version >= (7, 0, 0);
        let mut added = 0;
        let mut add_and_read = async || {
            for _ in 0..20 {
                added += 1;
                client.run(&format!("XADD s MAXLEN = 50 {added}000-0 f v\nXADD grows * f v")).await;
            }
            for name in groups {
                client.run(&format!("XREADGROUP GROUP {name} c COUNT 1000 NOACK STREAMS s >")).await;
            }
            client.run("XREADGROUP GROUP near c COUNT 1000 NOACK STREAMS grows >").await;
        };
        let trimmed = until(&exporter, "the pace is known", &mut add_and_read, |metrics| {
            let lost = metrics.get(&group("redis_stream_group_lag", "s", "far"));
            if reports_trimming {
                time(metrics, "far").is_some()
            } else {
                lost.is_some() && metrics.len() > 10
            }
        })
        .await;
        assert_eq!(time(&trimmed, "near").is_some(), reports_trimming);
        assert_eq!(trimmed.get(&group("redis_stream_group_seconds_to_loss", "grows", "near")), None);
        if !reports_trimming {
            return;
        }
        // One group stands 10 entries above the first, one 30, and one is done but for a pending entry at 10.
        let first = added - 49;
        let (near, far) = (first + 10, first + 30);
        client.run(&format!("XGROUP SETID s near {near}000-0\nXGROUP SETID s far {far}000-0")).await;
        client.run(&format!("XGROUP SETID s held {}000-0", near - 1)).await;
        client.run("XREADGROUP GROUP held c COUNT 1 STREAMS s >\nXGROUP SETID s held $").await;
        let lags = [("near", 39.0), ("far", 19.0), ("held", 0.0)];
        let set = until(
            &exporter,
            "the groups stand there",
            async || {},
            |metrics| {
                let pending = metrics.get(&group("redis_stream_group_messages_pending", "s", "held"));
                let stand =
                    |(name, lag)| metrics.get(&group("redis_stream_group_lag", "s", name)) == Some(&lag);
                pending == Some(&1.0) && lags.into_iter().all(stand)
            },
        )
        .await;
        let [near, far, held] = groups.map(|name| time(&set, name).unwrap());
        assert!(
            near > 0.0 && (near * 3.0 - far).abs() < 0.01 && (near - held).abs() < 0.01,
            "{near} {far} {held}"
        );
        let mut add = async || {
            added += 1;
            client.run(&format!("XADD s MAXLEN = 50 {added}000-0 f v")).await;
        };
        until(&exporter, "trimming has reached it", &mut add, |metrics| time(metrics, "near") == Some(0.0))
            .await;
    })
    .await;
}

/// A row of XPENDING: ID, consumer, idle time in milliseconds, and deliveries.
type PendingRow = (String, String, i64, u64);

const PENDING_ENTRIES: usize = 12_000;

/// Runs some of what clients do to pending entries.
async fn disturb_pending(client: &mut RedisClient, rng: &mut Rng) {
    for _ in 0..rng.u32(1..20) {
        let (id, consumer) =
            (format!("{}-0", rng.usize(1..=PENDING_ENTRIES)), ["a", "b", "c"][rng.usize(..3)]);
        let line = match rng.u32(..8) {
            0..=2 => format!("XACK s g {id}"),
            3..=4 => format!("XCLAIM s g {consumer} 0 {id}"),
            5 => format!("XAUTOCLAIM s g {consumer} 0 {id} COUNT 7"),
            6 if client.knows("XNACK").await => {
                format!("XNACK s g {} IDS 1 {id}", ["SILENT", "FAIL", "FATAL"][rng.usize(..3)])
            }
            6 => format!("XCLAIM s g {consumer} 0 {id} JUSTID"),
            _ => format!("XCLAIM s g {consumer} 0 {id} RETRYCOUNT {}", rng.u32(..50)),
        };
        client.run(&line).await;
    }
}

/// Compares a census with the whole list, read just after it.
fn check_census(view: GroupView<'_>, rows: &[PendingRow], context: &str) {
    let shown = view.pending_census().unwrap();
    let census = &shown.census;
    let is_failed = |row: &&PendingRow| row.3 > i64::MAX.unsigned_abs() / 2;
    let is_redelivered = |row: &&PendingRow| row.3 > 1 && !is_failed(row);
    assert_eq!(census.entries, rows.len() as u64, "{context}");
    assert_eq!(census.redelivered, rows.iter().filter(is_redelivered).count() as u64, "{context}");
    assert_eq!(census.failed, rows.iter().filter(is_failed).count() as u64, "{context}");
    let most = rows.iter().filter(|row| !is_failed(row)).map(|row| row.3).max();
    assert_eq!(census.max_deliveries.map(u64::from), most, "{context}");
    let idle = rows.iter().map(|row| row.2).max().unwrap();
    let shown_idle = i64::try_from(shown.max_idle().unwrap().as_millis()).unwrap();
    assert!(shown_idle <= idle && shown_idle + 60_000 > idle, "{shown_idle} of {idle} ms: {context}");
    for held in &census.consumers {
        let rows = || rows.iter().filter(|row| row.1 == held.name.to_string());
        assert_eq!(held.entries, rows().count() as u64, "{held:?}: {context}");
        assert_eq!(held.redelivered, rows().filter(is_redelivered).count() as u64, "{held:?}: {context}");
    }
    let of_consumers: u64 = census.consumers.iter().map(|held| held.entries).sum();
    assert_eq!(of_consumers, rows.iter().filter(|row| row.2 >= 0).count() as u64, "{context}");
    let mut most: Vec<u64> = rows.iter().map(|row| row.3).filter(|deliveries| *deliveries > 1).collect();
    most.sort_unstable_by(|one, other| other.cmp(one));
    let listed: Vec<u64> =
        census.worst.iter().map(|entry| entry.deliveries).take(most.len().min(5)).collect();
    assert_eq!(listed, most[..listed.len()], "{context}");
    for entry in &census.worst {
        let row = rows.iter().find(|row| row.0 == entry.id.to_string());
        let row = row.unwrap_or_else(|| panic!("{entry:?} is not pending: {context}"));
        assert_eq!((&row.1, row.3), (&entry.consumer.to_string(), entry.deliveries), "{context}");
    }
}

#[tokio::test]
async fn a_census_is_what_the_whole_list_holds_and_takes_few_polls() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        let add = format!("for n = 1, {PENDING_ENTRIES} do redis.call('XADD', 's', n .. '-0', 'f', 'v') end");
        let _: Option<String> = client.ask(&["EVAL", &add, "0"]).await;
        client.run("XGROUP CREATE s g 0\nXREADGROUP GROUP g a COUNT 12000 STREAMS s >").await;
        let mut polled = Polled::new(&server, &["s"], "");
        let (mut rng, mut is_known) = (Rng::with_seed(7), false);
        for poll in 1..=8 {
            let report = polled.poll().await.unwrap();
            is_known = report.streams[0].groups[0].values.as_ref().unwrap().pending_census.is_some();
            // 1,700 entries in each poll are 100,000 in ten minutes, at one poll each ten seconds.
            assert!(!is_known || poll >= PENDING_ENTRIES / 2_100, "{poll} polls read more than is allowed");
            disturb_pending(&mut client, &mut rng).await;
        }
        assert!(is_known, "no pass has ended after 8 polls");
        // Long enough for the pass under way and one more.
        for _ in 0..15 {
            polled.poll().await.unwrap();
        }
        let report = polled.poll().await.unwrap();
        let rows: Vec<PendingRow> = client.ask(&["XPENDING", "s", "g", "-", "+", "20000"]).await;
        check_census(
            report.streams[0].view(&report.streams[0].groups[0]).unwrap(),
            &rows,
            &format!("{:?}", server.program()),
        );
        // More trimmed entries than are counted by themselves.
        client.run("XTRIM s MAXLEN = 3000\nXACK s g 11999-0").await;
        for _ in 0..15 {
            polled.poll().await.unwrap();
        }
        let report = polled.poll().await.unwrap();
        let trimmed =
            rows.iter().filter(|row| row.0.trim_end_matches("-0").parse::<usize>().unwrap() <= 9_000);
        let values = report.streams[0].groups[0].values.as_ref().unwrap();
        // Redis 6.2 does not show that nothing was deleted above them.
        let expected = (server.program().version >= (7, 0, 0)).then_some(trimmed.count() as u64);
        assert_eq!(values.pending_orphaned, expected.map(Into::into));
    })
    .await;
}

const LOSS_RATIO: &str = "redis_stream_group_loss_ratio";

/// The metrics with a series of the group `g` of a stream, without those of its consumers, and without the time to drain,
/// which is there or not from poll to poll.
fn group_metrics<'m>(metrics: &'m Metrics, key: &str) -> BTreeSet<&'m str> {
    let labels = format!("stream=\"{key}\",group=\"g\"");
    let of_group = metrics.keys().filter(|series| series.contains(&labels) && !series.contains("consumer="));
    let of_group = of_group.filter(|series| !series.starts_with("redis_stream_group_drain_seconds"));
    of_group.filter_map(|series| series.split('{').next()).collect()
}

#[tokio::test]
async fn a_healthy_group_has_at_most_29_series_and_trimming_and_losses_add_to_them() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        // Between two polls there is time to sample the streams that lose entries.
        let exporter = serving(&format!(
            "poll: {{interval: 600ms, discovery_interval: 600ms}}\nstatus: {{window: 4s}}\ntargets: [{{name: t, url: '{}'}}]",
            server.url()
        ))
        .await;
        for key in ["grows", "trimmed", "loses"] {
            client.run(&format!("XGROUP CREATE {key} g 0 MKSTREAM")).await;
        }
        let mut round = 0;
        let mut work = async || {
            tokio::time::sleep(Duration::from_millis(100)).await;
            for _ in 0..20 {
                client
                    .run("XADD grows * f v\nXADD trimmed MAXLEN = 50 * f v\nXADD loses MAXLEN = 50 * f v")
                    .await;
            }
            // The last entry that was read is pending until the next.
            round += 1;
            for (key, count) in [("grows", 1_000), ("trimmed", 1_000), ("loses", 5)] {
                // The rarer its reads, the sooner the share that it loses is estimated.
                if key == "loses" && round % 20 != 1 {
                    continue;
                }
                let pending: Vec<(String, String, u64, u64)> =
                    client.ask(&["XPENDING", key, "g", "-", "+", "10"]).await;
                client
                    .run(&format!(
                        "XREADGROUP GROUP g c COUNT {count} NOACK STREAMS {key} >\nXADD {key} * f v"
                    ))
                    .await;
                client.run(&format!("XREADGROUP GROUP g c COUNT 1 STREAMS {key} >")).await;
                for (id, ..) in pending {
                    client.run(&format!("XACK {key} g {id}")).await;
                }
            }
        };
        let counts_entries = server.program().version >= (7, 0, 0);
        let metrics = until(&exporter, "losses are estimated", &mut work, |metrics| {
            let needed = match counts_entries {
                true => {
                    [("seconds_to_loss", "trimmed"), ("loss_ratio", "loses"), ("seconds_to_loss", "loses")]
                }
                false => {
                    [("lag", "grows"), ("lag_seconds", "trimmed"), ("last_delivery_age_seconds", "loses")]
                }
            };
            needed.iter().all(|(name, key)| {
                metrics.contains_key(&group(&format!("redis_stream_group_{name}"), key, "g"))
            })
        })
        .await;
        let [grows, trimmed, loses] = ["grows", "trimmed", "loses"].map(|key| group_metrics(&metrics, key));
        // Of a census there are four values while entries are pending: most deliveries, those delivered again, the longest
        // idle time, and its age.
        assert!(grows.len() < 29, "{grows:#?}");
        // Redis 6.2 reports neither trims nor losses. On a busy machine the group of a trimmed stream may lose entries too.
        let trims = ["redis_stream_group_retention_used_ratio", "redis_stream_group_seconds_to_loss"];
        let trims: BTreeSet<_> = trims.into_iter().filter(|_| counts_entries).collect();
        let mut more: BTreeSet<_> = trimmed.difference(&grows).copied().collect();
        more.remove(LOSS_RATIO);
        assert_eq!(more, trims);
        let more = loses.difference(&grows).copied().collect::<BTreeSet<_>>();
        let losses: BTreeSet<_> = trims.into_iter().chain(counts_entries.then_some(LOSS_RATIO)).collect();
        assert!(more.is_subset(&losses), "{more:?}");
    })
    .await;
}
