//! A day of polls: that it takes seconds, that an evaluation takes milliseconds, and that what is over leaves nothing
//! behind. At full size (10,000 groups) where the code is optimized, else at a twentieth of it.
#![cfg(test)]

use std::sync::Arc;
use std::time::Duration;

use crate::alert::condition::Condition;
use crate::alert::evaluator::{Evaluator, EvaluatorSettings, Reading, TargetUp};
use crate::alert::rule::{Rule, Selector, TargetLabels, test_rule};
use crate::alert::test_support::{group, report, stream, values};
use redis_stream_core::glob::Glob;
use redis_stream_lag::report::{GroupValues, Lag, OldestPending, Report, Retention};

const STREAMS: usize = if cfg!(debug_assertions) { 250 } else { 5_000 };
const GROUPS: usize = 2 * STREAMS;
const INTERVAL: Duration = Duration::from_secs(10);
const POLLS: u32 = 24 * 60 * 6;

/// Twenty rules: of each group, of some, of streams and of the target.
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

/// All is well but for each hundredth group, which is `lag` entries behind and has lost `lost`.
fn reading(lag: u64, lost: u64) -> Report {
    let values = |at: usize| GroupValues {
        lag: Lag::Exact(if at.is_multiple_of(100) { lag } else { 3 }),
        lag_seconds: Some(Duration::from_secs(2)),
        last_delivered_id_age: Some(Duration::from_secs(1)),
        oldest_pending: Some(OldestPending::Nothing),
        pending_orphaned: Some(0),
        consumers: 2,
        entries_lost: Some(if at.is_multiple_of(100) { lost } else { 0 }),
        retention_used: Some(Retention { lag: 1, length: 10 }),
        ..values()
    };
    let groups = |at| ["billing", "mail"].map(|name| group(name, values(at))).to_vec();
    report((0..STREAMS).map(|at| stream(&format!("stream-{at:05}"), groups(at))).collect())
}

fn evaluator() -> Evaluator {
    let settings =
        EvaluatorSettings { hold: Duration::from_secs(3600), external_labels: [].into(), interval: INTERVAL };
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
fn a_day_of_polls_takes_seconds_and_leaves_nothing_behind() {
    let mut evaluator = evaluator();
    let (calm, rough, after) = (reading(3, 0), reading(9_000, 7), reading(3, 7));
    let (mut fired, mut resolved, mut longest) = (0, 0, 0);
    let took = timed(|| {
        for poll in 0..POLLS {
            let now = Duration::from_secs(1_700_000_000) + poll * INTERVAL;
            // Once an hour things go wrong for ten minutes.
            let found = match poll {
                0..360 => &calm,
                _ if poll % 360 < 60 => &rough,
                _ => &after,
            };
            // And now and then the target cannot be polled.
            let (found, up) = match poll % 1000 {
                0..3 => (Reading::Failed, TargetUp::No),
                _ => (Reading::Whole(found), TargetUp::Yes),
            };
            for told in evaluator.step(found, up, now) {
                match told.alert.status {
                    crate::alert::notification::Status::Firing => fired += 1,
                    crate::alert::notification::Status::Resolved => resolved += 1,
                }
            }
            longest = longest.max(evaluator.active().alerts().count());
        }
    });
    assert!(fired > 23 * GROUPS / 100 && resolved > 23 * GROUPS / 100, "{fired} {resolved}");
    assert!((2 * GROUPS / 100..GROUPS / 10).contains(&longest), "{longest}");
    assert!(evaluator.active().is_empty());
    println!("{POLLS} polls of {GROUPS} groups: {took:?}");
    // Twenty times what it takes on a slow machine.
    assert!(took < Duration::from_secs(120), "{took:?}");
}

#[test]
fn an_evaluation_takes_milliseconds() {
    let mut evaluator = evaluator();
    // All fire, in four rules each.
    let values = |lag, age| GroupValues {
        lag: Lag::Exact(lag),
        lag_seconds: Some(Duration::from_secs(age)),
        oldest_pending: Some(OldestPending::Nothing),
        ..values()
    };
    let found = |lag, age| {
        let groups = ["billing", "mail"].map(|name| group(name, values(lag, age))).to_vec();
        report((0..STREAMS).map(|at| stream(&format!("stream-{at:05}"), groups.clone())).collect())
    };
    let mut measure = |what: &str, found: &Report, from: u64| {
        let mut best = Duration::MAX;
        for poll in 0..6 {
            let now = Duration::from_secs(1_700_000_000 + from + 10 * poll);
            let took = timed(|| drop(evaluator.step(Reading::Whole(found), TargetUp::Yes, now)));
            best = best.min(took);
        }
        println!("one evaluation of {GROUPS} groups, {what}: {best:?}");
        best
    };
    let calm = measure("all well", &found(0, 0), 0);
    let rough = measure("five alerts pending or firing for each", &found(9_000, 9_000), 60);
    // Where the code is not optimized the size is smaller, and other tests run beside it.
    let allowed = Duration::from_millis(if cfg!(debug_assertions) { 200 } else { 20 });
    assert!(calm < allowed && rough < 3 * allowed, "{calm:?} {rough:?}");
}
