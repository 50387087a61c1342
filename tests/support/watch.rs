//! Shared by tests of outages: an exporter with short poll intervals, and assertions on its metrics and log.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::client::RedisClient;
use super::config::{QUICK, serving};
use super::metrics::Metrics;
use super::program::Exporter;
use super::series::{LAST_SUCCESS, TARGET_UP, errors, polls};
use super::server::Server;
use super::wait::wait_for;

pub const SOON: Duration = Duration::from_secs(15);
/// One interval, the longest backoff, one poll timeout, and time for a loaded machine.
pub const RECOVERY: Duration = Duration::from_millis(400 + 5_000 + 390 + 3_000);
/// `stale_after` of [`QUICK`], in seconds.
pub const STALE_AFTER: f64 = 2.0;
/// Longest duration of a poll with [`QUICK`], to connect and to read, in seconds.
pub const POLL_TAKES: f64 = 0.78;

/// Starts an exporter that polls a target `t` at short intervals.
pub async fn watching(url: &str) -> Exporter {
    serving(&format!("{QUICK}targets: [{{name: t, url: '{url}'}}]")).await
}

/// Adds two streams, each with a group.
pub async fn with_streams(server: &Server) -> RedisClient {
    let mut client = RedisClient::to(server).await;
    client.run("XADD a * f v\nXADD b * f v\nXADD b * f v\nXGROUP CREATE a g 0\nXGROUP CREATE b g 0").await;
    client
}

pub async fn until_metrics(exporter: &Exporter, what: &str, holds: impl Fn(&Metrics) -> bool) -> Metrics {
    until_within(SOON, exporter, what, holds).await
}

pub async fn until_within(
    deadline: Duration,
    exporter: &Exporter,
    what: &str,
    holds: impl Fn(&Metrics) -> bool,
) -> Metrics {
    wait_for(deadline, what, async || {
        let metrics = exporter.metrics().await;
        if holds(&metrics) { Ok(metrics) } else { Err(summary(&metrics)) }
    })
    .await
}

/// Returns the series that are not 0 and matter for outages, one per line.
pub fn summary(metrics: &Metrics) -> String {
    let of_interest = |series: &str| {
        series.starts_with("redis_stream_")
            || ["_up{", "_errors_", "_polls_"].iter().any(|part| series.contains(part))
    };
    let lines = metrics.iter().filter(|(series, value)| **value != 0.0 && of_interest(series));
    lines.map(|(series, value)| format!("\n  {series} {value}")).collect()
}

pub fn is_up(metrics: &Metrics) -> bool {
    metrics[TARGET_UP] == 1.0
}

/// Returns true if polls failed for no other reason than a timeout, which a loaded machine may cause.
pub fn only_slow_polls_failed(metrics: &Metrics) -> bool {
    metrics[&polls("failed")] + metrics[&polls("partial")] <= metrics[&errors("timeout")]
}

/// Returns the series of streams, groups and consumers.
pub fn of_streams(metrics: &Metrics) -> BTreeSet<&str> {
    metrics.keys().map(String::as_str).filter(|series| series.starts_with("redis_stream_")).collect()
}

/// Waits for several failures with this reason, during which the target is always down.
pub async fn keeps_failing(exporter: &Exporter, reason: &str) {
    let before = until_metrics(exporter, "the first failure", |metrics| {
        metrics[&errors(reason)] > 0.0 && metrics[TARGET_UP] == 0.0
    })
    .await;
    let after = until_metrics(exporter, "more failures", |metrics| {
        assert_eq!(metrics[TARGET_UP], 0.0, "{metrics:#?}");
        metrics[&errors(reason)] >= before[&errors(reason)] + 3.0
    })
    .await;
    // The counters are not gathered at one instant.
    assert!(after[&polls("failed")] >= 3.0, "{after:#?}");
}

/// Returns the log lines about failures and recoveries, without times and levels.
pub fn log_changes(exporter: &Exporter) -> Vec<String> {
    let log = exporter.stderr();
    let words = ["cannot", "again", "connected", "timed out", "not found", "panicked"];
    // The last line may be incomplete.
    let (log, _) = log.rsplit_once('\n').unwrap_or_default();
    let lines = log.lines().filter(|line| words.iter().any(|word| line.contains(word)));
    lines.map(|line| line.split_once(": ").expect("a line has a module").1.to_owned()).collect()
}

pub fn count(lines: &[String], with: &str) -> usize {
    lines.iter().filter(|line| line.contains(with)).count()
}

/// Waits until `times` log lines contain a text, and checks that there are no more.
pub async fn assert_logged(exporter: &Exporter, with: &str, times: usize) {
    let lines = wait_for(SOON, with, async || {
        let lines = log_changes(exporter);
        if count(&lines, with) >= times { Ok(lines) } else { Err(format!("{lines:#?}")) }
    })
    .await;
    assert_eq!(count(&lines, with), times, "{with}: {lines:#?}");
}

/// Checks that the log contains this failure and its end, and nothing else but timeouts, which a loaded machine may
/// cause. The same line is never logged twice in a row.
pub async fn assert_logged_on_change(exporter: &Exporter, error: &str) {
    const SLOW: &str = "did not answer within the poll's timeout";
    let lines = wait_for(SOON, "the end of the failure is logged", async || {
        let lines = log_changes(exporter);
        if count(&lines, "target is polled again") > 0 { Ok(lines) } else { Err(format!("{lines:#?}")) }
    })
    .await;
    let changes: Vec<_> = lines.iter().filter(|line| !line.starts_with("connected")).collect();
    assert!(changes.windows(2).all(|pair| pair[0] != pair[1]), "logged twice: {lines:#?}");
    assert!(changes.iter().any(|line| line.contains(error)), "{error}: {lines:#?}");
    let others = changes.iter().filter(|line| !line.contains(error) && !line.contains(SLOW));
    assert!(others.clone().all(|line| line.contains("target is polled again")), "{lines:#?}");
}

pub fn unix_now() -> f64 {
    #[expect(clippy::disallowed_methods, reason = "compared with a timestamp of the exporter")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs_f64()
}

/// Scrapes until the series of streams are gone, and checks in each scrape that they are present until `stale_after`
/// and absent afterwards.
pub async fn assert_served_until_stale(exporter: &Exporter) {
    let mut was_served_while_down = false;
    wait_for(SOON, "the streams are not shown any more", async || {
        let began = unix_now();
        let metrics = exporter.metrics().await;
        let ended = unix_now();
        let last_read = metrics[LAST_SUCCESS];
        let is_shown = !of_streams(&metrics).is_empty();
        was_served_while_down |= is_shown && !is_up(&metrics);
        assert!(
            !is_shown || began < last_read + STALE_AFTER,
            "{} s too late",
            began - last_read - STALE_AFTER
        );
        let must_be_there = ended < last_read - POLL_TAKES + STALE_AFTER;
        assert!(is_shown || !must_be_there, "{} s after the last reading", ended - last_read);
        if is_shown || is_up(&metrics) { Err("they are") } else { Ok(()) }
    })
    .await;
    assert!(was_served_while_down, "the last report outlives the server for a while");
}
