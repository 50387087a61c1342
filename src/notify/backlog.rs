//! Alerts that wait, in the order in which they came: of each only the newest state. Pure.

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::alert::notification::Alert;

/// What makes two alerts the same: their labels.
#[derive(Clone, Debug)]
pub(super) struct Identity(pub(super) Arc<Alert>);

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.0.labels == other.0.labels
    }
}

impl Eq for Identity {}

impl PartialOrd for Identity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Identity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.labels.cmp(&other.0.labels)
    }
}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.labels.hash(state);
    }
}

/// Whether a receiver that knows one of these states of an alert need not be told of the other. That an alert
/// which fires holds longer, or has another value, is told by the next repetition.
pub(super) fn is_same_news(one: &Alert, other: &Alert) -> bool {
    (one.status, one.starts_at) == (other.status, other.starts_at)
}

/// Waiting alerts. A newer state takes the place of an older one: a receiver keeps one state of an alert, so it
/// loses nothing that it would have kept, and what waits is bounded by the number of alerts.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    waiting: BTreeMap<u64, Waiting>,
    places: HashMap<Identity, u64>,
}

#[derive(Debug)]
struct Waiting {
    alert: Arc<Alert>,
    /// How often it was sent in vain.
    failures: u32,
    /// Whether a state of it may have been heard, although no attempt to send it has succeeded.
    may_be_known: bool,
}

impl Backlog {
    /// Puts an alert at `place`, which must be beyond all others, or its newer state where it waits already.
    pub(super) fn put(&mut self, place: u64, alert: &Arc<Alert>) {
        let place = *self.places.entry(Identity(Arc::clone(alert))).or_insert(place);
        let before = self.waiting.get(&place);
        let may_be_known = before.is_some_and(|waiting| waiting.may_be_known);
        let same = before.filter(|waiting| is_same_news(&waiting.alert, alert));
        let failures = same.map_or(0, |waiting| waiting.failures);
        self.waiting.insert(place, Waiting { alert: Arc::clone(alert), failures, may_be_known });
    }

    /// Notes that a state of this alert may have been heard.
    pub(super) fn note_may_be_known(&mut self, identity: &Identity) {
        if let Some(waiting) = self.places.get(identity).and_then(|place| self.waiting.get_mut(place)) {
            waiting.may_be_known = true;
        }
    }

    /// All that wait, the oldest first, each with whether a state of it may have been heard.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Arc<Alert>, bool)> {
        self.waiting.values().map(|waiting| (&waiting.alert, waiting.may_be_known))
    }

    /// Notes that an alert was sent in vain, and puts it at `place`, which must be beyond all others; returns how
    /// often that has happened to it.
    pub(super) fn put_back(&mut self, place: u64, sent: &Arc<Alert>) -> u32 {
        let Some(current) = self.places.get_mut(&Identity(Arc::clone(sent))) else { return 0 };
        let Some(mut waiting) = self.waiting.remove(current) else { return 0 };
        *current = place;
        // Another state of it, which came meanwhile, was not sent yet.
        if is_same_news(&waiting.alert, sent) {
            waiting.failures += 1;
        }
        let failures = waiting.failures;
        self.waiting.insert(place, waiting);
        failures
    }

    /// Whether a state of this alert waits.
    pub(super) fn holds(&self, identity: &Identity) -> bool {
        self.places.contains_key(identity)
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The place of the one that has waited longest.
    pub(super) fn oldest_place(&self) -> Option<u64> {
        self.waiting.first_key_value().map(|(place, _)| *place)
    }

    /// Drops the one that has waited longest.
    pub(super) fn drop_oldest(&mut self) {
        if let Some((_, waiting)) = self.waiting.pop_first() {
            self.places.remove(&Identity(waiting.alert));
        }
    }

    /// At most so many, the oldest first. They go on waiting.
    pub(super) fn oldest(&self, most: usize) -> Vec<Arc<Alert>> {
        self.waiting.values().take(most).map(|waiting| Arc::clone(&waiting.alert)).collect()
    }

    /// Takes out an alert, unless by now another state of it waits that is news.
    pub(super) fn settle(&mut self, told: &Arc<Alert>) {
        let identity = Identity(Arc::clone(told));
        let Some(place) = self.places.get(&identity) else { return };
        if self.waiting.get(place).is_some_and(|waiting| is_same_news(&waiting.alert, told)) {
            self.waiting.remove(place);
            self.places.remove(&identity);
        }
    }
}
