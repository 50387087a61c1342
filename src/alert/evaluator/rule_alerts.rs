//! The alerts of one rule, with the values that readers do not need.

use std::iter::{Chain, RepeatN, Zip, repeat_n, repeat_with};
use std::slice;
use std::sync::Arc;
use std::vec;

use crate::alert::active::TrackedAlert;
use crate::alert::resolved_reason::HeldValues;

/// An alert, and the values with which its expression last held, if it fires.
pub(super) type HeldAlert = (TrackedAlert, Option<HeldValues>);

/// Alerts in order, of which the held values are taken.
pub(super) type TakenAlerts<'a> =
    Zip<slice::Iter<'a, TrackedAlert>, Chain<vec::IntoIter<Option<HeldValues>>, RepeatN<Option<HeldValues>>>>;

/// The alerts of a rule, sorted by subject, in the order of a report.
#[derive(Clone, Debug, Default)]
pub(super) struct RuleAlerts {
    /// Readers share them until the next evaluation.
    shared: Arc<Vec<TrackedAlert>>,
    /// For each of them, the values with which the expression last held; empty if none fires. Readers do not share them, so
    /// that an evaluation drops the values of the last report one by one.
    held: Vec<Option<HeldValues>>,
}

impl RuleAlerts {
    /// Returns alerts, sorted by subject.
    pub(super) fn of(alerts: impl IntoIterator<Item = HeldAlert>) -> Self {
        let mut list = AlertList::default();
        alerts.into_iter().for_each(|alert| list.push(alert));
        list.finish()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shared.is_empty()
    }

    /// Returns the alerts for readers.
    pub(super) fn shared(&self) -> &Arc<Vec<TrackedAlert>> {
        &self.shared
    }

    /// Takes the held values out, and returns each alert with its own.
    pub(super) fn take_held(&mut self) -> TakenAlerts<'_> {
        let held = std::mem::take(&mut self.held).into_iter();
        self.shared.iter().zip(held.chain(repeat_n(None, self.shared.len())))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&mut TrackedAlert, Option<&mut HeldValues>)> {
        let held = self.held.iter_mut().map(Option::as_mut).chain(repeat_with(|| None));
        Arc::make_mut(&mut self.shared).iter_mut().zip(held)
    }

    pub(super) fn into_alerts(self) -> impl Iterator<Item = HeldAlert> {
        let alerts = Arc::unwrap_or_clone(self.shared);
        alerts.into_iter().zip(self.held.into_iter().chain(repeat_with(|| None)))
    }

    pub(super) fn retain(&mut self, mut is_kept: impl FnMut(&TrackedAlert) -> bool) {
        *self = Self::of(std::mem::take(self).into_alerts().filter(|(alert, _)| is_kept(alert)));
    }

    /// Inserts an alert in order; returns it if there is one for its subject already.
    pub(super) fn insert(&mut self, (alert, held): HeldAlert) -> Option<HeldAlert> {
        match self.shared.binary_search_by(|other| other.subject.cmp(&alert.subject)) {
            Ok(_) => Some((alert, held)),
            Err(at) => {
                if held.is_some() || !self.held.is_empty() {
                    self.held.resize(self.shared.len(), None);
                    self.held.insert(at, held);
                }
                Arc::make_mut(&mut self.shared).insert(at, alert);
                None
            }
        }
    }
}

/// Alerts that are added in order.
#[derive(Default)]
pub(super) struct AlertList {
    alerts: Vec<TrackedAlert>,
    held: Vec<Option<HeldValues>>,
}

impl AlertList {
    pub(super) fn with_capacity(alerts: usize) -> Self {
        Self { alerts: Vec::with_capacity(alerts), held: Vec::new() }
    }

    pub(super) fn push(&mut self, (alert, held): HeldAlert) {
        if held.is_some() || !self.held.is_empty() {
            self.held.resize(self.alerts.len(), None);
            self.held.push(held);
        }
        self.alerts.push(alert);
    }

    pub(super) fn finish(mut self) -> RuleAlerts {
        // Alerts that begin together, as in an outage, are kept without the spare capacity that they made.
        self.alerts.shrink_to_fit();
        self.held.shrink_to_fit();
        RuleAlerts { shared: Arc::new(self.alerts), held: self.held }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::state::{AlertState, Phase};
    use crate::alert::subject::AlertSubject;
    use crate::alert::test_support::{group, lagging, stream};
    use redis_stream_core::name::Name;
    use redis_stream_lag::report::ReportedStream;
    use std::time::Duration;

    /// Returns an alert about the group of this number, which fires if the number is even.
    fn alert(number: u64) -> HeldAlert {
        let fires = number.is_multiple_of(2);
        let state = AlertState {
            phase: if fires { Phase::Firing } else { Phase::Pending },
            value: 1.0,
            active_at: Duration::from_secs(1),
            fired_at: None,
            resolved_at: None,
            kept_since: None,
            unknown_since: None,
            last_sent_at: None,
        };
        let group = group("g", lagging(number));
        let stream = ReportedStream::from(stream("s", vec![group.clone()]));
        let subject = AlertSubject {
            stream: Some(Name::from("s")),
            group: Some(Name::from(&*format!("g{number:03}"))),
        };
        let held = HeldValues::of(&stream, &group, Duration::from_secs(number)).filter(|_| fires);
        (TrackedAlert::new(subject, state), held)
    }

    proptest::proptest! {
        #[test]
        fn each_alert_keeps_its_values(
            begin in proptest::collection::btree_set(0_u64..40, 0..10),
            more in proptest::collection::vec(0_u64..40, 0..10),
            dropped in 2_u64..4,
        ) {
            let mut expected = begin.clone();
            let mut alerts = RuleAlerts::of(begin.into_iter().map(alert));
            for number in more {
                proptest::prop_assert_eq!(alerts.insert(alert(number)).is_none(), expected.insert(number));
            }
            let mut number = 0;
            alerts.retain(|_| {
                number += 1;
                number % dropped != 0
            });
            let expected: Vec<_> = expected.into_iter().zip(1..).filter(|(_, at)| at % dropped != 0).collect();
            let expected: Vec<_> = expected.into_iter().map(|(number, _)| alert(number)).collect();
            proptest::prop_assert_eq!(alerts.clone().into_alerts().collect::<Vec<_>>(), &expected[..]);
            let shown = alerts.iter_mut().map(|(alert, held)| (alert.clone(), held.cloned()));
            proptest::prop_assert_eq!(shown.collect::<Vec<_>>(), &expected[..]);
            let taken = alerts.take_held().map(|(alert, held)| (alert.clone(), held));
            proptest::prop_assert_eq!(taken.collect::<Vec<_>>(), &expected[..]);
            proptest::prop_assert_eq!(alerts.shared().len(), expected.len());
        }
    }
}
