//! Targets of several servers: what is known of them outlives a change of what leads to them.

use std::time::Duration;

use crate::fixture::{Reloading, server, value};
use crate::support::client::RedisClient;
use crate::support::cluster::Cluster;
use crate::support::metrics::{Metrics, named};
use crate::support::sentinel::{MASTER, Sentinel};
use crate::support::server::Server;
use crate::support::servers::newest;
use crate::support::wait::{wait_for, wait_until};

/// A failover takes a while on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A target with these keys, polled so often.
fn config(interval_ms: u32, target: &str) -> String {
    format!(
        "poll: {{interval: {interval_ms}ms, timeout: 700ms, stale_after: 1m, discovery_interval: 500ms}}\n\
         web: {{enable_reload: true}}\ntargets: [{{name: t, {target}}}]"
    )
}

fn quoted(urls: &[String]) -> String {
    urls.iter().map(|url| format!("'{url}'")).collect::<Vec<_>>().join(", ")
}

/// Returns the losses of the groups `g`, by stream.
fn lost(metrics: &Metrics) -> Vec<f64> {
    named(metrics, "redis_stream_group_entries_lost_total").into_values().collect()
}

fn ups(metrics: &Metrics) -> Vec<f64> {
    named(metrics, "redis_stream_up").into_values().collect()
}

fn polls(metrics: &Metrics) -> f64 {
    value(metrics, "streamgauge_polls_total", &["result=\"ok\""]).unwrap()
}

async fn metrics_when(reloading: &Reloading, what: &str, mut holds: impl FnMut(&Metrics) -> bool) -> Metrics {
    wait_for(DEADLINE, what, async || {
        let metrics = reloading.exporter.metrics().await;
        if holds(&metrics) { Ok(metrics) } else { Err(crate::support::watch::summary(&metrics)) }
    })
    .await
}

/// Waits for polls by the new configuration that find so many streams. One that was forgotten would begin with no loss.
async fn all_stay(reloading: &Reloading, streams: usize) {
    let before = polls(&reloading.exporter.metrics().await);
    metrics_when(reloading, "more polls", |metrics| {
        let found = lost(metrics);
        assert!(found.iter().all(|lost| *lost == 7.0), "{found:?}");
        found.len() == streams && polls(metrics) >= before + 3.0
    })
    .await;
}

fn leads_to(metrics: &Metrics, address: &str) -> bool {
    value(metrics, "streamgauge_node_up", &[&format!("node=\"{address}\"")]) == Some(1.0)
}

#[tokio::test]
async fn sentinels_come_and_go_and_what_is_known_of_the_master_stays() {
    let (master, mut client) = server().await;
    let replica = Server::start(newest(), &["--replicaof", "127.0.0.1", &master.port().to_string()]).await;
    wait_until(DEADLINE, "it follows", async || {
        let info: String = replica.command(&["INFO", "replication"]).await;
        info.contains("master_link_status:up")
    })
    .await;
    let mut sentinels = Vec::new();
    for _ in 0..3 {
        sentinels.push(Sentinel::start(newest(), &master).await);
    }
    for sentinel in &sentinels {
        sentinel.knows(2, 1).await;
    }
    let of = |interval_ms, sentinels: &[Sentinel], streams: &str| {
        let urls: Vec<_> = sentinels.iter().map(Sentinel::url).collect();
        let sentinel = format!("sentinel: {{master_name: {MASTER}, urls: [{}]}}", quoted(&urls));
        config(interval_ms, &format!("topology: sentinel, {sentinel}, streams: [{streams}]"))
    };
    let reloading = Reloading::start(&of(800, &sentinels[..1], "{key: '*'}")).await;
    metrics_when(&reloading, "both streams", |metrics| lost(metrics) == [0.0, 0.0]).await;
    client.run("XTRIM a MAXLEN 2\nXTRIM b MAXLEN 2").await;
    metrics_when(&reloading, "both losses", |metrics| lost(metrics) == [7.0, 7.0]).await;

    reloading.to(&of(900, &sentinels[..2], "{key: '*'}")).await;
    all_stay(&reloading, 2).await;
    reloading.to(&of(800, &sentinels[1..], "{key: 'a*'}")).await;
    all_stay(&reloading, 1).await;

    sentinels[2].client().await.run(&format!("SENTINEL FAILOVER {MASTER}")).await;
    wait_until(DEADLINE, "another master is known", async || sentinels[1].master().await == replica.port())
        .await;
    let address = replica.address().to_string();
    let found = metrics_when(&reloading, "it is polled", |metrics| leads_to(metrics, &address)).await;
    assert_eq!(named(&found, "streamgauge_node_up").len(), 1);
    RedisClient::to(&replica).await.run("XADD a * n 10").await;
    metrics_when(&reloading, "what is added there is seen", |metrics| {
        value(metrics, "redis_stream_group_lag", &["stream=\"a\""]) == Some(3.0)
    })
    .await;
    all_stay(&reloading, 1).await;
}

#[tokio::test]
async fn seeds_come_and_go_and_what_is_known_of_a_cluster_stays() {
    const STREAMS: usize = 12;
    let mut cluster = Cluster::start(newest(), 3, &[]).await;
    let keys: Vec<_> = (0..STREAMS).map(|n| format!("s{n}")).collect();
    for key in &keys {
        let add = "XADD KEY * f v\n".repeat(10);
        let group = "XGROUP CREATE KEY g 0\nXREADGROUP GROUP g c COUNT 1 STREAMS KEY >";
        cluster.run(key, &format!("{add}{group}")).await;
    }
    let of = |interval_ms, seeds: &[&Server], streams: &str| {
        let urls: Vec<_> = seeds.iter().map(|seed| seed.url()).collect();
        let seeds = quoted(&urls);
        config(interval_ms, &format!("topology: cluster, urls: [{seeds}], streams: [{streams}]"))
    };
    let [first, second] = [&cluster.nodes[0], &cluster.nodes[1]];
    let [one, two] = [of(900, &[first], "{key: 's*'}"), of(800, &[second, first], "{key: 's*'}")];
    let without_a_key = of(900, &[first], "{key: 's*', exclude: [s3]}");
    let last = of(800, &[first], "{key: 's*', exclude: [s3]}");

    let reloading = Reloading::start(&one).await;
    metrics_when(&reloading, "all streams", |metrics| lost(metrics) == [0.0; STREAMS]).await;
    for key in &keys {
        cluster.run(key, "XTRIM KEY MAXLEN 2").await;
    }
    metrics_when(&reloading, "all losses", |metrics| lost(metrics) == [7.0; STREAMS]).await;
    reloading.to(&two).await;
    all_stay(&reloading, STREAMS).await;
    reloading.to(&without_a_key).await;
    all_stay(&reloading, STREAMS - 1).await;

    cluster.nodes[0].kill();
    let address = cluster.address(3);
    metrics_when(&reloading, "the replica has taken over", |metrics| {
        leads_to(metrics, &address) && ups(metrics) == [1.0; STREAMS - 1]
    })
    .await;
    // The one seed is dead; the others are known.
    reloading.to(&last).await;
    all_stay(&reloading, STREAMS - 1).await;
    let metrics = reloading.exporter.metrics().await;
    assert_eq!(named(&metrics, "streamgauge_node_up").into_values().collect::<Vec<_>>(), [1.0; 3]);
}
