//! From what is known at the end of a poll to its report.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::lag::age::{age, timestamp};
use crate::lag::counters::Sound;
use crate::lag::inquiry::{Inquiry, OpenGroup, OpenStream};
use crate::lag::loss::Gone;
use crate::lag::memory::{GroupMemory, StreamMemory};
use crate::lag::report::{
    ConsumerReport, GroupReport, GroupValues, Lag, OldestPending, Report, Retention, StreamIds, StreamReport,
    StreamValues,
};
use crate::lag::settle::MAX_ORPHANS;
use crate::snapshot::facts::{
    ConsumerFacts, ConsumersReading, GroupFacts, Outcome, StreamFacts, StreamReading,
};
use crate::snapshot::id::StreamId;
use crate::snapshot::name::Name;

/// The report of a poll that has nothing left to ask.
pub(super) fn report(inquiry: Inquiry<'_>, previous: Option<&Report>) -> Report {
    let Inquiry { snapshot, memory, streams, counted_entries, .. } = inquiry;
    // What was not read in this poll. The table itself stays, for what was.
    let mut kept: HashMap<_, _> = memory.streams.drain().collect();
    let mut reports = Vec::with_capacity(snapshot.nodes.iter().map(|node| node.streams.len()).sum());
    for reading in snapshot.nodes.iter().flat_map(|node| &node.streams) {
        match reading.outcome {
            Outcome::Read(_) => {}
            Outcome::Missing | Outcome::WrongType | Outcome::Refused => {
                reports.push(Arc::new(unread(reading)));
            }
            Outcome::Deferred => {
                reports.extend(previous.and_then(|report| last_report(report, &reading.key)));
                if let Some(remembered) = kept.remove(&reading.key) {
                    memory.streams.insert(reading.key.clone(), remembered);
                }
            }
        }
    }
    for mut stream in streams {
        reports.push(Arc::new(read(&mut stream)));
        memory.streams.insert(stream.reading.key.clone(), remembered(stream));
    }
    reports.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    Report { streams: reports, counted_entries }
}

/// What is remembered of a stream for the next poll.
fn remembered(mut stream: OpenStream<'_>) -> StreamMemory {
    let groups = stream.facts.groups.iter().zip(&stream.groups);
    let groups = groups.map(|(group, open)| (group.name.clone(), group_memory(&stream, group, open)));
    let groups = groups.collect();
    stream.memory.set_groups(groups);
    stream.memory.marks.prune(&stream.places);
    if stream.is_broken {
        stream.memory.distrust();
    }
    stream.memory
}

fn group_memory(stream: &OpenStream<'_>, group: &GroupFacts, open: &OpenGroup) -> GroupMemory {
    let before = open.memory;
    let Some(lag) = stream.lag(group.last_delivered) else { return GroupMemory { sound: None, ..before } };
    let sound = Sound::check(stream.facts, group, lag);
    if open.gone_is_confirmed {
        return GroupMemory { sound, ..before };
    }
    let gone = Gone::of(stream.facts, group, lag);
    // A rise that no atomic reading confirmed may be an illusion: the next poll looks at it again.
    let gone = gone.filter(|gone| before.rise_to(gone).is_none_or(|rise| rise == 0)).or(before.gone);
    GroupMemory { sound, gone, ..before }
}

fn last_report(previous: &Report, key: &Name) -> Option<Arc<StreamReport>> {
    let at = previous.streams.binary_search_by(|stream| stream.key.cmp(key)).ok()?;
    Some(Arc::clone(&previous.streams[at]))
}

fn unread(reading: &StreamReading) -> StreamReport {
    let refused = reading.outcome == Outcome::Refused;
    StreamReport {
        key: reading.key.clone(),
        values: None,
        refused,
        groups: missing_groups(reading).collect(),
    }
}

fn missing_groups(reading: &StreamReading) -> impl Iterator<Item = GroupReport> + '_ {
    reading.missing_groups.iter().map(|name| GroupReport {
        name: name.clone(),
        named: true,
        values: None,
        consumers: None,
    })
}

fn read(stream: &mut OpenStream<'_>) -> StreamReport {
    let facts = stream.facts;
    let entries_added = stream.memory.entries_added(facts, stream.node.epoch);
    let values = StreamValues {
        length: facts.length,
        groups: facts.group_count,
        entries_added,
        first_entry: facts.first.and_then(|id| timestamp(id, facts.time)),
        last_generated: timestamp(facts.last_generated, facts.time),
        ids: StreamIds {
            first: facts.first,
            last: facts.last,
            last_generated: facts.last_generated,
            max_deleted: facts.max_deleted,
        },
        radix_tree: facts.radix_tree,
    };
    let mut groups: Vec<_> = facts
        .groups
        .iter()
        .zip(&stream.groups)
        .map(|(group, open)| GroupReport {
            name: group.name.clone(),
            named: group.named,
            values: Some(group_values(stream, group, open)),
            consumers: match &group.each_consumer {
                ConsumersReading::Read(found) => Some(consumers(found)),
                ConsumersReading::Open | ConsumersReading::NotWanted => {
                    open.consumers.as_deref().map(consumers)
                }
            },
        })
        .chain(missing_groups(stream.reading))
        .collect();
    groups.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    StreamReport { key: stream.reading.key.clone(), values: Some(values), refused: false, groups }
}

fn group_values(stream: &OpenStream<'_>, group: &GroupFacts, open: &OpenGroup) -> GroupValues {
    let facts = stream.facts;
    let place = group.last_delivered;
    let lag = stream.lag(place).map_or_else(|| bounds(stream, group), Lag::Exact);
    let lag_seconds = if lag == Lag::Exact(0) {
        Some(Duration::ZERO)
    } else {
        stream.next_entry(place).and_then(|next| age(next, facts.time))
    };
    GroupValues {
        lag,
        lag_seconds,
        last_delivered_id: place,
        last_delivered_id_age: age(place, facts.time),
        entries_read: group.entries_read,
        messages_pending: group.pending,
        oldest_pending: oldest_pending(group, open, facts),
        pending_orphaned: pending_orphaned(group, open, facts),
        consumers: group.consumers,
        entries_lost: facts.entries_added.map(|_| open.memory.lost),
        retention_used: lag
            .exact()
            .filter(|_| stream.memory.was_trimmed)
            .map(|lag| Retention { lag, length: facts.length }),
    }
}

/// Certain bounds for a group between the first and the last entry whose lag is being counted.
fn bounds(stream: &OpenStream<'_>, group: &GroupFacts) -> Lag {
    let (facts, memory, place) = (stream.facts, &stream.memory, group.last_delivered);
    let below = memory.marks.below(place).map_or(u64::MAX, |mark| mark.ahead);
    let max = below.min(facts.length.saturating_sub(1));
    let mark = memory.marks.at_or_above(place);
    let (end, above) = mark.map_or((StreamId::MAX, 0), |mark| (mark.id, mark.ahead));
    let walked = memory.walks.iter().filter(|walk| walk.start >= place && walk.start < end);
    let counted: u64 = walked.map(|walk| walk.counted).sum();
    Lag::Between { min: (counted + above).max(1).min(max), max }
}

fn oldest_pending(group: &GroupFacts, open: &OpenGroup, facts: &StreamFacts) -> Option<OldestPending> {
    if group.pending == 0 {
        return Some(OldestPending::Nothing);
    }
    Some(match open.oldest_pending? {
        None => OldestPending::Nothing,
        Some(entry) => OldestPending::Entry {
            age: age(entry.id, facts.time),
            idle: entry.idle_ms.map(Duration::from_millis),
            deliveries: entry.deliveries,
        },
    })
}

/// Trimming leaves IDs in the PEL whose entries are gone. All of them lie below the first entry; in an empty
/// stream, everywhere.
fn pending_orphaned(group: &GroupFacts, open: &OpenGroup, facts: &StreamFacts) -> Option<u64> {
    let Some(first) = facts.first else {
        return (group.pending <= u64::from(MAX_ORPHANS)).then_some(group.pending);
    };
    if group.pending == 0 {
        return Some(0);
    }
    match open.oldest_pending? {
        Some(entry) if entry.id < first => {
            open.pending_below_first.filter(|count| *count <= MAX_ORPHANS).map(u64::from)
        }
        _ => Some(0),
    }
}

fn consumers(facts: &[ConsumerFacts]) -> Vec<ConsumerReport> {
    let mut consumers: Vec<_> = facts
        .iter()
        .map(|consumer| ConsumerReport {
            name: consumer.name.clone(),
            messages_pending: consumer.pending,
            idle: Duration::from_millis(consumer.idle_ms),
            inactive: consumer.inactive_ms.map(Duration::from_millis),
        })
        .collect();
    consumers.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    consumers
}
