//! A server that is too slow for its poll interval: its streams are read in turn, and each keeps its values until its own
//! reading is too old.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use crate::support::client::RedisClient;
use crate::support::config::{ConfigFile, serving};
use crate::support::fake_server::{Behavior, FakeServer, NetworkFault};
use crate::support::metrics::{Metrics, named};
use crate::support::program::Exporter;
use crate::support::series::{OLDEST_READING, TARGET_UP, errors, polls};
use crate::support::server::Server;
use crate::support::servers::newest;
use crate::support::wait::wait_for;
use crate::support::watch::{is_up, of_streams, unix_now, until_within};

const STREAMS: usize = 300;
const DEADLINE: Duration = Duration::from_secs(90);
const FAST: u32 = u32::MAX;
/// A third of what all streams take in one interval.
const SLOW: u32 = 60_000;
const TURN: &str = "a turn over all 300 streams takes ";

/// Starts a server with streams of one entry, which is pending for the only group.
async fn server() -> (Server, RedisClient) {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    for stream in 0..STREAMS {
        client.run(&format!("XADD s:{stream} * f v\nXGROUP CREATE s:{stream} g 0")).await;
        client.run(&format!("XREADGROUP GROUP g c STREAMS s:{stream} >")).await;
    }
    (server, client)
}

async fn behind(server: &Server, rate: &'static AtomicU32) -> FakeServer {
    let fault = NetworkFault::Bandwidth(rate);
    FakeServer::new(Behavior::Forward { server: server.address(), fault }).await
}

async fn watching(proxy: &FakeServer, stale_after: &str) -> Exporter {
    serving(&format!(
        "poll: {{interval: 2s, timeout: 1600ms, stale_after: {stale_after}, discovery_interval: 1s}}
targets: [{{name: t, url: '{}'}}]
alerts: {{recommended: false, rules: [{{alert: Pending, expr: messages_pending > 0}}]}}",
        proxy.url()
    ))
    .await
}

fn behind_lines(exporter: &Exporter) -> Vec<String> {
    exporter.stderr().lines().filter(|line| line.contains(TURN)).map(str::to_owned).collect()
}

fn lags(metrics: &Metrics) -> Vec<f64> {
    named(metrics, "redis_stream_group_lag").into_values().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_read_in_turn_keep_their_values_and_alerts() {
    static RATE: AtomicU32 = AtomicU32::new(FAST);
    let (server, mut client) = server().await;
    let proxy = behind(&server, &RATE).await;
    let exporter = watching(&proxy, "1m").await;
    let settled = until_within(DEADLINE, &exporter, "all streams, statuses and alerts", |metrics| {
        lags(metrics).len() == STREAMS && named(metrics, "streamgauge_alerts").len() == STREAMS
    })
    .await;
    RATE.store(SLOW, Relaxed);
    for added in 1..=2 {
        for stream in 0..STREAMS {
            client.run(&format!("XADD s:{stream} * f v")).await;
        }
        until_within(DEADLINE, &exporter, "each stream is read again", |metrics| {
            assert_eq!(metrics[TARGET_UP], 1.0);
            // A lag that does not shrink has no time to drain.
            let stays = |name: &&String| !name.starts_with("redis_stream_group_drain_seconds");
            let missing: Vec<_> =
                settled.keys().filter(stays).filter(|name| !metrics.contains_key(*name)).collect();
            assert!(missing.is_empty(), "{} are missing, such as {:?}", missing.len(), missing.first());
            assert!(unix_now() - metrics[OLDEST_READING] < 40.0);
            lags(metrics).iter().all(|lag| *lag == f64::from(added))
        })
        .await;
    }
    let end = exporter.metrics().await;
    assert!(
        end[&polls("partial")] >= 4.0 && end[&polls("failed")] == 0.0,
        "{:?}",
        named(&end, "streamgauge_polls_total")
    );
    assert!(end[&errors("timeout")] >= 4.0);
    let lines = behind_lines(&exporter);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("poll.interval 2s is too short; "), "{lines:#?}");
    assert!(!exporter.stderr().contains("timed out"), "{}", exporter.stderr());
    exporter.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_whose_own_reading_is_too_old_are_left_out() {
    static RATE: AtomicU32 = AtomicU32::new(FAST);
    let (server, _client) = server().await;
    let proxy = behind(&server, &RATE).await;
    let exporter = watching(&proxy, "3s").await;
    until_within(DEADLINE, &exporter, "all streams", |metrics| lags(metrics).len() == STREAMS).await;
    RATE.store(SLOW / 2, Relaxed);
    let seen = RefCell::new(BTreeSet::new());
    until_within(DEADLINE, &exporter, "a turn over all streams", |metrics| {
        assert!(is_up(metrics));
        let lags = named(metrics, "redis_stream_group_lag");
        // A value is left out at the end of a poll, and of the next one at the latest.
        match metrics.get(OLDEST_READING) {
            Some(read_at) => assert!(unix_now() - read_at < 3.0 + 5.0, "{read_at}"),
            // On a busy machine all of them may be too old.
            None => assert_eq!(lags, Metrics::new()),
        }
        if lags.len() < STREAMS {
            seen.borrow_mut().extend(lags.into_keys());
        }
        seen.borrow().len() == STREAMS
    })
    .await;
    proxy.close().await;
    until_within(DEADLINE, &exporter, "no values, and no age of any", |metrics| {
        !metrics.contains_key(OLDEST_READING) && of_streams(metrics).is_empty() && !is_up(metrics)
    })
    .await;
    exporter.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_the_interval_that_would_fit() {
    static RATE: AtomicU32 = AtomicU32::new(SLOW);
    let (server, _client) = server().await;
    let proxy = behind(&server, &RATE).await;
    let config = ConfigFile::new(&format!(
        "poll: {{interval: 2s, discovery_interval: 1ms}}\ntargets: [{{name: t, url: '{}'}}]",
        proxy.url()
    ));
    let end = wait_for(DEADLINE, "the warning", async || {
        let end = config.command("check").run().await;
        if end.stdout.contains(TURN) { Ok(end) } else { Err(end.stdout) }
    })
    .await;
    assert!(end.stdout.contains("poll.interval 2s is too short; "), "{}", end.stdout);
    assert_eq!(end.code, Some(0), "{}", end.stderr);
}
