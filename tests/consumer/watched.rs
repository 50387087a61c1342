//! The exporter watches a consumer through its life: what it shows is what happened.

use std::time::Duration;

use redis_stream_consumer::consume::ConsumerConfig;

use crate::member::{DEADLINE, Recorder, Running, add, consumers, member, pending};
use crate::support::config::{ConfigFile, QUICK};
use crate::support::program::Exporter;
use crate::support::series::{group, stream};
use crate::support::server::Server;
use crate::support::servers::for_each_server;
use crate::support::wait::wait_for;

/// Values of the group on the exporter: lag, pending, consumers, and whether the oldest pending entry has an age.
type Shown = (f64, f64, f64, bool);

async fn shows(exporter: &Exporter, expected: Shown) {
    wait_for(DEADLINE, "the exporter shows it", async || {
        let metrics = exporter.metrics().await;
        let of_group = |name: &str| metrics.get(&group(name, "orders", "billing")).copied().unwrap_or(-1.0);
        let shown = (
            of_group("redis_stream_group_lag"),
            of_group("redis_stream_group_messages_pending"),
            of_group("redis_stream_group_consumers"),
            of_group("redis_stream_group_oldest_pending_age_seconds") > 0.0,
        );
        if shown == expected { Ok(()) } else { Err(format!("{shown:?} in place of {expected:?}")) }
    })
    .await;
}

/// The same, by the server.
async fn server_says(server: &Server, pending_entries: u64, names: &[&str]) {
    let mut connection = server.connection().await;
    assert_eq!(pending(&mut connection).await, Some(pending_entries));
    assert_eq!(consumers(&mut connection).await, names);
}

#[tokio::test]
async fn lag_pending_and_consumers_follow_what_happens() {
    for_each_server(async |server| {
        let config = ConfigFile::new(&format!("{QUICK}targets: [{{name: t, url: '{}'}}]", server.url()));
        let exporter = config.serve().serving().await;
        add(&server, 1, 100).await;
        server.command::<()>(&["XGROUP", "CREATE", "orders", "billing", "0"]).await;
        shows(&exporter, (100.0, 0.0, 0.0, false)).await;
        server_says(&server, 0, &[]).await;

        // It has 10 in its queue and handles one, which takes for ever.
        let stuck = Recorder { work_time: Duration::from_secs(600), ..Recorder::default() };
        let small = |name: &str| ConsumerConfig {
            batch: 10,
            claim_min_idle: Duration::from_secs(2),
            ..member(&server, name)
        };
        let first = Running::start(ConsumerConfig { concurrency: 10, ..small("first") }, stuck);
        shows(&exporter, (80.0, 20.0, 1.0, true)).await;
        server_says(&server, 20, &["first"]).await;

        first.crash();
        add(&server, 101, 10).await;
        shows(&exporter, (90.0, 20.0, 1.0, true)).await;
        server_says(&server, 20, &["first"]).await;

        let second = Running::start(small("second"), Recorder::default());
        shows(&exporter, (0.0, 0.0, 2.0, false)).await;
        server_says(&server, 0, &["first", "second"]).await;
        assert_eq!(second.recorder.distinct(), (1..=110).collect::<Vec<_>>());

        // A name that nothing is pending on goes with its consumer.
        second.stop().await;
        shows(&exporter, (0.0, 0.0, 1.0, false)).await;
        server_says(&server, 0, &["first"]).await;
        let length = exporter.metrics().await[&stream("redis_stream_length", "orders")];
        assert_eq!(length, 110.0);
        exporter.stop().await;
    })
    .await;
}
