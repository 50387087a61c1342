//! The pending and firing alerts of one target after an evaluation, for pages, metrics and the state file. Labels and
//! texts are built only on demand.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::alert::rule::{Rule, TargetLabels};
use crate::alert::rule_labels::RuleLabels;
use crate::alert::state::{AlertState, Phase};
use crate::alert::subject::AlertSubject;
use redis_stream_core::name::Name;
use redis_stream_lag::compact::{Micros, MostlyDefault};

/// The pending and firing alerts of one target.
#[derive(Clone, Debug, Default)]
pub struct Active {
    pub(super) target: Arc<TargetLabels>,
    /// The evaluator shares the alerts.
    pub(super) rules: Vec<(Arc<Rule>, Arc<Vec<TrackedAlert>>)>,
}

/// An alert of a rule. An incident may begin hundreds of thousands of them at once, so it is small while it is pending.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TrackedAlert {
    pub(super) subject: AlertSubject,
    /// Parts of its [state](Self::state).
    value: f64,
    active_at: Micros,
    details: MostlyDefault<AlertDetails>,
}

/// What a pending alert lacks, unless it is not known if its condition holds.
#[derive(Clone, Debug, Default, PartialEq)]
struct AlertDetails {
    phase: Phase,
    fired_at: Option<Micros>,
    last_sent_at: Option<Micros>,
    /// Name of the alert that inhibits it while it fires, or did so until it resolved.
    inhibited_by: Option<Arc<String>>,
    rare: MostlyDefault<RareAlert>,
}

/// What few alerts have.
#[derive(Clone, Debug, Default, PartialEq)]
struct RareAlert {
    resolved_at: Option<Micros>,
    kept_since: Option<Micros>,
    unknown_since: Option<Micros>,
    resolved_reason: Option<Arc<str>>,
    /// True if the configuration does not select the subject any more.
    is_deselected: bool,
}

impl TrackedAlert {
    pub(super) fn new(subject: AlertSubject, state: AlertState) -> Self {
        let mut alert = Self {
            subject,
            value: state.value,
            active_at: state.active_at.into(),
            details: MostlyDefault::default(),
        };
        alert.set_state(state);
        alert
    }

    pub(super) fn phase(&self) -> Phase {
        self.details.get().map_or(Phase::Pending, |details| details.phase)
    }

    /// Returns its state, with times in whole microseconds.
    pub(super) fn state(&self) -> AlertState {
        let (details, rare) = (self.details.get(), self.rare());
        let time = |time: Option<Micros>| time.map(Micros::get);
        AlertState {
            phase: self.phase(),
            value: self.value,
            active_at: self.active_at.get(),
            fired_at: time(details.and_then(|details| details.fired_at)),
            resolved_at: time(rare.and_then(|rare| rare.resolved_at)),
            kept_since: time(rare.and_then(|rare| rare.kept_since)),
            unknown_since: time(rare.and_then(|rare| rare.unknown_since)),
            last_sent_at: time(details.and_then(|details| details.last_sent_at)),
        }
    }

    pub(super) fn set_state(&mut self, state: AlertState) {
        let AlertState {
            phase,
            value,
            active_at,
            fired_at,
            resolved_at,
            kept_since,
            unknown_since,
            last_sent_at,
        } = state;
        (self.value, self.active_at) = (value, active_at.into());
        self.details.change(|details| {
            details.phase = phase;
            details.fired_at = fired_at.map(Micros::from);
            details.last_sent_at = last_sent_at.map(Micros::from);
            details.rare.change(|rare| {
                rare.resolved_at = resolved_at.map(Micros::from);
                rare.kept_since = kept_since.map(Micros::from);
                rare.unknown_since = unknown_since.map(Micros::from);
            });
        });
    }

    /// Returns the name of the alert that inhibits it.
    pub(super) fn inhibited_by(&self) -> Option<&Arc<String>> {
        self.details.get()?.inhibited_by.as_ref()
    }

    /// Sets the name of the alert that inhibits it.
    pub(super) fn set_inhibited_by(&mut self, inhibitor: Option<Arc<String>>) {
        self.details.change(|details| details.inhibited_by = inhibitor);
    }

    fn shown(&self, labels: BTreeMap<String, String>, annotations: BTreeMap<String, String>) -> ActiveAlert {
        let inhibited_by = self.inhibited_by().map(|name| (**name).clone());
        ActiveAlert { labels, annotations, state: self.state(), inhibited_by }
    }

    /// Changes its state.
    pub(super) fn change_state<R>(&mut self, change: impl FnOnce(&mut AlertState) -> R) -> R {
        let mut state = self.state();
        let result = change(&mut state);
        self.set_state(state);
        result
    }

    fn rare(&self) -> Option<&RareAlert> {
        self.details.get()?.rare.get()
    }

    fn change_rare(&mut self, change: impl FnOnce(&mut RareAlert)) {
        self.details.change(|details| details.rare.change(change));
    }

    /// Returns false if the configuration does not select the subject any more.
    pub(super) fn is_selected(&self) -> bool {
        self.rare().is_none_or(|rare| !rare.is_deselected)
    }

    pub(super) fn set_selected(&mut self, is_selected: bool) {
        self.change_rare(|rare| rare.is_deselected = !is_selected);
    }

    /// Returns why it resolved; `None` unless it has.
    pub(super) fn resolved_reason(&self) -> Option<&str> {
        self.rare()?.resolved_reason.as_deref()
    }

    pub(super) fn set_resolved_reason(&mut self, reason: &str) {
        self.change_rare(|rare| rare.resolved_reason = Some(reason.into()));
    }
}

impl AlertSummary {
    fn of(name: &str, severity: &str, alert: &TrackedAlert) -> Self {
        Self {
            name: name.to_owned(),
            severity: severity.to_owned(),
            stream: alert.subject.stream.clone(),
            group: alert.subject.group.clone(),
            count: 1,
            inhibited: usize::from(alert.inhibited_by().is_some()),
            since: alert.state().since(),
        }
    }

    fn add(&mut self, alert: &TrackedAlert) {
        self.merge(&Self::of("", "", alert));
    }

    /// Adds the alerts of another summary.
    pub fn merge(&mut self, other: &Self) {
        (self.stream, self.group) = (None, None);
        self.count += other.count;
        self.inhibited += other.inhibited;
        self.since = self.since.min(other.since);
    }
}

/// A pending or firing alert, without `alerts.external_labels`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActiveAlert {
    /// Labels, including `alertname`, which identify it.
    pub labels: BTreeMap<String, String>,
    #[serde(skip)]
    pub annotations: BTreeMap<String, String>,
    pub state: AlertState,
    /// Name of the firing alert that inhibits it: while there is one, it is not sent to people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inhibited_by: Option<String>,
}

/// The alerts of one rule in one phase, in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertSummary {
    pub name: String,
    /// The label `severity`; empty if there is none.
    pub severity: String,
    /// The stream of the only alert; `None` if there are several, or it is about the target.
    pub stream: Option<Name>,
    /// The group of the only alert.
    pub group: Option<Name>,
    pub count: usize,
    /// Number of those that another alert inhibits.
    pub inhibited: usize,
    /// Time at which the first of them began to fire, or became pending.
    pub since: Duration,
}

impl Active {
    /// Returns the labels that the target's subjects have in common.
    pub fn target_labels(&self) -> &TargetLabels {
        &self.target
    }

    /// Returns all pending and firing alerts.
    pub fn alerts(&self) -> impl Iterator<Item = ActiveAlert> + '_ {
        self.present().map(|(rule, entry)| self.shown(rule, entry))
    }

    /// Returns all pending and firing alerts without their annotations.
    pub fn without_annotations(&self) -> impl Iterator<Item = ActiveAlert> + '_ {
        self.present().map(|(rule, entry)| {
            entry.shown(rule.labels(&entry.subject.labels(&self.target)), BTreeMap::new())
        })
    }

    /// Calls `take` for each pending and firing alert.
    ///
    /// # Errors
    ///
    /// Those of `take`.
    pub fn try_for_each<E>(
        &self,
        mut take: impl FnMut(Phase, &RuleLabels<'_>, &AlertSubject) -> Result<(), E>,
    ) -> Result<(), E> {
        self.by_rule().try_for_each(|(rule, mut entries)| {
            let labels = RuleLabels::new(rule, &self.target);
            entries.try_for_each(|entry| take(entry.phase(), &labels, &entry.subject))
        })
    }

    /// Returns the alerts in one phase, pending or firing.
    pub fn of_phase(&self, phase: Phase) -> impl Iterator<Item = ActiveAlert> + '_ {
        self.in_phase(phase).map(|(rule, entry)| self.shown(rule, entry))
    }

    /// Returns the alerts of one name in one phase, those with the largest values first.
    pub fn of_name(&self, name: &str, phase: Phase) -> impl Iterator<Item = ActiveAlert> + use<'_> {
        let of_name = self.in_phase(phase).filter(|(rule, _)| rule.name == name);
        let mut found: Vec<_> = of_name.collect();
        found.sort_by(|(_, one), (_, other)| other.value.total_cmp(&one.value));
        found.into_iter().map(|(rule, entry)| self.shown(rule, entry))
    }

    /// Returns the numbers of each rule and severity that has alerts in a phase, pending or firing.
    pub fn summaries(&self, phase: Phase) -> impl Iterator<Item = AlertSummary> {
        self.rules.iter().flat_map(move |(rule, entries)| {
            let mut summaries = BTreeMap::<String, AlertSummary>::new();
            let mut common = None;
            for entry in entries.iter().filter(|entry| entry.phase() == phase) {
                let of_entry = || rule.severity(&entry.subject.labels(&self.target));
                let severity = match rule.has_one_severity() {
                    true => common.get_or_insert_with(of_entry).clone(),
                    false => of_entry(),
                };
                match summaries.entry(severity) {
                    Entry::Occupied(summary) => summary.into_mut().add(entry),
                    Entry::Vacant(place) => {
                        let summary = AlertSummary::of(&rule.name, place.key(), entry);
                        place.insert(summary);
                    }
                }
            }
            summaries.into_values()
        })
    }

    /// Returns the number of alerts in one phase, pending or firing.
    pub fn count_of(&self, phase: Phase) -> usize {
        self.in_phase(phase).count()
    }

    fn in_phase(&self, phase: Phase) -> impl Iterator<Item = (&Arc<Rule>, &TrackedAlert)> {
        self.present().filter(move |(_, entry)| entry.phase() == phase)
    }

    /// Returns the alerts that concern a group, or a stream and no group: its own, those of its stream and those of the
    /// target. Those that fire come first.
    pub fn about(&self, stream: &Name, group: Option<&Name>) -> Vec<ActiveAlert> {
        let is_about = |subject: &AlertSubject| {
            subject.stream.as_ref().is_none_or(|name| name == stream)
                && (subject.group.is_none() || subject.group.as_ref() == group)
        };
        let about = self.present().filter(|(_, entry)| is_about(&entry.subject));
        let mut about: Vec<_> = about.map(|(rule, entry)| self.shown(rule, entry)).collect();
        about.sort_by_key(|alert| alert.state.phase != Phase::Firing);
        about
    }

    fn shown(&self, rule: &Rule, entry: &TrackedAlert) -> ActiveAlert {
        let subject = entry.subject.labels(&self.target);
        entry.shown(rule.labels(&subject), rule.annotations(&subject, entry.value))
    }

    /// Returns true if both contain the same alerts in the same phases since the same times. Values and the times of
    /// the last notifications are ignored.
    pub fn is_same_set(&self, other: &Self) -> bool {
        self.target == other.target && self.standings().eq(other.standings())
    }

    fn standings(&self) -> impl Iterator<Item = (*const Rule, &AlertSubject, AlertState, bool)> {
        self.present().map(|(rule, entry)| {
            let state = AlertState { value: 0.0, last_sent_at: None, ..entry.state() };
            (Arc::as_ptr(rule), &entry.subject, state, entry.inhibited_by().is_some())
        })
    }

    /// Returns true if no alert is pending or firing.
    pub fn is_empty(&self) -> bool {
        self.present().next().is_none()
    }

    fn present(&self) -> impl Iterator<Item = (&Arc<Rule>, &TrackedAlert)> {
        self.by_rule().flat_map(|(rule, entries)| entries.map(move |entry| (rule, entry)))
    }

    fn by_rule(&self) -> impl Iterator<Item = (&Arc<Rule>, impl Iterator<Item = &TrackedAlert>)> {
        self.rules
            .iter()
            .map(|(rule, entries)| (rule, entries.iter().filter(|entry| entry.phase() != Phase::Resolved)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis_stream_core::wall_clock::whole_micros;

    #[test]
    fn an_alert_takes_40_bytes_and_40_more_once_it_fires() {
        assert_eq!((size_of::<TrackedAlert>(), size_of::<AlertDetails>()), (40, 40));
    }

    #[test]
    fn a_state_comes_back_to_the_microsecond() {
        let time = |seconds| Duration::new(seconds, 1_999);
        let at = |is_there: bool, seconds| is_there.then(|| time(seconds));
        for bits in 0..32_u8 {
            let has = |bit: u8| bits & (1 << bit) != 0;
            let state = AlertState {
                phase: Phase::Firing,
                value: 0.5,
                active_at: time(1),
                fired_at: at(has(0), 2),
                resolved_at: at(has(1), 3),
                kept_since: at(has(2), 4),
                unknown_since: at(has(3), 5),
                last_sent_at: at(has(4), 6),
            };
            let mut alert = TrackedAlert::new(AlertSubject::default(), state);
            let kept = AlertState {
                active_at: whole_micros(state.active_at),
                fired_at: state.fired_at.map(whole_micros),
                resolved_at: state.resolved_at.map(whole_micros),
                kept_since: state.kept_since.map(whole_micros),
                unknown_since: state.unknown_since.map(whole_micros),
                last_sent_at: state.last_sent_at.map(whole_micros),
                ..state
            };
            assert_eq!(alert.state(), kept);
            alert.set_selected(false);
            alert.set_resolved_reason("it was");
            assert_eq!(
                (alert.state(), alert.is_selected(), alert.resolved_reason()),
                (kept, false, Some("it was"))
            );
            alert.set_selected(true);
            assert!(alert.is_selected());
        }
    }
}
