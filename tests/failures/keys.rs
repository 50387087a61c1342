//! Keys and groups that vanish, or become something else, between two polls.

use crate::support::config::{QUICK, serving};
use crate::support::fake_server::{Behavior, FakeServer, NetworkFault};
use crate::support::metrics::Metrics;
use crate::support::series::{errors, group, up};
use crate::support::servers::for_each_server;
use crate::support::watch::{
    assert_logged, is_up, of_streams, only_slow_polls_failed, until_metrics, watching, with_streams,
};

#[tokio::test]
async fn keys_and_groups_that_vanish_or_change_touch_nothing_else() {
    for_each_server(async |server| {
        let mut client = with_streams(&server).await;
        client.run("XADD named * f v\nXGROUP CREATE named g 0").await;
        let url = server.url();
        let exporter = serving(&format!(
            "{QUICK}targets: [{{name: t, url: '{url}', streams: [
                {{key: named, groups: {{include: [g]}}}}, {{key: '*'}}]}}]"
        ))
        .await;
        let group_up = group("redis_stream_group_up", "named", "g");
        let is = |metrics: &Metrics, named: f64, group: f64| {
            metrics.get(&up("named")) == Some(&named) && metrics.get(&group_up) == Some(&group)
        };
        until_metrics(&exporter, "all there", |metrics| {
            is(metrics, 1.0, 1.0) && metrics.contains_key(&up("b"))
        })
        .await;

        client.run("XGROUP DESTROY named g\nXGROUP DESTROY b g").await;
        let found = until_metrics(&exporter, "no group", |metrics| {
            is(metrics, 1.0, 0.0) && !metrics.keys().any(|series| series.contains(r#"stream="b",group"#))
        })
        .await;
        assert_eq!(found[&up("b")], 1.0);
        assert!(found[&errors("missing_group")] > 0.0);

        client.run("DEL named\nDEL b").await;
        until_metrics(&exporter, "no key", |metrics| is_up(metrics) && is(metrics, 0.0, 0.0)).await;
        until_metrics(&exporter, "what was found is gone", |metrics| !metrics.contains_key(&up("b"))).await;
        until_metrics(&exporter, "several polls", |metrics| metrics[&errors("missing_key")] >= 4.0).await;

        client.run("SET named text\nSET b text").await;
        let found =
            until_metrics(&exporter, "another type", |metrics| metrics[&errors("wrong_type")] >= 3.0).await;
        assert!(is(&found, 0.0, 0.0), "{found:#?}");
        assert_eq!(found.get(&up("b")), None, "of another type, and not named");
        assert_eq!(found[&group("redis_stream_group_lag", "a", "g")], 1.0, "untouched");

        client.run("XADD new * f v\nXGROUP CREATE new g $\nRENAME new named").await;
        let found = until_metrics(&exporter, "all there again", |metrics| is(metrics, 1.0, 1.0)).await;
        assert_eq!(found[&group("redis_stream_group_lag", "named", "g")], 0.0);
        assert!(only_slow_polls_failed(&found), "{found:#?}");
        for line in [
            r#"stream=named reason="missing_key""#,
            r#"stream=named reason="wrong_type""#,
            r#"stream can be read again target_name="t" stream=named"#,
        ] {
            assert_logged(&exporter, line, 1).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_key_of_another_type_that_was_found_as_a_stream_is_gone_with_the_next_poll() {
    for_each_server(async |server| {
        let mut client = with_streams(&server).await;
        // A turn of SCAN takes so long that only the poll itself can notice.
        let url = server.url();
        let exporter = serving(&format!(
            "poll: {{interval: 400ms, timeout: 390ms, discovery_interval: 1h}}
targets: [{{name: t, url: '{url}'}}]"
        ))
        .await;
        until_metrics(&exporter, "both", |metrics| metrics.contains_key(&up("b"))).await;
        // SET replaces the stream: no poll finds the key missing in between.
        client.run("DEL a\nSET b text").await;
        let found = until_metrics(&exporter, "both are gone", |metrics| {
            is_up(metrics) && of_streams(metrics).is_empty()
        })
        .await;
        assert!(only_slow_polls_failed(&found), "{found:#?}");
        assert_logged(&exporter, "stream=b", 1).await;
        client.run("DEL b\nXADD b * f v").await;
        until_metrics(&exporter, "a stream again", |metrics| metrics.get(&up("b")) == Some(&1.0)).await;
    })
    .await;
}

#[tokio::test]
async fn an_integer_beyond_64_bits_costs_its_stream_only() {
    for_each_server(async |server| {
        let mut client = with_streams(&server).await;
        client.run("XADD odd * f v\nXGROUP CREATE odd g 0\nXREADGROUP GROUP g c STREAMS odd >").await;
        for number in [&b"pending\r\n:18446744073709551615\r\n"[..], b"pending\r\n:-9223372036854775809\r\n"]
        {
            let fault = NetworkFault::Replace(b"pending\r\n:1\r\n", number);
            let proxy = FakeServer::new(Behavior::Forward { server: server.address(), fault }).await;
            let exporter = watching(&proxy.url()).await;
            let found = until_metrics(&exporter, "the other streams", |metrics| {
                metrics.get(&up("b")) == Some(&1.0) && metrics[&errors("protocol")] >= 2.0
            })
            .await;
            assert_eq!((found[&up("odd")], found[&up("a")]), (0.0, 1.0));
            assert_eq!(found[&group("redis_stream_group_lag", "b", "g")], 2.0);
            assert_eq!(found[&errors("io")], 0.0);
            assert!(is_up(&found));
        }
    })
    .await;
}
