//! Moves alerts to a new evaluator when the configuration changes. An alert is kept if there still is a rule with its
//! name that gives it the same labels, whatever else changed in the rule. All other alerts are resolved: a subject or
//! rule that was removed from the configuration is gone, not unknown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::alert::evaluator::rule_alerts::{HeldAlert, RuleAlerts};
use crate::alert::evaluator::{Evaluated, Evaluator, EvaluatorSettings, RuleState};
use crate::alert::fact;
use crate::alert::resolved_reason::{RULE_REMOVED, TARGET_REMOVED};
use crate::alert::rule::TargetLabels;
use crate::alert::state::{Evaluation, InhibitionChange, Phase, Times, step};
use crate::alert::subject::AlertSubject;
use redis_stream_core::name::Name;

/// A rule that was removed, with its resolved alerts. They are still sent for a while, with the labels under which
/// receivers know them.
#[derive(Clone, Debug)]
pub(super) struct RemovedRule {
    pub(super) rule_state: RuleState,
    target: Arc<TargetLabels>,
    settings: EvaluatorSettings,
}

/// The result of moving an alert to the new rules.
enum Moved {
    /// A rule took it, or has an alert with the same labels already.
    Kept,
    /// No rule matches it.
    Orphaned(HeldAlert),
}

impl Evaluator {
    /// Takes the alerts and the recent losses of the previous evaluator. Alerts without a matching rule resolve at
    /// `now`, the time since the Unix epoch.
    pub fn copy_state(&mut self, before: Self, now: Duration) {
        self.history = before.history;
        let has_notifiers = self.settings.has_notifiers;
        for mut removed in before.removed {
            removed.settings.has_notifiers = has_notifiers;
            // An alert that has a rule again must not be sent as resolved.
            let (rule, target) = (Arc::clone(&removed.rule_state.rule), Arc::clone(&removed.target));
            removed.rule_state.alerts.retain(|entry| {
                let labels = rule.labels(&entry.subject.labels(&target));
                self.matching_rules(&rule.name, &entry.subject, &labels).next().is_none()
            });
            self.removed.push(removed);
        }
        for RuleState { rule, alerts, .. } in before.rules {
            let orphaned = alerts.into_alerts().filter_map(|held_alert| {
                let labels = rule.labels(&held_alert.0.subject.labels(&before.target));
                match self.move_alert(&rule.name, held_alert, &labels) {
                    Moved::Kept => None,
                    Moved::Orphaned(orphaned) => {
                        Some(orphaned).filter(|(alert, _)| alert.phase() != Phase::Pending)
                    }
                }
            });
            let alerts = RuleAlerts::of(orphaned);
            let mut rule_state = RuleState { alerts, rule, times: Times::default() };
            rule_state.resolve(RULE_REMOVED, now);
            let target = Arc::clone(&before.target);
            let settings = EvaluatorSettings { has_notifiers, ..before.settings.clone() };
            self.removed.push(RemovedRule { rule_state, target, settings });
        }
        self.removed.retain(|removed| !removed.rule_state.alerts.is_empty());
    }

    /// Resolves all alerts.
    pub fn resolve_all(self, now: Duration) -> Evaluated {
        let mut without_rules = Self::new(&[], (*self.target).clone(), self.settings.clone());
        let mut all = self;
        all.rules.iter_mut().for_each(|rule_state| rule_state.resolve(TARGET_REMOVED, now));
        without_rules.copy_state(all, now);
        without_rules.notify_removed(now)
    }

    /// Returns what is to be sent now of the alerts of removed rules.
    pub fn notify_removed(&mut self, now: Duration) -> Evaluated {
        let mut evaluated = Evaluated::default();
        for RemovedRule { rule_state, target, settings } in &mut self.removed {
            rule_state.resolve(RULE_REMOVED, now);
            evaluated.add(rule_state, &|_| InhibitionChange::Unchanged, target, settings, now);
        }
        self.removed.retain(|removed| !removed.rule_state.alerts.is_empty());
        evaluated
    }

    /// Adds an alert to the first matching rule that does not have an alert for its subject yet.
    fn move_alert(&mut self, name: &str, alert: HeldAlert, labels: &BTreeMap<String, String>) -> Moved {
        let (mut alert, mut has_match) = (alert, false);
        let subject = alert.0.subject.clone();
        for rule_state in self.matching_rules(name, &subject, labels) {
            has_match = true;
            match rule_state.alerts.insert(alert) {
                None => return Moved::Kept,
                Some(rejected) => alert = rejected,
            }
        }
        if has_match { Moved::Kept } else { Moved::Orphaned(alert) }
    }

    /// Returns the rules with this name that give the subject these labels.
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
    /// Returns true if the rule's fact has this kind of subject and its globs select it.
    fn is_about(&self, subject: &AlertSubject) -> bool {
        let selector = &self.rule.selector;
        let matches = |name: &Option<Name>, is_match: &dyn Fn(&[u8]) -> bool| {
            name.as_ref().is_none_or(|name| is_match(name.as_bytes()))
        };
        let kind = match (&subject.stream, &subject.group) {
            (None, _) => fact::SubjectKind::Target,
            (Some(_), None) => fact::SubjectKind::Stream,
            (Some(_), Some(_)) => fact::SubjectKind::Group,
        };
        self.rule.subject() == kind
            && matches(&subject.stream, &|key| selector.matches_stream(key))
            && matches(&subject.group, &|name| selector.group.matches(name))
    }

    /// Resolves all alerts for a reason, and drops those that have been resolved for long enough.
    fn resolve(&mut self, reason: &str, now: Duration) {
        let alerts = std::mem::take(&mut self.alerts).into_alerts();
        let resolved = alerts.filter_map(|(mut alert, _)| {
            let state = step(Some(alert.state()), Evaluation::Clear, &Times::default(), now)?;
            if alert.phase() != Phase::Resolved {
                alert.set_resolved_reason(reason);
            }
            alert.set_state(state);
            Some((alert, None))
        });
        self.alerts = RuleAlerts::of(resolved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::evaluator::{PollReading, TargetUp};
    use crate::alert::notification::{AlertStatus, Notification};
    use crate::alert::rule::{Rule, Selector, test_rule};
    use crate::alert::template::Template;
    use crate::alert::test_support::{group, lagging, report, stream};
    use redis_stream_core::glob::Glob;
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
            has_notifiers: true,
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

    /// Returns status, name, stream, severity and dc of each notification.
    fn lines(notifications: &[Notification]) -> Vec<String> {
        let lines = notifications.iter().map(|notification| {
            let label = |name: &str| notification.alert.labels.get(name).map_or("-", String::as_str);
            let labels = ["alertname", "stream", "severity", "dc"].map(label).join(" ");
            format!("{:?} {labels}", notification.alert.status)
        });
        lines.collect()
    }

    fn step_at(evaluator: &mut Evaluator, seconds: u64) -> Vec<String> {
        lines(&evaluator.step(PollReading::Complete(&lags()), TargetUp::Yes, at(seconds)).notifications)
    }

    #[test]
    fn a_changed_rule_keeps_its_alerts_while_they_hold() {
        let mut before = evaluator(&[test_rule("Behind", "lag > 5")], "eu");
        assert_eq!(step_at(&mut before, 0).len(), 2);
        let mut after = evaluator(&[test_rule("Behind", "lag > 8")], "eu");
        after.copy_state(before, at(3));
        assert_eq!(step_at(&mut after, 10), [] as [String; 0]);
        let states: Vec<_> = after.active().alerts().map(|alert| alert.state).collect();
        assert!(states.iter().all(|state| state.fired_at == Some(START) && state.unknown_since.is_none()));
        let mut narrow = evaluator(&[test_rule("Behind", "lag > 9")], "eu");
        narrow.copy_state(after, at(13));
        assert_eq!(step_at(&mut narrow, 20), ["Resolved Behind a - eu", "Resolved Behind b - eu"]);
    }

    #[test]
    fn a_pending_alert_keeps_its_start_time() {
        let mut rule = test_rule("Behind", "lag > 5");
        rule.pending_for = Duration::from_secs(60);
        let mut before = evaluator(&[rule.clone()], "eu");
        step_at(&mut before, 0);
        rule.pending_for = Duration::from_secs(30);
        let mut after = evaluator(&[rule], "eu");
        after.copy_state(before, at(25));
        assert_eq!(step_at(&mut after, 30), ["Firing Behind a - eu", "Firing Behind b - eu"]);
    }

    #[test]
    fn alerts_of_removed_rules_are_sent_as_resolved_with_their_old_labels_for_a_quarter_of_an_hour() {
        let rules = [test_rule("Behind", "lag > 5"), with_severity(test_rule("Far", "lag > 8"), "warning")];
        let mut before = evaluator(&rules, "eu");
        assert_eq!(step_at(&mut before, 0).len(), 4);
        let mut of_a = test_rule("Behind", "lag > 5");
        of_a.selector = Selector { stream: Glob::new("a"), ..Selector::default() };
        let mut after = evaluator(&[of_a, with_severity(test_rule("Far", "lag > 8"), "critical")], "us");
        after.copy_state(before, at(5));
        assert_eq!(
            step_at(&mut after, 10),
            [
                "Firing Far a critical us",
                "Firing Far b critical us",
                "Resolved Behind b - eu",
                "Resolved Far a warning eu",
                "Resolved Far b warning eu"
            ]
        );
        assert_eq!(after.active().alerts().count(), 3);
        let again = step_at(&mut after, 80);
        assert!(again.contains(&"Resolved Behind b - eu".to_owned()), "{again:?}");
        step_at(&mut after, 1_000);
        assert!(after.removed.is_empty());
    }

    #[test]
    fn an_alert_whose_rule_is_added_again_is_not_sent_as_resolved() {
        let rules = [test_rule("Behind", "lag > 5")];
        let mut first = evaluator(&rules, "eu");
        step_at(&mut first, 0);
        let mut without = evaluator(&[], "eu");
        without.copy_state(first, at(5));
        assert_eq!(step_at(&mut without, 10).len(), 2);
        let mut again = evaluator(&rules, "eu");
        again.copy_state(without, at(15));
        assert_eq!(step_at(&mut again, 20), ["Firing Behind a - eu", "Firing Behind b - eu"]);
        assert_eq!(step_at(&mut again, 90), ["Firing Behind a - eu", "Firing Behind b - eu"]);
    }

    #[test]
    fn removing_one_of_two_rules_with_the_same_labels_does_not_resolve_the_alerts_of_the_other() {
        let rules = [test_rule("Behind", "lag > 5"), test_rule("Behind", "lag > 6")];
        let mut before = evaluator(&rules, "eu");
        assert_eq!(step_at(&mut before, 0).len(), 4);
        let mut after = evaluator(&rules[..1], "eu");
        after.copy_state(before, at(5));
        assert_eq!(step_at(&mut after, 10), [] as [String; 0]);
    }

    #[test]
    fn resolve_all_sends_every_firing_alert_as_resolved() {
        let mut pending = test_rule("Pending", "lag > 5");
        pending.pending_for = Duration::from_secs(60);
        let mut evaluator = evaluator(&[test_rule("Behind", "lag > 5"), pending], "eu");
        step_at(&mut evaluator, 0);
        let notifications = evaluator.resolve_all(at(5)).notifications;
        assert_eq!(lines(&notifications), ["Resolved Behind a - eu", "Resolved Behind b - eu"]);
        assert!(notifications.iter().all(|notification| notification.alert.ends_at == at(5)));
        assert_eq!(notifications[0].alert.status, AlertStatus::Resolved);
    }
}
