//! What tests of outages share: an exporter that polls in quick succession, and what it tells.

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
/// One interval, the longest backoff, one time-out of a poll under way, and time for a loaded machine.
pub const RECOVERY: Duration = Duration::from_millis(400 + 5_000 + 390 + 3_000);
/// `stale_after` of [`QUICK`], and the longest that one of its polls takes: to connect, and to read.
pub const STALE_AFTER: f64 = 2.0;
pub const POLL_TAKES: f64 = 0.78;

/// A target `t`, polled in quick succession.
pub async fn watching(url: &str) -> Exporter {
    serving(&format!("{QUICK}targets: [{{name: t, url: '{url}'}}]")).await
}

/// A server with two streams, each with a group.
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
        if holds(&metrics) { Ok(metrics) } else { Err(in_short(&metrics)) }
    })
    .await
}

/// What says something, one series a line.
pub fn in_short(metrics: &Metrics) -> String {
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

/// A loaded machine may take long to answer; nothing else went wrong with any poll.
pub fn only_slow_polls_failed(metrics: &Metrics) -> bool {
    metrics[&polls("failed")] + metrics[&polls("partial")] <= metrics[&errors("timeout")]
}

/// The series of streams, groups and consumers.
pub fn of_streams(metrics: &Metrics) -> BTreeSet<&str> {
    metrics.keys().map(String::as_str).filter(|series| series.starts_with("redis_stream_")).collect()
}

/// Waits for some more failures of this reason, with the target down all the time.
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

/// The warnings and what ended them, without times and levels.
pub fn story(exporter: &Exporter) -> Vec<String> {
    let log = exporter.stderr();
    let told = ["cannot", "again", "connected", "timed out", "not found", "panicked"];
    // The last line may not have come through whole.
    let (log, _) = log.rsplit_once('\n').unwrap_or_default();
    let lines = log.lines().filter(|line| told.iter().any(|word| line.contains(word)));
    lines.map(|line| line.split_once(": ").expect("a line has a module").1.to_owned()).collect()
}

pub fn count(lines: &[String], with: &str) -> usize {
    lines.iter().filter(|line| line.contains(with)).count()
}

/// The log tells this so many times, and no more.
pub async fn assert_told(exporter: &Exporter, with: &str, times: usize) {
    let story = wait_for(SOON, with, async || {
        let story = story(exporter);
        if count(&story, with) >= times { Ok(story) } else { Err(format!("{story:#?}")) }
    })
    .await;
    assert_eq!(count(&story, with), times, "{with}: {story:#?}");
}

/// The log tells of this failure, then of its end, and of nothing else but a poll that took too long on a loaded
/// machine. It never tells the same twice in a row.
pub async fn assert_told_once(exporter: &Exporter, error: &str) {
    const SLOW: &str = "did not answer within the poll's timeout";
    let story = wait_for(SOON, "the end of it is told", async || {
        let story = story(exporter);
        if count(&story, "target is polled again") > 0 { Ok(story) } else { Err(format!("{story:#?}")) }
    })
    .await;
    let changes: Vec<_> = story.iter().filter(|line| !line.starts_with("connected")).collect();
    assert!(changes.windows(2).all(|pair| pair[0] != pair[1]), "told twice: {story:#?}");
    assert!(changes.iter().any(|line| line.contains(error)), "{error}: {story:#?}");
    let others = changes.iter().filter(|line| !line.contains(error) && !line.contains(SLOW));
    assert!(others.clone().all(|line| line.contains("target is polled again")), "{story:#?}");
}

pub fn unix_now() -> f64 {
    #[expect(clippy::disallowed_methods, reason = "held against a time stamp that the exporter shows")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs_f64()
}

/// Scrapes until the series of streams are gone, and holds each scrape against when they had to be there and
/// when they must not.
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
