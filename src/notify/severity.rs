//! The severity of an alert, for its colour and for the order of a list.

use std::cmp::Ordering;

use crate::alert::notification::Alert;

/// The severity of an alert, by its label: the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AlertSeverity {
    Critical,
    Error,
    /// Also without a label that is known.
    Warning,
    Info,
}

impl AlertSeverity {
    pub(super) fn of(alert: &Alert) -> Self {
        let label = alert.labels.get("severity").map_or("", String::as_str);
        let known = [Self::Critical, Self::Error, Self::Warning, Self::Info];
        let named = known.into_iter().find(|severity| label.eq_ignore_ascii_case(severity.as_str()));
        named.unwrap_or(Self::Warning)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// Orders alerts for people: firing ones first, then by severity, the largest value first, then by labels.
pub(super) fn worst_first(one: &Alert, other: &Alert) -> Ordering {
    let key = |alert: &Alert| (alert.status, AlertSeverity::of(alert));
    let by_value = || other.value.total_cmp(&one.value);
    key(one).cmp(&key(other)).then_with(by_value).then_with(|| one.labels.cmp(&other.labels))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::notify::test_support::{firing, resolved};

    fn labelled(label: &str, group: &str, value: f64) -> Alert {
        let mut alert = Alert { value, ..firing("A", group) };
        Arc::make_mut(&mut alert.labels).insert("severity".to_owned(), label.to_owned());
        alert
    }

    #[test]
    fn a_severity_that_is_not_known_is_a_warning() {
        for (label, expected) in [
            ("critical", "critical"),
            ("Error", "error"),
            ("WARNING", "warning"),
            ("info", "info"),
            ("page", "warning"),
            ("", "warning"),
        ] {
            assert_eq!(AlertSeverity::of(&labelled(label, "g", 1.0)).as_str(), expected, "{label}");
        }
        assert_eq!(AlertSeverity::of(&firing("A", "g")), AlertSeverity::Warning);
    }

    #[test]
    fn the_worst_comes_first_and_what_resolved_last() {
        let mut alerts = [
            resolved("A", "over", 90),
            labelled("warning", "few", 3.0),
            labelled("info", "many, and only info", 1e9),
            labelled("warning", "unknown", f64::NAN),
            labelled("warning", "many", 6_142.0),
            labelled("critical", "none", 0.0),
            labelled("warning", "also few", 3.0),
        ];
        alerts.sort_by(worst_first);
        let groups = alerts.each_ref().map(|alert| alert.labels["group"].as_str());
        let expected = ["none", "unknown", "many", "also few", "few", "many, and only info", "over"];
        assert_eq!(groups, expected);
    }
}
