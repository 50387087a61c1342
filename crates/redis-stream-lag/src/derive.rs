//! From what is known at the end of a poll to its report.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::counters::Sound;
use crate::facts::{ConsumerFacts, ConsumersReading, GroupFacts, Outcome, StreamFacts, StreamReading};
use crate::history::{History, Readers, Sample, View};
use crate::inquiry::{Inquiry, OpenGroup, OpenStream};
use crate::loss::Gone;
use crate::memory::{GroupMemory, StreamMemory};
use crate::report::{
    ConsumerReport, GroupReport, GroupValues, Lag, OldestPending, Report, Retention, StreamIds, StreamReport,
    StreamValues,
};
use crate::settle::MAX_ORPHANS;
use crate::status;
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;

/// The report of a poll that has nothing left to ask.
pub(super) fn report(inquiry: Inquiry<'_>, previous: Option<&Report>) -> Report {
    let Inquiry { snapshot, memory, streams, counted_entries, at, pause, .. } = inquiry;
    // What was not read in this poll. The table itself stays, for what was.
    let mut kept: HashMap<_, _> = memory.streams.drain().collect();
    let mut reports = Vec::with_capacity(snapshot.nodes.iter().map(|node| node.streams.len()).sum());
    for reading in snapshot.nodes.iter().flat_map(|node| &node.streams) {
        match reading.outcome {
            Outcome::Read(_) => {}
            Outcome::Missing | Outcome::WrongType | Outcome::Refused => {
                reports.push(Arc::new(unread(reading)));
            }
            Outcome::Unreachable | Outcome::Deferred => {
                match reading.outcome {
                    Outcome::Unreachable => reports.push(Arc::new(unread(reading))),
                    _ => reports.extend(previous.and_then(|report| last_report(report, &reading.key))),
                }
                if let Some(mut remembered) = kept.remove(&reading.key) {
                    remembered.pause = remembered.pause.max(pause);
                    memory.streams.insert(reading.key.clone(), remembered);
                }
            }
        }
    }
    for mut stream in streams {
        note_histories(&mut stream, at);
        reports.push(Arc::new(read(&mut stream)));
        memory.streams.insert(stream.reading.key.clone(), remembered(stream));
    }
    reports.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    Report { streams: reports, counted_entries }
}

/// What is remembered of a stream for the next poll.
fn remembered(mut stream: OpenStream<'_>) -> StreamMemory {
    let groups = stream.facts.groups.iter().zip(std::mem::take(&mut stream.groups));
    let groups = groups.map(|(group, open)| (group.name.clone(), group_memory(&stream, group, open)));
    let groups = groups.collect();
    stream.memory.set_groups(groups);
    stream.memory.pause = Duration::ZERO;
    stream.memory.marks.prune(&stream.places);
    if stream.is_broken {
        stream.memory.distrust();
    }
    stream.memory
}

fn group_memory(stream: &OpenStream<'_>, group: &GroupFacts, open: OpenGroup) -> GroupMemory {
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

/// Adds what this poll says of each group to its history, and judges it.
fn note_histories(stream: &mut OpenStream<'_>, at: Duration) {
    let window = stream.reading.window;
    for (number, group) in stream.facts.groups.iter().enumerate() {
        let sample = sample(stream, group, &stream.groups[number], at);
        let open = &mut stream.groups[number];
        let history = match open.memory.history.take() {
            None => History::begin(&sample, window),
            Some(mut history) => {
                if stream.pause > window / 2 {
                    history.interrupt(at);
                }
                history.note(&sample, window);
                history
            }
        };
        let history = open.memory.history.insert(history);
        open.status = status::judge(&View { history, sample: &sample, window });
    }
}

fn sample(stream: &OpenStream<'_>, group: &GroupFacts, open: &OpenGroup, at: Duration) -> Sample {
    let facts = stream.facts;
    let idle_ms = each_consumer(group, open).and_then(|all| all.iter().map(|one| one.idle_ms).min());
    let readers = match idle_ms {
        _ if group.consumers == 0 => Readers::Nobody,
        Some(idle_ms) => Readers::SilentFor(Duration::from_millis(idle_ms)),
        None => Readers::Unknown,
    };
    Sample {
        at,
        node_time: facts.time,
        lag: lag(stream, group),
        place: group.last_delivered,
        newest: facts.last.unwrap_or(StreamId::MIN),
        added: facts.entries_added,
        readers,
        pending: group.pending,
        oldest_pending: if group.pending == 0 { Some(None) } else { open.oldest_pending },
        lost: open.memory.lost,
    }
}

fn last_report(previous: &Report, key: &Name) -> Option<Arc<StreamReport>> {
    let at = previous.streams.binary_search_by(|stream| stream.key.cmp(key)).ok()?;
    Some(Arc::clone(&previous.streams[at]))
}

fn unread(reading: &StreamReading) -> StreamReport {
    let refused = matches!(reading.outcome, Outcome::Refused | Outcome::Unreachable);
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
        first_entry: facts.first.and_then(|id| id.timestamp(facts.time)),
        last_generated: facts.last_generated.timestamp(facts.time),
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
            consumers: each_consumer(group, open).map(consumers),
        })
        .chain(missing_groups(stream.reading))
        .collect();
    groups.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    StreamReport { key: stream.reading.key.clone(), values: Some(values), refused: false, groups }
}

fn group_values(stream: &OpenStream<'_>, group: &GroupFacts, open: &OpenGroup) -> GroupValues {
    let facts = stream.facts;
    let place = group.last_delivered;
    let lag = lag(stream, group);
    let lag_seconds = if lag == Lag::Exact(0) {
        Some(Duration::ZERO)
    } else {
        stream.next_entry(place).and_then(|next| next.age(facts.time))
    };
    GroupValues {
        lag,
        lag_seconds,
        last_delivered_id: place,
        last_delivered_id_age: place.age(facts.time),
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
        status: open.status,
    }
}

fn lag(stream: &OpenStream<'_>, group: &GroupFacts) -> Lag {
    stream.lag(group.last_delivered).map_or_else(|| bounds(stream, group), Lag::Exact)
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
            age: entry.id.age(facts.time),
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

/// The consumers as they were read along with the group, or asked for.
fn each_consumer<'a>(group: &'a GroupFacts, open: &'a OpenGroup) -> Option<&'a [ConsumerFacts]> {
    match &group.each_consumer {
        ConsumersReading::Read(found) => Some(found),
        ConsumersReading::Open | ConsumersReading::NotWanted => open.consumers.as_deref(),
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
    consumers.sort_by(|a, b| a.name.cmp(&b.name));
    // No server tells of a consumer twice; what is no server must not make two series of one.
    consumers.dedup_by(|second, first| second.name == first.name);
    consumers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Counters, Model};
    use crate::properties::{PLENTY, Watch};
    use crate::status::Status;

    const POLL_MS: u64 = 10_000;
    /// Polls in a window.
    const POLLS: usize = 12;

    fn group() -> Name {
        Name::from("g")
    }

    /// The next poll; the status of the group.
    fn poll(model: &mut Model, watch: &mut Watch) -> Status {
        model.clock_ms += POLL_MS;
        watch.poll(model, PLENTY, false);
        watch.values().next().unwrap().status
    }

    /// A group that reads what comes, seen for longer than a window.
    fn well(counters: Counters) -> (Model, Watch) {
        let (mut model, mut watch) = (Model::new(counters), Watch::new());
        (0..100).for_each(|_| model.add());
        model.groups.insert(group(), Default::default());
        let mut last = Status::Unknown;
        for _ in 0..2 * POLLS {
            (0..5).for_each(|_| model.add());
            model.read(&group(), 60, true);
            model.trim_to(200);
            last = poll(&mut model, &mut watch);
        }
        assert_eq!(last, Status::Ok, "{counters:?}");
        (model, watch)
    }

    #[test]
    fn a_consumer_that_is_told_of_twice_is_one() {
        let told = |name: &str, pending| ConsumerFacts {
            name: Name::from(name),
            pending,
            idle_ms: 0,
            inactive_ms: None,
        };
        let consumers = consumers(&[told("b", 1), told("a", 2), told("b", 3)]);
        let names: Vec<_> = consumers.iter().map(|consumer| consumer.name.to_string()).collect();
        assert_eq!((names.join(" "), consumers[1].messages_pending), ("a b".to_owned(), 1));
    }

    #[test]
    fn a_history_goes_on_over_a_new_connection() {
        for counters in [Counters::None, Counters::Original, Counters::Mended] {
            let (mut model, mut watch) = well(counters);
            watch.epoch += 1;
            assert_eq!(poll(&mut model, &mut watch), Status::Ok, "{counters:?}");
            let saved = model.clone();
            model.add();
            model.read(&group(), 60, true);
            poll(&mut model, &mut watch);
            model = Model { clock_ms: model.clock_ms, ..saved };
            watch.epoch += 1;
            assert_eq!(poll(&mut model, &mut watch), Status::Rewound, "{counters:?}: from an older file");
        }
    }

    #[test]
    fn a_history_ends_with_its_stream_and_its_group() {
        for counters in [Counters::Original, Counters::Mended] {
            let (model, mut watch) = well(counters);
            let mut another = Model { clock_ms: model.clock_ms, ..Model::new(counters) };
            (0..5).for_each(|_| another.add());
            another.groups.insert(group(), Default::default());
            assert_eq!(poll(&mut another, &mut watch), Status::Unknown, "{counters:?}");
        }
        let (mut model, mut watch) = well(Counters::Mended);
        let gone = model.groups.remove(&group()).unwrap();
        model.clock_ms += POLL_MS;
        watch.poll(&mut model, PLENTY, false);
        model.groups.insert(group(), gone);
        assert_eq!(poll(&mut model, &mut watch), Status::Unknown);
    }

    #[test]
    fn a_history_does_not_go_on_over_an_outage_and_does_while_it_is_not_the_stream_s_turn() {
        for misses in [3, 5, 8, 40] {
            let (mut model, mut watch) = well(Counters::Mended);
            model.clock_ms += POLL_MS * misses;
            let expected = if misses > 5 { Status::Unknown } else { Status::Ok };
            assert_eq!(poll(&mut model, &mut watch), expected, "{misses} polls were missed");

            let (mut model, mut watch) = well(Counters::Mended);
            for _ in 0..misses {
                model.clock_ms += POLL_MS;
                watch.defer(&model);
            }
            assert_eq!(poll(&mut model, &mut watch), Status::Ok, "{misses} polls read other streams");

            let (mut model, mut watch) = well(Counters::Mended);
            model.clock_ms += POLL_MS * misses;
            watch.defer(&model);
            assert_eq!(poll(&mut model, &mut watch), expected, "and then one more did not read it");
        }
    }

    #[test]
    fn a_dead_group_is_found_from_facts_alone() {
        for counters in [Counters::None, Counters::Original, Counters::Mended] {
            let (mut model, mut watch) = well(counters);
            let mut polls = 0;
            let dead = loop {
                model.add();
                polls += 1;
                match poll(&mut model, &mut watch) {
                    Status::Ok => {}
                    other => break other,
                }
            };
            assert_eq!((dead, polls), (Status::Abandoned, POLLS + 1), "{counters:?}");
        }
    }
}
