//! Measures a day of evaluations and checks that resolved alerts leave no memory behind. It uses 10,000 groups in an
//! optimized build and a twentieth of that otherwise.
#![cfg(test)]

use std::sync::Arc;
use std::time::Duration;

use crate::alert::condition::Condition;
use crate::alert::evaluator::{Evaluator, EvaluatorSettings, PollReading, TargetUp};
use crate::alert::rule::{Rule, Selector, TargetLabels, test_rule};
use crate::alert::test_support::{group, report, stream, values};
use redis_stream_core::glob::Glob;
use redis_stream_lag::report::{Age, GroupValues, Lag, OldestPending, Report, Retention, SeldomGroupValues};

const STREAMS: usize = if cfg!(debug_assertions) { 250 } else { 5_000 };
const GROUPS: usize = 2 * STREAMS;
const INTERVAL: Duration = Duration::from_secs(10);
const POLLS: u32 = 24 * 60 * 6;

/// Returns twenty rules for all groups, some groups, streams and the target.
fn rules() -> Vec<Arc<Rule>> {
    let conditions = [
        "lag > 1000",
        "lag > 5000",
        "lag_seconds > 5m",
        "lag_seconds > 1h",
        "messages_pending > 100",
        "oldest_pending_age_seconds > 10m",
        "oldest_pending_idle_seconds > 10m",
        "oldest_pending_deliveries >= 10",
        "pending_orphaned > 0",
        "consumers == 0",
        "retention_used_ratio > 0.8",
        "group_up == 0",
        "status == stalled",
        "status == abandoned",
        "entries_lost > 0",
        "last_delivered_id_age_seconds > 1h",
        "stream_up == 0",
        "length > 100000",
        "last_generated_id_age_seconds > 1d",
        "target_up == 0",
    ];
    let rule = |(at, condition): (usize, &str)| {
        let mut rule = test_rule(&format!("Rule{at}"), condition);
        rule.pending_for = Duration::from_secs(60 * (at as u64 % 4));
        if at % 2 == 1 && Condition::parse(condition).is_ok_and(|read| read.fact.name != "target_up") {
            rule.selector = Selector { stream: Glob::new("stream-*"), ..Selector::default() };
        }
        Arc::new(rule)
    };
    conditions.into_iter().enumerate().map(rule).collect()
}

/// Returns a report in which each hundredth group is `lag` entries behind and has lost `lost` entries.
fn report_with(lag: u64, lost: u64) -> Report {
    let values = |at: usize| GroupValues {
        lag: Lag::Exact(if at.is_multiple_of(100) { lag } else { 3 }),
        lag_seconds: Some(Age::of(Duration::from_secs(2))),
        oldest_pending: Some(OldestPending::Nothing),
        pending_orphaned: Some(0.into()),
        consumers: 2,
        entries_lost: Some(if at.is_multiple_of(100) { lost } else { 0 }.into()),
        seldom: SeldomGroupValues {
            retention_used: Some(Retention { lag: 1, length: 10 }),
            ..SeldomGroupValues::default()
        }
        .into(),
        ..values()
    };
    let groups = |at| ["billing", "mail"].map(|name| group(name, values(at))).to_vec();
    report((0..STREAMS).map(|at| stream(format!("stream-{at:05}").as_str(), groups(at))).collect())
}

fn evaluator() -> Evaluator {
    let settings = EvaluatorSettings {
        hold: Duration::from_secs(3600),
        external_labels: [].into(),
        interval: INTERVAL,
        has_notifiers: true,
    };
    let target = TargetLabels { name: "t".to_owned(), db: "db0".to_owned(), configured: [].into() };
    Evaluator::new(&rules(), target, settings)
}

#[expect(clippy::disallowed_methods, reason = "measures")]
fn timed(work: impl FnOnce()) -> Duration {
    let began = std::time::Instant::now();
    work();
    began.elapsed()
}

#[test]
fn a_day_of_evaluations_takes_seconds_and_leaves_no_alerts() {
    let mut evaluator = evaluator();
    let (calm, rough, after) = (report_with(3, 0), report_with(9_000, 7), report_with(3, 7));
    let (mut fired, mut resolved, mut longest) = (0, 0, 0);
    let took = timed(|| {
        for poll in 0..POLLS {
            let now = Duration::from_secs(1_700_000_000) + poll * INTERVAL;
            // Ten minutes of every hour, each hundredth group is behind.
            let found = match poll {
                0..360 => &calm,
                _ if poll % 360 < 60 => &rough,
                _ => &after,
            };
            // Three of every thousand polls fail.
            let (found, up) = match poll % 1000 {
                0..3 => (PollReading::Failed, TargetUp::No),
                _ => (PollReading::Complete(found), TargetUp::Yes),
            };
            for notification in evaluator.step(found, up, now).notifications {
                match notification.alert.status {
                    crate::alert::notification::AlertStatus::Firing => fired += 1,
                    crate::alert::notification::AlertStatus::Resolved => resolved += 1,
                }
            }
            longest = longest.max(evaluator.active().alerts().count());
        }
    });
    assert!(fired > 23 * GROUPS / 100 && resolved > 23 * GROUPS / 100, "{fired} {resolved}");
    assert!((2 * GROUPS / 100..GROUPS / 10).contains(&longest), "{longest}");
    assert!(evaluator.active().is_empty());
    println!("{POLLS} polls of {GROUPS} groups: {took:?}");
    // Twenty times the time on a slow machine.
    assert!(took < Duration::from_secs(120), "{took:?}");
}

#[test]
fn an_evaluation_takes_milliseconds() {
    let mut evaluator = evaluator();
    let values = |lag, age| GroupValues {
        lag: Lag::Exact(lag),
        lag_seconds: Some(Age::of(Duration::from_secs(age))),
        oldest_pending: Some(OldestPending::Nothing),
        ..values()
    };
    let found = |lag, age| {
        let groups = ["billing", "mail"].map(|name| group(name, values(lag, age))).to_vec();
        report((0..STREAMS).map(|at| stream(format!("stream-{at:05}").as_str(), groups.clone())).collect())
    };
    let mut measure = |what: &str, found: &Report, from: u64| {
        let mut best = Duration::MAX;
        for poll in 0..6 {
            let now = Duration::from_secs(1_700_000_000 + from + 10 * poll);
            let took = timed(|| drop(evaluator.step(PollReading::Complete(found), TargetUp::Yes, now)));
            best = best.min(took);
        }
        println!("one evaluation of {GROUPS} groups, {what}: {best:?}");
        best
    };
    let calm = measure("no alerts", &found(0, 0), 0);
    let rough = measure("five alerts pending or firing for each", &found(9_000, 9_000), 60);
    // In a build without optimization the size is smaller, and other tests run at the same time.
    let allowed = Duration::from_millis(if cfg!(debug_assertions) { 200 } else { 20 });
    assert!(calm < allowed && rough < 3 * allowed, "{calm:?} {rough:?}");
}
