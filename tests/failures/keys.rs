//! Keys and groups that vanish, or become something else, between two polls.

use crate::support::config::{QUICK, serving};
use crate::support::metrics::Metrics;
use crate::support::series::{errors, group, up};
use crate::support::servers::for_each_server;
use crate::support::watch::{
    assert_logged, is_up, of_streams, only_slow_polls_failed, until_metrics, with_streams,
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
        client.run("DEL a b\nSET b text").await;
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
