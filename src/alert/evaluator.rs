//! The rules over the subjects of one target, after each poll. Subjects come in the order of the report and alerts
//! are kept in the same order, so that both are walked side by side: what is neither pending nor firing takes no
//! memory, and a rule that holds of nothing costs a comparison for each subject.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::alert::active::{Active, ActiveAlert, AlertSubject, TrackedAlert};
use crate::alert::condition::Operand;
use crate::alert::evaluator::reload::RemovedRule;
use crate::alert::fact::{self, Source, Value, status_is};
use crate::alert::loss_window::Losses;
use crate::alert::notification::{Alert, Notification, SendReason, Status};
use crate::alert::rule::{Rule, TargetLabels};
use crate::alert::state::{AlertState, Evaluation, Phase, Times, step};
use redis_stream_core::name::Name;
use redis_stream_lag::report::{GroupReport, Report, StreamReport};

mod reload;

/// What holds for all rules.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluatorSettings {
    /// How long an alert outlives what is known of its condition.
    pub hold: Duration,
    /// Labels that receivers see besides those of the alert, which go before.
    pub external_labels: BTreeMap<String, String>,
    /// From one evaluation to the next, as planned.
    pub interval: Duration,
}

/// What a poll found.
#[derive(Clone, Copy, Debug)]
pub enum Reading<'r> {
    /// Everything there is: what the report does not show is gone.
    Whole(&'r Report),
    /// A part: what the report does not show is unknown.
    Part(&'r Report),
    /// Nothing.
    Failed,
}

/// Whether the target answered in the last poll, to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetUp {
    /// It did.
    Yes,
    /// It did not.
    No,
}

/// The rules of one target, and what became of them.
#[derive(Clone, Debug)]
pub struct Evaluator {
    settings: EvaluatorSettings,
    target: Arc<TargetLabels>,
    rules: Vec<RuleState>,
    /// What the configuration before this one had rules for.
    removed: Vec<RemovedRule>,
    losses: Losses,
    needs_losses: bool,
}

#[derive(Clone, Debug)]
struct RuleState {
    rule: Arc<Rule>,
    times: Times,
    /// In the order of a report.
    entries: Vec<TrackedAlert>,
}

impl Evaluator {
    /// An evaluator of those rules that are about this target. Nothing is pending yet.
    #[must_use]
    pub fn new(rules: &[Arc<Rule>], target: TargetLabels, settings: EvaluatorSettings) -> Self {
        let of_target = rules.iter().filter(|rule| rule.selector.target.matches(target.name.as_bytes()));
        let rules: Vec<_> = of_target
            .map(|rule| RuleState {
                rule: Arc::clone(rule),
                times: Times {
                    pending_for: rule.pending_for,
                    keep_firing_for: rule.keep_firing_for,
                    hold: settings.hold,
                },
                entries: Vec::new(),
            })
            .collect();
        let needs_losses =
            rules.iter().any(|rule_state| matches!(rule_state.rule.condition.fact.source, Source::Losses));
        let (target, losses) = (Arc::new(target), Losses::default());
        Self { settings, target, rules, removed: Vec::new(), losses, needs_losses }
    }

    /// Takes over what was pending or firing before, as far as there is still a rule and a target for it. Until the
    /// first reading nothing is known of it, since `unknown_since`.
    pub fn resume(&mut self, alerts: impl IntoIterator<Item = ActiveAlert>, unknown_since: Duration) {
        for ActiveAlert { labels, mut state, .. } in alerts {
            let Some(name) = labels.get("alertname") else { continue };
            if labels.get("target") != Some(&self.target.name) {
                continue;
            }
            let is_of = |rule_state: &RuleState| {
                let labels_now = || rule_state.rule.labels(&rule_state.subject(&labels).labels(&self.target));
                rule_state.rule.name == *name && labels_now() == labels
            };
            let Some(rule_state) = self.rules.iter_mut().find(|rule_state| is_of(rule_state)) else {
                continue;
            };
            let subject = rule_state.subject(&labels);
            state.unknown_since.get_or_insert(unknown_since);
            if let Err(at) = rule_state.entries.binary_search_by(|entry| entry.subject.cmp(&subject)) {
                rule_state.entries.insert(at, TrackedAlert { subject, state });
            }
        }
    }

    /// Evaluates all rules, and says what receivers are to be told. `now` is the time since the Unix epoch.
    pub fn step(&mut self, reading: Reading<'_>, up: TargetUp, now: Duration) -> Vec<Notification> {
        if let (Reading::Whole(report) | Reading::Part(report), true) = (reading, self.needs_losses) {
            self.losses.note(report, now);
        }
        let mut notifications = Vec::new();
        for rule_state in &mut self.rules {
            rule_state.step(reading, up, &self.losses, now);
            for entry in &mut rule_state.entries {
                if let Some(reason) = entry.state.needs_sending(now) {
                    let alert = alert(&rule_state.rule, entry, &self.target, &self.settings, now);
                    notifications.push(Notification { alert: Arc::new(alert), reason });
                }
            }
        }
        notifications.extend(self.notify_removed(now));
        notifications
    }

    /// What is pending or firing.
    #[must_use]
    pub fn active(&self) -> Active {
        let rules = self.rules.iter().filter(|rule_state| !rule_state.entries.is_empty());
        let rules =
            rules.map(|rule_state| (Arc::clone(&rule_state.rule), rule_state.entries.clone())).collect();
        Active { target: Arc::clone(&self.target), rules }
    }
}

/// What a receiver is told of an alert.
fn alert(
    rule: &Rule,
    entry: &TrackedAlert,
    target: &TargetLabels,
    settings: &EvaluatorSettings,
    now: Duration,
) -> Alert {
    let state = &entry.state;
    let subject = entry.subject.labels(target);
    let mut labels = settings.external_labels.clone();
    labels.extend(rule.labels(&subject));
    Alert {
        labels,
        annotations: rule.annotations(&subject, state.value),
        value: state.value,
        starts_at: state.fired_at.unwrap_or(state.active_at),
        ends_at: state.ends_at(now, settings.interval),
        status: if state.phase == Phase::Resolved { Status::Resolved } else { Status::Firing },
        notifiers: Arc::clone(&rule.notifiers),
    }
}

/// How many of them are changes, rather than reminders.
#[must_use]
pub fn changes(notifications: &[Notification]) -> usize {
    notifications.iter().filter(|notification| notification.reason == SendReason::Changed).count()
}

impl RuleState {
    /// What the alert of these labels is about. A name that is not among them is empty.
    fn subject(&self, labels: &BTreeMap<String, String>) -> AlertSubject {
        let kind = self.rule.condition.fact.subject();
        let name = |label: &str| Name::from_text(labels.get(label).map_or("", String::as_str));
        AlertSubject {
            stream: (kind >= fact::Subject::Stream).then(|| name("stream")),
            group: (kind >= fact::Subject::Group).then(|| name("group")),
        }
    }

    fn step(&mut self, reading: Reading<'_>, up: TargetUp, losses: &Losses, now: Duration) {
        let before = std::mem::take(&mut self.entries);
        let mut walk = SubjectCursor {
            rule: &self.rule,
            times: &self.times,
            reading,
            now,
            before: before.into_iter().peekable(),
            after: Vec::new(),
        };
        let condition = &self.rule.condition;
        match (condition.fact.source, reading) {
            (Source::TargetUp, _) => {
                let value = Value::Known(if up == TargetUp::Yes { 1.0 } else { 0.0 });
                walk.visit(None, None, value);
            }
            (_, Reading::Failed) => {}
            (Source::Stream(fact), Reading::Whole(report) | Reading::Part(report)) => {
                for stream in &report.streams {
                    walk.visit(Some(stream), None, fact.value(stream, now));
                }
            }
            (Source::Group(fact), Reading::Whole(report) | Reading::Part(report)) => {
                walk.groups(report, |_, group| fact.value(group, condition.operator));
            }
            (Source::Losses, Reading::Whole(report) | Reading::Part(report)) => {
                walk.groups(report, |stream, group| lost(losses, &stream.key, group));
            }
            (Source::Status, Reading::Whole(report) | Reading::Part(report)) => {
                let wanted = match condition.operand {
                    Operand::Status(status) => status,
                    Operand::Number(_) => "",
                };
                walk.groups(report, |_, group| status_is(group, wanted));
            }
        }
        self.entries = walk.end();
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
fn lost(losses: &Losses, stream: &Name, group: &GroupReport) -> Value {
    if group.values.is_none() {
        return Value::Gone;
    }
    losses.of(stream, group).map_or(Value::Unknown, |entries| Value::Known(entries as f64))
}

/// A walk over the subjects of a report, side by side with the alerts from before.
struct SubjectCursor<'w> {
    rule: &'w Rule,
    times: &'w Times,
    reading: Reading<'w>,
    now: Duration,
    before: std::iter::Peekable<std::vec::IntoIter<TrackedAlert>>,
    after: Vec<TrackedAlert>,
}

impl SubjectCursor<'_> {
    fn groups(&mut self, report: &Report, value: impl Fn(&StreamReport, &GroupReport) -> Value) {
        for stream in &report.streams {
            for group in &stream.groups {
                self.visit(Some(stream), Some(group), value(stream, group));
            }
        }
    }

    fn visit(&mut self, stream: Option<&Arc<StreamReport>>, group: Option<&GroupReport>, value: Value) {
        let evaluation = match value {
            Value::Known(value) if self.rule.condition.holds(value) => Evaluation::Holds(value),
            Value::Known(_) | Value::Gone => Evaluation::Clear,
            Value::Unknown => Evaluation::Unknown,
        };
        let (key, name) = (stream.map(|stream| &stream.key), group.map(|group| &group.name));
        let known = self.known(key, name);
        if known.is_none() && !matches!(evaluation, Evaluation::Holds(_)) {
            return;
        }
        let selector = &self.rule.selector;
        let is_selected = known.is_some()
            || (key.is_none_or(|key| selector.stream.matches(key.as_bytes()))
                && name.is_none_or(|name| selector.group.matches(name.as_bytes())));
        if !is_selected {
            return;
        }
        let (subject, state) = match known {
            Some(TrackedAlert { subject, state }) => (subject, Some(state)),
            None => (AlertSubject { stream: key.cloned(), group: name.cloned() }, None),
        };
        self.put(subject, state, evaluation);
    }

    /// The alert of a subject, if there is one. Those of subjects before it, which the report does not show, are
    /// settled.
    fn known(&mut self, stream: Option<&Name>, group: Option<&Name>) -> Option<TrackedAlert> {
        loop {
            let next = &self.before.peek()?.subject;
            match (next.stream.as_ref(), next.group.as_ref()).cmp(&(stream, group)) {
                std::cmp::Ordering::Less => self.settle_absent(),
                std::cmp::Ordering::Equal => return self.before.next(),
                std::cmp::Ordering::Greater => return None,
            }
        }
    }

    fn settle_absent(&mut self) {
        let Some(TrackedAlert { subject, state }) = self.before.next() else { return };
        let evaluation = match self.reading {
            Reading::Whole(report) if shows(report, subject.stream.as_ref()) != Shows::Refused => {
                Evaluation::Clear
            }
            // What the report shows of a stream it shows as a whole.
            Reading::Part(report) if shows(report, subject.stream.as_ref()) == Shows::Told => {
                Evaluation::Clear
            }
            Reading::Whole(_) | Reading::Part(_) | Reading::Failed => Evaluation::Unknown,
        };
        self.put(subject, Some(state), evaluation);
    }

    fn put(&mut self, subject: AlertSubject, state: Option<AlertState>, evaluation: Evaluation) {
        if let Some(state) = step(state, evaluation, self.times, self.now) {
            self.after.push(TrackedAlert { subject, state });
        }
    }

    fn end(mut self) -> Vec<TrackedAlert> {
        while self.before.peek().is_some() {
            self.settle_absent();
        }
        self.after
    }
}

/// What a report shows of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shows {
    /// Nothing.
    Nothing,
    /// That the server refuses to tell of it.
    Refused,
    /// What there is, or that it is missing.
    Told,
}

fn shows(report: &Report, stream: Option<&Name>) -> Shows {
    let Some(key) = stream else { return Shows::Nothing };
    match report.streams.binary_search_by(|stream| stream.key.cmp(key)) {
        Ok(at) if report.streams[at].refused => Shows::Refused,
        Ok(_) => Shows::Told,
        Err(_) => Shows::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::rule::{Selector, test_rule};
    use crate::alert::template::Template;
    use crate::alert::test_support::{group, lagging, missing_group, report, stream, values};
    use redis_stream_core::glob::Glob;
    use redis_stream_lag::report::GroupValues;

    const START: Duration = Duration::from_secs(1_700_000_000);

    fn target() -> TargetLabels {
        let configured =
            BTreeMap::from([("team".to_owned(), "x".to_owned()), ("empty".to_owned(), String::new())]);
        TargetLabels { name: "t".to_owned(), db: "db0".to_owned(), configured }
    }

    fn settings() -> EvaluatorSettings {
        EvaluatorSettings {
            hold: Duration::from_secs(3600),
            external_labels: [("dc", "eu"), ("team", "y")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            interval: Duration::from_secs(10),
        }
    }

    fn evaluator(rules: &[Rule]) -> Evaluator {
        let rules: Vec<_> = rules.iter().cloned().map(Arc::new).collect();
        Evaluator::new(&rules, target(), settings())
    }

    fn text(labels: &BTreeMap<String, String>) -> String {
        labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    }

    /// What is pending or firing: state and labels.
    fn shown(evaluator: &Evaluator) -> Vec<String> {
        let alerts = evaluator.active();
        alerts.alerts().map(|alert| format!("{:?} {}", alert.state.phase, text(&alert.labels))).collect()
    }

    fn lags(lags: &[(&str, &str, u64)]) -> Report {
        let streams = lags.chunk_by(|a, b| a.0 == b.0).map(|of_stream| {
            stream(
                of_stream[0].0,
                of_stream.iter().map(|(_, name, lag)| group(name, lagging(*lag))).collect(),
            )
        });
        report(streams.collect())
    }

    #[test]
    fn subjects_are_selected_by_globs_and_labelled() {
        let mut rule = test_rule("Behind", "lag > 5");
        rule.selector =
            Selector { target: Glob::new("[st]"), stream: Glob::new("a*"), group: Glob::new("g?") };
        let mut other = test_rule("Elsewhere", "lag > 5");
        other.selector.target = Glob::new("u");
        let mut evaluator = evaluator(&[rule, other]);
        let found = lags(&[("a", "g1", 6), ("a", "g2", 5), ("ab", "g3", 9), ("ab", "h1", 9), ("b", "g1", 9)]);
        evaluator.step(Reading::Whole(&found), TargetUp::Yes, START);
        assert_eq!(
            shown(&evaluator),
            [
                "Firing alertname=Behind db=db0 group=g1 stream=a target=t team=x",
                "Firing alertname=Behind db=db0 group=g3 stream=ab target=t team=x",
            ]
        );
    }

    #[test]
    fn what_receivers_are_told_is_filled_in() {
        let mut rule = test_rule("Behind", "lag >= 6");
        let template = |text| Template::parse(text).unwrap();
        rule.labels = BTreeMap::from([
            ("severity".to_owned(), template("page")),
            ("team".to_owned(), template("{{ $labels.group }}s")),
        ]);
        rule.annotations = BTreeMap::from([(
            "summary".to_owned(),
            template("{{ $labels.stream }} {{ $labels.team }} {{ $value }}"),
        )]);
        rule.notifiers = Arc::new(["main".to_owned()]);
        let mut evaluator = evaluator(&[rule]);
        let told = evaluator.step(Reading::Whole(&lags(&[("s\\x41", "g", 6)])), TargetUp::Yes, START);
        let [Notification { alert, reason: SendReason::Changed }] = &told[..] else { panic!("{told:?}") };
        assert_eq!(
            text(&alert.labels),
            "alertname=Behind db=db0 dc=eu group=g severity=page stream=s\\x5cx41 target=t team=gs"
        );
        assert_eq!(text(&alert.annotations), "summary=s\\x5cx41 x 6");
        assert_eq!((alert.status, alert.value, alert.starts_at), (Status::Firing, 6.0, START));
        assert_eq!(alert.ends_at, START + Duration::from_secs(240));
        assert_eq!(*alert.notifiers, ["main".to_owned()]);

        let resolved_at = START + Duration::from_secs(10);
        let told = evaluator.step(Reading::Whole(&lags(&[("s\\x41", "g", 1)])), TargetUp::Yes, resolved_at);
        let [Notification { alert, reason: SendReason::Changed }] = &told[..] else { panic!("{told:?}") };
        assert_eq!((alert.status, alert.value, alert.starts_at), (Status::Resolved, 6.0, START));
        assert_eq!(alert.ends_at, resolved_at);
        assert_eq!(evaluator.active().alerts().count(), 0);
    }

    /// A group whose alert fires, and what one more reading makes of it.
    #[track_caller]
    fn check_after(reading: impl Fn(&mut Evaluator), is_still_firing: bool) {
        let mut evaluator = evaluator(&[test_rule("Behind", "lag > 5")]);
        let firing = lags(&[("a", "g", 1), ("b", "g", 9), ("c", "g", 1)]);
        evaluator.step(Reading::Whole(&firing), TargetUp::Yes, START);
        assert_eq!(evaluator.active().alerts().count(), 1);
        reading(&mut evaluator);
        assert_eq!(evaluator.active().alerts().count(), usize::from(is_still_firing));
    }

    #[test]
    fn what_is_unknown_holds_and_what_is_gone_clears() {
        let later = START + Duration::from_secs(10);
        let whole = |report: Report| {
            move |evaluator: &mut Evaluator| {
                evaluator.step(Reading::Whole(&report), TargetUp::Yes, later);
            }
        };
        // The stream is gone; the group is; the group is known to be missing; nothing is there at all.
        check_after(whole(lags(&[("a", "g", 1), ("c", "g", 1)])), false);
        check_after(whole(lags(&[("b", "f", 1), ("b", "h", 1)])), false);
        check_after(whole(report(vec![stream("b", vec![missing_group("g")])])), false);
        check_after(whole(report(Vec::new())), false);
        // The stream is missing, or not to be known.
        let unread = |refused| {
            let unread = StreamReport { values: None, refused, ..stream("b", Vec::new()) };
            whole(report(vec![unread]))
        };
        check_after(unread(false), false);
        check_after(unread(true), true);
        // Nothing was read, or not all.
        check_after(
            |evaluator| {
                evaluator.step(Reading::Failed, TargetUp::No, later);
            },
            true,
        );
        check_after(
            |evaluator| {
                evaluator.step(Reading::Part(&lags(&[("a", "g", 1)])), TargetUp::Yes, later);
            },
            true,
        );
        // Not all was read, but the stream was: without the group; or it is known to be missing, or was refused.
        let part = |report: Report| {
            move |evaluator: &mut Evaluator| {
                evaluator.step(Reading::Part(&report), TargetUp::Yes, later);
            }
        };
        check_after(part(lags(&[("b", "f", 1)])), false);
        let unread = |refused| StreamReport { values: None, refused, ..stream("b", Vec::new()) };
        check_after(part(report(vec![unread(false)])), false);
        check_after(part(report(vec![unread(true)])), true);
    }

    #[test]
    fn a_target_that_cannot_be_polled_is_known_to_be_down() {
        let mut evaluator =
            evaluator(&[test_rule("Down", "target_up == 0"), test_rule("Gone", "stream_up == 0")]);
        let at = |seconds| START + Duration::from_secs(seconds);
        let empty = report(Vec::new());
        evaluator.step(Reading::Whole(&empty), TargetUp::Yes, at(0));
        assert_eq!(shown(&evaluator), [] as [String; 0]);
        evaluator.step(Reading::Failed, TargetUp::No, at(10));
        assert_eq!(shown(&evaluator), ["Firing alertname=Down target=t team=x"]);
        evaluator.step(Reading::Part(&empty), TargetUp::Yes, at(20));
        assert_eq!(shown(&evaluator), [] as [String; 0]);
    }

    #[test]
    fn losses_are_told_of_for_five_minutes() {
        let mut evaluator = evaluator(&[test_rule("Lost", "entries_lost > 0")]);
        let firing = (0..10).map(|minute: u64| {
            let lost = if minute < 2 { 0 } else { 7 };
            let groups = vec![group("g", GroupValues { entries_lost: Some(lost), ..values() })];
            let found = report(vec![stream("s", groups)]);
            evaluator.step(Reading::Whole(&found), TargetUp::Yes, START + Duration::from_secs(60 * minute));
            evaluator.active().alerts().next().map(|alert| alert.state.value)
        });
        let lost = Some(7.0);
        assert_eq!(firing.collect::<Vec<_>>(), [None, None, lost, lost, lost, lost, lost, None, None, None]);
    }

    #[test]
    fn an_evaluator_takes_over_from_another() {
        let mut pending = test_rule("Pending", "lag > 5");
        pending.pending_for = Duration::from_secs(30);
        let rules = [pending, test_rule("Firing", "lag > 5"), test_rule("Down", "target_up == 0")];
        let mut before = evaluator(&rules);
        // Also of the empty name, which labels leave out.
        let found = lags(&[("", "g", 9), ("s", "", 9), ("s", "g", 9), ("s\u{fc}\\x41", "g\\xff", 9)]);
        before.step(Reading::Whole(&found), TargetUp::No, START);
        let alerts: Vec<_> = before.active().alerts().collect();
        assert_eq!(alerts.len(), 9);

        let mut after = evaluator(&rules);
        after.resume(alerts.clone().into_iter().rev(), START);
        assert_eq!(shown(&after), shown(&before));
        // Nobody is told again before it is time, and what is pending goes on.
        let told = after.step(Reading::Failed, TargetUp::No, START + Duration::from_secs(29));
        assert_eq!((told.len(), after.active().alerts().count()), (0, 9));
        let told = after.step(Reading::Whole(&found), TargetUp::No, START + Duration::from_secs(30));
        assert_eq!(changes(&told), 4);
        assert!(told.iter().all(|told| told.alert.labels["alertname"] == "Pending"));

        // What has no rule or no target any more is left out, and what was unknown for too long ends.
        let mut other = evaluator(&rules[1..2]);
        other.resume(alerts.clone(), START);
        assert_eq!(shown(&other).len(), 4);
        let told = other.step(Reading::Failed, TargetUp::No, START + Duration::from_secs(3600));
        assert_eq!((changes(&told), shown(&other).len()), (4, 0));
        let elsewhere = TargetLabels { name: "u".to_owned(), ..target() };
        let rules: Vec<_> = rules.into_iter().map(Arc::new).collect();
        let mut elsewhere = Evaluator::new(&rules, elsewhere, settings());
        elsewhere.resume(alerts, START);
        assert!(elsewhere.active().is_empty());
    }
}
