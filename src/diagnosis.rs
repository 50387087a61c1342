//! Diagnoses of groups, each one sentence of facts: what, with which number, since when, and whether it becomes
//! better or worse; and what to do about it. Pages and messages show the same words.

use std::cmp::Reverse;
use std::fmt;
use std::time::Duration;

use crate::format::trend::Trend;
use crate::format::unicode::{printable, shortened};
use crate::format::units::{clock, count, rate_number, span};
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;
use redis_stream_lag::question::is_fatal;
use redis_stream_lag::report::{GroupView, Lag, OldestPending, Status};

/// Deliveries from which on a pending entry counts as one that fails: a claim from a consumer that died is no failure.
const MANY_DELIVERIES: u64 = 3;
/// The advice about an entry that no consumer can process any more.
const REMOVE_GONE: &str =
    "XACK removes it from the list of pending entries, and so does XAUTOCLAIM from Redis 7.0 on";
const REMOVE_GONE_ONES: &str = "XACK it and the others that are gone (streamgauge pending --fields shows which), then let \
     another consumer claim the rest (XAUTOCLAIM)";
const SORT_GONE: &str = "XACK what is gone (streamgauge pending --fields shows which), then let another consumer claim \
     the rest (XAUTOCLAIM), and acknowledge them";
const LOOK_FIRST: &str = "See whether it is still in the stream (XRANGE), which is not known: if it is gone, XACK it; else let \
     another consumer claim it (XAUTOCLAIM), and acknowledge it";
/// Characters of a consumer's name.
const NAME_CHARS: usize = 60;

/// A sentence of facts, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// Without a full stop.
    pub sentence: String,
    /// The advice, without a full stop; empty if there is nothing to do.
    pub advice: &'static str,
}

/// The pending entry that needs a look first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorstPending<'v> {
    /// Its ID.
    pub id: StreamId,
    /// `None` if it was released by XNACK.
    pub consumer: Option<&'v Name>,
    /// Number of deliveries; `None` if XNACK FATAL replaced it.
    pub deliveries: Option<u64>,
    /// Time since it was last delivered; `None` if it was released by XNACK.
    pub idle: Option<Duration>,
    /// Time since it was added; `None` if its ID is not a time.
    pub age: Option<Duration>,
}

/// What is known of whether a group's pending entries are still in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GonePending {
    /// All are there, or nothing is pending.
    None,
    /// At least so many are gone.
    Some(u64),
    All,
    NotKnown,
}

impl GonePending {
    pub(crate) fn of(view: GroupView<'_>) -> Self {
        match (view.pending_orphaned.map(u64::from), view.messages_pending) {
            (_, 0) | (Some(0), _) => Self::None,
            (Some(gone), pending) if gone >= pending => Self::All,
            (Some(gone), _) => Self::Some(gone),
            (None, pending) if oldest_pending(view).is_some_and(|oldest| view.was_trimmed(oldest.id)) => {
                if pending == 1 {
                    Self::All
                } else {
                    Self::Some(1)
                }
            }
            (None, _) => Self::NotKnown,
        }
    }
}

/// Returns true if a pending entry is known to be no longer in the stream.
fn is_gone(view: GroupView<'_>, id: StreamId) -> bool {
    GonePending::of(view) == GonePending::All || view.was_trimmed(id)
}

/// Returns the ID of the oldest pending entry, if it is known to be no longer in the stream.
pub(crate) fn oldest_gone(view: GroupView<'_>) -> Option<StreamId> {
    oldest_pending(view).map(|oldest| oldest.id).filter(|id| is_gone(view, *id))
}

/// Returns the oldest pending entry.
pub fn oldest_pending(view: GroupView<'_>) -> Option<WorstPending<'_>> {
    match &view.values().oldest_pending {
        Some(OldestPending::Entry { id, consumer, idle, deliveries }) => Some(WorstPending {
            id: *id,
            consumer: consumer.as_ref(),
            deliveries: Some(*deliveries).filter(|deliveries| !is_fatal(*deliveries)),
            idle: idle.map(|idle| view.age(idle)),
            age: view.oldest_pending_age(),
        }),
        Some(OldestPending::Nothing) | None => None,
    }
}

/// Returns the pending entry that needs a look first: one that fails, the one that was delivered most often; else the one
/// that was not delivered for the longest time. `at` is the time of the reading, since the Unix epoch.
pub fn worst_pending(values: GroupView<'_>, at: Duration) -> Option<WorstPending<'_>> {
    known_pending(values, at)
        .reduce(|worst, entry| if entry.badness() > worst.badness() { entry } else { worst })
}

/// Returns the pending entries that are known one by one, the one that needs a look first as the first.
pub fn worst_first(values: GroupView<'_>, at: Duration) -> Vec<WorstPending<'_>> {
    let mut entries: Vec<WorstPending<'_>> = Vec::new();
    for entry in known_pending(values, at) {
        if entries.iter().all(|other| other.id != entry.id) {
            entries.push(entry);
        }
    }
    entries.sort_by_key(|entry| Reverse(entry.badness()));
    entries
}

/// Returns the pending entry that was not delivered for the longest time.
fn longest_pending(values: GroupView<'_>, at: Duration) -> Option<WorstPending<'_>> {
    known_pending(values, at)
        .reduce(|longest, entry| if entry.untouched() > longest.untouched() { entry } else { longest })
}

/// Returns the pending entries that are known one by one: the oldest one, and those that stood out in the last census and
/// may still be pending. What was read last comes first.
fn known_pending(view: GroupView<'_>, at: Duration) -> impl Iterator<Item = WorstPending<'_>> {
    let census = view.pending_census().filter(|_| view.messages_pending > 0);
    let rows =
        census.into_iter().flat_map(|shown| shown.census.worst.iter().map(move |entry| (shown, entry)));
    // Entries below the oldest one have been acknowledged since they were read.
    let pending = rows.filter(move |(_, entry)| match &view.oldest_pending {
        Some(OldestPending::Entry { id, .. }) => entry.id > *id,
        Some(OldestPending::Nothing) => false,
        None => true,
    });
    let listed = pending.map(move |(shown, entry)| WorstPending {
        id: entry.id,
        consumer: Some(&entry.consumer).filter(|_| entry.idle.is_some()),
        deliveries: entry.known_deliveries(),
        idle: shown.idle(entry),
        age: entry.id.age(at),
    });
    oldest_pending(view).into_iter().chain(listed)
}

/// Returns the change of a group's lag.
pub fn trend(values: GroupView<'_>) -> Trend {
    let (Some(added), Some(delivered)) = (values.added_rate, values.delivered_rate) else {
        return Trend::Unknown;
    };
    if values.status.conditions.contains(Status::Losing) {
        return Trend::Unknown;
    }
    Trend::at_rates(added.per_second(), delivered.per_second(), values.drain_time.map(Duration::from))
}

/// Returns the diagnosis of a group's worst condition, or that there is none. `None` is a group that is configured by name
/// and missing. `at` is the time of the reading, since the Unix epoch.
pub fn of_group(values: Option<GroupView<'_>>, at: Duration) -> Diagnosis {
    match values {
        None => MISSING.diagnosis(),
        Some(values) => of_status(values.status.status(), values, at),
    }
}

/// Returns the diagnosis of one condition of a group, whatever else holds.
pub fn of_status(status: Status, values: GroupView<'_>, at: Duration) -> Diagnosis {
    let facts = Facts { values, at };
    let (sentence, advice) = match status {
        Status::Abandoned => facts.abandoned(),
        Status::Losing => facts.losing(),
        Status::Rewound => facts.rewound(),
        Status::Stalled => facts.stalled(),
        Status::Stuck => facts.stuck(),
        Status::Lagging => facts.lagging(),
        Status::Unknown => facts.unknown(),
        Status::Ok => facts.ok(),
    };
    Diagnosis { sentence, advice }
}

/// Returns the diagnosis of what a group has still to read.
pub(crate) fn of_waiting(values: GroupView<'_>, at: Duration) -> Diagnosis {
    let holding = [Status::Abandoned, Status::Stalled, Status::Lagging];
    let condition = holding.into_iter().find(|status| values.status.conditions.contains(*status));
    match condition {
        Some(condition) => of_status(condition, values, at),
        None => {
            let facts = Facts { values, at };
            let parts = [Some(facts.waiting()), facts.flow(), facts.trend(), facts.loss_ahead()];
            Diagnosis { sentence: joined(parts), advice: "" }
        }
    }
}

/// Returns the diagnosis of a group's pending entries; `None` if none is known.
pub(crate) fn of_pending(values: GroupView<'_>, at: Duration) -> Option<Diagnosis> {
    let entry = worst_pending(values, at)?;
    let facts = Facts { values, at };
    let (sentence, advice) = match entry.fails() {
        true => facts.failing("Failing", &entry),
        false => facts.stuck(),
    };
    Some(Diagnosis { sentence, advice })
}

/// A diagnosis that needs no values.
struct Fixed(&'static str, &'static str);

const MISSING: Fixed = Fixed(
    "Missing: the stream has no such group, so its consumers get NOGROUP",
    "Create it, or take it out of the configuration",
);

impl Fixed {
    fn diagnosis(&self) -> Diagnosis {
        Diagnosis { sentence: self.0.to_owned(), advice: self.1 }
    }
}

impl WorstPending<'_> {
    /// Returns a key that is larger for an entry that needs a look sooner.
    fn badness(&self) -> (Option<u64>, Duration) {
        (self.fails().then_some(self.deliveries.unwrap_or(u64::MAX)), self.untouched())
    }

    /// Returns true if it was delivered so often that it is likely one that no consumer can process.
    fn fails(&self) -> bool {
        self.deliveries.is_none_or(|deliveries| deliveries >= MANY_DELIVERIES)
    }

    /// Returns the time since it was last delivered, for comparison: one that was given back waits for a consumer.
    fn untouched(&self) -> Duration {
        self.idle.unwrap_or(Duration::MAX)
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, ". {}", self.advice) }
    }
}

type Sentence = (String, &'static str);

/// The values of a group, and the time of the reading.
struct Facts<'v> {
    values: GroupView<'v>,
    at: Duration,
}

impl Facts<'_> {
    fn abandoned(&self) -> Sentence {
        let (who, advice) = match self.values.consumers {
            0 => ("the group has no consumer".to_owned(), "Start its consumers, or remove the group"),
            1 => (
                "its only consumer gives no sign of life".to_owned(),
                "Start or restart the consumer, or remove the group",
            ),
            many => (
                format!("none of its {} consumers gives a sign of life", count(many)),
                "Start or restart the consumers, or remove the group",
            ),
        };
        let first = format!("Not read: {who}");
        let parts = [
            Some(first),
            Some(self.waiting()),
            self.silence(Status::Abandoned),
            self.trend(),
            self.loss_ahead(),
        ];
        (joined(parts), advice)
    }

    fn losing(&self) -> Sentence {
        let lost = match self.values.entries_lost.map(u64::from).filter(|lost| *lost > 0) {
            Some(1) => "at least 1 was removed before the group got it".to_owned(),
            Some(lost) => format!("at least {} were removed before the group got them", count(lost)),
            None => "they are removed before the group gets them".to_owned(),
        };
        let first = format!("Losing entries{}: {lost}", self.since(Status::Losing));
        let share = self
            .values
            .seldom
            .loss_estimate
            .map(|estimate| format!("about {:.0} % of what is added is lost", estimate.ratio() * 100.0));
        let advice = "Make the group faster, or keep more in the stream (MAXLEN, MINID)";
        (joined([Some(first), share, Some(self.waiting())]), advice)
    }

    fn rewound(&self) -> Sentence {
        let first = format!("Set back{}: last-delivered-id became smaller", self.since(Status::Rewound));
        let again = "entries are delivered a second time".to_owned();
        let advice = "Look for an XGROUP SETID, a restart from an older file, or a failover";
        (joined([Some(first), Some(again), Some(self.waiting())]), advice)
    }

    fn stalled(&self) -> Sentence {
        if let Some(entry) = worst_pending(self.values, self.at).filter(WorstPending::fails) {
            return self.failing("Blocked", &entry);
        }
        let who = match self.values.consumers {
            1 => "its only consumer is alive and reads nothing".to_owned(),
            many => format!("its {} consumers are alive and read nothing", count(many)),
        };
        let first = format!("Stalled: {who}");
        let parts = [
            Some(first),
            Some(self.waiting()),
            self.silence(Status::Stalled),
            self.pending(),
            self.trend(),
            self.loss_ahead(),
        ];
        (joined(parts), "Look at the logs of its consumers, and restart them")
    }

    /// Describes an entry that was delivered many times, and what waits behind it.
    fn failing(&self, word: &str, entry: &WorstPending<'_>) -> Sentence {
        let added = entry.age.map(|age| format!(" since {}", self.clock(age))).unwrap_or_default();
        let deliveries = match entry.deliveries {
            Some(deliveries) => format!("has been delivered {} times{added}", count(deliveries)),
            None => "was marked as failed (XNACK FATAL)".to_owned(),
        };
        let ago = |idle: Duration| match idle.as_secs() {
            0 => "a moment ago".to_owned(),
            _ => format!("{} ago", span(idle)),
        };
        let to = match (entry.consumer, entry.idle) {
            (Some(consumer), Some(idle)) => format!(", last to {} {}", name(consumer), ago(idle)),
            (None, Some(idle)) => format!(", last {}", ago(idle)),
            (_, None) => ", and was given back".to_owned(),
        };
        let first = format!("{word}: entry {} {deliveries}{to}", entry.id);
        let behind =
            (self.values.lag.max() > 0).then(|| format!("{} behind it", entries_wait(self.values.lag)));
        let others = self.values.messages_pending.checked_sub(1).filter(|others| *others > 0);
        let others = others.map(|others| match others {
            1 => "1 more is pending".to_owned(),
            others => format!("{} more are pending", count(others)),
        });
        let advice = match GonePending::of(self.values) {
            _ if self.is_gone(entry) => REMOVE_GONE,
            GonePending::None => "See what it holds (XRANGE), fix its handler or put it aside, then XACK it",
            _ => {
                "See what it holds (XRANGE): if it is gone from the stream, XACK it; else fix its handler or put it aside, then XACK it"
            }
        };
        (joined([Some(first), self.gone(Some(entry)), behind, others, self.loss_ahead()]), advice)
    }

    fn stuck(&self) -> Sentence {
        let Some(entry) = longest_pending(self.values, self.at) else {
            let first =
                format!("Stuck: a pending entry has not been acknowledged{}", self.since(Status::Stuck));
            let gone = self.gone(None);
            let advice = match GonePending::of(self.values) {
                GonePending::All => "Find it with XPENDING, and XACK it",
                GonePending::None => "Find it with XPENDING",
                _ => "Find it with XPENDING; if it is gone from the stream (XRANGE), XACK it",
            };
            return (joined([Some(first), gone, self.pending()]), advice);
        };
        let (id, now) = (entry.id, self.at);
        let first = match entry.idle {
            None => format!("Stuck: entry {id} was given back (XNACK), and no consumer takes it"),
            Some(idle) => {
                let owner = entry.consumer.map(|owner| format!(" to {}", name(owner))).unwrap_or_default();
                let (since, ago) = (clock(now.saturating_sub(idle), now), span(idle));
                format!("Stuck: entry {id} was delivered{owner} at {since} ({ago} ago) and not acknowledged")
            }
        };
        let again = entry.deliveries.filter(|deliveries| *deliveries > 1);
        let again = again.map(|deliveries| format!("it was delivered {} times", count(deliveries)));
        let failing =
            worst_pending(self.values, self.at).filter(|worst| worst.fails() && worst.id != entry.id);
        let failing = failing.map(|worst| match worst.deliveries {
            Some(deliveries) => format!("entry {} was delivered {} times", worst.id, count(deliveries)),
            None => format!("entry {} was marked as failed (XNACK FATAL)", worst.id),
        });
        let waiting = (self.values.lag.max() > 0).then(|| self.waiting());
        let parts = [Some(first), self.gone(Some(&entry)), again, failing, self.pending(), waiting];
        (joined(parts), self.advice_on_stuck(&entry))
    }

    /// Returns what to do about an entry that no consumer takes. One that left the stream cannot be claimed.
    fn advice_on_stuck(&self, entry: &WorstPending<'_>) -> &'static str {
        match GonePending::of(self.values) {
            GonePending::All => REMOVE_GONE,
            GonePending::Some(_) if self.is_gone(entry) => REMOVE_GONE_ONES,
            GonePending::Some(_) => SORT_GONE,
            GonePending::NotKnown => LOOK_FIRST,
            GonePending::None if entry.idle.is_none() => "Let a consumer claim it (XAUTOCLAIM)",
            GonePending::None => "Let another consumer claim it (XAUTOCLAIM), and acknowledge it",
        }
    }

    /// Returns true if a pending entry is known to be no longer in the stream.
    fn is_gone(&self, entry: &WorstPending<'_>) -> bool {
        is_gone(self.values, entry.id)
    }

    /// Returns the words about pending entries that are known to be no longer in the stream: about this one, if it is one
    /// of them.
    fn gone(&self, entry: Option<&WorstPending<'_>>) -> Option<String> {
        let gone = GonePending::of(self.values);
        match entry.filter(|entry| self.is_gone(entry)) {
            Some(_) if gone == GonePending::All && self.values.messages_pending > 1 => {
                Some("neither it nor any other pending entry is in the stream any more".to_owned())
            }
            Some(_) => Some("it is no longer in the stream".to_owned()),
            None => match gone {
                GonePending::All => Some("no pending entry is in the stream any more".to_owned()),
                GonePending::Some(1) => {
                    Some("at least 1 pending entry is no longer in the stream".to_owned())
                }
                GonePending::Some(gone) => {
                    Some(format!("{} pending entries are no longer in the stream", count(gone)))
                }
                GonePending::None | GonePending::NotKnown => None,
            },
        }
    }

    fn lagging(&self) -> Sentence {
        let flow = self.flow().unwrap_or_else(|| "more is added than the group reads".to_owned());
        let first = format!("Too slow{}: {flow}", self.since(Status::Lagging));
        let parts = [Some(first), Some(self.waiting()), self.trend(), self.loss_ahead()];
        (joined(parts), "Add consumers, or make them faster")
    }

    fn unknown(&self) -> Sentence {
        let first = match self.values.unknown_for() {
            Some(time) => format!("Collecting history: the status is known in about {}", span(time)),
            None => "Not known: the exact lag was not known often enough to tell whether it grows".to_owned(),
        };
        (joined([Some(first), Some(self.waiting()), self.pending()]), "")
    }

    fn ok(&self) -> Sentence {
        if let Some(entry) = worst_pending(self.values, self.at).filter(WorstPending::fails) {
            return self.failing("Failing", &entry);
        }
        let first = format!("No problem detected: {}", self.waiting());
        (joined([Some(first), self.pending(), self.trend()]), "")
    }

    /// Describes what waits, and for how long.
    fn waiting(&self) -> String {
        let wait = entries_wait(self.values.lag);
        match self.values.lag_seconds().filter(|_| self.values.lag.max() > 0) {
            Some(age) => format!("{wait}, the oldest for {}", span(age)),
            None => wait,
        }
    }

    fn pending(&self) -> Option<String> {
        match self.values.messages_pending {
            0 => None,
            1 => Some("1 entry is pending".to_owned()),
            pending => Some(format!("{} entries are pending", count(pending))),
        }
    }

    /// Describes since when nothing was delivered.
    fn silence(&self, status: Status) -> Option<String> {
        let age = self.values.last_delivery_age();
        let since = age.map(|age| self.at.saturating_sub(age)).or(self.since_time(status))?;
        Some(format!("nothing was delivered since {}", clock(since, self.at)))
    }

    fn flow(&self) -> Option<String> {
        let (added, delivered) = (self.values.added_rate?, self.values.delivered_rate?);
        let (added, delivered) = (rate_number(added.per_second()), rate_number(delivered.per_second()));
        Some(format!("{added}/s come in and {delivered}/s are read"))
    }

    fn trend(&self) -> Option<String> {
        if self.values.lag.max() == 0 {
            return None;
        }
        match trend(self.values) {
            Trend::Grows(rate) => Some(format!("{} more each second", rate_number(rate))),
            Trend::Shrinks(_, Some(time)) => Some(format!("they are read in {} at this rate", span(time))),
            Trend::Shrinks(rate, None) => Some(format!("{} fewer each second", rate_number(rate))),
            Trend::Steady => Some("the number does not change".to_owned()),
            Trend::Unknown => None,
        }
    }

    fn loss_ahead(&self) -> Option<String> {
        let time = self.values.seldom.time_to_loss?;
        Some(format!("trimming reaches what it has not read or acknowledged in {}", span(time.get())))
    }

    fn since(&self, status: Status) -> String {
        self.since_time(status).map(|since| format!(" since {}", clock(since, self.at))).unwrap_or_default()
    }

    /// Returns since when a condition holds, as far as it is known: it is, of the worst.
    fn since_time(&self, status: Status) -> Option<Duration> {
        self.values.status.since.map(Duration::from).filter(|_| self.values.status.status() == status)
    }

    fn clock(&self, age: Duration) -> String {
        clock(self.at.saturating_sub(age), self.at)
    }
}

fn entries_wait(lag: Lag) -> String {
    match lag {
        Lag::Exact(0) => "no entry waits".to_owned(),
        Lag::Exact(1) => "1 entry waits".to_owned(),
        Lag::Exact(entries) => format!("{} entries wait", count(entries)),
        Lag::Between { min, max: u64::MAX } => format!("at least {} entries wait", count(min.get())),
        Lag::Between { min, max } => format!("{} to {} entries wait", count(min.get()), count(max)),
    }
}

fn name(name: &Name) -> String {
    let text = name.text();
    let text = printable(&text);
    shortened(&text, NAME_CHARS).into_owned()
}

fn joined<const N: usize>(parts: [Option<String>; N]) -> String {
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::test_support::{group, stream};
    use redis_stream_lag::question::FATAL_DELIVERIES;
    use redis_stream_lag::report::{
        Age, ConditionSet, EntryRate, GroupStatus, GroupValues, HistoryCoverage, LossEstimate, PendingCensus,
        PendingCensusReading, PendingReport, ReportedStream, SeldomGroupValues,
    };
    use std::sync::Arc;

    /// 2026-11-28T20:06:31Z.
    const AT: Duration = Duration::from_secs(1_795_896_391);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn rate(entries: u64) -> Option<EntryRate> {
        Some(EntryRate::new(entries, s(1)))
    }

    fn with(conditions: &[Status]) -> GroupValues {
        let conditions: ConditionSet = conditions.iter().copied().collect();
        let since = (!conditions.is_empty()).then(|| AT - s(671));
        let status =
            GroupStatus { conditions, coverage: HistoryCoverage::Complete, since: since.map(Into::into) };
        GroupValues { status, lag: Lag::Exact(0), consumers: 3, ..GroupValues::default() }
    }

    /// 4,258 entries that wait for 5 min 11 s.
    fn behind(conditions: &[Status]) -> GroupValues {
        GroupValues { lag: Lag::Exact(4_258), lag_seconds: Some(Age::of(s(311))), ..with(conditions) }
    }

    fn holding(values: &GroupValues, deliveries: u64, idle: Option<Duration>) -> GroupValues {
        let entry = OldestPending::Entry {
            id: StreamId::new(1_795_895_526_988, 1),
            consumer: idle.map(|_| Name::from("fraud-1")),
            idle: idle.map(Into::into),
            deliveries,
        };
        GroupValues {
            oldest_pending: Some(entry),
            messages_pending: 12,
            pending_orphaned: Some(0.into()),
            ..values.clone()
        }
    }

    #[test]
    fn the_worst_pending_entry_is_one_that_may_still_be_pending() {
        let oldest = StreamId::new(1_795_895_526_988, 1);
        let listed = |ms: u64, deliveries, idle| PendingReport {
            id: StreamId::new(ms, 1),
            consumer: Name::from("c"),
            deliveries,
            idle: Some(s(idle).into()),
            read_at: (AT - s(480)).into(),
        };
        let worst = |rows: Vec<PendingReport>| {
            let census = Arc::new(PendingCensus { worst: rows.into(), ..PendingCensus::default() });
            let census = PendingCensusReading { census, unchanged_until: None };
            let values = holding(&with(&[]), 1, Some(s(300)));
            let values = GroupValues { pending_census: Some(census), ..values };
            worst_pending(GroupView::at(&values, AT), AT).map(|entry| (entry.id, entry.idle))
        };
        let later = oldest.ms + 1;
        for (rows, expected) in [
            (vec![], (oldest, Some(s(300)))),
            // It was acknowledged since it was read.
            (vec![listed(1, 217, 9)], (oldest, Some(s(300)))),
            // The oldest entry was read again since.
            (vec![listed(oldest.ms, 1, 900)], (oldest, Some(s(300)))),
            (vec![listed(later, 1, 299)], (oldest, Some(s(300)))),
            (vec![listed(later, 1, 600)], (StreamId::new(later, 1), Some(s(600)))),
            (
                vec![listed(later, 1, 600), listed(later + 1, 217, 0)],
                (StreamId::new(later + 1, 1), Some(s(0))),
            ),
        ] {
            assert_eq!(worst(rows.clone()), Some(expected), "{rows:?}");
        }
    }

    #[test]
    fn each_condition_is_a_sentence_of_facts() {
        use Status::{Abandoned, Lagging, Losing, Rewound, Stalled, Stuck};
        let flowing = |values, added, delivered| GroupValues {
            added_rate: rate(added),
            delivered_rate: rate(delivered),
            ..values
        };
        let cases = [
            ("no consumer", flowing(GroupValues { consumers: 0, ..behind(&[Abandoned]) }, 20, 0)),
            (
                "dead consumers",
                GroupValues {
                    last_delivery_age: Some(Age::of(s(798))),
                    seldom: SeldomGroupValues {
                        time_to_loss: Some(s(1_200).into()),
                        ..SeldomGroupValues::default()
                    }
                    .into(),
                    ..behind(&[Abandoned])
                },
            ),
            (
                "one dead consumer, one entry",
                GroupValues { consumers: 1, lag: Lag::Exact(1), ..with(&[Abandoned]) },
            ),
            (
                "losing",
                GroupValues {
                    entries_lost: Some(8_320.into()),
                    seldom: SeldomGroupValues {
                        loss_estimate: Some(LossEstimate { lost: 8, added: 10 }),
                        ..SeldomGroupValues::default()
                    }
                    .into(),
                    ..flowing(behind(&[Losing]), 50, 10)
                },
            ),
            ("losing, and how much is not known", behind(&[Losing])),
            ("rewound", behind(&[Rewound])),
            ("blocked", holding(&behind(&[Stalled]), 217, Some(Duration::from_millis(200)))),
            ("stalled", holding(&behind(&[Stalled]), 1, Some(s(300)))),
            ("stuck", holding(&with(&[Stuck]), 1, Some(s(900)))),
            ("stuck, delivered twice", holding(&behind(&[Stuck]), 2, Some(s(900)))),
            ("given back", holding(&with(&[Stuck]), 1, None)),
            ("stuck, and the entry is not known", with(&[Stuck])),
            ("lagging", flowing(behind(&[Lagging]), 50, 10)),
            ("lagging, and the rates are not known", behind(&[Lagging])),
            ("abandoned and losing", behind(&[Abandoned, Losing])),
        ];
        let shown =
            cases.map(|(case, values)| format!("{case}: {}", of_group(Some(GroupView::at(&values, AT)), AT)));
        insta::assert_snapshot!(shown.join("\n"), @r"
        no consumer: Not read: the group has no consumer; 4,258 entries wait, the oldest for 5 min 11 s; nothing was delivered since 19:55 UTC; 20.0 more each second. Start its consumers, or remove the group
        dead consumers: Not read: none of its 3 consumers gives a sign of life; 4,258 entries wait, the oldest for 5 min 11 s; nothing was delivered since 19:53 UTC; trimming reaches what it has not read or acknowledged in 20 min. Start or restart the consumers, or remove the group
        one dead consumer, one entry: Not read: its only consumer gives no sign of life; 1 entry waits; nothing was delivered since 19:55 UTC. Start or restart the consumer, or remove the group
        losing: Losing entries since 19:55 UTC: at least 8,320 were removed before the group got them; about 80 % of what is added is lost; 4,258 entries wait, the oldest for 5 min 11 s. Make the group faster, or keep more in the stream (MAXLEN, MINID)
        losing, and how much is not known: Losing entries since 19:55 UTC: they are removed before the group gets them; 4,258 entries wait, the oldest for 5 min 11 s. Make the group faster, or keep more in the stream (MAXLEN, MINID)
        rewound: Set back since 19:55 UTC: last-delivered-id became smaller; entries are delivered a second time; 4,258 entries wait, the oldest for 5 min 11 s. Look for an XGROUP SETID, a restart from an older file, or a failover
        blocked: Blocked: entry 1795895526988-1 has been delivered 217 times since 19:52 UTC, last to fraud-1 a moment ago; 4,258 entries wait behind it; 11 more are pending. See what it holds (XRANGE), fix its handler or put it aside, then XACK it
        stalled: Stalled: its 3 consumers are alive and read nothing; 4,258 entries wait, the oldest for 5 min 11 s; nothing was delivered since 19:55 UTC; 12 entries are pending. Look at the logs of its consumers, and restart them
        stuck: Stuck: entry 1795895526988-1 was delivered to fraud-1 at 19:51 UTC (15 min ago) and not acknowledged; 12 entries are pending. Let another consumer claim it (XAUTOCLAIM), and acknowledge it
        stuck, delivered twice: Stuck: entry 1795895526988-1 was delivered to fraud-1 at 19:51 UTC (15 min ago) and not acknowledged; it was delivered 2 times; 12 entries are pending; 4,258 entries wait, the oldest for 5 min 11 s. Let another consumer claim it (XAUTOCLAIM), and acknowledge it
        given back: Stuck: entry 1795895526988-1 was given back (XNACK), and no consumer takes it; 12 entries are pending. Let a consumer claim it (XAUTOCLAIM)
        stuck, and the entry is not known: Stuck: a pending entry has not been acknowledged since 19:55 UTC. Find it with XPENDING
        lagging: Too slow since 19:55 UTC: 50.0/s come in and 10.0/s are read; 4,258 entries wait, the oldest for 5 min 11 s; 40.0 more each second. Add consumers, or make them faster
        lagging, and the rates are not known: Too slow since 19:55 UTC: more is added than the group reads; 4,258 entries wait, the oldest for 5 min 11 s. Add consumers, or make them faster
        abandoned and losing: Not read: none of its 3 consumers gives a sign of life; 4,258 entries wait, the oldest for 5 min 11 s; nothing was delivered since 19:55 UTC. Start or restart the consumers, or remove the group
        ");
    }

    #[test]
    fn a_pending_entry_that_left_the_stream_cannot_be_claimed() {
        let oldest = 1_795_895_526_988;
        let stuck = |deliveries, idle, orphaned: Option<u64>, messages_pending| GroupValues {
            messages_pending,
            pending_orphaned: orphaned.map(Into::into),
            ..holding(&with(&[Status::Stuck]), deliveries, idle)
        };
        let held = |orphaned: Option<u64>| stuck(1, Some(s(900)), orphaned, 12);
        // The first entry of the stream is at the oldest pending one, or above it.
        let (at, above) = (oldest, oldest + 1);
        let unread = GroupValues { oldest_pending: None, ..held(Some(12)) };
        let cases = [
            ("none", at, held(Some(0))),
            ("all", above, held(Some(12))),
            ("the only one", above, stuck(1, Some(s(900)), Some(1), 1)),
            ("all, given back", above, stuck(1, None, Some(12), 12)),
            ("all, it fails", above, stuck(5, Some(s(900)), Some(12), 12)),
            ("all, and the oldest is not known", above, unread),
            ("some, it was trimmed", above, held(Some(3))),
            ("some, it fails", above, stuck(5, Some(s(900)), Some(3), 12)),
            ("some, perhaps others", at, held(Some(3))),
            ("some, perhaps others, given back", at, stuck(1, None, Some(1), 12)),
            ("some, perhaps others, it fails", at, stuck(5, Some(s(900)), Some(3), 12)),
            ("how many is not known, it was trimmed", above, held(None)),
            ("how many is not known, the only one", above, stuck(1, Some(s(900)), None, 1)),
            ("not known", at, held(None)),
            ("not known, it fails", at, stuck(5, Some(s(900)), None, 12)),
        ];
        let shown = cases.map(|(case, first, values)| {
            let group = group("g", values);
            let mut stream = stream("s", vec![group.clone()]);
            stream.values.as_mut().unwrap().ids.first = Some(StreamId::new(first, 1)).into();
            let stream = ReportedStream::from(stream);
            let Diagnosis { sentence, advice } = of_pending(stream.view(&group).unwrap(), AT)
                .unwrap_or_else(|| of_status(Status::Stuck, stream.view(&group).unwrap(), AT));
            let gone = sentence.split("; ").find(|part| part.contains("the stream")).unwrap_or("-");
            format!("{case}: {gone} / {advice}")
        });
        insta::assert_snapshot!(shown.join("\n"), @r"
        none: - / Let another consumer claim it (XAUTOCLAIM), and acknowledge it
        all: neither it nor any other pending entry is in the stream any more / XACK removes it from the list of pending entries, and so does XAUTOCLAIM from Redis 7.0 on
        the only one: it is no longer in the stream / XACK removes it from the list of pending entries, and so does XAUTOCLAIM from Redis 7.0 on
        all, given back: neither it nor any other pending entry is in the stream any more / XACK removes it from the list of pending entries, and so does XAUTOCLAIM from Redis 7.0 on
        all, it fails: neither it nor any other pending entry is in the stream any more / XACK removes it from the list of pending entries, and so does XAUTOCLAIM from Redis 7.0 on
        all, and the oldest is not known: no pending entry is in the stream any more / Find it with XPENDING, and XACK it
        some, it was trimmed: it is no longer in the stream / XACK it and the others that are gone (streamgauge pending --fields shows which), then let another consumer claim the rest (XAUTOCLAIM)
        some, it fails: it is no longer in the stream / XACK removes it from the list of pending entries, and so does XAUTOCLAIM from Redis 7.0 on
        some, perhaps others: 3 pending entries are no longer in the stream / XACK what is gone (streamgauge pending --fields shows which), then let another consumer claim the rest (XAUTOCLAIM), and acknowledge them
        some, perhaps others, given back: at least 1 pending entry is no longer in the stream / XACK what is gone (streamgauge pending --fields shows which), then let another consumer claim the rest (XAUTOCLAIM), and acknowledge them
        some, perhaps others, it fails: 3 pending entries are no longer in the stream / See what it holds (XRANGE): if it is gone from the stream, XACK it; else fix its handler or put it aside, then XACK it
        how many is not known, it was trimmed: it is no longer in the stream / XACK it and the others that are gone (streamgauge pending --fields shows which), then let another consumer claim the rest (XAUTOCLAIM)
        how many is not known, the only one: it is no longer in the stream / XACK removes it from the list of pending entries, and so does XAUTOCLAIM from Redis 7.0 on
        not known: - / See whether it is still in the stream (XRANGE), which is not known: if it is gone, XACK it; else let another consumer claim it (XAUTOCLAIM), and acknowledge it
        not known, it fails: - / See what it holds (XRANGE): if it is gone from the stream, XACK it; else fix its handler or put it aside, then XACK it
        ");
    }

    #[test]
    fn without_a_condition_it_is_what_goes_on() {
        let unknown = |coverage| {
            let status = GroupStatus { coverage, ..with(&[]).status };
            GroupValues { status, lag: Lag::Between { min: 3.into(), max: u64::MAX }, ..with(&[]) }
        };
        let draining = GroupValues {
            added_rate: rate(20),
            delivered_rate: rate(38),
            drain_time: Some(s(240).into()),
            ..behind(&[])
        };
        let cases = [
            ("nothing to do", with(&[])),
            ("draining", draining),
            ("keeping up", GroupValues { added_rate: rate(100), delivered_rate: rate(101), ..behind(&[]) }),
            ("an entry fails", holding(&with(&[]), 12, Some(s(2)))),
            ("marked as failed", holding(&with(&[]), FATAL_DELIVERIES, None)),
            ("a claim", holding(&with(&[]), 2, Some(s(2)))),
            ("no history", unknown(HistoryCoverage::Partial { remaining: Some(s(80).into()) })),
        ];
        let shown =
            cases.map(|(case, values)| format!("{case}: {}", of_group(Some(GroupView::at(&values, AT)), AT)));
        insta::assert_snapshot!(shown.join("\n"), @r"
        nothing to do: No problem detected: no entry waits
        draining: No problem detected: 4,258 entries wait, the oldest for 5 min 11 s; they are read in 4 min at this rate
        keeping up: No problem detected: 4,258 entries wait, the oldest for 5 min 11 s; the number does not change
        an entry fails: Failing: entry 1795895526988-1 has been delivered 12 times since 19:52 UTC, last to fraud-1 2.0 s ago; 11 more are pending. See what it holds (XRANGE), fix its handler or put it aside, then XACK it
        marked as failed: Failing: entry 1795895526988-1 was marked as failed (XNACK FATAL), and was given back; 11 more are pending. See what it holds (XRANGE), fix its handler or put it aside, then XACK it
        a claim: No problem detected: no entry waits; 12 entries are pending
        no history: Collecting history: the status is known in about 1 min 20 s; at least 3 entries wait
        ");
        assert!(of_group(None, AT).to_string().starts_with("Missing: the stream has no such group"));
    }

    #[test]
    fn a_trend_is_what_the_rates_differ_by() {
        let of = |added, delivered, drain| {
            trend(
                (&GroupValues {
                    added_rate: rate(added),
                    delivered_rate: rate(delivered),
                    drain_time: drain,
                    ..behind(&[])
                })
                    .into(),
            )
        };
        assert_eq!(of(50, 10, None), Trend::Grows(40.0));
        assert_eq!(of(10, 50, Some(s(9).into())), Trend::Shrinks(40.0, Some(s(9))));
        assert_eq!(of(100, 99, None), Trend::Steady);
        assert_eq!(of(0, 0, None), Trend::Steady);
        assert_eq!(trend((&behind(&[])).into()), Trend::Unknown);
        let losing =
            GroupValues { added_rate: rate(50), delivered_rate: rate(10), ..behind(&[Status::Losing]) };
        assert_eq!(trend((&losing).into()), Trend::Unknown, "what is lost does not wait");
    }

    #[test]
    fn a_consumer_s_name_is_text_on_one_line_and_bounded() {
        let long = Name::from(format!("a\n\u{202e}{}", "x".repeat(100)).as_str());
        let shown = name(&long);
        assert!(shown.starts_with("a\\x0a\\xe2\\x80\\xaex") && shown.ends_with('…'), "{shown}");
        assert_eq!(shown.chars().count(), NAME_CHARS + 1);
    }
}
