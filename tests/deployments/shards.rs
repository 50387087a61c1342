//! Several exporters that share the streams of one server.

use std::collections::BTreeMap;

use crate::support::client::RedisClient;
use crate::support::config::{ConfigFile, QUICK};
use crate::support::metrics::named;
use crate::support::program::Streamgauge;
use crate::support::server::Server;
use crate::support::servers::newest;
use crate::support::wait::wait_for;
use crate::support::watch::SOON;

/// `XADD` of each of these keys.
fn add(keys: std::ops::Range<u32>) -> String {
    keys.map(|n| format!("XADD s{n} * f v\n")).collect()
}

#[tokio::test]
async fn shards_together_poll_each_stream_once_while_streams_come_and_go() {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    client.run(&add(0..60)).await;
    let config = ConfigFile::new(&format!(
        "{QUICK}targets: [{{name: t, url: '{}', streams: [{{key: named}}, {{key: '*'}}]}}]",
        server.url()
    ));
    let mut exporters = Vec::new();
    for shard in ["0/3", "1/3", "2/3"] {
        exporters.push(config.serve().args(["--shard", shard]).serving().await);
    }
    // How many exporters show each stream.
    let shown = async || {
        let mut shown = BTreeMap::<String, usize>::new();
        for exporter in &exporters {
            for (series, _) in named(&exporter.metrics().await, "redis_stream_up") {
                *shown.entry(series).or_default() += 1;
            }
        }
        shown
    };
    let until_there = async |count: usize| {
        wait_for(SOON, "each stream once", async || {
            let shown = shown().await;
            assert!(shown.values().all(|times| *times == 1), "{shown:#?}");
            if shown.len() == count { Ok(()) } else { Err(format!("{} of {count}", shown.len())) }
        })
        .await;
    };
    // The one that is named is missing, which one of them says.
    until_there(61).await;
    for round in 1..4 {
        client.run(&add(60 * round..60 * (round + 1))).await;
        let gone: String = (60 * (round - 1)..60 * round).map(|n| format!("DEL s{n}\n")).collect();
        client.run(&gone).await;
        until_there(61).await;
    }
}

#[tokio::test]
async fn a_shard_that_is_none_is_said() {
    for (shard, said) in [
        ("3/3", "found \"3/3\"; expected I/N, with I from 0 and below N"),
        ("1", "found \"1\"; expected I/N, such as 0/3, 1/3 and 2/3"),
        ("+0/3", "found \"+0/3\"; expected I/N, such as 0/3, 1/3 and 2/3"),
        ("0/0", "found \"0/0\"; expected I/N, with I from 0 and below N"),
    ] {
        let args = ["--redis-url", "redis://cache", "--shard", shard];
        let ended = Streamgauge::serve().args(args).run().await;
        assert_eq!((ended.code, ended.stderr.trim_end()), (Some(2), format!("--shard: {said}").as_str()));
    }
}
