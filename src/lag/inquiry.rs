//! One poll, from its snapshot to its report: asks what the facts leave open, and takes the answers.

use crate::lag::budget::Budget;
use crate::lag::memory::{Memory, StreamMemory};
use crate::lag::report::Report;
use crate::lag::{derive, plan, settle};
use crate::snapshot::facts::{NodeReading, Outcome, Snapshot, StreamFacts, StreamReading};
use crate::snapshot::id::StreamId;
use crate::snapshot::name::Name;
use crate::snapshot::question::{Answer, Ask, ConsumerFacts, PendingEntry, Question, StreamIndex};

/// A poll that is being made sense of.
#[derive(Debug)]
pub struct Inquiry<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) memory: &'a mut Memory,
    pub(super) budget: Budget,
    /// The streams that were read.
    pub(super) streams: Vec<OpenStream<'a>>,
    /// Questions of the first round that are asked once, whatever comes of them.
    pub(super) first_round: bool,
    pub(super) counted_entries: u64,
    granted_payload_bytes: u64,
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
    /// Parallel to `facts.groups`.
    pub(super) groups: Vec<OpenGroup>,
    /// The server did not answer a question about its entries: not asked again in this poll.
    pub(super) silent: bool,
}

/// What was learnt of a group by asking.
#[derive(Debug, Default)]
pub(super) struct OpenGroup {
    pub(super) oldest_pending: Option<Option<PendingEntry>>,
    pub(super) pending_below_first: Option<u32>,
    pub(super) asked_pending_below: bool,
    pub(super) consumers: Option<Vec<ConsumerFacts>>,
}

impl<'a> Inquiry<'a> {
    /// Brings the memory up to the snapshot, and settles what the facts settle.
    pub fn open(snapshot: &'a Snapshot, memory: &'a mut Memory, budget: Budget) -> Self {
        let readings = snapshot.nodes.iter().map(|node| node.streams.len()).sum();
        let mut streams = Vec::with_capacity(readings);
        for (node_at, node) in snapshot.nodes.iter().enumerate() {
            for (stream_at, reading) in node.streams.iter().enumerate() {
                let Outcome::Read(facts) = &reading.outcome else { continue };
                let index = StreamIndex { node: node_at, stream: stream_at };
                let remembered = memory.streams.remove(&reading.key).unwrap_or_default();
                streams.push(open_stream(index, node, reading, facts, remembered));
            }
        }
        let granted_payload_bytes = budget.payload_bytes;
        Self {
            snapshot,
            memory,
            budget,
            streams,
            first_round: true,
            counted_entries: 0,
            granted_payload_bytes,
        }
    }

    /// What is still to be asked, within the budget; empty when nothing is left to ask.
    pub fn questions(&mut self) -> Vec<Question> {
        plan::questions(self)
    }

    /// Takes the answers to the questions asked last, one for each, in their order.
    pub fn answer(&mut self, questions: &[Question], answers: Vec<Answer>) {
        for (question, answer) in questions.iter().zip(answers) {
            let at = self.streams.partition_point(|stream| stream.index < question.stream);
            self.take_answer(at, question, answer);
        }
        for stream in &mut self.streams {
            stream.memory.walks.arrive(&mut stream.memory.marks);
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

    fn take_answer(&mut self, at: usize, question: &Question, answer: Answer) {
        let stream = &mut self.streams[at];
        match (&question.ask, answer) {
            (Ask::OldestPending { group }, Answer::OldestPending(entry)) => {
                stream.group_mut(group).oldest_pending = Some(entry);
            }
            (Ask::PendingBelow { group, .. }, Answer::PendingBelow(count)) => {
                stream.group_mut(group).pending_below_first = Some(count);
            }
            (Ask::Consumers { group }, Answer::Consumers(consumers)) => {
                stream.group_mut(group).consumers = Some(consumers);
            }
            (&Ask::Entries { after, until, at_most }, Answer::Entries(entries)) => {
                if let Some((first, _)) = entries.ends.filter(|_| stream.is_place(after)) {
                    stream.memory.note_next_entry(after, first);
                }
                let Some(start) = stream.memory.walks.over((after, until), &stream.memory.marks) else {
                    return;
                };
                stream.memory.walks.advance(start, until, at_most, &entries);
                self.budget.give_back(at_most.saturating_sub(entries.count), stream.facts.entry_bytes);
                self.counted_entries += u64::from(entries.count);
            }
            (Ask::Entries { .. }, _) => stream.silent = true,
            _ => {}
        }
    }
}

impl OpenStream<'_> {
    /// The lag of the group that stands at `last_delivered`, where it is known by now.
    pub(super) fn lag(&self, last_delivered: StreamId) -> Option<u64> {
        settle::by_rules(self.facts, last_delivered).or_else(|| self.memory.marks.ahead_of(last_delivered))
    }

    /// The oldest entry that the group that stands at `last_delivered` was not delivered, where it is known.
    pub(super) fn next_entry(&self, last_delivered: StreamId) -> Option<StreamId> {
        settle::next_entry(self.facts, last_delivered).or_else(|| self.memory.next_entry(last_delivered))
    }

    fn is_place(&self, id: StreamId) -> bool {
        self.facts.groups.iter().any(|group| group.last_delivered == id)
    }

    fn group_mut(&mut self, name: &Name) -> &mut OpenGroup {
        let at = self.facts.groups.partition_point(|group| group.name < *name);
        &mut self.groups[at]
    }
}

fn open_stream<'a>(
    index: StreamIndex,
    node: &'a NodeReading,
    reading: &'a StreamReading,
    facts: &'a StreamFacts,
    mut memory: StreamMemory,
) -> OpenStream<'a> {
    let mut used: Vec<StreamId> = facts.groups.iter().map(|group| group.last_delivered).collect();
    used.sort_unstable();
    used.dedup();
    memory.carry(facts, node.epoch, &used);
    for &place in &used {
        match settle::by_rules(facts, place) {
            // At an end of the stream: what is added from now on is what the group is behind.
            Some(0) if facts.length > 0 && place <= facts.last_generated => memory.marks.put(place, 0),
            Some(_) => {}
            None if memory.marks.ahead_of(place).is_none() => memory.walks.begin(place),
            None => {}
        }
    }
    memory.walks.arrive(&mut memory.marks);
    let groups = facts.groups.iter().map(|_| OpenGroup::default()).collect();
    OpenStream { index, node, reading, facts, memory, groups, silent: false }
}
