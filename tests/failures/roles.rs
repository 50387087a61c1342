//! Masters and replicas, where the other is wanted.

use crate::support::config::{QUICK, serving};
use crate::support::metrics::{Metrics, named};
use crate::support::series::{group, up};
use crate::support::server::Server;
use crate::support::servers::for_each_program;
use crate::support::watch::{
    RECOVERY, assert_logged, assert_logged_on_change, assert_served_until_stale, is_up, keeps_failing,
    until_metrics, until_within, watching, with_streams,
};

#[tokio::test]
async fn a_master_that_becomes_a_replica_is_none_any_more() {
    for_each_program(async |program| {
        let master = Server::start(program, &[]).await;
        let server = Server::start(program, &[]).await;
        let mut client = with_streams(&server).await;
        let exporter = watching(&server.url()).await;
        until_metrics(&exporter, "both streams", |metrics| metrics.contains_key(&up("b"))).await;
        client.run(&format!("REPLICAOF 127.0.0.1 {}", master.port())).await;
        assert_served_until_stale(&exporter).await;
        keeps_failing(&exporter, "role").await;
        // It has the master's data by now: none.
        client.run("REPLICAOF NO ONE\nDEL a b\nXADD c * f v").await;
        let found = until_within(RECOVERY, &exporter, "the stream", |metrics| {
            is_up(metrics) && metrics.contains_key(&up("c"))
        })
        .await;
        assert_eq!(named(&found, "redis_stream_up").len(), 1, "{found:#?}");
        assert_logged_on_change(&exporter, "is a replica, not a master").await;
    })
    .await;
}

#[tokio::test]
async fn a_replica_is_polled_where_one_is_wanted_and_shows_no_consumers() {
    for_each_program(async |program| {
        let master = Server::start(program, &[]).await;
        let mut client = with_streams(&master).await;
        client.run("XREADGROUP GROUP g c COUNT 1 STREAMS b >").await;
        let replica = Server::start(program, &["--replicaof", "127.0.0.1", &master.port().to_string()]).await;
        for role in ["replica", "any"] {
            let url = replica.url();
            let exporter =
                serving(&format!("{QUICK}targets: [{{name: t, url: '{url}', role: {role}}}]")).await;
            let found =
                until_metrics(&exporter, "the streams", |metrics| metrics.contains_key(&up("b"))).await;
            assert_eq!(found[&group("redis_stream_group_lag", "b", "g")], 1.0);
            assert_eq!(found[&group("redis_stream_group_messages_pending", "b", "g")], 1.0);
            assert_eq!(named(&found, "redis_stream_group_consumer_idle_seconds"), Metrics::new());
        }
        let url = master.url();
        let exporter = serving(&format!("{QUICK}targets: [{{name: t, url: '{url}', role: replica}}]")).await;
        keeps_failing(&exporter, "role").await;
        assert_logged(&exporter, "is a master, not a replica", 1).await;
    })
    .await;
}
