//! Our evaluation and Prometheus' agree: for random rules and random readings, whatever is exported and printed gives
//! the same pending and firing alerts at every evaluation.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::{Just, Strategy, any};
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use proptest::{collection, option, prop_oneof};
use redis_stream_core::glob::Glob;
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;
use redis_stream_lag::family::FamilyFold;
use redis_stream_lag::report::{
    Age, ConditionSet, EntryRate, GroupReport, GroupValues, Lag, OldestPending, Report, Retention,
    SeldomGroupValues, Status, StreamReport, StreamValues,
};
use streamgauge::alert::evaluator::{Evaluator, EvaluatorSettings, PollReading, TargetUp};
use streamgauge::alert::expression::Expression;
use streamgauge::alert::rule::{Rule, Selector, TargetLabels};
use streamgauge::alert::rule_file;
use streamgauge::alert::state::Phase;
use streamgauge::alert::template::Template;
use streamgauge::exposition::render::{self, FamilySelection, TargetSeries, write_plain};

mod support;

use support::metrics;
use support::peers;

/// Cases that go into one run of promtool, and evaluations of each.
const CASES: usize = 150;
const STEPS: usize = 60;
/// Time of the readings, by the clock of the server.
const READ_AT_MS: u64 = 1_700_000_000_000;
/// Time for promtool, which takes 4 s on an idle machine.
const LONGEST: Duration = Duration::from_secs(240);
/// No multiple of it is the length of a window, since Prometheus 2 and 3 differ in the beginning of a window.
const INTERVAL: Duration = Duration::from_secs(14);

/// One rule over one group of a name of its own, and what is read of that group at each step.
#[derive(Clone, Debug)]
struct Case {
    condition: &'static str,
    pending_for: Duration,
    keep_firing_for: Duration,
    readings: Vec<Option<GroupValues>>,
}

fn case() -> impl Strategy<Value = Case> {
    let conditions = select(vec![
        "lag > 5",
        "lag >= 6",
        "lag < 4",
        "lag <= 3",
        "lag_seconds > 1m",
        "lag_seconds != 0",
        "messages_pending == 4",
        "oldest_pending_age_seconds >= 30",
        "oldest_pending_deliveries < 3",
        "consumers == 0",
        "pending_orphaned > 2",
        "retention_used_ratio > 0.5",
        "entries_lost > 0",
        "group_up == 0",
        "status == stalled",
        "status != ok",
        "status == losing",
        "status == ok",
        "status != lagging",
        "lag > 2 and status == stalled and consumers == 0",
        "(entries_lost_total > 0 and (entries_lost > 0 or status == lagging)) or status == lagging",
        "oldest_pending_idle_seconds > 20 or status == stalled",
        "(retention_used_ratio > 0.6 or (retention_used_ratio > 0 and seconds_to_loss < 20 and (status == lagging or status == stalled))) unless (status == losing or entries_lost_1h > 0)",
        "seconds_to_loss < 30",
        "delivered_per_second < 1.5",
    ]);
    let times = || prop_oneof![3 => Just(0), 2 => 0..6_u64, 1 => 0..20_u64];
    // Runs of the same reading, so that alerts have the time to fire.
    let run = (option::weighted(0.9, group_values()), prop_oneof![1..4_usize, 1..15_usize]);
    let readings = collection::vec(run, STEPS).prop_map(|runs| {
        let mut readings: Vec<_> =
            runs.into_iter().flat_map(|(values, length)| vec![values; length]).take(STEPS).collect();
        lose(&mut readings);
        readings
    });
    (conditions, times(), times(), readings).prop_map(|(condition, pending, keep, readings)| Case {
        condition,
        // Also such as no evaluation falls on.
        pending_for: INTERVAL * u32::try_from(pending).unwrap_or(0) + Duration::from_secs(5 * (pending % 2)),
        keep_firing_for: INTERVAL * u32::try_from(keep).unwrap_or(0),
        readings,
    })
}

/// Values that are all known. The entries lost are rises here.
fn group_values() -> impl Strategy<Value = GroupValues> {
    let lag = prop_oneof![
        (0..8_u64).prop_map(Lag::Exact),
        (0..8_u64, 0..8_u64).prop_map(|(a, b)| Lag::Between { min: a.min(b).into(), max: a.max(b) }),
    ];
    let oldest = prop_oneof![
        Just(OldestPending::Nothing),
        (0..60_u64, 0..60_u64, 1..5_u64).prop_map(|(age, idle, deliveries)| OldestPending::Entry {
            id: StreamId::new(READ_AT_MS - 1_000 * age, 0),
            consumer: None,
            idle: Some(Duration::from_secs(idle).into()),
            deliveries
        }),
    ];
    let lost = prop_oneof![9 => Just(0_u64), 1 => 1..9_u64];
    // The conditions do not exclude each other.
    let condition = select(vec![Status::Stalled, Status::Lagging, Status::Losing]);
    let status =
        collection::vec(condition, 0..3).prop_map(|all| all.into_iter().collect::<ConditionSet>().into());
    let left = option::of((0..60_u64).prop_map(Duration::from_secs));
    (lag, oldest, lost, 0..120_u64, 0..5_u64, any::<bool>(), status, left).prop_map(
        |(lag, oldest_pending, lost, age, number, has_consumers, status, time_to_loss)| GroupValues {
            status,
            lag,
            lag_seconds: Some(Age::of(Duration::from_secs(age))),
            last_delivered_id: StreamId::new(READ_AT_MS - 1_000 * age, 0),
            last_delivery_age: Some(Age::of(Duration::from_secs(age / 2))),
            messages_pending: number,
            oldest_pending: Some(oldest_pending),
            pending_orphaned: Some(number.into()),
            consumers: u64::from(has_consumers),
            entries_lost: Some(lost.into()),
            delivered_rate: Some(EntryRate::new(age, Duration::from_secs(40))),
            seldom: SeldomGroupValues {
                retention_used: Some(Retention { lag: number, length: 6 }),
                time_to_loss: time_to_loss.map(Into::into),
                ..SeldomGroupValues::default()
            }
            .into(),
            ..GroupValues::default()
        },
    )
}

/// Makes a counter of the rises: 0 when the group is seen for the first time, and again when it comes back.
fn lose(readings: &mut [Option<GroupValues>]) {
    let mut total = None;
    for reading in readings {
        match reading {
            None => total = None,
            Some(values) => {
                let rise = values.entries_lost.map_or(0, u64::from);
                let now = total.map_or(0, |before: u64| before + rise);
                (total, values.entries_lost) = (Some(now), Some(now.into()));
            }
        }
    }
}

fn name(at: usize) -> String {
    format!("Case{at:03}")
}

fn rule(at: usize, case: &Case) -> Rule {
    Rule {
        name: name(at),
        selector: Selector { group: Glob::new(name(at)), ..Selector::default() },
        expression: Expression::parse(case.condition).expect("the conditions are right"),
        pending_for: case.pending_for,
        keep_firing_for: case.keep_firing_for,
        labels: BTreeMap::from([(
            "severity".to_owned(),
            Template::parse("{{ $labels.group }}").expect("right"),
        )]),
        annotations: BTreeMap::new(),
        notifiers: Arc::new([]),
    }
}

/// The report of one step: one stream with a group for each case, and a family of two in which one is a step ahead.
fn report(cases: &[Case], step: usize) -> Report {
    let stream = |key, family: Option<&str>, step| StreamReport {
        key: Name::from(key),
        family: family.map(Name::from),
        ..stream(cases, step)
    };
    let family = [stream("s:1", Some("f"), step), stream("s:2", Some("f"), (step + 1) % STEPS)];
    let streams = [stream("s", None, step)].into_iter().chain(family).map(Into::into).collect();
    Report { streams, ..Report::default() }
}

fn stream(cases: &[Case], step: usize) -> StreamReport {
    let groups = cases.iter().enumerate().filter_map(|(at, case)| {
        let values = case.readings[step].clone();
        // Groups that a rule may miss are named in the configuration.
        let named = case.condition.starts_with("group_up");
        (named || values.is_some())
            .then(|| values.map(|values| GroupValues { named, ..values }))
            .map(|values| GroupReport::new(Name::from(name(at).as_str()), values))
    });
    let values = StreamValues { length: 6, groups: 1, entries_added: None, ..StreamValues::default() };
    let mut groups: Vec<_> = groups.collect();
    groups.sort_by(|one, other| one.name.cmp(&other.name));
    let read_at = Duration::from_millis(READ_AT_MS).into();
    StreamReport { read_at, ..StreamReport::new(Name::from("s"), Some(values), groups) }
}

/// The samples of each series as promtool wants them: one for each step, and a mark where it ends.
fn series(reports: &[Arc<Report>]) -> BTreeMap<String, Vec<String>> {
    let layout = FamilySelection::new(|_, _| true, Duration::MAX);
    let labels = render::SeriesLabels::new("t", 0, &BTreeMap::new());
    let mut series = BTreeMap::<String, Vec<String>>::new();
    for (step, report) in reports.iter().enumerate() {
        let target = TargetSeries::new(labels.clone(), Arc::clone(report));
        let mut text = Vec::new();
        write_plain(&layout, &[Arc::new(target)], &[], b"", &mut text).expect("it can be written");
        let text = String::from_utf8(text).expect("it is text");
        for (name, value) in metrics::parse(&text) {
            let samples = series.entry(name).or_default();
            samples.resize(step, "stale".to_owned());
            samples.push(value.to_string());
        }
    }
    for samples in series.values_mut() {
        samples.resize(reports.len(), "stale".to_owned());
    }
    series
}

/// Returns the result of our evaluation at each step, as Prometheus' own series of alerts.
fn expected(rules: &[Arc<Rule>], reports: &[Arc<Report>]) -> Vec<Vec<String>> {
    let target = TargetLabels { name: "t".to_owned(), db: "db0".to_owned(), configured: BTreeMap::new() };
    let settings = EvaluatorSettings {
        hold: Duration::from_secs(3600),
        external_labels: BTreeMap::new(),
        interval: INTERVAL,
        has_notifiers: true,
    };
    let mut evaluator = Evaluator::new(rules, target, settings);
    let evaluate = |(step, report): (usize, &Arc<Report>)| {
        evaluator.step(
            PollReading::Complete(report),
            TargetUp::Yes,
            INTERVAL * u32::try_from(step).unwrap_or(0),
        );
        let alerts = evaluator.active();
        let line = alerts.alerts().map(|alert| {
            let state = if alert.state.phase == Phase::Pending { "pending" } else { "firing" };
            let labels: String =
                alert.labels.iter().map(|(name, value)| format!(", {name}=\"{value}\"")).collect();
            format!("ALERTS{{alertstate=\"{state}\"{labels}}}")
        });
        line.collect()
    };
    reports.iter().enumerate().map(evaluate).collect()
}

#[tokio::test]
async fn random_rules_and_readings_give_the_same_alerts_in_prometheus() {
    let Some(promtool) = peers::find("promtool") else { return };
    let mut runner = TestRunner::default();
    let cases: Vec<Case> =
        (0..CASES).map(|_| case().new_tree(&mut runner).expect("there are cases").current()).collect();
    let rules: Vec<_> = cases.iter().enumerate().map(|(at, case)| Arc::new(rule(at, case))).collect();
    let mut families = FamilyFold::default();
    let reports: Vec<_> = (0..STEPS).map(|step| families.fold(&Arc::new(report(&cases, step)))).collect();
    let expected = expected(&rules, &reports);
    for state in ["pending", "firing"] {
        let count = expected.iter().flatten().filter(|line| line.contains(state)).count();
        assert!(count > CASES, "only {count} are {state}: the cases say little");
    }

    let interval = format!("{}s", INTERVAL.as_secs());
    let mut test = format!(
        "rule_files: [rules.yml]\nevaluation_interval: {interval}\ntests:\n- interval: {interval}\n  input_series:\n"
    );
    for (name, samples) in series(&reports) {
        let _ = writeln!(test, "  - {{series: '{name}', values: '{}'}}", samples.join(" "));
    }
    test.push_str("  promql_expr_test:\n");
    for (step, alerts) in expected.iter().enumerate() {
        let at = INTERVAL.as_secs() * step as u64;
        let _ = writeln!(test, "  - expr: ALERTS\n    eval_time: {at}s\n    exp_samples:");
        for alert in alerts {
            let _ = writeln!(test, "    - {{labels: '{alert}', value: 1}}");
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
    put("rules.yml", &rule_file::write(rules.iter().map(AsRef::as_ref), &[], &[]));
    put("test.yml", &test);
    let mut command = tokio::process::Command::new(promtool);
    command.current_dir(folder.path()).args(["test", "rules", "test.yml"]).kill_on_drop(true);
    let Ok(output) = tokio::time::timeout(LONGEST, command.output()).await else {
        let kept = folder.keep();
        panic!("promtool has not ended after {LONGEST:?}; its input is in {}", kept.display());
    };
    let output = output.expect("promtool runs");
    if !output.status.success() {
        let said =
            [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        panic!("Prometheus disagrees: {}\n{}", first_difference(&said), show(&cases, &said));
    }
}

/// The first step that differs: what is on one side only.
fn first_difference(said: &str) -> String {
    let Some(step) = said.split("expr: ").nth(1) else { return said.to_owned() };
    let (expected, got) = step.split_once("got:").unwrap_or((step, ""));
    let alerts = |text: &str| -> Vec<String> {
        let parts = text.split("__name__=\"ALERTS\", ").skip(1).filter_map(|part| part.split('}').next());
        parts.map(|part| part.split(", db=").next().unwrap_or(part).to_owned()).collect()
    };
    let (expected, got) = (alerts(expected), alerts(got));
    let alone = |one: &[String], other: &[String]| -> Vec<String> {
        one.iter().filter(|line| !other.contains(line)).cloned().collect()
    };
    let at = step.lines().next().unwrap_or_default();
    format!("{at} ours alone: {:?}, its alone: {:?}", alone(&expected, &got), alone(&got, &expected))
}

/// The first case that the difference names: the readings as debug output, a line for each.
fn show(cases: &[Case], said: &str) -> String {
    let difference = first_difference(said);
    let named = cases.iter().enumerate().find(|(at, _)| difference.contains(&name(*at)));
    let Some((at, Case { condition, pending_for, keep_firing_for, readings })) = named else {
        return String::new();
    };
    let lines: Vec<_> =
        readings.iter().enumerate().map(|(step, reading)| format!("{step}: {reading:?}")).collect();
    format!("{} {condition} for {pending_for:?} kept {keep_firing_for:?}\n{}", name(at), lines.join("\n"))
}
