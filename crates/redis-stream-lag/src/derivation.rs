//! Derives the report of one poll whose streams were read: asks questions, takes answers.

use crate::audit::{self, AuditResult};
use crate::census::PageReading;
use crate::deleted_pending::{DeletedPending, IsInStream};
use crate::derive::{self, StreamReports};
use crate::holder::OldestNeeded;
use crate::open::{CensusTurn, PelHeadState, PollState, QuestionPurpose};
use crate::pending_cache::CachedOldestPending;
use crate::plan;
use crate::question::{Answer, Question};
use crate::report::{Report, SilentConsumers};
use crate::snapshot::ConsumersReading;
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
    pub(crate) fn new(poll: PollState<'a>, reports: StreamReports<'a>) -> Self {
        let granted_payload_bytes = poll.budget.payload_bytes;
        Self { poll, reports, asked: Vec::new(), granted_payload_bytes }
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
        self.poll.streams.iter().filter(|stream| stream.is_late).map(|stream| &stream.key)
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
                let memory = self.poll.state.memory.entry(stream.key.clone()).or_default();
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
