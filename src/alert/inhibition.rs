//! Inhibition, as in Alertmanager: while an alert fires that explains another one of the same target, stream and group, the
//! other one is not sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::alert::active::TrackedAlert;
use crate::alert::rule::Rule;
use crate::alert::state::{InhibitionChange, Phase};
use crate::alert::subject::AlertSubject;

/// The label by which rules take part in inhibition.
pub const LABEL: &str = "inhibition";
/// Value for alerts that explain others.
pub const SOURCE: &str = "source";
/// Value for alerts that others may explain.
pub const TARGET: &str = "target";

/// The rules. `deploy/compose/alertmanager.yml` has them for Alertmanager.
pub const RULES: [InhibitRule; 3] = [
    InhibitRule { source: (LABEL, SOURCE), target: (LABEL, TARGET) },
    // The first has all that the second has, and a higher severity.
    InhibitRule {
        source: ("alertname", "RedisStreamGroupNoConsumers"),
        target: ("alertname", "RedisStreamGroupAbandoned"),
    },
    // A group that is named and was read a while ago is both; the first has the reason, and ends after an hour.
    InhibitRule {
        source: ("alertname", "RedisStreamGroupGone"),
        target: ("alertname", "RedisStreamGroupMissing"),
    },
];

/// Labels that both alerts must have alike: those of the subject.
pub const EQUAL: [&str; 4] = ["target", "db", "stream", "group"];

/// An alert with the label `source` inhibits alerts with the label `target`, if the labels of their subjects are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InhibitRule {
    /// Name and value.
    pub source: (&'static str, &'static str),
    /// Name and value.
    pub target: (&'static str, &'static str),
}

/// The alerts of one target that fire and may inhibit others.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// The name of the alert by its subject, for each of the [`RULES`].
    firing: [BTreeMap<AlertSubject, Arc<String>>; RULES.len()],
}

impl Sources {
    /// Adds those of a rule's alerts that fire.
    pub(super) fn add(&mut self, rule: &Rule, alerts: &[TrackedAlert]) {
        for (inhibit, subjects) in RULES.iter().zip(&mut self.firing) {
            if has(rule, inhibit.source) {
                let name = Arc::new(rule.name.clone());
                let firing = alerts.iter().filter(|alert| alert.phase() == Phase::Firing);
                subjects.extend(firing.map(|alert| (alert.subject.clone(), Arc::clone(&name))));
            }
        }
    }

    /// Returns the inhibitors of a rule's alerts.
    pub(super) fn of<'s>(&'s self, rule: &Rule) -> Inhibitors<'s> {
        // An alert does not inhibit itself, nor others that are both source and target.
        let is_target = |inhibit: &InhibitRule| has(rule, inhibit.target) && !has(rule, inhibit.source);
        let firing = RULES
            .iter()
            .zip(&self.firing)
            .filter(|(inhibit, firing)| is_target(inhibit) && !firing.is_empty());
        Inhibitors(firing.map(|(_, firing)| firing).collect())
    }
}

/// The alerts that inhibit those of one rule.
pub(super) struct Inhibitors<'s>(Vec<&'s BTreeMap<AlertSubject, Arc<String>>>);

impl Inhibitors<'_> {
    /// Sets by which alert one of the rule's alerts is inhibited, if it fires.
    pub(super) fn apply(&self, alert: &mut TrackedAlert) -> InhibitionChange {
        match alert.phase() {
            Phase::Pending => alert.set_inhibited_by(None),
            Phase::Resolved => {}
            Phase::Firing => {
                let inhibitor = self.0.iter().find_map(|firing| firing.get(&alert.subject)).cloned();
                let (was_inhibited, is_inhibited) = (alert.inhibited_by().is_some(), inhibitor.is_some());
                alert.set_inhibited_by(inhibitor);
                if was_inhibited != is_inhibited {
                    return InhibitionChange::Changed;
                }
            }
        }
        InhibitionChange::Unchanged
    }
}

fn has(rule: &Rule, (name, value): (&str, &str)) -> bool {
    match name {
        "alertname" => rule.name == value,
        _ => rule.labels.get(name).is_some_and(|label| label.source() == value),
    }
}
