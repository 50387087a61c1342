//! What is pending or firing at one target, as of one evaluation: for readers, for the state file, and for an
//! evaluator that takes over. Labels and texts are put together only when somebody reads them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::alert::rule::{Rule, TargetLabels};
use crate::alert::state::{AlertState, Phase};
use redis_stream_core::name::Name;

/// What is pending or firing at one target.
#[derive(Clone, Debug, Default)]
pub struct Active {
    pub(super) target: Arc<TargetLabels>,
    pub(super) rules: Vec<(Arc<Rule>, Vec<TrackedAlert>)>,
}

/// One alert of a rule.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TrackedAlert {
    pub(super) subject: AlertSubject,
    pub(super) state: AlertState,
}

/// What an alert is about, in the order of a report.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AlertSubject {
    /// Key of the stream; `None` for the target itself.
    pub(super) stream: Option<Name>,
    /// Name of the group; `None` for the stream itself.
    pub(super) group: Option<Name>,
}

/// A pending or firing alert as it is shown: with its own labels, without `alerts.external_labels`.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveAlert {
    /// What identifies it, `alertname` among them.
    pub labels: BTreeMap<String, String>,
    /// What is said of it.
    pub annotations: BTreeMap<String, String>,
    /// Where it stands, and since when.
    pub state: AlertState,
}

impl Active {
    /// Every pending and firing alert.
    pub fn alerts(&self) -> impl Iterator<Item = ActiveAlert> + '_ {
        self.present().map(|(rule, entry)| self.shown(rule, entry))
    }

    /// The alerts of one state, pending or firing.
    pub fn of_phase(&self, phase: Phase) -> impl Iterator<Item = ActiveAlert> + '_ {
        let of_state = self.present().filter(move |(_, entry)| entry.state.phase == phase);
        of_state.map(|(rule, entry)| self.shown(rule, entry))
    }

    /// How many alerts are of one state, pending or firing.
    #[must_use]
    pub fn count_of(&self, phase: Phase) -> usize {
        self.present().filter(|(_, entry)| entry.state.phase == phase).count()
    }

    /// The alerts that a group has to do with: its own, those of its stream, and of the target.
    pub fn about(&self, stream: &Name, group: &Name) -> impl Iterator<Item = ActiveAlert> + '_ {
        let (stream, group) = (stream.clone(), group.clone());
        let is_about = move |subject: &AlertSubject| {
            subject.stream.as_ref().is_none_or(|name| *name == stream)
                && subject.group.as_ref().is_none_or(|name| *name == group)
        };
        let about = self.present().filter(move |(_, entry)| is_about(&entry.subject));
        about.map(|(rule, entry)| self.shown(rule, entry))
    }

    fn shown(&self, rule: &Rule, entry: &TrackedAlert) -> ActiveAlert {
        let subject = entry.subject.labels(&self.target);
        ActiveAlert {
            labels: rule.labels(&subject),
            annotations: rule.annotations(&subject, entry.state.value),
            state: entry.state,
        }
    }

    /// Whether the same alerts are pending and firing here and there, and have been since the same times. Values do
    /// not matter, nor when receivers were told last.
    #[must_use]
    pub fn is_same_set(&self, other: &Self) -> bool {
        self.target == other.target && self.standings().eq(other.standings())
    }

    fn standings(&self) -> impl Iterator<Item = (*const Rule, &AlertSubject, AlertState)> {
        self.present().map(|(rule, entry)| {
            (Arc::as_ptr(rule), &entry.subject, AlertState { value: 0.0, last_sent_at: None, ..entry.state })
        })
    }

    /// Whether nothing is pending or firing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.present().next().is_none()
    }

    fn present(&self) -> impl Iterator<Item = (&Arc<Rule>, &TrackedAlert)> {
        let all =
            self.rules.iter().flat_map(|(rule, entries)| entries.iter().map(move |entry| (rule, entry)));
        all.filter(|(_, entry)| entry.state.phase != Phase::Resolved)
    }
}

impl AlertSubject {
    pub(super) fn labels(&self, target: &TargetLabels) -> BTreeMap<String, String> {
        let text = |name: &Option<Name>| name.as_ref().map(|name| name.text().into_owned());
        target.subject(text(&self.stream).as_deref(), text(&self.group).as_deref())
    }
}
