//! What is to be asked next.

use std::collections::HashSet;

use crate::audit;
use crate::facts::ConsumersReading;
use crate::inquiry::{Inquiry, OpenStream, Purpose};
use crate::question::{Ask, Question};
use crate::settle::MAX_ORPHANS;
use redis_stream_core::id::StreamId;

/// Expected size of a reply that names one pending entry or one consumer, in bytes.
const LINE_BYTES: u64 = 150;
/// About so many questions in a round: each, and its answer, takes some hundred bytes. Small in tests, so that
/// every poll has several rounds.
const ROUND: usize = if cfg!(test) { 3 } else { 4_096 };
/// Most consumers of a stream for which all of it is read at once: about 2 ms of the server's time.
const MAX_WHOLE_CONSUMERS: u64 = 5_000;

/// A question, and what it is for.
pub(super) struct Planned {
    /// Position in `Inquiry::streams`.
    pub(super) stream: usize,
    pub(super) purpose: Purpose,
    pub(super) question: Question,
}

/// The questions of the next round, a bounded number of them. The first rounds ask nearly all; the rest depends
/// on answers.
pub(super) fn next_round(inquiry: &mut Inquiry<'_>) -> Vec<Planned> {
    let mut plan = Plan(Vec::new());
    plan.ask_about_groups(inquiry);
    plan.ask_for_audits(inquiry);
    plan.ask_for_walks(inquiry);
    plan.ask_for_next_entries(inquiry);
    plan.ask_for_losses(inquiry);
    plan.0
}

struct Plan(Vec<Planned>);

impl Plan {
    fn ask(&mut self, at: usize, stream: &OpenStream<'_>, purpose: Purpose, ask: Ask, reply_bytes: u64) {
        let question = Question { stream: stream.index, reply_bytes, ask };
        self.0.push(Planned { stream: at, purpose, question });
    }

    /// What is left over then is asked in the next round.
    fn is_full(&self) -> bool {
        self.0.len() >= ROUND
    }

    fn ask_about_groups(&mut self, inquiry: &mut Inquiry<'_>) {
        let round = inquiry.round;
        for (at, stream) in inquiry.streams.iter_mut().enumerate() {
            if self.is_full() {
                return;
            }
            self.ask_for_consumers(at, stream, round);
            self.ask_for_oldest_pending(at, stream, round);
            self.ask_for_orphans(at, stream);
        }
    }

    fn ask_for_consumers(&mut self, at: usize, stream: &mut OpenStream<'_>, round: u32) {
        for (number, group) in stream.facts.groups.iter().enumerate() {
            let open = &mut stream.groups[number];
            let is_open = group.each_consumer == ConsumersReading::Open && group.consumers > 0;
            if !is_open || open.consumers_asked_in.is_some() {
                continue;
            }
            open.consumers_asked_in = Some(round);
            let ask = Ask::Consumers { group: group.name.clone() };
            self.ask(at, stream, Purpose::Consumers(number), ask, group.consumers * LINE_BYTES);
        }
    }

    /// The oldest pending entry of each group that has one; where the consumers asked for in this round may show
    /// that it is still the same, in the next.
    fn ask_for_oldest_pending(&mut self, at: usize, stream: &mut OpenStream<'_>, round: u32) {
        for (number, group) in stream.facts.groups.iter().enumerate() {
            let open = &mut stream.groups[number];
            let seen = open.memory.pending.filter(|_| open.consumers_asked_in == Some(round));
            let may_be_shown = seen.is_some_and(|seen| seen.may_hold(group, stream.facts.time));
            let is_known = group.pending == 0 || open.oldest_pending.is_some();
            if is_known || may_be_shown || std::mem::replace(&mut open.oldest_pending_was_asked, true) {
                continue;
            }
            let ask = Ask::OldestPending { group: group.name.clone() };
            self.ask(at, stream, Purpose::OldestPending(number), ask, LINE_BYTES);
        }
    }

    fn ask_for_orphans(&mut self, at: usize, stream: &mut OpenStream<'_>) {
        let Some(first) = stream.facts.first else { return };
        for (number, group) in stream.facts.groups.iter().enumerate() {
            let open = &mut stream.groups[number];
            let begins_below = matches!(open.oldest_pending, Some(Some(entry)) if entry.id < first);
            if !begins_below || std::mem::replace(&mut open.orphans_were_asked, true) {
                continue;
            }
            if let Some(count) = open.memory.pending.and_then(|seen| seen.below(first)) {
                open.pending_below_first = Some(count);
                continue;
            }
            let at_most = MAX_ORPHANS + 1;
            let ask = Ask::PendingBelow { group: group.name.clone(), below: first, at_most };
            let reply_bytes = group.pending.min(u64::from(at_most)) * LINE_BYTES;
            self.ask(at, stream, Purpose::Orphans(number), ask, reply_bytes);
        }
    }

    /// One chunk for each walk that has something to read, in turn, so that all get their share of the budget.
    fn ask_for_walks(&mut self, inquiry: &mut Inquiry<'_>) {
        let chunks: Vec<_> = inquiry
            .streams
            .iter()
            .enumerate()
            .filter(|(_, stream)| !stream.is_silent)
            .flat_map(|(at, stream)| stretches(stream).map(move |stretch| (at, stretch)))
            .collect();
        if chunks.is_empty() {
            return;
        }
        let share = inquiry.budget.entries / u32::try_from(chunks.len()).unwrap_or(u32::MAX);
        let turn = inquiry.memory.turn % chunks.len();
        let (later, sooner) = chunks.split_at(turn);
        for (served, (at, (start, after, until))) in sooner.iter().chain(later).enumerate() {
            let stream = &inquiry.streams[*at];
            let entry_bytes = stream.facts.entry_bytes;
            let chunk = match self.is_full() {
                true => None,
                false => inquiry.budget.take_chunk(share.max(1), entry_bytes),
            };
            let Some(at_most) = chunk else {
                inquiry.memory.turn = turn + served;
                return;
            };
            let purpose = Purpose::Walk { start: *start, after: *after, until: *until, at_most };
            let ask = Ask::Entries { after: *after, until: *until, at_most };
            self.ask(*at, stream, purpose, ask, u64::from(at_most) * entry_bytes);
        }
    }

    /// The first entry above each group that is behind, where neither memory nor a walk of this round tells it.
    fn ask_for_next_entries(&mut self, inquiry: &mut Inquiry<'_>) {
        let walked_from: HashSet<_> = self.0.iter().filter_map(walks_from).collect();
        for (at, stream) in inquiry.streams.iter_mut().enumerate() {
            if self.is_full() {
                return;
            }
            for place in stream.facts.groups.iter().map(|group| group.last_delivered) {
                if stream.lag(place) == Some(0) || stream.next_entry(place).is_some() {
                    continue;
                }
                let entry_bytes = stream.facts.entry_bytes;
                let is_asked = walked_from.contains(&(at, place)) || stream.next_was_asked.contains(&place);
                if stream.is_silent || is_asked || !inquiry.budget.take_one(entry_bytes) {
                    continue;
                }
                stream.next_was_asked.push(place);
                let ask = Ask::Entries { after: place, until: stream.facts.last_generated, at_most: 1 };
                self.ask(at, stream, Purpose::NextEntry(place), ask, entry_bytes);
            }
        }
    }

    /// What was counted longest ago is counted again, one stretch of a stream at a time.
    fn ask_for_audits(&mut self, inquiry: &mut Inquiry<'_>) {
        if self.is_full() || std::mem::replace(&mut inquiry.audits_were_asked, true) {
            return;
        }
        let period = inquiry.budget.audit_period;
        let mut all: Vec<_> = inquiry
            .streams
            .iter()
            .enumerate()
            .filter_map(|(at, stream)| {
                audit::oldest_due(&stream.memory.marks, stream.facts.time, period).map(|due| (at, due))
            })
            .collect();
        all.sort_by_key(|(_, due)| due.counted_at);
        for (at, due) in all {
            let stream = &inquiry.streams[at];
            let entry_bytes = stream.facts.entry_bytes;
            // One more than there must be, to see it if there are more.
            let wanted = u32::try_from(due.expected + 1).unwrap_or(u32::MAX);
            let Some(at_most) = inquiry.budget.take_audit(wanted, entry_bytes) else { return };
            let ask = Ask::Entries { after: due.from, until: due.until, at_most };
            self.ask(at, stream, Purpose::Audit { due, at_most }, ask, u64::from(at_most) * entry_bytes);
        }
    }

    /// Whether entries were really lost, where it seems so. While lags of a stream are still being counted, that
    /// cannot be told for all of its groups.
    fn ask_for_losses(&mut self, inquiry: &mut Inquiry<'_>) {
        let counting: HashSet<_> = self.0.iter().filter_map(walks_from).map(|(at, _)| at).collect();
        for (at, stream) in inquiry.streams.iter_mut().enumerate() {
            if self.is_full() {
                return;
            }
            if !counting.contains(&at) {
                self.ask_for_loss(at, stream);
            }
        }
    }

    fn ask_for_loss(&mut self, at: usize, stream: &mut OpenStream<'_>) {
        let consumers: u64 = stream.facts.groups.iter().map(|group| group.consumers).sum();
        if stream.loss_was_asked || consumers > MAX_WHOLE_CONSUMERS || !stream.seems_to_have_lost() {
            return;
        }
        stream.loss_was_asked = true;
        let reply_bytes = stream.facts.entry_bytes + (stream.facts.group_count * 2 + consumers) * LINE_BYTES;
        self.ask(at, stream, Purpose::Loss, Ask::Whole, reply_bytes);
    }
}

/// For each walk that has something to read: its start, and from where to where.
fn stretches<'a>(stream: &'a OpenStream<'_>) -> impl Iterator<Item = (StreamId, StreamId, StreamId)> + 'a {
    let memory = &stream.memory;
    memory.walks.iter().filter_map(|walk| {
        let (after, until) = memory.walks.stretch(walk, &memory.marks)?;
        Some((walk.start, after, until))
    })
}

fn walks_from(planned: &Planned) -> Option<(usize, StreamId)> {
    match planned.purpose {
        Purpose::Walk { after, .. } => Some((planned.stream, after)),
        _ => None,
    }
}
