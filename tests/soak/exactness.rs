//! Whether each number is right once all is quiet: each series of each target beside a reading one by one, what was
//! lost, which alerts fire, and what receivers were told of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

use futures_util::future::join_all;
use redis_stream_lag::report::Status;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::setup::{BEHIND, CLUSTER, DEADLINE, Setup};
use crate::support::client::RedisClient;
use crate::support::expected::{Expected, ExpectedGroup, ExpectedState, differences, of_streams};
use crate::support::metrics::{self, Metrics, named};
use crate::support::series::{self, polls};
use crate::support::wait::wait_until;

/// Ages are exact to the time that a poll takes, from which its time-out lets none be further away; in seconds.
const UNCERTAINTY: f64 = 0.8;
/// Entries that are taken away before a group got them.
const LOST: usize = 30;
/// Entries that it may step back by, or a hundredth.
const HELD: f64 = 100.0;
const ADDED: &str = "redis_stream_entries_added_total";
const LOSSES: &str = "redis_stream_group_entries_lost_total";

/// A group: target, stream, name.
type Group = [String; 3];

/// Counts of what was compared.
#[derive(Debug, Default)]
pub(crate) struct Exactness {
    /// Series that were held against a reading one by one.
    pub(crate) series: usize,
    /// Groups.
    pub(crate) groups: usize,
    /// Alerts that have to fire.
    pub(crate) alerts: usize,
    /// Differences that were found.
    pub(crate) wrong: Vec<String>,
}

/// Compares all there is. Nothing may change meanwhile, and have changed for as long as the status looks back.
pub(crate) async fn compare(setup: &Setup) -> Exactness {
    let (mut all, targets) = (Exactness::default(), setup.targets());
    let mut behind = BTreeSet::new();
    let readings = join_all(targets.iter().map(async |target| {
        let before = state(setup, target).await;
        (target, before, polled(setup, target).await, state(setup, target).await)
    }));
    for (target, before, found, after) in readings.await {
        for place in after.groups.iter().filter(|place| place.undelivered > BEHIND) {
            behind.insert([target.clone(), place.stream.clone(), place.group.clone()]);
        }
        let (mut found, mut expected) = (of_streams(&found), before.until(&after));
        // Groups that were destroyed in the troubles are remembered for an hour.
        found.retain(|series, _| !series.starts_with("redis_stream_group_gone{"));
        hold_steps_back(&mut expected, &found);
        expected.extend(of_the_past(&after.groups, &found));
        if target != CLUSTER {
            let series = series::group("redis_stream_group_up", "orders", "workers");
            expected.insert(series, (1.0, 1.0));
        }
        all.series += expected.len();
        all.groups += after.groups.len();
        let wrong = differences(&found, &expected, UNCERTAINTY);
        all.wrong.extend(wrong.into_iter().map(|wrong| format!("{target}: {wrong}")));
    }
    all.alerts = behind.len();
    all.wrong.extend(wrong_alerts(setup, &behind).await);
    all.wrong.extend(wrong_losses(setup).await);
    all
}

async fn state(setup: &Setup, target: &str) -> ExpectedState {
    let mut state = ExpectedState::default();
    for node in setup.nodes_of(target) {
        state.read_also(&mut RedisClient::at(&node.url).await).await;
    }
    state
}

/// The series of a target after two more polls, with the target named as in all tests.
async fn polled(setup: &Setup, target: &str) -> Metrics {
    let read = async || {
        let text = setup.exporter.get(&format!("/metrics?target={target}")).await.text();
        metrics::parse(&text.replace(&format!("target=\"{target}\""), "target=\"t\""))
    };
    let before = read().await[&polls("ok")];
    let mut found = Metrics::new();
    wait_until(DEADLINE, "two more polls", async || {
        found = read().await;
        found[&polls("ok")] >= before + 2.0
    })
    .await;
    found
}

/// A server that was killed may have forgotten the last that was added: as far as that is little, the counter stands still
/// until it is made up for.
fn hold_steps_back(expected: &mut Expected, found: &Metrics) {
    for (series, (least, most)) in expected.iter_mut() {
        let found = found.get(series).copied().unwrap_or_default();
        let step_back = found - *most;
        if series.starts_with(ADDED) && step_back > 0.0 && step_back <= HELD.max(found / 100.0) {
            (*least, *most) = (found, found);
        }
    }
}

/// Returns the expected values that rest on earlier polls, after a while in which nothing happened.
fn of_the_past(groups: &[ExpectedGroup], found: &Metrics) -> Expected {
    let (mut expected, mut in_rhythm) = (Expected::new(), 0);
    let changes = named(found, "redis_stream_group_changes_total").into_iter();
    expected.extend(changes.map(|(series, count)| (series, (count, count))));
    let abandoned = named(found, "redis_stream_groups_abandoned").into_keys();
    expected.extend(abandoned.map(|series| (series, (0.0, 0.0))));
    for place in groups {
        let series = place.series(LOSSES);
        if place.counts_added {
            // How many, is seen below.
            expected.insert(series.clone(), found.get(&series).map_or((0.0, 0.0), |lost| (*lost, *lost)));
        }
        let series = place.series("redis_stream_group_last_delivery_age_seconds");
        if let Some(age) = found.get(&series) {
            assert!(*age > 0.0, "{series} is {age}, and nothing was delivered for a while");
            expected.insert(series, (*age, *age));
        }
        let series = place.series("redis_stream_group_retention_used_ratio");
        if found.contains_key(&series) {
            expected.insert(series, (place.retention_used(), place.retention_used()));
        }
        for name in [
            "seconds_to_loss",
            "pending_dropped_total",
            "entries_delivered_total",
            "entries_acknowledged_total",
            "added_per_second",
            "delivered_per_second",
            "drain_seconds",
        ] {
            let series = place.series(&format!("redis_stream_group_{name}"));
            let any = found.get(&series).map(|value| (*value, *value));
            expected.extend(any.map(|any| (series, any)));
        }
        let status = |status: Status| series::status(&place.stream, &place.group, status.as_str());
        let is_abandoned = found.contains_key(&status(Status::Abandoned));
        // One that has paused for long before, and caught up, is taken for dead later.
        in_rhythm += usize::from(place.undelivered > 0 && !is_abandoned);
        let all = statuses_after_quiet(place, is_abandoned).into_iter();
        expected.extend(all.map(|one| (status(one), (1.0, 1.0))));
    }
    assert!(in_rhythm * 5 <= groups.len(), "{in_rhythm} of {} groups are not abandoned", groups.len());
    expected
}

/// Everybody has been silent for as long as the status looks back.
fn statuses_after_quiet(place: &ExpectedGroup, is_abandoned: bool) -> Vec<Status> {
    match (place.undelivered > 0 && is_abandoned, place.pending) {
        (false, 0) => vec![Status::Ok],
        (true, 0) => vec![Status::Abandoned],
        (false, _) => vec![Status::Stuck],
        (true, _) => vec![Status::Abandoned, Status::Stuck],
    }
}

/// Returns alerts that must not fire, and differences from what Alertmanager last received.
async fn wrong_alerts(setup: &Setup, behind: &BTreeSet<Group>) -> Vec<String> {
    let text = setup.exporter.get("/api/v1/alerts").await.text();
    let json: Value = serde_json::from_str(&text).expect("the answer is JSON");
    let alerts = json["data"]["alerts"].as_array().expect("a list");
    let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
    let firing: BTreeSet<_> = firing.filter_map(|alert| group(&alert["labels"])).collect();
    let mut wrong = Vec::new();
    if firing != *behind {
        wrong.push(format!("alerts of {firing:?} fire, of {behind:?} should"));
    }
    // It may be about to be told.
    let is_told = timeout(DEADLINE, async {
        while told(setup) != *behind {
            sleep(Duration::from_millis(200)).await;
        }
    });
    if is_told.await.is_err() {
        wrong.push(format!("Alertmanager was told that {:?} fire, not {behind:?}", told(setup)));
    }
    wrong
}

/// The groups that the Alertmanager must take for firing, by what it was sent last of each.
fn told(setup: &Setup) -> BTreeSet<Group> {
    let mut firing = BTreeMap::new();
    for request in setup.alertmanager.received() {
        for alert in request.body.as_array().expect("a list") {
            let Some(group) = group(&alert["labels"]) else { continue };
            let ends = humantime::parse_rfc3339(alert["endsAt"].as_str().unwrap_or_default());
            let ends = ends.ok().and_then(|ends| ends.duration_since(UNIX_EPOCH).ok());
            firing.insert(group, ends.is_none_or(|ends| ends > request.at));
        }
    }
    firing.into_iter().filter_map(|(group, is_firing)| is_firing.then_some(group)).collect()
}

/// The group that an alert of the rule is about.
fn group(labels: &Value) -> Option<Group> {
    let label = |name: &str| labels[name].as_str().map(str::to_owned);
    if labels["alertname"] != "Behind" {
        return None;
    }
    Some([label("target")?, label("stream")?, label("group")?])
}

/// Takes entries away that a group has not got, and looks whether just those are counted, and nobody else's.
async fn wrong_losses(setup: &Setup) -> Vec<String> {
    for node in &setup.nodes {
        let (mut client, key) = (RedisClient::at(&node.url).await, format!("{}finale", node.tag));
        for _ in 0..2 * LOST {
            client.run(&format!("XADD {key} * field value")).await;
        }
        client.run(&format!("XGROUP CREATE {key} late 0")).await;
    }
    let before = losses(setup).await;
    for node in &setup.nodes {
        let key = format!("{}finale", node.tag);
        RedisClient::at(&node.url).await.run(&format!("XTRIM {key} MAXLEN {LOST}")).await;
    }
    let after = losses(setup).await;
    let mut wrong = Vec::new();
    for (series, lost) in &after {
        let more = before.get(series).map(|before| lost - before);
        let right = if series.contains("finale") { LOST as f64 } else { 0.0 };
        if more != Some(right) {
            wrong.push(format!("{series} grew by {more:?} in place of {right}"));
        }
    }
    if before.len() != after.len() {
        wrong.push(format!("{} groups had losses, {} have", before.len(), after.len()));
    }
    wrong
}

/// Returns the reported losses two polls from now.
async fn losses(setup: &Setup) -> Metrics {
    let (mut losses, targets) = (Metrics::new(), setup.targets());
    let readings = join_all(targets.iter().map(async |target| (target, polled(setup, target).await))).await;
    for (target, found) in readings {
        let of_target = named(&found, LOSSES).into_iter();
        losses.extend(of_target.map(|(series, lost)| (format!("{target}: {series}"), lost)));
    }
    losses
}
