//! What was done to whom, and when: what the exporter may be excused for.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis_stream_core::clock::unix_time;

use crate::setup::CLUSTER;

/// After a trouble: the poll that it may have spoiled, to connect and to read, and the next.
const GRACE: Duration = Duration::from_secs(3);
/// Nodes of a cluster have to find each other again.
const CLUSTER_GRACE: Duration = Duration::from_secs(6);

/// A time in which the polls of a target may be late, or fail. Times are since the Unix epoch.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// `None`: of all targets.
    pub(crate) target: Option<String>,
    pub(crate) from: Duration,
    pub(crate) until: Duration,
}

impl Window {
    /// Returns true if it is about this target and overlaps this time.
    pub(crate) fn touches(&self, target: &str, from: Duration, until: Duration) -> bool {
        let is_of = self.target.as_deref().is_none_or(|own| own == target);
        is_of && self.from <= until && from <= self.until
    }
}

/// The faults that were injected.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    windows: Mutex<Vec<Window>>,
    counts: Mutex<BTreeMap<String, usize>>,
}

impl Journal {
    /// Counts what was done.
    pub(crate) fn count(&self, what: impl std::fmt::Debug) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(format!("{what:?}")).or_default() += 1;
    }

    /// Returns the number of times of each fault.
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Excuses a target for as long as this takes, and a while after it.
    pub(crate) async fn during<T>(&self, target: &str, trouble: impl Future<Output = T>) -> T {
        let from = unix_time();
        let result = trouble.await;
        let grace = if target == CLUSTER { CLUSTER_GRACE } else { GRACE };
        let window = Window { target: Some(target.to_owned()), from, until: unix_time() + grace };
        self.windows.lock().unwrap_or_else(PoisonError::into_inner).push(window);
        result
    }

    /// The times in which somebody was excused.
    pub(crate) fn windows(&self) -> Vec<Window> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
