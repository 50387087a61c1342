//! Evaluates the rules of one target after each poll. Alerts are kept in the order of the report's subjects, so that
//! both are traversed in parallel: a subject without an alert takes no memory, and a rule that holds for no subject
//! costs one comparison per subject.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::alert::active::{Active, ActiveAlert, AlertSubject, TrackedAlert};
use crate::alert::condition::Operand;
use crate::alert::evaluator::reload::RemovedRule;
use crate::alert::fact::{self, FactSource, FactValue, status_is};
use crate::alert::loss_window::LossWindow;
use crate::alert::notification::{Alert, AlertStatus, Notification, SendReason};
use crate::alert::rule::{Rule, TargetLabels};
use crate::alert::state::{AlertState, Evaluation, Phase, Times, step};
use redis_stream_core::name::Name;
use redis_stream_lag::report::{GroupReport, Report, StreamReport};

mod reload;

/// Settings that apply to all rules.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluatorSettings {
    /// Time for which an alert keeps its state while its condition is unknown.
    pub hold: Duration,
    /// Labels that are added to every notification. A label of the alert with the same name takes precedence.
    pub external_labels: BTreeMap<String, String>,
    /// Planned time between evaluations.
    pub interval: Duration,
}

/// The result of a poll.
#[derive(Clone, Copy, Debug)]
pub enum PollReading<'r> {
    /// The report is complete: a subject that it does not contain is gone.
    Complete(&'r Report),
    /// The report is incomplete: a stream that it does not contain is unknown.
    Partial(&'r Report),
    /// There is no report.
    Failed,
}

/// The value of the fact `target_up`: the target answered the last poll to the end, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetUp {
    Yes,
    No,
}

/// The rules of one target and their alerts.
#[derive(Clone, Debug)]
pub struct Evaluator {
    settings: EvaluatorSettings,
    target: Arc<TargetLabels>,
    rules: Vec<RuleState>,
    /// Rules of earlier configurations whose resolved alerts are still sent.
    removed: Vec<RemovedRule>,
    losses: LossWindow,
    needs_losses: bool,
}

#[derive(Clone, Debug)]
struct RuleState {
    rule: Arc<Rule>,
    times: Times,
    /// Sorted by subject, in the order of a report.
    entries: Vec<TrackedAlert>,
}

impl Evaluator {
    /// Creates an evaluator of the rules that select this target, without alerts.
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
        let needs_losses = rules
            .iter()
            .any(|rule_state| matches!(rule_state.rule.condition.fact.source, FactSource::Losses));
        let (target, losses) = (Arc::new(target), LossWindow::default());
        Self { settings, target, rules, removed: Vec::new(), losses, needs_losses }
    }

    /// Restores pending and firing alerts after a restart, if there still is a rule and a target for them. Until the
    /// first poll their conditions are unknown, since `unknown_since`.
    pub fn resume(&mut self, alerts: impl IntoIterator<Item = ActiveAlert>, unknown_since: Duration) {
        for ActiveAlert { labels, mut state, .. } in alerts {
            let Some(name) = labels.get("alertname") else { continue };
            if labels.get("target") != Some(&self.target.name) {
                continue;
            }
            let is_rule_of = |rule_state: &RuleState| {
                let labels_now = || rule_state.rule.labels(&rule_state.subject(&labels).labels(&self.target));
                rule_state.rule.name == *name && labels_now() == labels
            };
            let Some(rule_state) = self.rules.iter_mut().find(|rule_state| is_rule_of(rule_state)) else {
                continue;
            };
            let subject = rule_state.subject(&labels);
            state.unknown_since.get_or_insert(unknown_since);
            if let Err(at) = rule_state.entries.binary_search_by(|entry| entry.subject.cmp(&subject)) {
                rule_state.entries.insert(at, TrackedAlert { subject, state });
            }
        }
    }

    /// Evaluates all rules and returns the notifications to send. `now` is the time since the Unix epoch.
    pub fn step(&mut self, reading: PollReading<'_>, up: TargetUp, now: Duration) -> Vec<Notification> {
        if let (PollReading::Complete(report) | PollReading::Partial(report), true) =
            (reading, self.needs_losses)
        {
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

    /// Returns the pending and firing alerts.
    #[must_use]
    pub fn active(&self) -> Active {
        let rules = self.rules.iter().filter(|rule_state| !rule_state.entries.is_empty());
        let rules =
            rules.map(|rule_state| (Arc::clone(&rule_state.rule), rule_state.entries.clone())).collect();
        Active { target: Arc::clone(&self.target), rules }
    }
}

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
        status: if state.phase == Phase::Resolved { AlertStatus::Resolved } else { AlertStatus::Firing },
        notifiers: Arc::clone(&rule.notifiers),
    }
}

/// Returns the number of notifications that are changes rather than repetitions.
#[must_use]
pub fn changes(notifications: &[Notification]) -> usize {
    notifications.iter().filter(|notification| notification.reason == SendReason::Changed).count()
}

impl RuleState {
    /// Returns the subject of an alert from its labels. A name that is missing in the labels is empty, since labels
    /// without a value are left out.
    fn subject(&self, labels: &BTreeMap<String, String>) -> AlertSubject {
        let kind = self.rule.condition.fact.subject();
        let name = |label: &str| Name::from_text(labels.get(label).map_or("", String::as_str));
        AlertSubject {
            stream: (kind >= fact::SubjectKind::Stream).then(|| name("stream")),
            group: (kind >= fact::SubjectKind::Group).then(|| name("group")),
        }
    }

    fn step(&mut self, reading: PollReading<'_>, up: TargetUp, losses: &LossWindow, now: Duration) {
        let before = std::mem::take(&mut self.entries);
        let mut cursor = SubjectCursor {
            rule: &self.rule,
            times: &self.times,
            reading,
            now,
            before: before.into_iter().peekable(),
            after: Vec::new(),
        };
        let condition = &self.rule.condition;
        match (condition.fact.source, reading) {
            (FactSource::TargetUp, _) => {
                let value = FactValue::Known(if up == TargetUp::Yes { 1.0 } else { 0.0 });
                cursor.visit(None, None, value);
            }
            (_, PollReading::Failed) => {}
            (FactSource::Stream(fact), PollReading::Complete(report) | PollReading::Partial(report)) => {
                for stream in &report.streams {
                    cursor.visit(Some(stream), None, fact.value(stream, now));
                }
            }
            (FactSource::Group(fact), PollReading::Complete(report) | PollReading::Partial(report)) => {
                cursor.groups(report, |_, group| fact.value(group, condition.operator));
            }
            (FactSource::Losses, PollReading::Complete(report) | PollReading::Partial(report)) => {
                cursor.groups(report, |stream, group| lost(losses, &stream.key, group));
            }
            (FactSource::Status, PollReading::Complete(report) | PollReading::Partial(report)) => {
                let wanted = match condition.operand {
                    Operand::Status(status) => status,
                    Operand::Number(_) => "",
                };
                cursor.groups(report, |_, group| status_is(group, wanted));
            }
        }
        self.entries = cursor.end();
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
fn lost(losses: &LossWindow, stream: &Name, group: &GroupReport) -> FactValue {
    if group.values.is_none() {
        return FactValue::Gone;
    }
    losses.of(stream, group).map_or(FactValue::Unknown, |entries| FactValue::Known(entries as f64))
}

/// Traverses the subjects of a report in parallel with the alerts of the previous evaluation.
struct SubjectCursor<'w> {
    rule: &'w Rule,
    times: &'w Times,
    reading: PollReading<'w>,
    now: Duration,
    before: std::iter::Peekable<std::vec::IntoIter<TrackedAlert>>,
    after: Vec<TrackedAlert>,
}

impl SubjectCursor<'_> {
    fn groups(&mut self, report: &Report, value: impl Fn(&StreamReport, &GroupReport) -> FactValue) {
        for stream in &report.streams {
            for group in &stream.groups {
                self.visit(Some(stream), Some(group), value(stream, group));
            }
        }
    }

    fn visit(&mut self, stream: Option<&Arc<StreamReport>>, group: Option<&GroupReport>, value: FactValue) {
        let evaluation = match value {
            FactValue::Known(value) if self.rule.condition.holds(value) => Evaluation::Holds(value),
            FactValue::Known(_) | FactValue::Gone => Evaluation::Clear,
            FactValue::Unknown => Evaluation::Unknown,
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

    /// Returns the alert of a subject, if there is one. First it evaluates the alerts of earlier subjects, which the
    /// report does not contain.
    fn known(&mut self, stream: Option<&Name>, group: Option<&Name>) -> Option<TrackedAlert> {
        loop {
            let next = &self.before.peek()?.subject;
            match (next.stream.as_ref(), next.group.as_ref()).cmp(&(stream, group)) {
                std::cmp::Ordering::Less => self.evaluate_absent(),
                std::cmp::Ordering::Equal => return self.before.next(),
                std::cmp::Ordering::Greater => return None,
            }
        }
    }

    fn evaluate_absent(&mut self) {
        let Some(TrackedAlert { subject, state }) = self.before.next() else { return };
        let evaluation = match self.reading {
            PollReading::Complete(report)
                if presence(report, subject.stream.as_ref()) != StreamPresence::Refused =>
            {
                Evaluation::Clear
            }
            // An incomplete report lacks streams, but the streams that it contains are complete.
            PollReading::Partial(report)
                if presence(report, subject.stream.as_ref()) == StreamPresence::Known =>
            {
                Evaluation::Clear
            }
            PollReading::Complete(_) | PollReading::Partial(_) | PollReading::Failed => Evaluation::Unknown,
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
            self.evaluate_absent();
        }
        self.after
    }
}

/// The information about a stream in a report.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StreamPresence {
    /// The report does not contain the stream.
    Absent,
    /// Access was refused or the node is unreachable, so its groups are unknown.
    Refused,
    /// The stream was read, or is known to be missing.
    Known,
}

fn presence(report: &Report, stream: Option<&Name>) -> StreamPresence {
    let Some(key) = stream else { return StreamPresence::Absent };
    match report.streams.binary_search_by(|stream| stream.key.cmp(key)) {
        Ok(at) if report.streams[at].refused => StreamPresence::Refused,
        Ok(_) => StreamPresence::Known,
        Err(_) => StreamPresence::Absent,
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

    /// Returns the phase and labels of each pending or firing alert.
    fn active_lines(evaluator: &Evaluator) -> Vec<String> {
        let alerts = evaluator.active();
        alerts.alerts().map(|alert| format!("{:?} {}", alert.state.phase, text(&alert.labels))).collect()
    }

    fn lags(lags: &[(&str, &str, u64)]) -> Report {
        let streams = lags.chunk_by(|a, b| a.0 == b.0).map(|of_stream| {
            stream(
                of_stream[0].0,
                of_stream.iter().map(|(_, name, lag)| group(*name, lagging(*lag))).collect(),
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
        evaluator.step(PollReading::Complete(&found), TargetUp::Yes, START);
        assert_eq!(
            active_lines(&evaluator),
            [
                "Firing alertname=Behind db=db0 group=g1 stream=a target=t team=x",
                "Firing alertname=Behind db=db0 group=g3 stream=ab target=t team=x",
            ]
        );
    }

    #[test]
    fn notifications_have_labels_annotations_and_times() {
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
        let notifications =
            evaluator.step(PollReading::Complete(&lags(&[("s\\x41", "g", 6)])), TargetUp::Yes, START);
        let [Notification { alert, reason: SendReason::Changed }] = &notifications[..] else {
            panic!("{notifications:?}")
        };
        assert_eq!(
            text(&alert.labels),
            "alertname=Behind db=db0 dc=eu group=g severity=page stream=s\\x5cx41 target=t team=gs"
        );
        assert_eq!(text(&alert.annotations), "summary=s\\x5cx41 x 6");
        assert_eq!((alert.status, alert.value, alert.starts_at), (AlertStatus::Firing, 6.0, START));
        assert_eq!(alert.ends_at, START + Duration::from_secs(240));
        assert_eq!(*alert.notifiers, ["main".to_owned()]);

        let resolved_at = START + Duration::from_secs(10);
        let notifications =
            evaluator.step(PollReading::Complete(&lags(&[("s\\x41", "g", 1)])), TargetUp::Yes, resolved_at);
        let [Notification { alert, reason: SendReason::Changed }] = &notifications[..] else {
            panic!("{notifications:?}")
        };
        assert_eq!((alert.status, alert.value, alert.starts_at), (AlertStatus::Resolved, 6.0, START));
        assert_eq!(alert.ends_at, resolved_at);
        assert_eq!(evaluator.active().alerts().count(), 0);
    }

    /// Checks if the alert of a group still fires after one more poll.
    #[track_caller]
    fn check_after(reading: impl Fn(&mut Evaluator), is_still_firing: bool) {
        let mut evaluator = evaluator(&[test_rule("Behind", "lag > 5")]);
        let firing = lags(&[("a", "g", 1), ("b", "g", 9), ("c", "g", 1)]);
        evaluator.step(PollReading::Complete(&firing), TargetUp::Yes, START);
        assert_eq!(evaluator.active().alerts().count(), 1);
        reading(&mut evaluator);
        assert_eq!(evaluator.active().alerts().count(), usize::from(is_still_firing));
    }

    #[test]
    fn an_unknown_subject_keeps_its_alert_and_a_gone_one_resolves_it() {
        let later = START + Duration::from_secs(10);
        let whole = |report: Report| {
            move |evaluator: &mut Evaluator| {
                evaluator.step(PollReading::Complete(&report), TargetUp::Yes, later);
            }
        };
        // The stream is gone; the group is gone; the group is known to be missing; everything is gone.
        check_after(whole(lags(&[("a", "g", 1), ("c", "g", 1)])), false);
        check_after(whole(lags(&[("b", "f", 1), ("b", "h", 1)])), false);
        check_after(whole(report(vec![stream("b", vec![missing_group("g")])])), false);
        check_after(whole(report(Vec::new())), false);
        // The stream is missing, or refused.
        let unread = |refused| {
            let unread = StreamReport { values: None, refused, ..stream("b", Vec::new()) };
            whole(report(vec![unread]))
        };
        check_after(unread(false), false);
        check_after(unread(true), true);
        // No report, or an incomplete one.
        check_after(
            |evaluator| {
                evaluator.step(PollReading::Failed, TargetUp::No, later);
            },
            true,
        );
        check_after(
            |evaluator| {
                evaluator.step(PollReading::Partial(&lags(&[("a", "g", 1)])), TargetUp::Yes, later);
            },
            true,
        );
        // An incomplete report that contains the stream: without the group, known to be missing, or refused.
        let part = |report: Report| {
            move |evaluator: &mut Evaluator| {
                evaluator.step(PollReading::Partial(&report), TargetUp::Yes, later);
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
        evaluator.step(PollReading::Complete(&empty), TargetUp::Yes, at(0));
        assert_eq!(active_lines(&evaluator), [] as [String; 0]);
        evaluator.step(PollReading::Failed, TargetUp::No, at(10));
        assert_eq!(active_lines(&evaluator), ["Firing alertname=Down target=t team=x"]);
        evaluator.step(PollReading::Partial(&empty), TargetUp::Yes, at(20));
        assert_eq!(active_lines(&evaluator), [] as [String; 0]);
    }

    #[test]
    fn a_loss_fires_for_five_minutes() {
        let mut evaluator = evaluator(&[test_rule("Lost", "entries_lost > 0")]);
        let firing = (0..10).map(|minute: u64| {
            let lost = if minute < 2 { 0 } else { 7 };
            let groups = vec![group("g", GroupValues { entries_lost: Some(lost), ..values() })];
            let found = report(vec![stream("s", groups)]);
            evaluator.step(
                PollReading::Complete(&found),
                TargetUp::Yes,
                START + Duration::from_secs(60 * minute),
            );
            evaluator.active().alerts().next().map(|alert| alert.state.value)
        });
        let lost = Some(7.0);
        assert_eq!(firing.collect::<Vec<_>>(), [None, None, lost, lost, lost, lost, lost, None, None, None]);
    }

    #[test]
    fn alerts_are_restored_after_a_restart() {
        let mut pending = test_rule("Pending", "lag > 5");
        pending.pending_for = Duration::from_secs(30);
        let rules = [pending, test_rule("Firing", "lag > 5"), test_rule("Down", "target_up == 0")];
        let mut before = evaluator(&rules);
        // Including empty names, which labels leave out.
        let found = lags(&[("", "g", 9), ("s", "", 9), ("s", "g", 9), ("s\u{fc}\\x41", "g\\xff", 9)]);
        before.step(PollReading::Complete(&found), TargetUp::No, START);
        let alerts: Vec<_> = before.active().alerts().collect();
        assert_eq!(alerts.len(), 9);

        let mut after = evaluator(&rules);
        after.resume(alerts.clone().into_iter().rev(), START);
        assert_eq!(active_lines(&after), active_lines(&before));
        // No alert is sent again too early, and pending alerts keep their start time.
        let notifications = after.step(PollReading::Failed, TargetUp::No, START + Duration::from_secs(29));
        assert_eq!((notifications.len(), after.active().alerts().count()), (0, 9));
        let notifications =
            after.step(PollReading::Complete(&found), TargetUp::No, START + Duration::from_secs(30));
        assert_eq!(changes(&notifications), 4);
        assert!(notifications.iter().all(|notification| notification.alert.labels["alertname"] == "Pending"));

        // Alerts without a rule or target are dropped, and those that are unknown for too long resolve.
        let mut other = evaluator(&rules[1..2]);
        other.resume(alerts.clone(), START);
        assert_eq!(active_lines(&other).len(), 4);
        let notifications = other.step(PollReading::Failed, TargetUp::No, START + Duration::from_secs(3600));
        assert_eq!((changes(&notifications), active_lines(&other).len()), (4, 0));
        let elsewhere = TargetLabels { name: "u".to_owned(), ..target() };
        let rules: Vec<_> = rules.into_iter().map(Arc::new).collect();
        let mut elsewhere = Evaluator::new(&rules, elsewhere, settings());
        elsewhere.resume(alerts, START);
        assert!(elsewhere.active().is_empty());
    }
}
