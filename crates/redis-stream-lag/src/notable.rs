//! The streams that are looked for after a poll, so that the states of all others need not be touched for it.

use std::collections::HashSet;

use redis_stream_core::name::Name;

/// The keys of these streams, by reason.
#[derive(Debug, Default)]
pub(super) struct NotableStreams {
    /// More is to be remembered of their groups than the last report shows.
    beyond_report: HashSet<Name>,
    /// A group was in danger of losing entries at the last reading.
    in_danger: HashSet<Name>,
}

/// A reason for which a stream is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notable {
    BeyondReport,
    InDanger,
}

impl NotableStreams {
    /// Notes whether a stream is looked for.
    pub(super) fn set(&mut self, key: &Name, notable: Notable, is_notable: bool) {
        let keys = match notable {
            Notable::BeyondReport => &mut self.beyond_report,
            Notable::InDanger => &mut self.in_danger,
        };
        if is_notable {
            keys.insert(key.clone());
        } else if !keys.is_empty() {
            keys.remove(key);
        }
    }

    /// Returns the streams that are looked for.
    pub(super) fn of(&self, notable: Notable) -> impl Iterator<Item = &Name> {
        match notable {
            Notable::BeyondReport => self.beyond_report.iter(),
            Notable::InDanger => self.in_danger.iter(),
        }
    }

    /// Forgets a stream of which there is no state any more.
    pub(super) fn forget(&mut self, key: &Name) {
        for notable in [Notable::BeyondReport, Notable::InDanger] {
            self.set(key, notable, false);
        }
    }

    /// Forgets the streams of which there is no state.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&Name) -> bool) {
        self.beyond_report.retain(&is_kept);
        self.in_danger.retain(&is_kept);
    }
}
