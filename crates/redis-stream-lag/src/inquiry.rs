//! One poll, from its snapshot to its report: asks what the facts leave open, and takes the answers.

use std::time::Duration;

use crate::audit::{self, Due, Verdict};
use crate::budget::Budget;
use crate::facts::{
    ConsumerFacts, ConsumersReading, GroupFacts, NodeReading, Outcome, Snapshot, StreamFacts, StreamReading,
};
use crate::loss::{self, Gone};
use crate::memory::{GroupMemory, Memory, StreamMemory};
use crate::pending::SeenPending;
use crate::question::{Answer, Entries, PendingEntry, Question, StreamIndex};
use crate::report::Report;
use crate::status::Status;
use crate::{derive, plan, settle};
use redis_stream_core::id::StreamId;

/// A poll that is being made sense of.
#[derive(Debug)]
pub struct Inquiry<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) memory: &'a mut Memory,
    pub(super) budget: Budget,
    /// The streams that were read.
    pub(super) streams: Vec<OpenStream<'a>>,
    pub(super) round: u32,
    pub(super) audits_were_asked: bool,
    /// What the questions asked last are for, in their order.
    asked: Vec<(usize, Purpose)>,
    pub(super) counted_entries: u64,
    granted_payload_bytes: u64,
    /// When the poll began, by the exporter's clock.
    pub(super) at: Duration,
    /// Time since the poll before.
    pub(super) pause: Duration,
}

/// What a question is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// The oldest pending entry of the group at this position.
    OldestPending(usize),
    /// How many of its pending entries are orphaned.
    Orphans(usize),
    /// Its consumers.
    Consumers(usize),
    /// The next chunk of the walk that began at `start`.
    Walk { start: StreamId, after: StreamId, until: StreamId, at_most: u32 },
    /// The oldest entry above a place.
    NextEntry(StreamId),
    /// Whether what was counted long ago still holds.
    Audit { due: Due, at_most: u32 },
    /// Whether entries were really lost.
    Loss,
}

/// A stream that was read, while questions about it are open.
#[derive(Debug)]
pub(super) struct OpenStream<'a> {
    pub(super) index: StreamIndex,
    pub(super) node: &'a NodeReading,
    pub(super) reading: &'a StreamReading,
    pub(super) facts: &'a StreamFacts,
    /// Taken out of the memory until the inquiry is closed.
    pub(super) memory: StreamMemory,
    /// Where its groups stand, each place once, in order.
    pub(super) places: Vec<StreamId>,
    /// Parallel to `facts.groups`.
    pub(super) groups: Vec<OpenGroup>,
    /// The server did not answer a question about its entries: not asked again in this poll.
    pub(super) is_silent: bool,
    /// Places whose next entry was asked for in this poll.
    pub(super) next_was_asked: Vec<StreamId>,
    pub(super) loss_was_asked: bool,
    /// Counting again has shown that something remembered is wrong.
    pub(super) is_broken: bool,
    /// Longest time from one poll of the target to the next since the stream was read before.
    pub(super) pause: Duration,
}

/// What was learnt of a group by asking.
#[derive(Debug, Default)]
pub(super) struct OpenGroup {
    pub(super) memory: GroupMemory,
    /// `memory.gone` is from an atomic reading in this poll.
    pub(super) gone_is_confirmed: bool,
    pub(super) oldest_pending: Option<Option<PendingEntry>>,
    pub(super) oldest_pending_was_asked: bool,
    /// The round in which its consumers were asked for, if they were.
    pub(super) consumers_asked_in: Option<u32>,
    pub(super) pending_below_first: Option<u32>,
    pub(super) orphans_were_asked: bool,
    /// Where they were not read along with the group.
    pub(super) consumers: Option<Vec<ConsumerFacts>>,
    pub(super) status: Status,
}

impl OpenGroup {
    /// Takes what the consumers show of the PEL, unless it was asked for.
    fn note_consumers(
        &mut self,
        group: &GroupFacts,
        consumers: &[ConsumerFacts],
        now: Duration,
        timeout: Duration,
    ) {
        if let Some(seen) = self.memory.pending.filter(|_| !self.oldest_pending_was_asked) {
            self.oldest_pending = seen.still(group, consumers, now, timeout).map(Some);
        }
    }
}

impl<'a> Inquiry<'a> {
    /// Brings the memory up to the snapshot, and settles what the facts settle. `at` is when the poll began, by a
    /// clock that never goes back.
    pub fn open(snapshot: &'a Snapshot, memory: &'a mut Memory, budget: Budget, at: Duration) -> Self {
        let pause = memory.polled_at.replace(at).map_or(Duration::ZERO, |before| at.saturating_sub(before));
        let readings = snapshot.nodes.iter().map(|node| node.streams.len()).sum();
        let mut streams = Vec::with_capacity(readings);
        for (node_at, node) in snapshot.nodes.iter().enumerate() {
            for (stream_at, reading) in node.streams.iter().enumerate() {
                let Outcome::Read(facts) = &reading.outcome else { continue };
                let index = StreamIndex { node: node_at, stream: stream_at };
                let remembered = memory.streams.remove(&reading.key).unwrap_or_default();
                let pause = pause.max(remembered.pause);
                let stream = open_stream(index, node, reading, facts, remembered, budget.timeout);
                streams.push(OpenStream { pause, ..stream });
            }
        }
        Self {
            snapshot,
            memory,
            budget,
            streams,
            round: 0,
            audits_were_asked: false,
            asked: Vec::new(),
            counted_entries: 0,
            granted_payload_bytes: budget.payload_bytes,
            at,
            pause,
        }
    }

    /// What is still to be asked, within the budget; empty when nothing is left to ask.
    pub fn questions(&mut self) -> Vec<Question> {
        let planned = plan::next_round(self);
        self.round += 1;
        self.asked = planned.iter().map(|planned| (planned.stream, planned.purpose)).collect();
        planned.into_iter().map(|planned| planned.question).collect()
    }

    /// Takes the answers to the questions asked last, one for each, in their order.
    pub fn answer(&mut self, answers: Vec<Answer>) {
        for ((at, purpose), answer) in std::mem::take(&mut self.asked).into_iter().zip(answers) {
            self.take_answer(at, purpose, answer);
        }
        for stream in &mut self.streams {
            stream.memory.walks.arrive(&mut stream.memory.marks, stream.facts.time);
        }
    }

    /// About how many bytes of entries were read to answer.
    #[must_use]
    pub fn payload_bytes_read(&self) -> u64 {
        self.granted_payload_bytes.saturating_sub(self.budget.payload_bytes)
    }

    /// What was found out. `previous` is the report before: streams that were not read keep their values.
    #[must_use]
    pub fn close(self, previous: Option<&Report>) -> Report {
        derive::report(self, previous)
    }

    fn take_answer(&mut self, at: usize, purpose: Purpose, answer: Answer) {
        let stream = &mut self.streams[at];
        let now = stream.facts.time;
        match (purpose, answer) {
            (Purpose::OldestPending(group), Answer::OldestPending(entry)) => {
                let (facts, open) = (&stream.facts.groups[group], &mut stream.groups[group]);
                open.memory.pending = entry.map(|entry| SeenPending::new(entry, facts, now));
                open.oldest_pending = Some(entry);
            }
            (Purpose::Orphans(group), Answer::PendingBelow(count)) => {
                let open = &mut stream.groups[group];
                open.pending_below_first = Some(count);
                if let (Some(seen), Some(first)) = (&mut open.memory.pending, stream.facts.first) {
                    seen.note_below(first, count);
                }
            }
            (Purpose::Consumers(group), Answer::Consumers(consumers)) => {
                let (facts, open) = (&stream.facts.groups[group], &mut stream.groups[group]);
                open.note_consumers(facts, &consumers, now, self.budget.timeout);
                open.consumers = Some(consumers);
            }
            (Purpose::NextEntry(place), Answer::Entries(entries)) => stream.note_next_entry(place, &entries),
            (Purpose::Walk { start, after, until, at_most }, Answer::Entries(entries)) => {
                if after == start {
                    stream.note_next_entry(start, &entries);
                }
                stream.memory.walks.advance(start, until, at_most, &entries);
                self.budget.give_back(at_most.saturating_sub(entries.count), stream.facts.entry_bytes);
                self.counted_entries += u64::from(entries.count);
            }
            (Purpose::Audit { due, at_most }, Answer::Entries(entries)) => {
                self.counted_entries += u64::from(entries.count);
                let verdict = audit::judge(&mut stream.memory.marks, &due, at_most, &entries, now);
                match verdict {
                    Verdict::Holds => {}
                    Verdict::HoldsSoFar(part) => stream.memory.audited = Some(part),
                    Verdict::Broken => stream.is_broken = true,
                }
            }
            (Purpose::Loss, Answer::Whole(whole)) => stream.confirm_loss(&whole),
            (Purpose::Walk { .. } | Purpose::NextEntry(_), _) => stream.is_silent = true,
            _ => {}
        }
    }
}

impl OpenStream<'_> {
    /// The lag of the group that stands at `last_delivered`, where it is known by now.
    pub(super) fn lag(&self, last_delivered: StreamId) -> Option<u64> {
        settle::by_rules(self.facts, last_delivered)
            .or_else(|| self.memory.marks.at(last_delivered).map(|mark| mark.ahead))
    }

    /// The oldest entry that the group that stands at `last_delivered` was not delivered, where it is known.
    pub(super) fn next_entry(&self, last_delivered: StreamId) -> Option<StreamId> {
        settle::next_entry(self.facts, last_delivered).or_else(|| self.memory.next_entry(last_delivered))
    }

    /// Whether more entries seem to be gone ahead of any group than at the last poll.
    pub(super) fn seems_to_have_lost(&self) -> bool {
        self.facts.groups.iter().zip(&self.groups).any(|(group, open)| {
            let gone = self.lag(group.last_delivered).and_then(|lag| Gone::of(self.facts, group, lag));
            gone.and_then(|gone| open.memory.rise_to(&gone)).is_some_and(|rise| rise > 0)
        })
    }

    fn note_next_entry(&mut self, place: StreamId, entries: &Entries) {
        if let Some((first, _)) = entries.ends {
            self.memory.note_next_entry(place, first);
        }
    }

    /// Counts what an atomic reading confirms to be gone.
    fn confirm_loss(&mut self, whole: &StreamFacts) {
        for at in 0..self.groups.len() {
            let group = &self.facts.groups[at];
            let Some(lag) = self.lag(group.last_delivered) else { continue };
            let Some(in_whole) = whole.groups.iter().find(|other| other.name == group.name) else { continue };
            let lag = loss::lag_in(whole, self.facts, group, lag);
            let Some(gone) = lag.and_then(|lag| Gone::of(whole, in_whole, lag)) else { continue };
            let open = &mut self.groups[at];
            let Some(rise) = open.memory.rise_to(&gone) else { continue };
            open.memory.lost += rise;
            (open.memory.gone, open.gone_is_confirmed) = (Some(gone), true);
        }
    }
}

fn open_stream<'a>(
    index: StreamIndex,
    node: &'a NodeReading,
    reading: &'a StreamReading,
    facts: &'a StreamFacts,
    mut memory: StreamMemory,
    timeout: Duration,
) -> OpenStream<'a> {
    let mut places: Vec<StreamId> = facts.groups.iter().map(|group| group.last_delivered).collect();
    places.sort_unstable();
    places.dedup();
    memory.carry(facts, node.epoch, &places);
    let mut groups: Vec<_> = facts
        .groups
        .iter()
        .map(|group| OpenGroup { memory: memory.take_group(&group.name), ..OpenGroup::default() })
        .collect();
    for (group, open) in facts.groups.iter().zip(&mut groups) {
        if let ConsumersReading::Read(consumers) = &group.each_consumer {
            open.note_consumers(group, consumers, facts.time, timeout);
        }
        let place = group.last_delivered;
        match settle::by_rules(facts, place) {
            // At an end of the stream: what is added from now on is what the group is behind.
            Some(lag) if facts.first <= Some(place) && place <= facts.last_generated => {
                memory.marks.put(place, lag, facts.time);
            }
            Some(_) => {}
            None if memory.marks.at(place).is_some() => {}
            None => match open.memory.sound.and_then(|sound| sound.lag(facts, group, &memory.marks)) {
                Some((lag, counted_at)) => memory.marks.put(place, lag, counted_at),
                None => memory.walks.begin(place),
            },
        }
        if memory.marks.at(place).is_some() {
            memory.walks.part_at(place);
        }
    }
    memory.walks.arrive(&mut memory.marks, facts.time);
    OpenStream {
        index,
        node,
        reading,
        facts,
        memory,
        places,
        groups,
        is_silent: false,
        next_was_asked: Vec::new(),
        loss_was_asked: false,
        is_broken: false,
        pause: Duration::ZERO,
    }
}
