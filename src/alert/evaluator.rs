//! Evaluates the rules of one target after each poll. Alerts are kept in the order of the report's subjects, so that
//! both are traversed in parallel: a subject without an alert takes no memory, and a rule that holds for no subject
//! costs one comparison per subject.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::Arc;
use std::time::Duration;

use crate::alert::active::{Active, ActiveAlert, TrackedAlert};
use crate::alert::changes::{AlertChanges, RuleChanges};
use crate::alert::condition::{Condition, Operand};
use crate::alert::evaluator::reload::RemovedRule;
use crate::alert::evaluator::rule_alerts::{AlertList, RuleAlerts, TakenAlerts};
use crate::alert::fact::{self, FactSource, FactValue, LossSpan, status_is};
use crate::alert::gone_groups::{Coverage, CoveredReport, GoneGroups, GoneList};
use crate::alert::inhibition::Sources;
use crate::alert::loss_window::LossWindow;
use crate::alert::notification::{
    Alert, AlertStatus, DIAGNOSIS_ANNOTATION, Notification, SendReason, WORST_STREAM_ANNOTATION,
};
use crate::alert::resolved_reason::{self, HeldValues, SubjectView};
use crate::alert::rule::{Rule, TargetLabels};
use crate::alert::state::{Evaluation, InhibitionChange, Phase, Times, step};
use crate::alert::subject::AlertSubject;
use redis_stream_core::name::Name;
use redis_stream_core::wall_clock::ClockShift;
use redis_stream_lag::report::{GroupReport, LimitedCounts, Report, ReportedStream, StreamReport};

mod reload;
mod rule_alerts;

/// Settings that apply to all rules.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluatorSettings {
    /// Time for which an alert keeps its state while its condition is unknown.
    pub hold: Duration,
    /// Labels that are added to every notification. A label of the alert with the same name takes precedence.
    pub external_labels: BTreeMap<String, String>,
    /// Planned time between evaluations.
    pub interval: Duration,
    /// True if there is any notifier, so that notifications are made.
    pub has_notifiers: bool,
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

/// The result of an evaluation.
#[derive(Clone, Debug, Default)]
pub struct Evaluated {
    /// The notifications to send; none without notifiers.
    pub notifications: Vec<Notification>,
    /// The alerts that began to fire or resolved.
    pub changes: AlertChanges,
}

/// The rules of one target and their alerts.
#[derive(Clone, Debug)]
pub struct Evaluator {
    settings: EvaluatorSettings,
    target: Arc<TargetLabels>,
    rules: Vec<RuleState>,
    /// Rules of earlier configurations whose resolved alerts are still sent.
    removed: Vec<RemovedRule>,
    history: TargetHistory,
    needs_losses: bool,
}

/// The state kept from earlier reports.
#[derive(Clone, Debug, Default)]
struct TargetHistory {
    losses: LossWindow,
    gone: GoneGroups,
    /// The numbers of what the last report lacks because of limits; `None` before the first report.
    limited: Option<LimitedCounts>,
}

#[derive(Clone, Debug)]
struct RuleState {
    rule: Arc<Rule>,
    times: Times,
    alerts: RuleAlerts,
}

impl Evaluator {
    /// Creates an evaluator of the rules that select this target, without alerts.
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
                alerts: RuleAlerts::default(),
            })
            .collect();
        let is_loss = |condition: &Condition| matches!(condition.fact.source, FactSource::Losses(_));
        let needs_losses =
            rules.iter().any(|rule_state| rule_state.rule.expression.conditions().into_iter().any(is_loss));
        let (target, history) = (Arc::new(target), TargetHistory::default());
        Self { settings, target, rules, removed: Vec::new(), history, needs_losses }
    }

    /// Restores pending and firing alerts after a restart, if there still is a rule and a target for them. Until the
    /// first poll their conditions are unknown, since `unknown_since`.
    pub fn resume(&mut self, alerts: impl IntoIterator<Item = ActiveAlert>, unknown_since: Duration) {
        let mut resumed = Vec::new();
        for ActiveAlert { labels, mut state, inhibited_by, .. } in alerts {
            let Some(name) = labels.get("alertname") else { continue };
            if labels.get("target") != Some(&self.target.name) {
                continue;
            }
            let is_rule_of = |rule_state: &RuleState| {
                let labels_now = || rule_state.rule.labels(&rule_state.subject(&labels).labels(&self.target));
                rule_state.rule.name == *name && labels_now() == labels
            };
            let Some(number) = self.rules.iter().position(is_rule_of) else { continue };
            let rule_state = &self.rules[number];
            let subject = rule_state.subject(&labels);
            state.unknown_since.get_or_insert(unknown_since);
            if let (FactSource::GroupGone, AlertSubject { stream: Some(stream), group: Some(group) }) =
                (rule_state.rule.expression.first().fact.source, &subject)
            {
                self.history.gone.restore(stream.clone(), group.clone(), state.active_at);
            }
            let mut alert = TrackedAlert::new(subject, state);
            alert.set_inhibited_by(inhibited_by.map(Arc::new));
            resumed.push((number, alert));
        }
        // Of alerts with the same subject, the first is taken.
        resumed.sort_by(|(_, one), (_, other)| one.subject.cmp(&other.subject));
        for (number, alert) in resumed {
            self.rules[number].alerts.insert((alert, None));
        }
    }

    /// Takes a changed selection: what it does not contain any more is neither deleted nor destroyed.
    pub fn note_selection(&mut self, is_selected: &dyn Fn(&Name, Option<&Name>) -> bool) {
        self.history.gone.retain(is_selected);
        self.history.losses.forget_last_report();
        for (entry, _) in self.rules.iter_mut().flat_map(|rule_state| rule_state.alerts.iter_mut()) {
            let stream = entry.subject.stream.as_ref();
            let is_selected = stream.is_none_or(|key| is_selected(key, entry.subject.group.as_ref()));
            entry.set_selected(is_selected);
        }
    }

    /// Adapts all times to a wall clock that was set, before the next evaluation.
    pub fn shift_times(&mut self, shift: ClockShift) {
        self.history.losses.shift_times(shift);
        self.history.gone.shift_times(shift);
        let removed = self.removed.iter_mut().map(|removed| &mut removed.rule_state);
        let all = self.rules.iter_mut().chain(removed);
        for (entry, held) in all.flat_map(|rule_state| rule_state.alerts.iter_mut()) {
            entry.change_state(|state| state.shift_times(shift));
            if let Some(held) = held {
                held.shift_times(shift);
            }
        }
    }

    /// Evaluates all rules. `now` is the time since the Unix epoch.
    pub fn step(&mut self, reading: PollReading<'_>, up: TargetUp, now: Duration) -> Evaluated {
        self.history.note(reading, self.needs_losses, now);
        let history = &self.history;
        let cursors =
            self.rules.iter_mut().map(|rule_state| SubjectCursor::new(rule_state, reading, history, now));
        let alerts = evaluate(cursors.collect(), reading, up);
        for (rule_state, alerts) in self.rules.iter_mut().zip(alerts) {
            rule_state.alerts = alerts;
        }
        let mut sources = Sources::default();
        for RuleState { rule, alerts, .. } in &self.rules {
            sources.add(rule, alerts.shared());
        }
        let mut evaluated = Evaluated::default();
        for rule_state in &mut self.rules {
            let inhibitors = sources.of(&rule_state.rule);
            let inhibit = |entry: &mut TrackedAlert| inhibitors.apply(entry);
            evaluated.add(rule_state, &inhibit, &self.target, &self.settings, now);
        }
        evaluated.append(self.notify_removed(now));
        evaluated
    }

    /// Returns key and name of the groups that were read lately and are gone.
    pub fn gone_groups(&self) -> GoneList {
        self.history.gone.iter().map(|(stream, group)| (stream.clone(), group.clone())).collect()
    }

    /// Returns the pending and firing alerts.
    pub fn active(&self) -> Active {
        let rules = self.rules.iter().filter(|rule_state| !rule_state.alerts.is_empty());
        let shared =
            |RuleState { rule, alerts, .. }: &RuleState| (Arc::clone(rule), Arc::clone(alerts.shared()));
        let rules = rules.map(shared).collect();
        Active { target: Arc::clone(&self.target), rules }
    }
}

fn alert(
    rule: &Rule,
    (entry, held): (&TrackedAlert, Option<&HeldValues>),
    target: &TargetLabels,
    settings: &EvaluatorSettings,
    now: Duration,
) -> Alert {
    let state = entry.state();
    let subject = entry.subject.labels(target);
    let mut labels = settings.external_labels.clone();
    labels.extend(rule.labels(&subject));
    let mut annotations = rule.annotations(&subject, state.value);
    if state.phase == Phase::Resolved {
        let reason = entry.resolved_reason();
        annotations.extend(reason.map(|reason| (resolved_reason::ANNOTATION.to_owned(), reason.to_owned())));
    } else {
        let group = entry.subject.group.as_ref();
        let diagnosis = held.zip(group).and_then(|(held, group)| held.diagnosis(group, &rule.expression));
        annotations.extend(diagnosis.map(|text| (DIAGNOSIS_ANNOTATION.to_owned(), text.to_string())));
        let worst = held.and_then(HeldValues::worst_stream);
        annotations.extend(worst.map(|key| (WORST_STREAM_ANNOTATION.to_owned(), key.to_string())));
    }
    Alert {
        labels: Arc::new(labels),
        annotations,
        value: state.value,
        starts_at: state.since(),
        ends_at: state.ends_at(now, settings.interval),
        status: if state.phase == Phase::Resolved { AlertStatus::Resolved } else { AlertStatus::Firing },
        inhibited_by: entry.inhibited_by().map(|name| (**name).clone()),
        notifiers: Arc::clone(&rule.notifiers),
    }
}

impl TargetHistory {
    fn note(&mut self, reading: PollReading<'_>, needs_losses: bool, now: Duration) {
        let (report, streams) = match reading {
            PollReading::Complete(report) => (report, Coverage::Complete),
            PollReading::Partial(report) => (report, Coverage::Partial),
            PollReading::Failed => return self.gone.expire(now),
        };
        if needs_losses {
            self.losses.note(report, now);
        }
        self.limited = Some(report.limited);
        let groups = if report.limited.groups == 0 { Coverage::Complete } else { Coverage::Partial };
        self.gone.note(CoveredReport { report, streams, groups }, now);
        self.gone.expire(now);
    }

    fn of_group(&self, condition: &Condition, stream: &ReportedStream, group: &GroupReport) -> FactValue {
        match condition.fact.source {
            FactSource::Group(family) => fact::of_group(family, stream, group, condition.operator),
            FactSource::Losses(span) => self.lost(span, &stream.key, group),
            FactSource::Status(_) => match condition.operand {
                Operand::Status(status) => status_is(group, status),
                Operand::Number(_) => FactValue::Gone,
            },
            FactSource::TargetUp | FactSource::LeftOut | FactSource::GroupGone | FactSource::Stream(_) => {
                FactValue::Gone
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
    fn lost(&self, span: LossSpan, stream: &Name, group: &GroupReport) -> FactValue {
        if group.values.is_none() {
            return FactValue::Gone;
        }
        let lost = match span {
            LossSpan::Window => self.losses.of(stream, group),
            LossSpan::Hour => self.losses.has_lost(stream, group).map(u64::from),
        };
        lost.map_or(FactValue::Unknown, |entries| FactValue::Known(entries as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
    fn of_target(&self, condition: &Condition, up: TargetUp) -> FactValue {
        match (condition.fact.source, self.limited) {
            (FactSource::TargetUp, _) => FactValue::Known(if up == TargetUp::Yes { 1.0 } else { 0.0 }),
            (FactSource::LeftOut, Some(LimitedCounts { streams, groups, consumers })) => {
                FactValue::Known(streams.max(groups).max(consumers) as f64)
            }
            _ => FactValue::Unknown,
        }
    }
}

impl Evaluated {
    /// Adds the alerts of a rule that are to be sent now. `inhibit` notes whether an alert is inhibited.
    fn add(
        &mut self,
        rule_state: &mut RuleState,
        inhibit: &dyn Fn(&mut TrackedAlert) -> InhibitionChange,
        target: &TargetLabels,
        settings: &EvaluatorSettings,
        now: Duration,
    ) {
        let RuleState { rule, alerts, .. } = rule_state;
        let mut changes = RuleChanges::default();
        for (entry, held) in alerts.iter_mut() {
            let inhibition = inhibit(entry);
            let Some(reason) = entry.change_state(|state| state.needs_sending(now, inhibition)) else {
                continue;
            };
            if reason == SendReason::Changed {
                changes.note(entry);
            }
            // Thousands of alerts with their texts are large: none is made if none is sent.
            if settings.has_notifiers {
                let alert = Arc::new(alert(rule, (entry, held.as_deref()), target, settings, now));
                self.notifications.push(Notification { alert, reason });
            }
        }
        if changes != RuleChanges::default() {
            self.changes.entry((rule.name.clone(), target.name.clone())).or_default().merge(&changes);
        }
    }

    fn append(&mut self, mut other: Self) {
        self.notifications.append(&mut other.notifications);
        for (names, changes) in other.changes {
            self.changes.entry(names).or_default().merge(&changes);
        }
    }
}

impl RuleState {
    /// Returns the subject of an alert from its labels. A name that is missing in the labels is empty, since labels
    /// without a value are left out.
    fn subject(&self, labels: &BTreeMap<String, String>) -> AlertSubject {
        let kind = self.rule.subject();
        let name = |label: &str| Name::from_text(labels.get(label).map_or("", String::as_str));
        AlertSubject {
            stream: (kind >= fact::SubjectKind::Stream).then(|| name("stream")),
            group: (kind >= fact::SubjectKind::Group).then(|| name("group")),
        }
    }
}

/// Evaluates the rule of each cursor for each of its subjects. Returns the alerts of each rule.
///
/// All rules are evaluated for one group before the next, so that a large report is read once.
fn evaluate(mut cursors: Vec<SubjectCursor<'_>>, reading: PollReading<'_>, up: TargetUp) -> Vec<RuleAlerts> {
    let (mut of_streams, mut of_groups) = (Vec::new(), Vec::new());
    for cursor in &mut cursors {
        match cursor.rule.expression.first().fact.source {
            FactSource::TargetUp | FactSource::LeftOut => cursor.target(up),
            FactSource::GroupGone => cursor.gone_groups(),
            FactSource::Stream(_) => of_streams.push(cursor),
            FactSource::Group(_) | FactSource::Losses(_) | FactSource::Status(_) => of_groups.push(cursor),
        }
    }
    let report = match reading {
        PollReading::Complete(report) | PollReading::Partial(report) => Some(report),
        PollReading::Failed => None,
    };
    for stream in report.into_iter().flat_map(|report| &report.streams) {
        of_streams.iter_mut().for_each(|cursor| cursor.stream(stream));
        for group in &stream.groups {
            of_groups.iter_mut().for_each(|cursor| cursor.group(stream, group));
        }
    }
    cursors.into_iter().map(SubjectCursor::end).collect()
}

/// Traverses the subjects of a report in parallel with the alerts of the previous evaluation.
struct SubjectCursor<'w> {
    rule: &'w Rule,
    times: &'w Times,
    reading: PollReading<'w>,
    history: &'w TargetHistory,
    now: Duration,
    before: Peekable<TakenAlerts<'w>>,
    after: AlertList,
}

/// An alert of the previous evaluation, and the values with which its expression last held.
type KnownAlert<'w> = (&'w TrackedAlert, Option<HeldValues>);

/// Key of a stream and name of a group, as far as a subject has them.
type SubjectNames<'n> = (Option<&'n Name>, Option<&'n Name>);

impl<'w> SubjectCursor<'w> {
    fn new(
        rule_state: &'w mut RuleState,
        reading: PollReading<'w>,
        history: &'w TargetHistory,
        now: Duration,
    ) -> Self {
        let RuleState { rule, times, alerts } = rule_state;
        let after = AlertList::with_capacity(alerts.shared().len());
        let before = alerts.take_held();
        Self { rule, times, reading, history, now, before: before.peekable(), after }
    }

    fn target(&mut self, up: TargetUp) {
        let value = |condition: &Condition| self.history.of_target(condition, up);
        let evaluation = self.rule.expression.evaluate(&value);
        self.visit((None, None), evaluation, SubjectView::Target);
    }

    fn stream(&mut self, stream: &ReportedStream) {
        let value = |condition: &Condition| stream_value(condition, stream, self.now);
        let evaluation = self.rule.expression.evaluate(&value);
        self.visit((Some(&stream.key), None), evaluation, SubjectView::Stream(stream));
    }

    fn group(&mut self, stream: &ReportedStream, group: &GroupReport) {
        let value = |condition: &Condition| self.history.of_group(condition, stream, group);
        let evaluation = self.rule.expression.evaluate(&value);
        self.visit((Some(&stream.key), Some(&group.name)), evaluation, SubjectView::Group(stream, group));
    }

    fn gone_groups(&mut self) {
        for (stream, group) in self.history.gone.iter() {
            self.visit((Some(stream), Some(group)), Evaluation::Holds(1.0), SubjectView::NoGroup);
        }
    }

    fn visit(&mut self, names: SubjectNames<'_>, evaluation: Evaluation, view: SubjectView<'_>) {
        let (key, name) = names;
        let known = self.known(key, name);
        if known.is_none() && !matches!(evaluation, Evaluation::Holds(_)) {
            return;
        }
        let selector = &self.rule.selector;
        let is_selected = known.is_some()
            || (key.is_none_or(|key| selector.matches_stream(key.as_bytes()))
                && name.is_none_or(|name| selector.group.matches(name.as_bytes())));
        if !is_selected {
            return;
        }
        match known {
            Some(known) => self.put(known, evaluation, view),
            None => {
                let subject = AlertSubject { stream: key.cloned(), group: name.cloned() };
                if let Some(state) = step(None, evaluation, self.times, self.now) {
                    let held = if state.phase == Phase::Firing { held(view, self.now) } else { None };
                    self.after.push((TrackedAlert::new(subject, state), held));
                }
            }
        }
    }

    /// Returns the alert of a subject, if there is one. First it evaluates the alerts of earlier subjects, which the
    /// report does not contain.
    fn known(&mut self, stream: Option<&Name>, group: Option<&Name>) -> Option<KnownAlert<'w>> {
        loop {
            let next = &self.before.peek()?.0.subject;
            match (next.stream.as_ref(), next.group.as_ref()).cmp(&(stream, group)) {
                std::cmp::Ordering::Less => self.evaluate_absent(),
                std::cmp::Ordering::Equal => return self.before.next(),
                std::cmp::Ordering::Greater => return None,
            }
        }
    }

    fn evaluate_absent(&mut self) {
        let Some(known) = self.before.next() else { return };
        let stream = known.0.subject.stream.as_ref();
        let gone = match self.reading {
            _ if matches!(self.rule.expression.first().fact.source, FactSource::GroupGone) => {
                Some(SubjectView::NoGroup)
            }
            PollReading::Failed => None,
            PollReading::Complete(report) | PollReading::Partial(report) => {
                match stream.and_then(|key| report.stream(key)) {
                    Some(stream) if stream.refused => None,
                    Some(stream) if stream.values.is_none() => Some(SubjectView::NoStream),
                    // An incomplete report lacks streams, but the streams that it contains are complete.
                    Some(_) => Some(SubjectView::NoGroup),
                    None => matches!(self.reading, PollReading::Complete(_)).then_some(SubjectView::NoStream),
                }
            }
        };
        let unknown = (Evaluation::Unknown, SubjectView::Unknown(self.times.hold));
        let (evaluation, view) = gone.map_or(unknown, |view| (Evaluation::Clear, view));
        self.put(known, evaluation, view);
    }

    fn put(&mut self, (known, before): KnownAlert<'_>, evaluation: Evaluation, view: SubjectView<'_>) {
        let Some(state) = step(Some(known.state()), evaluation, self.times, self.now) else { return };
        let mut alert = known.clone();
        alert.set_state(state);
        let held = match evaluation {
            // What does not fire yet needs neither a diagnosis nor a reason.
            _ if state.phase == Phase::Pending => None,
            Evaluation::Holds(_) => held(view, self.now),
            Evaluation::Clear | Evaluation::Unknown => before,
        };
        if known.phase() == Phase::Firing && state.phase == Phase::Resolved {
            alert.set_resolved_reason(&self.reason(&alert, held.as_ref(), evaluation, view));
        }
        self.after.push((alert, held.filter(|_| state.phase == Phase::Firing)));
    }

    fn reason(
        &self,
        alert: &TrackedAlert,
        held: Option<&HeldValues>,
        evaluation: Evaluation,
        view: SubjectView<'_>,
    ) -> String {
        let expression = &self.rule.expression;
        if !alert.is_selected() {
            return resolved_reason::DESELECTED.to_owned();
        }
        if let (FactSource::GroupGone, AlertSubject { stream: Some(stream), group: Some(group) }) =
            (expression.first().fact.source, &alert.subject)
        {
            let is_back = self.history.gone.is_there(stream, group);
            return if is_back { resolved_reason::BACK } else { resolved_reason::FORGOTTEN }.to_owned();
        }
        let view =
            if evaluation == Evaluation::Unknown { SubjectView::Unknown(self.times.hold) } else { view };
        let value = |condition: &Condition| {
            let value = match view {
                SubjectView::Stream(stream) => stream_value(condition, stream, self.now),
                SubjectView::Group(stream, group) => self.history.of_group(condition, stream, group),
                _ => FactValue::Gone,
            };
            if let FactValue::Known(value) = value { Some(value) } else { None }
        };
        resolved_reason::reason(expression, held, view, &value)
    }

    fn end(mut self) -> RuleAlerts {
        while self.before.peek().is_some() {
            self.evaluate_absent();
        }
        self.after.finish()
    }
}

fn stream_value(condition: &Condition, stream: &StreamReport, now: Duration) -> FactValue {
    match condition.fact.source {
        FactSource::Stream(family) => fact::of_stream(family, stream, now),
        _ => FactValue::Gone,
    }
}

fn held(view: SubjectView<'_>, now: Duration) -> Option<HeldValues> {
    match view {
        SubjectView::Group(stream, group) => HeldValues::of(stream, group, now),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::rule::{Selector, test_rule};
    use crate::alert::template::Template;
    use crate::alert::test_support::{group, lagging, missing_group, report, stream, values};
    use redis_stream_core::glob::Glob;
    use redis_stream_core::id::StreamId;
    use redis_stream_lag::family::FamilyFold;
    use redis_stream_lag::report::{
        Age, GroupValues, NewPosition, OldestPending, PendingCensus, PendingCensusReading, Recreation,
        SeldomGroupValues,
    };

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
            has_notifiers: true,
        }
    }

    fn evaluator(rules: &[Rule]) -> Evaluator {
        let rules: Vec<_> = rules.iter().cloned().map(Arc::new).collect();
        Evaluator::new(&rules, target(), settings())
    }

    /// Returns the number of notifications that are changes rather than repetitions.
    fn changed(notifications: &[Notification]) -> usize {
        notifications.iter().filter(|notification| notification.reason == SendReason::Changed).count()
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
    fn an_alert_fires_and_resolves_by_the_time_that_passes_whatever_the_wall_clock_is_set_to() {
        let mut rule = test_rule("Behind", "lag > 5");
        rule.pending_for = Duration::from_secs(60);
        rule.keep_firing_for = Duration::from_secs(30);
        for by in [2, 45, 3_600, 86_400 * 365].map(Duration::from_secs) {
            for shift in [ClockShift::Forward(by), ClockShift::Backward(by)] {
                for set_after in 0..20 {
                    let (mut evaluator, mut now, mut phases) =
                        (evaluator(&[rule.clone()]), START, String::new());
                    for poll in 0..20 {
                        let found = lags(&[("s", "g", if poll < 10 { 9 } else { 0 })]);
                        evaluator.step(PollReading::Complete(&found), TargetUp::Yes, now);
                        let phase = evaluator.active().alerts().next().map(|alert| alert.state.phase);
                        phases.push(match phase {
                            Some(Phase::Pending) => 'p',
                            Some(Phase::Firing) => 'f',
                            Some(Phase::Resolved) | None => '-',
                        });
                        now += Duration::from_secs(10);
                        if poll == set_after {
                            evaluator.shift_times(shift);
                            now = shift.apply(now);
                        }
                    }
                    assert_eq!(phases, "ppppppfffffff-------", "{shift:?} after {set_after}");
                }
            }
        }
    }

    #[test]
    fn subjects_are_selected_by_globs_and_labelled() {
        let mut rule = test_rule("Behind", "lag > 5");
        rule.selector = Selector {
            target: Glob::new("[st]"),
            stream: Glob::new("a*"),
            group: Glob::new("g?"),
            ..Selector::default()
        };
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
        let notifications = evaluator
            .step(PollReading::Complete(&lags(&[("s\\x41", "g", 6)])), TargetUp::Yes, START)
            .notifications;
        let [Notification { alert, reason: SendReason::Changed }] = &notifications[..] else {
            panic!("{notifications:?}")
        };
        assert_eq!(
            text(&alert.labels),
            "alertname=Behind db=db0 dc=eu group=g severity=page stream=s\\x5cx41 target=t team=gs"
        );
        assert_eq!(text(&alert.annotations), "diagnosis=6 entries wait summary=s\\x5cx41 x 6");
        assert_eq!((alert.status, alert.value, alert.starts_at), (AlertStatus::Firing, 6.0, START));
        assert_eq!(alert.ends_at, START + Duration::from_secs(240));
        assert_eq!(*alert.notifiers, ["main".to_owned()]);

        let resolved_at = START + Duration::from_secs(10);
        let notifications = evaluator
            .step(PollReading::Complete(&lags(&[("s\\x41", "g", 1)])), TargetUp::Yes, resolved_at)
            .notifications;
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
    fn an_alert_of_a_family_names_the_worst_stream_also_if_that_lacks_the_group() {
        let member = |key: &str, group: GroupReport| StreamReport {
            family: Some(Name::from("rooms")),
            ..stream(key, vec![group])
        };
        for worst in [missing_group("g"), group("g", lagging(9))] {
            let members = vec![member("room:1", group("g", lagging(7))), member("room:7", worst)];
            let folded = FamilyFold::default().fold(&Arc::new(report(members)));
            let mut evaluator = evaluator(&[test_rule("Behind", "lag > 5")]);
            let notifications =
                evaluator.step(PollReading::Complete(&folded), TargetUp::Yes, START).notifications;
            let shown: Vec<_> = notifications
                .iter()
                .map(|one| (&*one.alert.labels["stream"], &*one.alert.annotations["worst_stream"]))
                .collect();
            assert_eq!(shown, [("rooms", "room:7")]);
        }
    }

    #[test]
    fn a_loss_fires_for_five_minutes() {
        let mut evaluator = evaluator(&[test_rule("Lost", "entries_lost > 0")]);
        let firing = (0..10).map(|minute: u64| {
            let lost = if minute < 2 { 0 } else { 7 };
            let groups = vec![group("g", GroupValues { entries_lost: Some(lost.into()), ..values() })];
            let found = report(vec![stream("s", groups)]);
            evaluator.step(
                PollReading::Complete(&found),
                TargetUp::Yes,
                START + Duration::from_secs(60 * minute),
            );
            evaluator.active().alerts().next().map(|alert| alert.state.value)
        });
        let lost = Some(7.0);
        assert_eq!(firing.collect::<Vec<_>>(), [None, None, lost, lost, lost, lost, None, None, None, None]);
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
        let notifications =
            after.step(PollReading::Failed, TargetUp::No, START + Duration::from_secs(29)).notifications;
        assert_eq!((notifications.len(), after.active().alerts().count()), (0, 9));
        let notifications = after
            .step(PollReading::Complete(&found), TargetUp::No, START + Duration::from_secs(30))
            .notifications;
        assert_eq!(changed(&notifications), 4);
        assert!(notifications.iter().all(|notification| notification.alert.labels["alertname"] == "Pending"));

        // Alerts without a rule or target are dropped, and those that are unknown for too long resolve.
        let mut other = evaluator(&rules[1..2]);
        other.resume(alerts.clone(), START);
        assert_eq!(active_lines(&other).len(), 4);
        let notifications =
            other.step(PollReading::Failed, TargetUp::No, START + Duration::from_secs(3600)).notifications;
        assert_eq!((changed(&notifications), active_lines(&other).len()), (4, 0));
        let elsewhere = TargetLabels { name: "u".to_owned(), ..target() };
        let rules: Vec<_> = rules.into_iter().map(Arc::new).collect();
        let mut elsewhere = Evaluator::new(&rules, elsewhere, settings());
        elsewhere.resume(alerts, START);
        assert!(elsewhere.active().is_empty());
    }

    /// Returns what is sent in each step, and the alert that inhibits it.
    fn sent(evaluator: &mut Evaluator, reading: &Report, seconds: u64) -> Vec<String> {
        let now = START + Duration::from_secs(seconds);
        let notifications = evaluator.step(PollReading::Complete(reading), TargetUp::Yes, now).notifications;
        let line = |Notification { alert, reason }: &Notification| {
            let inhibited_by = alert.inhibited_by.as_deref().unwrap_or("-");
            format!("{reason:?} {:?} {} {inhibited_by}", alert.status, alert.labels["alertname"])
        };
        notifications.iter().map(line).collect()
    }

    fn with_inhibition(mut rule: Rule, part: &str) -> Rule {
        rule.labels = BTreeMap::from([("inhibition".to_owned(), Template::parse(part).unwrap())]);
        rule
    }

    #[test]
    fn an_alert_is_inhibited_while_its_source_fires() {
        let mut source = with_inhibition(test_rule("Source", "messages_pending > 0"), "source");
        source.pending_for = Duration::from_secs(10);
        let target = with_inhibition(test_rule("Target", "lag > 5"), "target");
        let mut evaluator = evaluator(&[target, source]);
        let found = |lag, messages_pending| {
            let values = GroupValues { messages_pending, ..lagging(lag) };
            let other = GroupValues { messages_pending: 1 - messages_pending, ..lagging(0) };
            report(vec![stream("s", vec![group("g", values), group("other", other)])])
        };
        // While the source is pending, or fires for another group, it inhibits nothing.
        assert_eq!(sent(&mut evaluator, &found(9, 0), 0), ["Changed Firing Target -"]);
        assert_eq!(sent(&mut evaluator, &found(9, 1), 10), [] as [&str; 0]);
        assert_eq!(
            sent(&mut evaluator, &found(9, 1), 20),
            ["Repeated Firing Target Source", "Changed Firing Source -"]
        );
        assert_eq!(evaluator.active().alerts().next().unwrap().inhibited_by.as_deref(), Some("Source"));
        assert_eq!(
            sent(&mut evaluator, &found(9, 0), 30),
            ["Repeated Firing Target -", "Changed Resolved Source -"]
        );
        assert_eq!(sent(&mut evaluator, &found(9, 1), 40), [] as [&str; 0]);
        assert_eq!(sent(&mut evaluator, &found(9, 1), 50).len(), 2);
        // What resolves was inhibited until then.
        assert_eq!(
            sent(&mut evaluator, &found(0, 0), 60),
            ["Changed Resolved Target Source", "Changed Resolved Source -"]
        );
    }

    /// Returns the reason for which an alert resolves between two readings of the group `g` of the stream `s`.
    #[track_caller]
    fn reason(expr: &str, before: &Report, after: &Report) -> String {
        let mut evaluator = evaluator(&[test_rule("A", expr)]);
        let step = |evaluator: &mut Evaluator, found: &Report, seconds| {
            evaluator
                .step(PollReading::Complete(found), TargetUp::Yes, START + Duration::from_secs(seconds))
                .notifications
        };
        step(&mut evaluator, before, 0);
        assert_eq!(evaluator.active().count_of(Phase::Firing), 1, "{expr} fires");
        let notifications = step(&mut evaluator, after, 400);
        let [Notification { alert, .. }] = &notifications[..] else { panic!("{notifications:?}") };
        assert_eq!(alert.status, AlertStatus::Resolved);
        alert.annotations["resolved_reason"].clone()
    }

    #[test]
    fn what_a_group_read_or_lost_is_the_reason_for_which_an_alert_resolves() {
        let id = |ms| StreamId { ms, seq: 0 };
        let read = |lag, ms, added: u64| {
            let values = GroupValues {
                last_delivered_id: id(ms),
                lag_seconds: Some(Age::of(Duration::from_secs(lag))),
                consumers: 1,
                ..lagging(lag)
            };
            let mut found = stream("s", vec![group("g", values)]);
            let stream = found.values.as_mut().unwrap();
            (stream.entries_added, stream.ids.last_generated) = (Some(added.into()), id(9));
            report(vec![found])
        };
        let gone = report(vec![stream("s", Vec::new())]);
        let again = |found: Report, position| {
            let mut found = (*found.streams[0]).clone();
            let values = found.groups[0].values.as_mut().unwrap();
            let seldom = SeldomGroupValues {
                recreation: Some(Recreation { at: START, position }),
                ..Default::default()
            };
            values.seldom = seldom.into();
            report(vec![found])
        };
        let older = |found: Report| {
            let mut found = (*found.streams[0]).clone();
            found.values.as_mut().unwrap().ids.last_generated = id(3);
            report(vec![found])
        };
        let behind = read(17_300, 5, 20_000);
        for (after, expected) in [
            (read(0, 9, 20_000), "nothing waits for the group any more"),
            (read(120, 8, 20_000), "the group has moved on: 120 entries wait"),
            (read(87, 5, 20_000), "17,213 entries were removed before they were read"),
            (read(100, 5, 20_013), "17,213 entries were removed before they were read"),
            (read(0, 2, 20_000), "the group was set to another position"),
            (read(0, 2, 3), "the stream was deleted or replaced"),
            (read(0, 9, 3), "the stream was deleted or replaced"),
            (again(read(0, 9, 20_000), NewPosition::OtherStream), "the stream was deleted or replaced"),
            (again(read(0, 9, 20_000), NewPosition::Ahead), "the group was destroyed and created again"),
            (again(read(0, 5, 20_000), NewPosition::Same), "the group was destroyed and created again"),
            (older(read(0, 9, 20_000)), "the stream was deleted or replaced"),
            (gone, "the group was destroyed"),
            (report(Vec::new()), "the stream was deleted"),
        ] {
            for expr in ["lag > 1000", "lag_seconds > 5m"] {
                assert_eq!(reason(expr, &behind, &after), expected);
            }
        }

        assert_eq!(reason("length > 5", &behind, &report(Vec::new())), "the stream was deleted");
        let mut shorter = stream("s", Vec::new());
        shorter.values.as_mut().unwrap().length = 3;
        assert_eq!(reason("length > 5", &behind, &report(vec![shorter])), "length is 3");
    }

    #[test]
    fn what_became_of_a_pending_entry_or_of_losses_is_a_reason() {
        let pending = |oldest, messages_pending| {
            let values = GroupValues { oldest_pending: Some(oldest), messages_pending, ..values() };
            report(vec![stream("s", vec![group("g", values)])])
        };
        let entry = |age: u64, idle: u64, deliveries| OldestPending::Entry {
            // An age above 800 s is the same entry, read later.
            id: StreamId::new(if age > 800 { 1 } else { 2 }, 0),
            consumer: Some(Name::from("c")),
            idle: Some(Duration::from_secs(idle).into()),
            deliveries,
        };
        let forgotten = pending(entry(900, 700, 2), 5);
        for (after, expected) in [
            (pending(OldestPending::Nothing, 0), "the entry is not pending any more"),
            (pending(entry(400, 9, 1), 4), "the entry is not pending any more"),
            (pending(entry(1300, 9, 3), 5), "the entry was delivered again"),
            (pending(entry(1300, 9, 2), 5), "the entry was claimed"),
        ] {
            assert_eq!(reason("oldest_pending_idle_seconds > 10m", &forgotten, &after), expected);
        }
        // Only an acknowledgement explains it if nothing was deleted.
        let counted = |oldest, orphaned: u64, length: u64, [consumers, pending_dropped]: [u64; 2]| {
            let seldom = SeldomGroupValues { pending_dropped, ..Default::default() };
            let values = GroupValues {
                oldest_pending: Some(oldest),
                messages_pending: 5,
                pending_orphaned: Some(orphaned.into()),
                consumers,
                seldom: seldom.into(),
                ..values()
            };
            let mut found = stream("s", vec![group("g", values)]);
            let stream = found.values.as_mut().unwrap();
            (stream.length, stream.entries_added) = (length, Some((length.max(40) + 3).into()));
            report(vec![found])
        };
        let (first, second) = (|| entry(900, 700, 2), || entry(400, 9, 1));
        for (orphaned, after, is_certain) in [
            (0, counted(second(), 0, 40, [2, 0]), true),
            (0, counted(second(), 0, 45, [2, 0]), true),
            (0, counted(second(), 0, 45, [3, 0]), true),
            // XDEL and XAUTOCLAIM, in one poll or two.
            (0, counted(second(), 0, 39, [2, 0]), false),
            (1, counted(second(), 0, 40, [2, 0]), false),
            (0, counted(second(), 0, 40, [1, 0]), false),
            (0, counted(second(), 0, 40, [2, 1]), false),
        ] {
            let before = counted(first(), orphaned, 40, [2, 0]);
            let expected =
                if is_certain { "the entry was acknowledged" } else { "the entry is not pending any more" };
            assert_eq!(reason("oldest_pending_idle_seconds > 10m", &before, &after), expected, "{after:?}");
        }
        // Another entry than the oldest one was meant.
        let with_census = |max_idle, messages_pending| {
            let (max_idle, max_deliveries) = (Some(Duration::from_secs(max_idle).into()), Some(2.into()));
            let census = Arc::new(PendingCensus { max_idle, max_deliveries, ..PendingCensus::default() });
            let shown = PendingCensusReading { census, unchanged_until: None };
            let (oldest_pending, pending_census) = (Some(entry(900, 9, 2)), Some(shown));
            let values = GroupValues { oldest_pending, pending_census, messages_pending, ..values() };
            report(vec![stream("s", vec![group("g", values)])])
        };
        for (expression, expected) in [
            ("pending_max_idle_seconds > 10m", "pending_max_idle_seconds is 8"),
            (
                "oldest_pending_idle_seconds > 10m or pending_max_idle_seconds > 10m",
                "oldest_pending_idle_seconds is 9",
            ),
        ] {
            assert_eq!(reason(expression, &with_census(700, 5), &with_census(8, 4)), expected);
        }

        let lost = |entries: u64| {
            report(vec![stream(
                "s",
                vec![group("g", GroupValues { entries_lost: Some(entries.into()), ..values() })],
            )])
        };
        let mut evaluator = evaluator(&[test_rule("A", "entries_lost > 0")]);
        for (seconds, entries) in [(0, 0), (10, 5), (400, 5)] {
            let now = START + Duration::from_secs(seconds);
            let notifications =
                evaluator.step(PollReading::Complete(&lost(entries)), TargetUp::Yes, now).notifications;
            if seconds == 400 {
                let reason = &notifications[0].alert.annotations["resolved_reason"];
                assert_eq!(reason, "no entry was lost for 5 minutes");
            }
        }
    }

    #[test]
    fn what_the_configuration_drops_is_not_deleted() {
        let mut evaluator = evaluator(&[test_rule("A", "lag > 5")]);
        evaluator.step(PollReading::Complete(&lags(&[("s", "g", 9)])), TargetUp::Yes, START);
        evaluator.note_selection(&|key, _| *key != Name::from("s"));
        let later = START + Duration::from_secs(10);
        let notifications =
            evaluator.step(PollReading::Complete(&report(Vec::new())), TargetUp::Yes, later).notifications;
        let reason = &notifications[0].alert.annotations["resolved_reason"];
        assert_eq!(reason, "it was taken out of the configuration");
    }

    #[test]
    fn a_group_that_is_gone_is_restored_after_a_restart() {
        let read = || {
            let values = GroupValues { last_delivery_age: Some(Age::of(Duration::from_secs(5))), ..values() };
            report(vec![stream("s", vec![group("g", values)])])
        };
        let rules = [test_rule("Gone", "group_gone == 1")];
        let mut before = evaluator(&rules);
        let at = |seconds| START + Duration::from_secs(seconds);
        for (seconds, found) in [(0, read()), (20, report(Vec::new()))] {
            before.step(PollReading::Complete(&found), TargetUp::Yes, at(seconds));
        }
        let line = "Firing alertname=Gone db=db0 group=g stream=s target=t team=x";
        assert_eq!(active_lines(&before), [line]);
        let alerts: Vec<_> = before.active().alerts().collect();
        let mut after = evaluator(&rules);
        after.resume(alerts, at(30));
        after.step(PollReading::Failed, TargetUp::No, at(3_610));
        assert_eq!((active_lines(&after), after.gone_groups().len()), (vec![line.to_owned()], 1));
        let mut back = after.clone();
        let notifications = back.step(PollReading::Complete(&read()), TargetUp::Yes, at(3_615)).notifications;
        assert_eq!(notifications[0].alert.annotations["resolved_reason"], "the group is back");
        let notifications = after.step(PollReading::Failed, TargetUp::No, at(3_620)).notifications;
        let reason = &notifications[0].alert.annotations["resolved_reason"];
        assert_eq!(reason, "the group has been gone for an hour");
    }

    #[test]
    fn limits_that_leave_something_out_are_known_after_a_poll() {
        let mut evaluator = evaluator(&[test_rule("Limited", "limited > 0")]);
        let mut step = |limited: Option<LimitedCounts>, seconds| {
            let read = limited.map(|limited| Report { limited, ..Report::default() });
            let reading = read.as_ref().map_or(PollReading::Failed, PollReading::Complete);
            evaluator.step(reading, TargetUp::No, START + Duration::from_secs(seconds));
            evaluator.active().alerts().next().map(|alert| alert.state.value)
        };
        assert_eq!(step(None, 0), None);
        assert_eq!(step(Some(LimitedCounts { streams: 3, groups: 51, consumers: 0 }), 10), Some(51.0));
        assert_eq!(step(None, 20), Some(51.0));
        assert_eq!(step(Some(LimitedCounts::default()), 30), None);
    }
}
