//! `poll.memory_interval`: the memory of streams, by MEMORY USAGE.

mod support;

use support::client::RedisClient;
use support::cluster::Cluster;
use support::config::{ConfigFile, QUICK, serving};
use support::imitator::{Imitation, Imitator};
use support::series::{errors, group, polls, stream};
use support::server::Server;
use support::servers::{for_each_server, newest};
use support::watch::until_metrics;

const MEMORY: &str = "redis_stream_memory_bytes";

/// Returns [`QUICK`] with an interval for memory.
fn quick(interval: &str) -> String {
    QUICK.replacen("poll: {", &format!("poll: {{memory_interval: {interval}, "), 1)
}

async fn eval(client: &mut RedisClient, script: &str) {
    let _: redis::Value = client.ask(&["EVAL", script, "0"]).await;
}

/// Adds a stream with a group and pending entries, and one with more groups and consumers than are walked.
async fn fill(client: &mut RedisClient) {
    eval(client, "for n = 1, 3000 do redis.call('XADD', 's', '*', 'f', string.rep('v', n % 97)) end").await;
    client.run("XGROUP CREATE s g 0\nXREADGROUP GROUP g c COUNT 50 STREAMS s >").await;
    client.run("XADD many * f v\nXGROUP CREATE many g 0").await;
    eval(client, "for n = 1, 4900 do redis.call('XGROUP', 'CREATECONSUMER', 'many', 'g', n) end").await;
}

async fn usage(client: &mut RedisClient, key: &str) -> f64 {
    client.ask(&["MEMORY", "USAGE", key, "SAMPLES", "100"]).await
}

#[tokio::test]
async fn the_memory_of_a_stream_is_what_the_server_reports() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        fill(&mut client).await;
        let exporter =
            serving(&format!("{}targets: [{{name: t, url: '{}'}}]", quick("100ms"), server.url())).await;
        let expected = usage(&mut client, "s").await;
        let found =
            until_metrics(&exporter, "the memory", |all| all.get(&stream(MEMORY, "s")) == Some(&expected))
                .await;
        assert_eq!(found.get(&stream(MEMORY, "many")), None, "it would walk 4,901 groups and consumers");
        let listing = exporter.get("/api/v1/groups").await.text();
        let listing: serde_json::Value = serde_json::from_str(&listing).expect("it is JSON");
        let largest = &listing["targets"][0]["largest_streams"][0];
        assert_eq!((&largest["stream"], largest["memory_bytes"].as_f64()), (&"s".into(), Some(expected)));
        let page = exporter.get("/groups/t/db0/s/g").await.text();
        assert!(page.contains("<dt>Memory</dt>"), "{page}");

        client.run("XTRIM s MAXLEN 10").await;
        let expected = usage(&mut client, "s").await;
        until_metrics(&exporter, "less memory", |all| all.get(&stream(MEMORY, "s")) == Some(&expected)).await;
        exporter.stop().await;
    })
    .await;
}

#[tokio::test]
async fn it_is_asked_once_in_an_interval_and_not_by_default() {
    let server = Server::start(newest(), &[]).await;
    let mut client = RedisClient::to(&server).await;
    client.run("XADD s * f v\nXADD other * f v\nCONFIG RESETSTAT").await;
    for (interval, calls) in [("0s", 0_u32), ("1h", 2)] {
        let exporter =
            serving(&format!("{}targets: [{{name: t, url: '{}'}}]", quick(interval), server.url())).await;
        let found = until_metrics(&exporter, "some polls", |all| all[&polls("ok")] >= 4.0).await;
        assert_eq!(found.contains_key(&stream(MEMORY, "s")), calls > 0);
        assert_eq!(client.calls("memory|usage").await, u64::from(calls));
        let counted = found[r#"streamgauge_redis_commands_total{command="memory_usage",target="t"}"#];
        assert_eq!(counted, f64::from(calls));
        exporter.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_refuses_it_is_reported_and_the_rest_is_read() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        client.run("XADD s * f v\nXGROUP CREATE s g 0\nACL SETUSER mon reset on >pw ~* +xinfo +xpending +xrange +scan +time").await;
        let url = format!("redis://mon:pw@{}", server.address());
        let text = format!("{}targets: [{{name: t, url: '{url}'}}]", quick("1h"));
        let exporter = serving(&text).await;
        let found = until_metrics(&exporter, "some polls", |all| all[&polls("ok")] >= 4.0).await;
        assert_eq!((found.get(&stream(MEMORY, "s")), found[&errors("denied")]), (None, 1.0));
        assert_eq!(found[&group("redis_stream_group_lag", "s", "g")], 1.0);
        let log = exporter.stderr();
        assert_eq!(log.matches("MEMORY USAGE is refused").count(), 1, "{log}");
        exporter.stop().await;
        let checked = ConfigFile::new(&text).command("check").run().await;
        assert!(checked.stdout.contains("  warning  MEMORY USAGE is refused"), "{}", checked.stdout);

        client.run("ACL SETUSER mon +memory|usage").await;
        let checked = ConfigFile::new(&text).command("check").run().await;
        assert!(checked.stdout.contains("  memory   ") && !checked.stdout.contains("refused"), "{}", checked.stdout);
    })
    .await;
}

#[tokio::test]
async fn a_service_without_the_command_is_polled_all_the_same() {
    let server = Server::start(newest(), &[]).await;
    RedisClient::to(&server).await.run("XADD s * f v\nXGROUP CREATE s g 0").await;
    let service =
        Imitation { refused: &[("MEMORY", "ERR unknown command 'MEMORY'")], ..Imitation::default() };
    let imitator = Imitator::before(server.address(), service).await;
    let exporter =
        serving(&format!("{}targets: [{{name: t, url: '{}'}}]", quick("1h"), imitator.url())).await;
    let found = until_metrics(&exporter, "some polls", |all| all[&polls("ok")] >= 4.0).await;
    assert_eq!((found.get(&stream(MEMORY, "s")), found[&errors("server")]), (None, 1.0));
    assert_eq!(found[&group("redis_stream_group_lag", "s", "g")], 1.0);
}

#[tokio::test]
async fn each_node_of_a_cluster_is_asked_for_its_streams() {
    let cluster = Cluster::start(newest(), 0, &[]).await;
    let keys: Vec<_> = (0..12).map(|number| format!("s{number}")).collect();
    for key in &keys {
        cluster.run(key, &format!("XADD {key} * f v")).await;
    }
    let target = format!("{{name: t, url: 'redis://{}', topology: cluster}}", cluster.address(0));
    let exporter = serving(&format!("{}targets: [{target}]", quick("1h"))).await;
    until_metrics(&exporter, "all", |all| keys.iter().all(|key| all.contains_key(&stream(MEMORY, key))))
        .await;
}
