//! A master that sentinels know, and one that they replace.

use std::time::Duration;

use crate::support::client::RedisClient;
use crate::support::config::{ConfigFile, serving};
use crate::support::fake_server::{Behavior, FakeServer};
use crate::support::sentinel::{MASTER, Sentinel};
use crate::support::series::{TARGET_UP, errors, group, up};
use crate::support::server::Server;
use crate::support::servers::newest;
use crate::support::wait::wait_until;
use crate::support::watch::{assert_logged, is_up, until_metrics, until_within, with_streams};

/// A failover takes a while, and then one poll plus 5 s follow it; time for a loaded machine.
const FAILOVER: Duration = Duration::from_secs(40);

const POLL: &str = "poll: {interval: 1s, timeout: 900ms, stale_after: 1m, discovery_interval: 1s}\n";

fn target(sentinels: &[String]) -> String {
    let urls: Vec<_> = sentinels.iter().map(|url| format!("'{url}'")).collect();
    format!(
        "{POLL}targets: [{{name: t, topology: sentinel, sentinel: {{master_name: {MASTER}, urls: [{}]}}}}]",
        urls.join(", ")
    )
}

fn node(server: &Server) -> String {
    format!(r#"streamgauge_node_up{{node="127.0.0.1:{}",target="t"}}"#, server.port())
}

#[tokio::test]
async fn a_failover_is_followed_though_one_sentinel_is_dead_and_one_knows_the_old_master() {
    let program = newest();
    let mut master = Server::start(program, &[]).await;
    with_streams(&master).await;
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let replica = Server::start(program, &["--replicaof", "127.0.0.1", &master.port().to_string()]).await;
        wait_until(FAILOVER, "it follows", async || {
            let info: String = replica.command(&["INFO", "replication"]).await;
            info.contains("master_link_status:up")
        })
        .await;
        replicas.push(replica);
    }
    let mut sentinels = Vec::new();
    for _ in 0..3 {
        sentinels.push(Sentinel::start(program, &master).await);
    }
    for sentinel in &sentinels {
        sentinel.knows(2, 2).await;
    }
    // One that is not there, one that does not answer, and one that will never hear of a failover.
    let dead = FakeServer::new(Behavior::ReplyAndClose(b"")).await;
    let old = format!("*2\r\n$9\r\n127.0.0.1\r\n$5\r\n{}\r\n", master.port());
    let stale = FakeServer::new(Behavior::ReplyAlways(Box::leak(old.into_boxed_str()).as_bytes())).await;
    let mut urls = vec![dead.url(), stale.url()];
    urls.extend(sentinels.iter().map(Sentinel::url));
    let exporter = serving(&target(&urls)).await;
    let found = until_metrics(&exporter, "both streams", |metrics| metrics.contains_key(&up("b"))).await;
    assert_eq!((found[&node(&master)], found[&group("redis_stream_group_lag", "b", "g")]), (1.0, 2.0));

    // A failover by an operator: the old master becomes a replica, and stays.
    sentinels[0].client().await.run(&format!("SENTINEL FAILOVER {MASTER}")).await;
    let before = master.port();
    wait_until(FAILOVER, "another master is known", async || sentinels[0].master().await != before).await;
    let promoted = sentinels[0].master().await;
    let at = replicas.iter().position(|replica| replica.port() == promoted).expect("it was a replica");
    let promoted = replicas.remove(at);
    RedisClient::to(&promoted).await.run("XADD b * f v").await;
    let found = until_within(FAILOVER, &exporter, "the new master", |metrics| {
        metrics.get(&group("redis_stream_group_lag", "b", "g")) == Some(&3.0)
    })
    .await;
    assert_eq!(found[&node(&promoted)], 1.0);
    assert!(!found.contains_key(&node(&master)), "{found:#?}");
    let events = exporter.get("/api/v1/events").await.text();
    assert!(events.contains(&format!("failover: the master is {}", promoted.address())), "{events}");

    // One by death.
    wait_until(FAILOVER, "the old master follows the new one", async || {
        let info: String = master.command(&["INFO", "replication"]).await;
        info.contains("master_link_status:up")
    })
    .await;
    let port = promoted.port();
    let mut promoted = promoted;
    promoted.kill();
    wait_until(FAILOVER, "a third master is known", async || sentinels[1].master().await != port).await;
    let third = sentinels[1].master().await;
    let third = if third == master.port() { &mut master } else { &mut replicas[0] };
    let mut client = RedisClient::to(third).await;
    wait_until(FAILOVER, "it is a master", async || {
        client.ask::<String>(&["INFO", "replication"]).await.contains("role:master")
    })
    .await;
    client.run("XADD b * f v").await;
    until_within(FAILOVER, &exporter, "the third master", |metrics| {
        is_up(metrics) && metrics.get(&group("redis_stream_group_lag", "b", "g")) == Some(&4.0)
    })
    .await;
}

#[tokio::test]
async fn sentinels_that_are_gone_leave_the_master_that_is_known() {
    let program = newest();
    let master = Server::start(program, &[]).await;
    with_streams(&master).await;
    let sentinel = Sentinel::start(program, &master).await;
    let exporter = serving(&target(&[sentinel.url()])).await;
    until_metrics(&exporter, "both streams", |metrics| metrics.contains_key(&up("b"))).await;
    sentinel.pause();
    RedisClient::to(&master).await.run("XADD b * f v").await;
    until_metrics(&exporter, "it is polled all the same", |metrics| {
        is_up(metrics) && metrics.get(&group("redis_stream_group_lag", "b", "g")) == Some(&3.0)
    })
    .await;
}

#[tokio::test]
async fn check_says_that_the_master_is_unknown_or_none_answers() {
    let program = newest();
    let master = Server::start(program, &[]).await;
    let sentinel = Sentinel::start(program, &master).await;
    let config = ConfigFile::new(&target(&[sentinel.url()]).replace(MASTER, "other"));
    let checked = config.command("check").run().await;
    assert_eq!(checked.code, Some(1));
    assert!(checked.stdout.contains(r#"knows no master "other""#), "{}", checked.stdout);
    let exporter = config.serve().serving().await;
    until_metrics(&exporter, "it is counted", |metrics| {
        metrics[TARGET_UP] == 0.0 && metrics[&errors("sentinel")] >= 2.0
    })
    .await;
    assert_logged(&exporter, "knows no master", 1).await;
}
