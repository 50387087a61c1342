//! Servers that are configured as something else than they are.

use std::time::Duration;

use crate::support::client::RedisClient;
use crate::support::cluster::Cluster;
use crate::support::program::Streamgauge;
use crate::support::sentinel::Sentinel;
use crate::support::series::{TARGET_UP, errors, up};
use crate::support::server::Server;
use crate::support::servers::newest;
use crate::support::watch::{assert_logged, count, log_changes, until_within, watching};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_sentinel_is_no_server() {
    let master = Server::start(newest(), &[]).await;
    let sentinel = Sentinel::start(newest(), &master).await;
    let said = "is a sentinel, not a server; set topology: sentinel";
    let checked = Streamgauge::command("check").args(["--redis-url", &sentinel.url()]).run().await;
    assert_eq!(checked.code, Some(1));
    assert!(checked.stdout.contains(said), "{}", checked.stdout);
    let exporter = watching(&sentinel.url()).await;
    let found =
        until_within(SOON, &exporter, "a failed poll", |metrics| metrics[&errors("role")] >= 2.0).await;
    assert_eq!(found[TARGET_UP], 0.0);
    assert_eq!(count(&log_changes(&exporter), said), 1);
}

#[tokio::test]
async fn one_node_of_a_cluster_does_not_show_the_streams_of_the_others_and_says_so() {
    let cluster = Cluster::start(newest(), 0, &[]).await;
    for key in ["a", "b", "c", "d"] {
        cluster.run(key, &format!("XADD {key} * f v\nXGROUP CREATE {key} g 0")).await;
    }
    let url = format!("redis://{}", cluster.address(0));
    let said =
        "is one of 3 masters of a cluster: streams on the other nodes are not found; set topology: cluster";
    for command in ["check", "status"] {
        let finished = Streamgauge::command(command).args(["--redis-url", &url]).run().await;
        let all = format!("{}{}", finished.stdout, finished.stderr);
        assert!(all.contains(said), "{command}: {all}");
    }
    let exporter = watching(&url).await;
    let found = until_within(SOON, &exporter, "a poll", |metrics| metrics[TARGET_UP] == 1.0).await;
    assert!(found.len() > 4);
    let listed = exporter.get("/api/v1/groups").await.text();
    assert!(listed.contains(said), "{listed}");
    assert_logged(&exporter, said, 1).await;

    // Streams that are named are read from the other nodes.
    let named = "a b c d".split(' ').map(|key| format!("{{key: {key}}}")).collect::<Vec<_>>().join(", ");
    let exporter = crate::support::config::serving(&format!(
        "poll: {{interval: 1s, timeout: 900ms}}\ntargets: [{{name: t, url: '{url}', streams: [{named}]}}]"
    ))
    .await;
    until_within(SOON, &exporter, "all of them", |metrics| {
        ["a", "b", "c", "d"].iter().all(|key| metrics.get(&up(key)) == Some(&1.0))
    })
    .await;
    assert!(!exporter.get("/api/v1/groups").await.text().contains("masters of a cluster"));
}

#[tokio::test]
async fn a_stream_that_expires_is_no_error_unless_it_is_named() {
    let server = Server::start(newest(), &[]).await;
    let exporter = watching(&server.url()).await;
    let mut client = RedisClient::to(&server).await;
    for n in 0..5 {
        client.run(&format!("XADD short:{n} * f v\nXADD stays * f v")).await;
        until_within(SOON, &exporter, "it is found", |metrics| {
            metrics.contains_key(&up(&format!("short:{n}")))
        })
        .await;
        client.run(&format!("PEXPIRE short:{n} 10")).await;
        let found = until_within(SOON, &exporter, "it is gone", |metrics| {
            !metrics.contains_key(&up(&format!("short:{n}")))
        })
        .await;
        assert_eq!(found[&errors("missing_key")], 0.0);
    }
}
