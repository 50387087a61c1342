//! `/api/v1/groups` of real servers: what it says is what `/metrics` says.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use support::client::RedisClient;
use support::config::{ConfigFile, ONCE, QUICK};
use support::metrics::Metrics;
use support::program::Exporter;
use support::server::Server;
use support::servers::{for_each_server, newest};
use support::wait::wait_until;

const SOON: Duration = Duration::from_secs(30);

async fn fill(server: &Server) {
    let mut client = RedisClient::to(server).await;
    for n in 1..=9 {
        client.run(&format!("XADD orders * n {n}\nXADD explicit {n}-1 n {n}")).await;
    }
    client
        .run(
            "XGROUP CREATE orders done 0
         XREADGROUP GROUP done d1 COUNT 100 NOACK STREAMS orders >
         XGROUP CREATE orders behind 0
         XREADGROUP GROUP behind b1 COUNT 3 STREAMS orders >
         XREADGROUP GROUP behind b2 COUNT 2 STREAMS orders >
         XGROUP CREATE orders untouched 0
         XGROUP CREATE explicit untimed 0
         XREADGROUP GROUP untimed u1 COUNT 1 STREAMS explicit >
         SET text value",
        )
        .await;
    client.ask::<()>(&[&b"XGROUP"[..], b"CREATE", b"orders", b"a\xff\"\n", b"0"]).await;
}

fn config(server: &Server, poll: &str) -> ConfigFile {
    ConfigFile::new(&format!(
        "{poll}targets:
  - name: here
    url: '{}'
    labels: {{team: billing}}
    streams: [{{key: missing}}, {{key: text}}, {{key: explicit, groups: {{include: [untimed, absent]}}}}, {{key: '*'}}]
  - {{name: nobody, url: 'redis://127.0.0.1:1', labels: {{team: none}}}}
",
        server.url()
    ))
}

async fn groups(exporter: &Exporter, query: &str) -> Value {
    let response = exporter.get(&format!("/api/v1/groups{query}")).await;
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.headers["content-type"], "application/json");
    serde_json::from_str(&response.text()).expect("the answer is JSON")
}

fn names(listing: &Value) -> Vec<&str> {
    let groups = listing["groups"].as_array().expect("a list");
    groups.iter().map(|group| group["group"].as_str().expect("a name")).collect()
}

async fn polled(exporter: &Exporter) {
    wait_until(SOON, "each target was tried", async || exporter.get("/-/ready").await.status == 200).await;
}

/// The numbers of a group or of a consumer, by the name of their metric.
fn numbers(object: &Value, prefix: &str) -> BTreeMap<String, f64> {
    let fields = object.as_object().expect("an object");
    let numbers =
        fields.iter().filter_map(|(name, value)| Some((format!("{prefix}{name}"), value.as_f64()?)));
    numbers.collect()
}

/// The series with these labels, without them.
fn series(metrics: &Metrics, prefix: &str, labels: &str) -> BTreeMap<String, f64> {
    let of = metrics.iter().filter_map(|(series, value)| {
        let name = series.strip_suffix(&format!("{{{labels}}}"))?;
        (name.starts_with(prefix) && name != "redis_stream_group_up").then(|| (name.to_owned(), *value))
    });
    of.collect()
}

#[tokio::test]
async fn it_says_what_the_metrics_say() {
    for_each_server(async |server| {
        fill(&server).await;
        let exporter = config(&server, ONCE).serve().serving().await;
        polled(&exporter).await;
        let (listing, metrics) = (groups(&exporter, "?target=here").await, exporter.metrics().await);
        let mut shown = 0;
        for group in listing["groups"].as_array().expect("a list") {
            let label = |name: &str| {
                group[name]
                    .as_str()
                    .expect("a name")
                    .replace('\\', "\\\\")
                    .replace('"', "\\\"")
                    .replace('\n', "\\n")
            };
            let labels =
                format!(r#"target="here",db="db0",stream="{}",group="{}""#, label("stream"), label("group"));
            let prefix = "redis_stream_group_";
            assert_eq!(
                numbers(group, prefix),
                series(&metrics, prefix, &format!(r#"{labels},team="billing""#)),
                "{labels}"
            );
            let consumers = group["consumer_list"].as_array().map_or(&[][..], Vec::as_slice);
            for consumer in consumers {
                let prefix = "redis_stream_group_consumer_";
                let labels = format!(
                    r#"{labels},consumer="{}",team="billing""#,
                    consumer["consumer"].as_str().expect("a name")
                );
                assert_eq!(numbers(consumer, prefix), series(&metrics, prefix, &labels), "{labels}");
                shown += 1;
            }
            if let Some(status) = group["status"].as_str() {
                let series =
                    format!(r#"redis_stream_group_status{{{labels},status="{status}",team="billing"}}"#);
                assert_eq!(metrics[&series], 1.0, "{series}");
            }
            shown += 1;
        }
        assert_eq!(shown, 6 + 4, "{listing:#}");
        assert_eq!(names(&listing)[0], "absent", "what is missing comes first");
        assert_eq!(
            (&listing["groups"][0]["up"], &listing["groups"][0]["lag"]),
            (&Value::Bool(false), &Value::Null)
        );
        let target = &listing["targets"][0];
        assert_eq!(target["streams_down"], serde_json::json!(["missing", "text"]));
        assert_eq!((&target["up"], &target["labels"]["team"]), (&Value::Bool(true), &Value::from("billing")));
        let read_at =
            metrics[r#"streamgauge_last_successful_poll_timestamp_seconds{target="here",team="billing"}"#];
        assert_eq!(target["last_successful_poll_timestamp_seconds"].as_f64(), Some(read_at));
    })
    .await;
}

#[tokio::test]
async fn filters_select_and_a_wrong_one_is_named() {
    let server = Server::start(newest(), &[]).await;
    fill(&server).await;
    let exporter = config(&server, ONCE).serve().serving().await;
    polled(&exporter).await;
    for (query, expected) in [
        ("?stream=orders&group=%5Bbd%5D*", &["behind", "done"][..]),
        ("?group=a%5Cxff*", &["a\\xff\"\n"]),
        ("?limit=1", &["absent"]),
        ("?target=no*", &[]),
        ("?status=ok,stalled", &["done"]),
    ] {
        assert_eq!(names(&groups(&exporter, query).await), expected, "{query}");
    }
    let nobody = groups(&exporter, "?target=nobody").await;
    let target = &nobody["targets"][0];
    assert_eq!((&target["up"], &target["streams"]), (&Value::Bool(false), &Value::Null));
    let error = target["error"].as_str().expect("a text");
    assert!(error.starts_with("cannot connect to 127.0.0.1:1"), "{error}");
    for (query, said) in [
        ("?limit=none", "limit: found \"none\"; expected a number of groups, 1 or more\n"),
        ("?sort=%1b", "\"sort\": no such parameter; expected target, stream, group, status or limit\n"),
    ] {
        let response = exporter.get(&format!("/api/v1/groups{query}")).await;
        assert_eq!((response.status.as_u16(), response.text().as_str()), (400, said));
    }
}

#[tokio::test]
async fn a_target_that_is_gone_keeps_its_groups_until_they_are_stale() {
    let mut server = Server::start(newest(), &[]).await;
    fill(&server).await;
    let exporter = config(&server, QUICK).serve().serving().await;
    polled(&exporter).await;
    assert_eq!(names(&groups(&exporter, "?target=here").await).len(), 6);
    server.kill();
    wait_until(SOON, "it is down, and its groups are still there", async || {
        let listing = groups(&exporter, "?target=here").await;
        listing["targets"][0]["up"] == Value::Bool(false) && names(&listing).len() == 6
    })
    .await;
    wait_until(SOON, "its groups are gone", async || {
        let listing = groups(&exporter, "?target=here").await;
        names(&listing).is_empty() && listing["targets"][0]["streams"].is_null()
    })
    .await;
}
