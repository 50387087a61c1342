//! A target that changes while its server holds far more keys than one interval allows to look at.

use crate::fixture::{Reloading, SOON, server, value};
use crate::support::metrics::Metrics;
use crate::support::wait::wait_until;

const KEYS: u32 = 100_000;

/// Polls in quick succession, and looks at so many keys a second.
fn config(keys_per_second: u32, interval_ms: u32, url: &str, streams: &str) -> String {
    format!(
        "poll: {{interval: {interval_ms}ms, timeout: 190ms, stale_after: 1m, discovery_interval: 200ms, \
         scan_keys_per_second: {keys_per_second}}}\nweb: {{enable_reload: true}}\n\
         alerts: {{recommended: false, rules: [{{alert: Behind, expr: lag > 1}}]}}\n\
         targets: [{{name: t, url: '{url}', streams: {streams}}}]"
    )
}

fn lost(metrics: &Metrics, key: &str) -> Option<f64> {
    value(metrics, "redis_stream_group_entries_lost_total", &[&format!("stream=\"{key}\"")])
}

fn polls(metrics: &Metrics) -> f64 {
    value(metrics, "streamgauge_polls_total", &["result=\"ok\""]).unwrap()
}

/// Waits for polls by the new configuration, through which the stream `a` is there with all that is known of it.
async fn a_stays(reloading: &Reloading) -> Metrics {
    let before = polls(&reloading.exporter.metrics().await);
    let found = reloading.metrics_when("more polls", |metrics| {
        assert_eq!(lost(metrics, "a"), Some(7.0));
        polls(metrics) >= before + 4.0
    });
    found.await
}

#[tokio::test]
async fn streams_that_are_still_selected_need_not_be_found_again() {
    let (server, mut client) = server().await;
    let fill = format!("for n = 1, {KEYS} do redis.call('SET', 'other:' .. n, '') end");
    client.ask::<redis::Value>(&["EVAL", &fill, "0"]).await;
    let url = server.url();
    let reloading = Reloading::start(&config(10_000_000, 200, &url, "[{key: '*'}]")).await;
    wait_until(SOON, "both groups fire", async || reloading.alerts().await.len() == 2).await;
    client.run("XTRIM a MAXLEN 2").await;
    reloading.metrics_when("a loss is seen", |metrics| lost(metrics, "a") == Some(7.0)).await;
    let fired = reloading.alerts().await;

    // From here on a turn over all keys takes longer than this test.
    reloading.to(&config(1_000, 250, &url, "[{key: '*'}]")).await;
    let found = a_stays(&reloading).await;
    assert_eq!(lost(&found, "b"), Some(0.0));
    assert_eq!(reloading.alerts().await, fired, "nothing has changed");

    reloading.to(&config(1_000, 250, &url, "[{key: '*', exclude: [b], window: 3m}]")).await;
    reloading.metrics_when("what is left out is gone", |metrics| lost(metrics, "b").is_none()).await;
    a_stays(&reloading).await;
    reloading.to(&config(1_000, 250, &url, "[{key: b}, {key: 'a*'}]")).await;
    reloading.metrics_when("what is named is there", |metrics| lost(metrics, "b").is_some()).await;
    a_stays(&reloading).await;
    let fired_of = |alerts: Vec<[String; 5]>| alerts.into_iter().find(|alert| alert[2] == "a");
    assert_eq!(fired_of(reloading.alerts().await), fired_of(fired), "since when it did before");
}
