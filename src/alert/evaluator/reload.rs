//! When the configuration changes: an evaluator goes on where the one before it stands. An alert is kept where there is
//! still a rule of its name that gives it the same labels, whatever else the rule says now. All others are over: what
//! is taken out of the configuration is gone, not unknown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::alert::active::{AlertSubject, TrackedAlert};
use crate::alert::evaluator::{Evaluator, EvaluatorSettings, RuleState, alert};
use crate::alert::fact;
use crate::alert::notification::Notification;
use crate::alert::rule::TargetLabels;
use crate::alert::state::{Evaluation, Phase, Times, step};
use redis_stream_core::glob::Glob;
use redis_stream_core::name::Name;

/// A rule that is no longer there, with its alerts that had fired: receivers are told for a while that they are over,
/// by the labels that they know.
#[derive(Clone, Debug)]
pub(super) struct RemovedRule {
    rule_state: RuleState,
    target: Arc<TargetLabels>,
    settings: EvaluatorSettings,
}

/// What became of an alert.
enum Fate {
    /// A rule has it, or has one of the same labels.
    Kept,
    /// There is no rule for it.
    Orphaned(TrackedAlert),
}

impl Evaluator {
    /// Takes over the alerts of the evaluator before, and what was lost lately. Those that have no rule any more are
    /// over at `now`, the time since the Unix epoch.
    pub fn copy_state(&mut self, before: Self, now: Duration) {
        if self.needs_losses {
            self.losses = before.losses;
        }
        for mut removed in before.removed {
            // What is told of again by a rule must not be told of as over.
            removed.rule_state.entries.retain(|entry| {
                let labels = removed.rule_state.rule.labels(&entry.subject.labels(&removed.target));
                self.matching_rules(&removed.rule_state.rule.name, &entry.subject, &labels).next().is_none()
            });
            self.removed.push(removed);
        }
        for RuleState { rule, entries, .. } in before.rules {
            let orphaned = entries.into_iter().filter_map(|entry| {
                let labels = rule.labels(&entry.subject.labels(&before.target));
                match self.hand_over(&rule.name, entry, &labels) {
                    Fate::Kept => None,
                    Fate::Orphaned(entry) => Some(entry).filter(|entry| entry.state.phase != Phase::Pending),
                }
            });
            let mut rule_state = RuleState { entries: orphaned.collect(), rule, times: Times::default() };
            rule_state.end(now);
            let (target, settings) = (Arc::clone(&before.target), before.settings.clone());
            self.removed.push(RemovedRule { rule_state, target, settings });
        }
        self.removed.retain(|removed| !removed.rule_state.entries.is_empty());
    }

    /// Ends with all its alerts, and says what receivers are to be told of that.
    #[must_use]
    pub fn resolve_all(self, now: Duration) -> Vec<Notification> {
        let mut nothing = Self::new(&[], (*self.target).clone(), self.settings.clone());
        nothing.copy_state(self, now);
        nothing.notify_removed(now)
    }

    /// Says what receivers are to be told now of alerts that have no rule any more.
    #[must_use]
    pub fn notify_removed(&mut self, now: Duration) -> Vec<Notification> {
        let mut notifications = Vec::new();
        for RemovedRule { rule_state, target, settings } in &mut self.removed {
            rule_state.end(now);
            for entry in &mut rule_state.entries {
                if let Some(reason) = entry.state.needs_sending(now) {
                    let alert = alert(&rule_state.rule, entry, target, settings, now);
                    notifications.push(Notification { alert: Arc::new(alert), reason });
                }
            }
        }
        self.removed.retain(|removed| !removed.rule_state.entries.is_empty());
        notifications
    }

    /// Gives an alert to the rule that it belongs to now.
    fn hand_over(&mut self, name: &str, entry: TrackedAlert, labels: &BTreeMap<String, String>) -> Fate {
        let (mut entry, mut has_heir) = (entry, false);
        let subject = entry.subject.clone();
        for heir in self.matching_rules(name, &subject, labels) {
            has_heir = true;
            match heir.take(entry) {
                None => return Fate::Kept,
                Some(refused) => entry = refused,
            }
        }
        if has_heir { Fate::Kept } else { Fate::Orphaned(entry) }
    }

    /// The rules of a name that give a subject these labels.
    fn matching_rules<'e>(
        &'e mut self,
        name: &'e str,
        subject: &'e AlertSubject,
        labels: &'e BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'e mut RuleState> {
        let of_subject = subject.labels(&self.target);
        self.rules.iter_mut().filter(move |rule_state| {
            rule_state.rule.name == name
                && rule_state.is_about(subject)
                && rule_state.rule.labels(&of_subject) == *labels
        })
    }
}

impl RuleState {
    /// Whether the rule's fact speaks of such a subject, and its globs select it.
    fn is_about(&self, subject: &AlertSubject) -> bool {
        let selector = &self.rule.selector;
        let matches =
            |glob: &Glob, name: &Option<Name>| name.as_ref().is_none_or(|name| glob.matches(name.as_bytes()));
        let kind = match (&subject.stream, &subject.group) {
            (None, _) => fact::Subject::Target,
            (Some(_), None) => fact::Subject::Stream,
            (Some(_), Some(_)) => fact::Subject::Group,
        };
        self.rule.condition.fact.subject() == kind
            && matches(&selector.stream, &subject.stream)
            && matches(&selector.group, &subject.group)
    }

    /// Takes an alert in its place; gives it back where there is one already.
    fn take(&mut self, entry: TrackedAlert) -> Option<TrackedAlert> {
        match self.entries.binary_search_by(|other| other.subject.cmp(&entry.subject)) {
            Ok(_) => Some(entry),
            Err(at) => {
                self.entries.insert(at, entry);
                None
            }
        }
    }

    /// Lets all alerts be over.
    fn end(&mut self, now: Duration) {
        let entries = std::mem::take(&mut self.entries).into_iter();
        let ended = entries.filter_map(|TrackedAlert { subject, state }| {
            step(Some(state), Evaluation::Clear, &Times::default(), now)
                .map(|state| TrackedAlert { subject, state })
        });
        self.entries = ended.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::evaluator::{Reading, TargetUp};
    use crate::alert::notification::Status;
    use crate::alert::rule::{Rule, Selector, test_rule};
    use crate::alert::template::Template;
    use crate::alert::test_support::{group, lagging, report, stream};
    use redis_stream_lag::report::Report;

    const START: Duration = Duration::from_secs(1_700_000_000);

    fn at(seconds: u64) -> Duration {
        START + Duration::from_secs(seconds)
    }

    fn evaluator(rules: &[Rule], dc: &str) -> Evaluator {
        let rules: Vec<_> = rules.iter().cloned().map(Arc::new).collect();
        let target = TargetLabels { name: "t".to_owned(), db: "db0".to_owned(), ..TargetLabels::default() };
        let settings = EvaluatorSettings {
            hold: Duration::from_secs(3600),
            external_labels: [("dc".to_owned(), dc.to_owned())].into(),
            interval: Duration::from_secs(10),
        };
        Evaluator::new(&rules, target, settings)
    }

    fn lags() -> Report {
        let stream = |key| stream(key, vec![group("g", lagging(9))]);
        report(vec![stream("a"), stream("b")])
    }

    fn with_severity(mut rule: Rule, severity: &str) -> Rule {
        rule.labels = [("severity".to_owned(), Template::parse(severity).unwrap())].into();
        rule
    }

    /// What receivers are told: status, name, stream, severity and dc.
    fn told(notifications: &[Notification]) -> Vec<String> {
        let told = notifications.iter().map(|told| {
            let label = |name: &str| told.alert.labels.get(name).map_or("-", String::as_str);
            let labels = ["alertname", "stream", "severity", "dc"].map(label).join(" ");
            format!("{:?} {labels}", told.alert.status)
        });
        told.collect()
    }

    fn read(evaluator: &mut Evaluator, seconds: u64) -> Vec<String> {
        told(&evaluator.step(Reading::Whole(&lags()), TargetUp::Yes, at(seconds)))
    }

    #[test]
    fn a_rule_that_says_something_else_keeps_its_alerts_as_long_as_they_hold() {
        let mut before = evaluator(&[test_rule("Behind", "lag > 5")], "eu");
        assert_eq!(read(&mut before, 0).len(), 2);
        let mut after = evaluator(&[test_rule("Behind", "lag > 8")], "eu");
        after.copy_state(before, at(3));
        assert_eq!(read(&mut after, 10), [] as [String; 0]);
        let lives: Vec<_> = after.active().alerts().map(|shown| shown.state).collect();
        assert!(lives.iter().all(|state| state.fired_at == Some(START) && state.unknown_since.is_none()));
        let mut narrow = evaluator(&[test_rule("Behind", "lag > 9")], "eu");
        narrow.copy_state(after, at(13));
        assert_eq!(read(&mut narrow, 20), ["Resolved Behind a - eu", "Resolved Behind b - eu"]);
    }

    #[test]
    fn what_is_pending_goes_on_counting() {
        let mut rule = test_rule("Behind", "lag > 5");
        rule.pending_for = Duration::from_secs(60);
        let mut before = evaluator(&[rule.clone()], "eu");
        read(&mut before, 0);
        rule.pending_for = Duration::from_secs(30);
        let mut after = evaluator(&[rule], "eu");
        after.copy_state(before, at(25));
        assert_eq!(read(&mut after, 30), ["Firing Behind a - eu", "Firing Behind b - eu"]);
    }

    #[test]
    fn what_has_no_rule_any_more_is_over_and_told_of_by_its_old_labels_for_a_quarter_of_an_hour() {
        let rules = [test_rule("Behind", "lag > 5"), with_severity(test_rule("Far", "lag > 8"), "warning")];
        let mut before = evaluator(&rules, "eu");
        assert_eq!(read(&mut before, 0).len(), 4);
        let mut of_a = test_rule("Behind", "lag > 5");
        of_a.selector = Selector { stream: Glob::new("a"), ..Selector::default() };
        let mut after = evaluator(&[of_a, with_severity(test_rule("Far", "lag > 8"), "critical")], "us");
        after.copy_state(before, at(5));
        assert_eq!(
            read(&mut after, 10),
            [
                "Firing Far a critical us",
                "Firing Far b critical us",
                "Resolved Behind b - eu",
                "Resolved Far a warning eu",
                "Resolved Far b warning eu"
            ]
        );
        assert_eq!(after.active().alerts().count(), 3);
        let again = read(&mut after, 80);
        assert!(again.contains(&"Resolved Behind b - eu".to_owned()), "{again:?}");
        read(&mut after, 1_000);
        assert!(after.removed.is_empty());
    }

    #[test]
    fn what_has_a_rule_again_is_not_told_of_as_over() {
        let rules = [test_rule("Behind", "lag > 5")];
        let mut first = evaluator(&rules, "eu");
        read(&mut first, 0);
        let mut without = evaluator(&[], "eu");
        without.copy_state(first, at(5));
        assert_eq!(read(&mut without, 10).len(), 2);
        let mut again = evaluator(&rules, "eu");
        again.copy_state(without, at(15));
        assert_eq!(read(&mut again, 20), ["Firing Behind a - eu", "Firing Behind b - eu"]);
        assert_eq!(read(&mut again, 90), ["Firing Behind a - eu", "Firing Behind b - eu"]);
    }

    #[test]
    fn of_two_rules_with_the_same_labels_none_ends_the_other_s_alerts() {
        let rules = [test_rule("Behind", "lag > 5"), test_rule("Behind", "lag > 6")];
        let mut before = evaluator(&rules, "eu");
        assert_eq!(read(&mut before, 0).len(), 4);
        let mut after = evaluator(&rules[..1], "eu");
        after.copy_state(before, at(5));
        assert_eq!(read(&mut after, 10), [] as [String; 0]);
    }

    #[test]
    fn who_retires_tells_that_all_is_over() {
        let mut pending = test_rule("Pending", "lag > 5");
        pending.pending_for = Duration::from_secs(60);
        let mut evaluator = evaluator(&[test_rule("Behind", "lag > 5"), pending], "eu");
        read(&mut evaluator, 0);
        let notifications = evaluator.resolve_all(at(5));
        assert_eq!(told(&notifications), ["Resolved Behind a - eu", "Resolved Behind b - eu"]);
        assert!(notifications.iter().all(|told| told.alert.ends_at == at(5)));
        assert_eq!(notifications[0].alert.status, Status::Resolved);
    }
}
