//! The alerts that began to fire or resolved in an evaluation, as they are logged: by rule, since thousands of groups may
//! begin to fire at once.

use std::collections::BTreeMap;

use crate::alert::active::TrackedAlert;
use crate::alert::state::Phase;
use crate::alert::subject::AlertSubject;
use crate::format::unicode::shortened;
use redis_stream_core::name::Name;

/// Subjects that one log line names.
const NAMED: usize = 5;
/// Characters of a name in a log line.
const NAME_CHARS: usize = 60;

/// The changes of one evaluation, by the name of the alert and of the target.
pub type AlertChanges = BTreeMap<(String, String), RuleChanges>;

/// The alerts of one name that changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleChanges {
    /// Alerts that began to fire.
    pub firing: ChangedAlerts,
    /// Alerts that resolved.
    pub resolved: ChangedAlerts,
}

/// A number of alerts, and those with the largest values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChangedAlerts {
    count: usize,
    /// The value and the subject, the largest value first, then by subject.
    largest: Vec<(f64, AlertSubject)>,
}

impl RuleChanges {
    /// Notes an alert that has just begun to fire, or has just resolved.
    pub(super) fn note(&mut self, alert: &TrackedAlert) {
        let alerts = if alert.phase() == Phase::Resolved { &mut self.resolved } else { &mut self.firing };
        alerts.note(alert.state().value, &alert.subject);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.firing.merge(&other.firing);
        self.resolved.merge(&other.resolved);
    }
}

impl ChangedAlerts {
    /// Returns how many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    fn note(&mut self, value: f64, subject: &AlertSubject) {
        self.count += 1;
        self.keep_if_large(value, subject);
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        other.largest.iter().for_each(|(value, subject)| self.keep_if_large(*value, subject));
    }

    /// Keeps the subject if it is one of those with the largest values.
    fn keep_if_large(&mut self, value: f64, subject: &AlertSubject) {
        let comes_before = |(other_value, other): &(f64, AlertSubject)| {
            value.total_cmp(other_value).reverse().then_with(|| subject.cmp(other)).is_lt()
        };
        let at = self.largest.iter().position(comes_before).unwrap_or(self.largest.len());
        if at < NAMED {
            self.largest.insert(at, (value, subject.clone()));
            self.largest.truncate(NAMED);
        }
    }

    /// Names their groups or streams: `orders/mail, orders/audit and 3 more`.
    #[must_use]
    pub fn subjects(&self) -> String {
        let names = self.largest.iter().map(|(_, subject)| {
            let names = [&subject.stream, &subject.group].into_iter().flatten();
            let names: Vec<_> =
                names.map(|name: &Name| shortened(&name.text(), NAME_CHARS).into_owned()).collect();
            if names.is_empty() { "the target".to_owned() } else { names.join("/") }
        });
        let names = names.collect::<Vec<_>>().join(", ");
        match self.count.saturating_sub(NAMED) {
            0 => names,
            more => format!("{names} and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects(alerts: &[(&str, &str, f64)]) -> String {
        let mut changed = ChangedAlerts::default();
        let name = |text: &str| Some(Name::from(text)).filter(|_| !text.is_empty());
        for (stream, group, value) in alerts {
            changed.note(*value, &AlertSubject { stream: name(stream), group: name(group) });
        }
        assert_eq!(changed.count(), alerts.len());
        changed.subjects()
    }

    #[test]
    fn a_log_line_names_the_worst_groups_and_counts_the_others() {
        let some = [("orders", "mail", 3.0), ("orders", "search", 6_142.0), ("", "", 1.0)];
        assert_eq!(subjects(&some), "orders/search, orders/mail, the target");
        let pods: Vec<_> = (0..4_000).rev().map(|n| format!("pod-{n:04}")).collect();
        let mut many: Vec<_> = pods.iter().map(|pod| ("cache", pod.as_str(), 1.0)).collect();
        many.insert(2_000, ("cache", "worst", 2.0));
        let expected =
            "cache/worst, cache/pod-0000, cache/pod-0001, cache/pod-0002, cache/pod-0003 and 3996 more";
        assert_eq!(subjects(&many), expected);
        let long = subjects(&[(&"ä".repeat(10_000), "g", 1.0)]);
        assert_eq!(long, format!("{}…/g", "ä".repeat(NAME_CHARS)));
        assert_eq!(subjects(&[]), "");
    }
}
