//! Derives the report of one poll: advances the state to the snapshot, asks questions, takes answers.

use std::time::Duration;

use crate::audit::{self, AuditResult};
use crate::budget::Budget;
use crate::census::{ENTRIES_PER_POLL, PageReading};
use crate::complete::{MemoryTurn, Turns};
use crate::deleted_pending::{DeletedPending, IsInStream, LOOK_UPS_PER_POLL};
use crate::derive::{self, StreamReports};
use crate::holder::OldestNeeded;
use crate::memory;
use crate::open::{CensusTurn, PelHeadState, PollState, QuestionPurpose, StreamState};
use crate::pending_cache::CachedOldestPending;
use crate::plan;
use crate::question::{Answer, Question};
use crate::report::{Report, SilentConsumers};
use crate::snapshot::{ConsumersReading, Snapshot, StreamInfo, StreamReading};
use crate::state::LagState;
use crate::worklist::Worklists;
use redis_stream_core::name::Name;

/// Derives the report of one poll. See the [crate] for the order of the calls.
#[derive(Debug)]
pub struct Derivation<'a> {
    poll: PollState<'a>,
    reports: StreamReports<'a>,
    /// Index of the stream and purpose of each question returned last.
    asked: Vec<(usize, QuestionPurpose)>,
    granted_payload_bytes: u64,
}

impl<'a> Derivation<'a> {
    /// Advances `state` to the snapshot and derives the report of each stream that needs no question. Takes what was read
    /// of each stream out of the snapshot, to drop it as soon as the report has its values.
    ///
    /// `at` is the time at which the poll began, by a monotonic clock of the caller's; its origin does not matter.
    /// `previous` is the report of the previous poll: a stream that is deferred or late keeps its values from there.
    pub fn open(
        snapshot: &'a mut Snapshot,
        state: &'a mut LagState,
        budget: Budget,
        at: Duration,
        previous: Option<&'a Report>,
    ) -> Self {
        let gap = state.polled_at.replace(at).map_or(Duration::ZERO, |before| at.saturating_sub(before));
        let streams = snapshot.nodes.iter_mut().flat_map(|node| &mut node.streams);
        let taken: Vec<_> = streams.map(StreamReading::take_info).collect();
        let mut reports = StreamReports::new(taken.len(), previous, (at, budget.audit_period));
        let mut poll = PollState {
            snapshot,
            state,
            budget,
            streams: Vec::new(),
            round: 0,
            worklists: Worklists::default(),
            audits_were_asked: false,
            memory_was_asked: false,
            many_consumers_were_asked: false,
            counts_trimmable: false,
            look_ups_left: LOOK_UPS_PER_POLL,
            census_left: ENTRIES_PER_POLL,
            later_pages: Vec::new(),
            counted_entries: 0,
            at,
            gap,
        };
        open_streams(&mut poll, taken, &mut reports);
        poll.worklists.scans = poll.unfinished_counts();
        Self { poll, reports, asked: Vec::new(), granted_payload_bytes: budget.payload_bytes }
    }

    /// Returns the next questions, within the budget. Empty once nothing is left to ask or the budget is used up.
    pub fn questions(&mut self) -> Vec<Question> {
        let planned = plan::next_round(&mut self.poll);
        self.poll.round += 1;
        self.asked = planned.iter().map(|planned| (planned.stream, planned.purpose)).collect();
        for (stream, purpose) in &self.asked {
            let stream = &mut self.poll.streams[*stream];
            stream.was_asked |= !purpose.is_for_later();
            stream.was_audited |= matches!(purpose, QuestionPurpose::Audit { .. });
        }
        planned.into_iter().map(|planned| planned.question).collect()
    }

    /// Takes the answers to the questions returned last: one for each question, in the same order.
    pub fn answer(&mut self, answers: Vec<Answer>) {
        let asked = std::mem::take(&mut self.asked);
        let mut answered: Vec<_> = asked.iter().map(|(at, _)| *at).collect();
        for ((at, purpose), answer) in asked.into_iter().zip(answers) {
            self.take_answer(at, purpose, answer);
        }
        answered.sort_unstable();
        answered.dedup();
        for at in &answered {
            let stream = &mut self.poll.streams[*at];
            stream.cache.scans.finish(&mut stream.cache.checkpoints, stream.info.time);
        }
        self.poll.worklists.look_again(&answered);
        let PollState { streams, worklists, counts_trimmable, .. } = &mut self.poll;
        worklists.retain_scans(&answered, |at| streams[at].wants_counts(*counts_trimmable));
    }

    /// Returns the estimated payload bytes of the entries read so far in this poll.
    #[must_use]
    pub fn payload_bytes_read(&self) -> u64 {
        self.granted_payload_bytes.saturating_sub(self.poll.budget.payload_bytes)
    }

    /// Returns the streams that an answer was [late](Answer::Late) for.
    pub fn late_streams(&self) -> impl Iterator<Item = &Name> {
        self.poll.streams.iter().filter(|stream| stream.is_late).map(|stream| &stream.reading.key)
    }

    #[cfg(test)]
    pub(crate) fn open_streams(&self) -> usize {
        self.poll.streams.len()
    }

    /// Returns the report.
    #[must_use]
    pub fn close(self) -> Report {
        derive::report(self.poll, self.reports)
    }

    fn take_answer(&mut self, at: usize, purpose: QuestionPurpose, answer: Answer) {
        let stream = &mut self.poll.streams[at];
        let now = stream.info.time;
        stream.is_late |= answer == Answer::Late && !purpose.is_for_later();
        match (purpose, answer) {
            (QuestionPurpose::OldestPending(at), Answer::OldestPending(entry)) => {
                let (info, group) = (&stream.info.groups[at], &mut stream.groups[at]);
                let (entry, consumer) = entry.unzip();
                group.pel_head = if entry.is_some() { PelHeadState::Cached } else { PelHeadState::Empty };
                let known = group.cache.pending.get_or_insert_default();
                known.oldest = entry.map(|entry| CachedOldestPending::new(entry, info, now));
                known.oldest_consumer = consumer.filter(|name| !name.as_bytes().is_empty());
            }
            (QuestionPurpose::Orphans(at), Answer::PendingBelow(count)) => {
                let group = &mut stream.groups[at];
                group.below_first.change(|known| known.count = Some(count));
                if let (Some(cached), Some(first)) = (group.cache.oldest_pending_mut(), stream.info.first) {
                    cached.note_below(first, count);
                }
            }
            (QuestionPurpose::OldestNeeded(at), Answer::PendingIds(ids)) => {
                let group = &mut stream.groups[at];
                let needed = ids.first().map_or(OldestNeeded::Nothing, |id| OldestNeeded::Entry(*id));
                group.below_first.change(|known| known.oldest_needed = needed);
                if let (Some(cached), Some(first)) = (group.cache.oldest_pending_mut(), stream.info.first) {
                    cached.note_needed(first, needed);
                }
            }
            (QuestionPurpose::DeletedPending(at), Answer::PendingIds(ids)) => {
                stream.groups[at].deleted_pending.note_listed(ids, &stream.info);
            }
            (QuestionPurpose::LookUp(at), Answer::Entries(entries)) => {
                let is_there = if entries.count > 0 { IsInStream::Yes } else { IsInStream::No };
                stream.groups[at].deleted_pending.note_looked_up(is_there);
            }
            (QuestionPurpose::DeletedPending(at) | QuestionPurpose::LookUp(at), _) => {
                stream.groups[at].deleted_pending = DeletedPending::Unknown;
            }
            (QuestionPurpose::Census { group, at_most }, Answer::PendingPage(entries)) => {
                let (info, open, at) = (&stream.info, &mut stream.groups[group], self.poll.at);
                let reading = PageReading {
                    at_most,
                    time: now,
                    at,
                    clock_jump: stream.cache.clock.jump(now, at),
                    first: info.first,
                };
                let census = open.cache.census_mut();
                let has_ended = census.is_none_or(|census| census.note_page(&entries, &reading));
                open.census_turn = if has_ended { CensusTurn::Over } else { CensusTurn::Open };
            }
            (QuestionPurpose::Census { group, .. }, _) => {
                stream.groups[group].census_turn = CensusTurn::Over;
            }
            (QuestionPurpose::Consumers(at), Answer::Consumers(consumers)) => {
                let (info, group) = (&mut stream.info.groups[at], &mut stream.groups[at]);
                group.note_consumers(info, &consumers, now, self.poll.budget.timeout);
                info.each_consumer = ConsumersReading::Answered(consumers.into());
            }
            (QuestionPurpose::ManyConsumers(at), answer) => {
                let max_idle = stream.node.consumer_limit.max_idle;
                stream.groups[at].cache.update_many_consumers(|many| match answer {
                    Answer::Late => many.note_late(),
                    Answer::Consumers(found) => many.note(Some(SilentConsumers::of(&found, max_idle))),
                    _ => many.note(None),
                });
            }
            (QuestionPurpose::NextEntry(position), Answer::Entries(entries)) => {
                stream.note_next_entry(position, &entries);
            }
            (QuestionPurpose::CountScan { start, after, until, at_most }, Answer::Entries(entries)) => {
                if after == start {
                    stream.note_next_entry(start, &entries);
                }
                stream.cache.scans.record(start, until, at_most, &entries);
                self.poll.budget.give_back(at_most.saturating_sub(entries.count), stream.info.entry_bytes);
                self.poll.counted_entries += u64::from(entries.count);
            }
            (QuestionPurpose::Audit { due, at_most }, Answer::Entries(entries)) => {
                self.poll.counted_entries += u64::from(entries.count);
                let result = audit::check(&mut stream.cache.checkpoints, &due, at_most, &entries, now);
                match result {
                    AuditResult::Holds => {}
                    AuditResult::HoldsSoFar(part) => {
                        stream.cache.partial_audit = Some(Box::new(part));
                    }
                    AuditResult::Broken => stream.is_invalid = true,
                }
            }
            (QuestionPurpose::Memory, answer) => {
                let memory = self.poll.state.memory.entry(stream.reading.key.clone()).or_default();
                match answer {
                    Answer::Memory(bytes) => memory.note(Some(bytes)),
                    Answer::Late => memory.note_late(),
                    _ => memory.note(None),
                }
            }
            (QuestionPurpose::Loss, Answer::FullStream(full)) => stream.count_losses(&full),
            (QuestionPurpose::Loss, Answer::Groups(groups)) => stream.confirm_losses(&groups),
            (QuestionPurpose::CountScan { .. } | QuestionPurpose::NextEntry(_), _) => {
                stream.entries_unavailable = true;
            }
            _ => {}
        }
    }
}

/// Opens the streams that were read, and derives those about which nothing has to be asked. `taken` is what was read of
/// each stream in the snapshot; `None` if it was not read.
fn open_streams(
    poll: &mut PollState<'_>,
    taken: Vec<Option<Box<StreamInfo>>>,
    reports: &mut StreamReports<'_>,
) {
    let PollState { snapshot, state, budget, at, gap, .. } = poll;
    if budget.memory_interval.is_none() {
        state.memory.clear();
    }
    state.has_settled = false;
    let mut turns = Turns::new(budget);
    let nodes = snapshot.nodes.iter().enumerate();
    let readings = nodes.flat_map(|node| node.1.streams.iter().map(move |reading| (node, reading)));
    for (ordinal, ((node, reading), info)) in readings.zip(taken).enumerate() {
        let Some(info) = info else { continue };
        let mut cache = state.streams.remove(&reading.key).unwrap_or_default();
        cache.resume(at.saturating_sub(*gap));
        cache.note_gap(*gap);
        let mut stream = StreamState::open(node, (ordinal, reading), info, cache, (*at, budget.timeout));
        let memory = budget.memory_interval.and_then(|interval| {
            let known = state.memory.entry(reading.key.clone()).or_default();
            memory::lines_due(known, &stream.info, *at, interval)?;
            Some(MemoryTurn { asked_at: known.asked_at() })
        });
        if stream.is_complete((*at, budget), memory, &mut turns) {
            reports.derive(stream, state);
        } else {
            if poll.streams.len() == poll.streams.capacity() {
                // By an eighth rather than to twice the size: in the first polls, all streams may be here.
                poll.streams.reserve_exact(poll.streams.len() / 8 + 16);
            }
            poll.streams.push(stream);
        }
    }
}
