//! With `redis_exporter_compat`, every stream series of prometheus-redis-exporter is here too: whole outputs of
//! both, for the same servers at rest, held against each other.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::client::RedisClient;
use support::config::{ONCE, serving};
use support::http;
use support::metrics::parse;
use support::peers;
use support::server::{Server, free_port};
use support::servers::for_each_server;
use support::wait::{wait_for, wait_until};

/// The peer, as a process that ends with this.
struct Peer {
    process: Child,
    port: u16,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Peer {
    fn start(program: &Path, server: &Server) -> Self {
        let port = free_port();
        let process = Command::new(program)
            .args(["--redis.addr", &server.url(), "--check-streams", "db0=*"])
            .args(["--web.listen-address", &format!("127.0.0.1:{port}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, port }
    }

    async fn metrics(&self) -> String {
        let address = ([127, 0, 0, 1], self.port).into();
        let answer = wait_for(Duration::from_secs(20), "the peer", async || {
            http::try_get(address, "/metrics", &[]).await
        });
        answer.await.text()
    }
}

/// Name and labels of a series, without ours that the peer does not have.
type Series = (String, BTreeMap<String, String>);

fn series(text: &str) -> BTreeMap<Series, f64> {
    parse(text)
        .into_iter()
        .map(|(series, value)| {
            let (name, labels) = series.split_once('{').unwrap_or((&series, "}"));
            let labels = labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty());
            let labels = labels.map(|label| label.split_once("=\"").unwrap());
            let labels =
                labels.map(|(name, value)| (name.to_owned(), value.trim_end_matches('"').to_owned()));
            ((name.to_owned(), labels.filter(|(name, _)| name != "target").collect()), value)
        })
        .collect()
}

async fn fill(client: &mut RedisClient) {
    client
        .run(
            "XADD orders 5-1 item 1
         XADD orders 6-0 item 2
         XADD orders 7-3 item 3
         XADD orders * item 4
         XADD made * item 5
         XGROUP CREATE orders mail 0
         XGROUP CREATE orders idle $
         XGROUP CREATE empty nobody 0 MKSTREAM
         XREADGROUP GROUP mail one COUNT 2 STREAMS orders >
         XREADGROUP GROUP mail two COUNT 1 STREAMS orders >
         XACK orders mail 5-1
         XDEL orders 7-3
         SET text value",
        )
        .await;
}

#[tokio::test]
async fn every_stream_series_of_the_peer_is_here_with_the_same_labels_and_value() {
    let Some(program) = peers::find("prometheus-redis-exporter") else { return };
    for_each_server(async |server| {
        fill(&mut RedisClient::to(&server).await).await;
        let exporter = serving(&format!(
            "{ONCE}metrics: {{redis_exporter_compat: true}}\ntargets: [{{name: t, url: '{}'}}]",
            server.url()
        ))
        .await;
        wait_until(Duration::from_secs(20), "a poll", async || {
            exporter.metrics().await.get("redis_up{target=\"t\"}") == Some(&1.0)
        })
        .await;
        let ours = series(&exporter.get("/metrics").await.text());
        let theirs = series(&Peer::start(&program, &server).metrics().await);
        let is_about_streams = |(name, _): &Series| name.starts_with("redis_stream_") || name == "redis_up";
        let theirs: BTreeMap<_, _> =
            theirs.into_iter().filter(|(series, _)| is_about_streams(series)).collect();
        assert!(theirs.len() > 25, "{theirs:?}");
        for (series, value) in &theirs {
            // Since 1.52 it exports the server's own numbers, and 0 where the server does not know one.
            let is_unknown = *value == 0.0 && !ours.contains_key(series);
            match series.0.as_str() {
                "redis_stream_group_lag" => continue,
                "redis_stream_group_entries_read" if is_unknown => continue,
                _ => {}
            }
            let own = ours.get(series).unwrap_or_else(|| panic!("{series:?} is not here: {ours:#?}"));
            // Idle times go on from one reading to the other.
            let tolerance = if series.0.ends_with("_idle_seconds") { 20.0 } else { 0.0 };
            assert!((own - value).abs() <= tolerance, "{series:?} is {own} here and {value} there");
        }
    })
    .await;
}
