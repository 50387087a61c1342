//! Reads a whole configuration, and its sections `poll`, `status` and `metrics` with their defaults.

use std::time::Duration;

use crate::config::cursor::{Cursor, Section};
use crate::config::scalar::show;
use crate::config::status_window::{Interval, Windows};
use crate::config::{Config, MetricsConfig, Poll, Shard, StatusConfig, alerts, target, web};
use redis_stream_core::secret::redact;

const INTERVAL: Duration = Duration::from_secs(10);
/// A shorter interval would be a load test.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
const CONSUMER_MAX_IDLE: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads a configuration. It is valid only if the tree has no fault.
pub(super) fn config(root: &Cursor<'_>) -> Config {
    root.section(|root| {
        let web = root.key("web").section(web::web);
        let (mut poll, interval) = root.key("poll").section(poll);
        let windows = root.key("status").section(|section| Windows::read(&section.key("window"), interval));
        let targets = target::read_all(&root.key("targets"), &windows);
        let metrics = root.key("metrics").section(metrics);
        poll.consumer_max_idle = metrics.consumer_max_idle;
        let alerts = root.key("alerts").section(|section| alerts::alerts(section, &targets));
        Config { web, poll, status: StatusConfig { window: windows.default() }, targets, metrics, alerts }
    })
}

fn poll(section: &Section<'_>) -> (Poll, Interval) {
    let (interval, timeout, stale_after) = times(section);
    let number = |name, least, default| section.key(name).number(least..=u32::MAX).unwrap_or(default);
    let duration = |name, default| section.key(name).duration(Duration::ZERO).unwrap_or(default);
    let poll = Poll {
        interval: interval.length,
        timeout,
        stale_after,
        shard: shard(&section.key("shard")),
        discovery_interval: duration("discovery_interval", Duration::from_secs(60)),
        scan_keys_per_second: number("scan_keys_per_second", 1, 50_000),
        count_budget: number("count_budget", 0, 20_000),
        audit_budget: number("audit_budget", 0, 1_000),
        audit_period: duration("audit_period", Duration::from_secs(600)),
        loss_sample_streams: number("loss_sample_streams", 0, 50) as usize,
        payload_budget: section.key("payload_budget").size_bytes().unwrap_or(16 << 20),
        memory_interval: Some(duration("memory_interval", Duration::ZERO)).filter(|time| !time.is_zero()),
        consumer_max_idle: CONSUMER_MAX_IDLE,
    };
    (poll, interval)
}

/// Reads `I/N`; empty text is no shard.
fn shard(key: &Cursor<'_>) -> Option<Shard> {
    let text = key.text()?;
    if text.value.is_empty() {
        return None;
    }
    let numbers = text.value.split_once('/').and_then(|(index, of)| Some((number(index)?, number(of)?)));
    let found = redact(&text.written);
    match numbers {
        Some((index, of)) if index < of => return Some(Shard { index, of }),
        Some(_) => key.fault(format_args!("found {found:?}; expected I/N, with I from 0 and below N")),
        None => key.fault(format_args!("found {found:?}; expected I/N, such as 0/3, 1/3 and 2/3")),
    }
    None
}

/// Parses digits only: `parse` would accept a sign.
fn number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Reads interval, timeout and stale_after, which depend on each other.
fn times(section: &Section<'_>) -> (Interval, Duration, Duration) {
    let interval_key = section.key("interval");
    let given = interval_key.duration(SHORTEST_INTERVAL);
    let interval = given.unwrap_or(INTERVAL);
    // Values that depend on an invalid interval are not compared with its default.
    let sound = given.is_some() || !interval_key.is_given();

    let timeout_key = section.key("timeout");
    let timeout = timeout_key.duration(Duration::from_millis(1)).unwrap_or(interval * 4 / 5);
    if sound && timeout >= interval {
        timeout_key.fault(format_args!(
            "{} is not below {} ({}); expected less, by default 80 % of it",
            show(timeout),
            interval_key.label(),
            show(interval)
        ));
    }
    let stale_after_key = section.key("stale_after");
    let stale_after = stale_after_key.duration(Duration::ZERO).unwrap_or(interval * 3);
    if sound && stale_after < interval {
        stale_after_key.fault(format_args!(
            "{} is below {} ({}); expected at least that, by default 3 times as much",
            show(stale_after),
            interval_key.label(),
            show(interval)
        ));
    }
    let label = interval_key.label().to_owned();
    (Interval { length: interval, label, is_sound: sound }, timeout, stale_after)
}

fn metrics(section: &Section<'_>) -> MetricsConfig {
    MetricsConfig {
        exclude: section.key("exclude").globs().unwrap_or_default(),
        consumer_max_idle: section
            .key("consumer_max_idle")
            .duration(Duration::ZERO)
            .unwrap_or(CONSUMER_MAX_IDLE),
        redis_exporter_compat: section.key("redis_exporter_compat").boolean().unwrap_or(false),
    }
}
