//! A network that is slow, resets, falls silent, or garbles what it carries: each fault is counted and ends in a new
//! connection, and no number is ever wrong.

use std::time::Duration;

use futures_util::future::join_all;

use crate::support::config::serving;
use crate::support::fake_server::{Behavior, FakeServer, NetworkFault};
use crate::support::metrics::Metrics;
use crate::support::series::{errors, group, polls, up};
use crate::support::server::Server;
use crate::support::servers::newest;
use crate::support::watch::{RECOVERY, is_up, until_within, with_streams};

const DEADLINE: Duration = Duration::from_secs(60);

const POLL: &str = "poll: {interval: 2s, timeout: 1900ms, stale_after: 30s, discovery_interval: 1s}\n";

/// Checks the lags.
fn assert_right(metrics: &Metrics) {
    for (key, lag) in [("a", 1.0), ("b", 2.0)] {
        let shown = metrics.get(&group("redis_stream_group_lag", key, "g"));
        assert!(shown.is_none_or(|shown| *shown == lag), "{key}: {metrics:#?}");
    }
}

#[tokio::test]
async fn a_latency_of_200_ms_delays_and_harms_nothing() {
    let server = Server::start(newest(), &[]).await;
    with_streams(&server).await;
    let fault = NetworkFault::Latency(Duration::from_millis(200));
    let proxy = FakeServer::new(Behavior::Forward { server: server.address(), fault }).await;
    let exporter = serving(&format!("{POLL}targets: [{{name: t, url: '{}'}}]", proxy.url())).await;
    let found = until_within(DEADLINE, &exporter, "both streams in several polls", |metrics| {
        assert_right(metrics);
        metrics[&polls("ok")] >= 3.0 && metrics.contains_key(&up("b"))
    })
    .await;
    assert!(is_up(&found));
}

#[tokio::test]
async fn faults_on_the_way_are_counted_and_no_number_is_wrong() {
    let server = Server::start(newest(), &[]).await;
    with_streams(&server).await;
    let faults = [
        (NetworkFault::Silence(100), "timeout"),
        (NetworkFault::Silence(900), "timeout"),
        (NetworkFault::Garbage(20, b"!#%garbage\r\n"), "protocol"),
        (NetworkFault::Garbage(900, b"*2\r\n$-7\r\n"), "protocol"),
    ];
    join_all(faults.map(async |(fault, reason)| {
        let proxy = FakeServer::new(Behavior::Forward { server: server.address(), fault }).await;
        let exporter = serving(&format!("{POLL}targets: [{{name: t, url: '{}'}}]", proxy.url())).await;
        until_within(DEADLINE, &exporter, &format!("{fault:?} is counted as {reason}"), |metrics| {
            assert_right(metrics);
            metrics[&errors(reason)] >= 2.0
        })
        .await;
        assert!(proxy.connections() >= 2, "{fault:?} ends the connection");
        let address = proxy.address;
        proxy.close().await;
        let _through =
            FakeServer::on(address, Behavior::CutOff { server: server.address(), after: usize::MAX }).await;
        let found = until_within(RECOVERY + DEADLINE, &exporter, "all is there", |metrics| {
            assert_right(metrics);
            is_up(metrics) && metrics.contains_key(&up("b"))
        })
        .await;
        assert_eq!(found[&group("redis_stream_group_lag", "b", "g")], 2.0);
    }))
    .await;
}

#[tokio::test]
async fn resets_now_and_then_cost_polls_and_no_number() {
    let server = Server::start(newest(), &[]).await;
    with_streams(&server).await;
    // Some parts of replies a poll, and many polls: about one in a hundred parts is lost.
    let proxy =
        FakeServer::new(Behavior::Forward { server: server.address(), fault: NetworkFault::Resets(100) })
            .await;
    let quick = "poll: {interval: 50ms, timeout: 49ms, stale_after: 30s, discovery_interval: 50ms}\n";
    let exporter = serving(&format!("{quick}targets: [{{name: t, url: '{}'}}]", proxy.url())).await;
    until_within(DEADLINE, &exporter, "resets and polls that went well", |metrics| {
        assert_right(metrics);
        metrics[&errors("io")] >= 3.0 && metrics[&polls("ok")] >= 50.0 && metrics.contains_key(&up("b"))
    })
    .await;
}
