//! Plans the questions of each round.

use std::collections::HashSet;

use crate::audit;
use crate::census::{DuePage, PelReading};
use crate::deleted_pending::{DeletedPending, MAX_LOOKED_UP};
use crate::from_bounds::MAX_ORPHANS;
use crate::later_pages::LaterPage;
use crate::many_consumers::{self, MAX_LISTED};
use crate::memory::{self, LINES_PER_POLL, MEMORY_SAMPLES};
use crate::open::{CensusTurn, LossQuestion, PollState, QuestionPurpose, StreamState};
use crate::question::{LINE_BYTES, Question, QuestionKind};
use crate::seldom::SeldomAsked;
use crate::smallest::Smallest;
use crate::snapshot::{ConsumersReading, StreamInfo};
use redis_stream_core::id::StreamId;

/// Approximate maximum number of questions per round, which bounds memory: a question and its answer take a few
/// hundred bytes. Small in tests, so that every poll has several rounds.
const ROUND: usize = if cfg!(test) { 3 } else { 4_096 };
/// Number of entries that a command for a count reads at least, if so many are left: fewer cost the server hardly less.
const LEAST_CHUNK: u32 = if cfg!(test) { 2 } else { 100 };
/// Maximum number of groups and consumers of a stream that is read atomically, reported or not: XINFO STREAM FULL lists
/// them all, which takes about 2 ms of the server's time for these.
const MAX_FULL_LINES: u64 = 5_000;

/// The part of the remaining budget, one divided by this, that is used to count what can be trimmed.
const TRIMMABLE_SHARE: u32 = 4;

/// A question and its purpose.
pub(super) struct PlannedQuestion {
    /// Index into `PollState::streams`.
    pub(super) stream: usize,
    pub(super) purpose: QuestionPurpose,
    pub(super) question: Question,
}

/// Returns a bounded number of questions for the next round. The first round asks nearly all of them; the others
/// depend on answers.
pub(super) fn next_round(poll: &mut PollState<'_>) -> Vec<PlannedQuestion> {
    let mut plan = QuestionPlan(Vec::new());
    plan.ask_about_groups(poll);
    plan.ask_for_audits(poll);
    plan.ask_for_scans(poll);
    plan.ask_for_next_entries(poll);
    plan.ask_for_losses(poll);
    plan.ask_for_look_ups(poll);
    plan.ask_for_census(poll);
    plan.ask_for_memory(poll);
    plan.ask_for_many_consumers(poll);
    if plan.0.is_empty() && !std::mem::replace(&mut poll.counts_trimmable, true) {
        // With what the lags leave of the budget, and a part of that, since it is counted only for people.
        poll.budget.entries /= TRIMMABLE_SHARE;
        poll.streams.iter_mut().for_each(StreamState::count_trimmable);
        poll.worklists.scans = poll.unfinished_counts();
        plan.ask_for_scans(poll);
    }
    plan.0
}

struct QuestionPlan(Vec<PlannedQuestion>);

impl QuestionPlan {
    fn ask(
        &mut self,
        at: usize,
        stream: &StreamState,
        purpose: QuestionPurpose,
        kind: QuestionKind,
        reply_bytes: u64,
    ) {
        let (node, key) = (stream.node_number(), stream.key.clone());
        let question = Question { node, key, reply_bytes, kind };
        self.0.push(PlannedQuestion { stream: at, purpose, question });
    }

    /// Returns true if the remaining questions are left to the next round.
    fn is_full(&self) -> bool {
        self.0.len() >= ROUND
    }

    fn ask_about_groups(&mut self, poll: &mut PollState<'_>) {
        let round = poll.round;
        while !self.is_full()
            && let Some(at) = poll.worklists.groups.next(poll.streams.len())
        {
            let stream = &mut poll.streams[at];
            self.ask_for_consumers(at, stream, round);
            self.ask_for_oldest_pending(at, stream, round);
            self.ask_for_orphans(at, stream);
            self.ask_for_oldest_needed(at, stream);
            self.ask_for_deleted_pending(at, stream);
        }
    }

    fn ask_for_consumers(&mut self, at: usize, stream: &mut StreamState, round: u32) {
        for (number, group) in stream.info.groups.iter().enumerate() {
            let open = &mut stream.groups[number];
            if !group.has_unread_consumers() || open.consumers_asked_in.get().is_some() {
                continue;
            }
            open.consumers_asked_in = Some(u64::from(round)).into();
            let kind = QuestionKind::Consumers { group: group.name.clone() };
            self.ask(at, stream, QuestionPurpose::Consumers(number), kind, group.consumers * LINE_BYTES);
        }
    }

    /// Asks for the oldest pending entry of each group that has pending entries. Where the consumers that are asked for
    /// in this round may prove the cached one current, the question is left to the next round.
    fn ask_for_oldest_pending(&mut self, at: usize, stream: &mut StreamState, round: u32) {
        for (number, group) in stream.info.groups.iter().enumerate() {
            let open = &mut stream.groups[number];
            let is_asked_now = open.consumers_asked_in.get() == Some(round.into());
            let cached = open.cache.oldest_pending().filter(|_| is_asked_now);
            let may_be_current = cached.is_some_and(|cached| cached.may_be_current(group, stream.info.time));
            let is_known = open.knows_oldest_pending(group);
            if is_known || may_be_current || std::mem::replace(&mut open.oldest_pending_was_asked, true) {
                continue;
            }
            let kind = QuestionKind::OldestPending { group: group.name.clone() };
            self.ask(at, stream, QuestionPurpose::OldestPending(number), kind, LINE_BYTES);
        }
    }

    fn ask_for_orphans(&mut self, at: usize, stream: &mut StreamState) {
        let Some(first) = stream.info.first else { return };
        for (number, group) in stream.info.groups.iter().enumerate() {
            let open = &mut stream.groups[number];
            if open.knows_pending_below(first) || std::mem::replace(&mut open.orphans_were_asked, true) {
                continue;
            }
            let at_most = MAX_ORPHANS + 1;
            let kind = QuestionKind::PendingBelow { group: group.name.clone(), below: first, at_most };
            let reply_bytes = group.pending.min(u64::from(at_most)) * LINE_BYTES;
            self.ask(at, stream, QuestionPurpose::Orphans(number), kind, reply_bytes);
        }
    }

    /// Asks for the oldest pending entry that may still be in the stream, of groups with pending entries that are not.
    fn ask_for_oldest_needed(&mut self, at: usize, stream: &mut StreamState) {
        let info = &stream.info;
        let Some(first) = info.first.filter(|_| info.has_all_groups()) else { return };
        for (number, group) in info.groups.iter().enumerate() {
            let open = &mut stream.groups[number];
            if open.knows_oldest_needed(first) || std::mem::replace(&mut open.oldest_needed_was_asked, true) {
                continue;
            }
            let (name, until) = (group.name.clone(), StreamId::MAX);
            let kind = QuestionKind::PendingIds { group: name, from: first, until, at_most: 1 };
            self.ask(at, stream, QuestionPurpose::OldestNeeded(number), kind, LINE_BYTES);
        }
    }

    fn ask_for_deleted_pending(&mut self, at: usize, stream: &mut StreamState) {
        for (number, group) in stream.info.groups.iter().enumerate() {
            let open = &mut stream.groups[number];
            let Some((from, until)) = open.unknown_deleted_pending(&stream.info, group) else { continue };
            open.deleted_pending = DeletedPending::Listing;
            let at_most = MAX_LOOKED_UP + 1;
            let kind = QuestionKind::PendingIds { group: group.name.clone(), from, until, at_most };
            let reply_bytes = group.pending.min(u64::from(at_most)) * LINE_BYTES;
            self.ask(at, stream, QuestionPurpose::DeletedPending(number), kind, reply_bytes);
        }
    }

    /// Looks up pending IDs that may have been deleted, as far as the budgets reach.
    fn ask_for_look_ups(&mut self, poll: &mut PollState<'_>) {
        while let Some(at) = poll.worklists.look_ups.next(poll.streams.len()) {
            let stream = &mut poll.streams[at];
            let entry_bytes = stream.info.entry_bytes;
            for number in 0..stream.groups.len() {
                while let Some(id) = stream.groups[number].deleted_pending.next_look_up() {
                    if poll.look_ups_left == 0 || !poll.budget.take_one(entry_bytes) {
                        stream.groups[number].deleted_pending = DeletedPending::Unknown;
                        break;
                    }
                    poll.look_ups_left -= 1;
                    let kind = QuestionKind::Entry { id };
                    self.ask(at, stream, QuestionPurpose::LookUp(number), kind, entry_bytes);
                }
            }
        }
    }

    /// Asks for pages of the pending entries, as far as the budget reaches. Groups take turns: the one that was not served
    /// for the longest time is next. Pages of long lists are left until the report is published.
    fn ask_for_census(&mut self, poll: &mut PollState<'_>) {
        if self.is_full() {
            return;
        }
        // Each page takes at least one entry of the budget.
        let mut turns = Smallest::new(poll.census_left as usize);
        while let Some(at) = poll.worklists.census.next(poll.streams.len()) {
            let stream = &mut poll.streams[at];
            for (number, group) in stream.info.groups.iter().enumerate() {
                let open = &mut stream.groups[number];
                if open.wants_census(group, (stream.info.time, poll.at)) {
                    turns.push((open.census_served_at(), at, number));
                }
            }
        }
        let mut turns = turns.into_sorted().into_iter();
        while let Some((_, at, number)) = turns.next() {
            if self.is_full() {
                let mut left: Vec<_> = turns.map(|(_, at, _)| at).chain([at]).collect();
                left.sort_unstable();
                return poll.worklists.census.look_again(&left);
            }
            let stream = &mut poll.streams[at];
            let (info, open) = (&stream.info, &mut stream.groups[number]);
            let group = &info.groups[number];
            let known = open.cache.pending.get_or_insert_default();
            let census = known.census.get_or_insert_default();
            let is_short = census.fits_in_a_page(group.pending);
            let page = census.next_page(PelReading::of(info, group), poll.at, &mut poll.census_left);
            let Some(page) = page else {
                // The next poll begins with this group.
                poll.census_left = 0;
                return;
            };
            let DuePage { after, at_most } = page;
            if !is_short {
                open.census_turn = CensusTurn::Over;
                let key = &stream.key;
                poll.later_pages.push(LaterPage::new(
                    stream.node_number(),
                    key,
                    (info, group),
                    poll.at,
                    page,
                ));
                continue;
            }
            open.census_turn = CensusTurn::Asked;
            let kind = QuestionKind::PendingPage { group: group.name.clone(), after, at_most };
            let purpose = QuestionPurpose::Census { group: number, at_most };
            let reply_bytes = group.pending.min(at_most.into()) * LINE_BYTES;
            self.ask(at, stream, purpose, kind, reply_bytes);
        }
    }

    /// Asks for the consumers of one group that has too many of them to be read in every poll: the one that was asked for
    /// longest ago.
    fn ask_for_many_consumers(&mut self, poll: &mut PollState<'_>) {
        if self.is_full() || std::mem::replace(&mut poll.many_consumers_were_asked, true) {
            return;
        }
        let mut next = None;
        for (at, stream) in poll.streams.iter().enumerate() {
            for (number, (group, open)) in stream.info.groups.iter().zip(&stream.groups).enumerate() {
                let is_one =
                    group.each_consumer == ConsumersReading::TooMany && group.consumers <= MAX_LISTED;
                let known = open.cache.many_consumers();
                let is_due = known.is_none_or(|known| known.is_due(poll.at, many_consumers::PERIOD));
                if is_one && is_due {
                    let turn = (known.and_then(SeldomAsked::asked_at), at, number);
                    next = Some(next.map_or(turn, |next| turn.min(next)));
                }
            }
        }
        let Some((_, at, number)) = next else { return };
        let stream = &mut poll.streams[at];
        let group = &stream.info.groups[number];
        stream.groups[number].cache.update_many_consumers(|many| many.note_asked(poll.at));
        let kind = QuestionKind::Consumers { group: group.name.clone() };
        self.ask(at, stream, QuestionPurpose::ManyConsumers(number), kind, group.consumers * LINE_BYTES);
    }

    /// Asks for the memory of streams, those first that were asked for longest ago.
    fn ask_for_memory(&mut self, poll: &mut PollState<'_>) {
        let Some(interval) = poll.budget.memory_interval else { return };
        if self.is_full() || std::mem::replace(&mut poll.memory_was_asked, true) {
            return;
        }
        let mut due = Vec::new();
        for (at, stream) in poll.streams.iter().enumerate() {
            let known = poll.state.memory.entry(stream.key.clone()).or_default();
            if let Some(lines) = memory::lines_due(known, &stream.info, poll.at, interval) {
                due.push((known.asked_at(), at, lines));
            }
        }
        due.sort_unstable();
        let mut left = LINES_PER_POLL;
        for (_, at, lines) in due {
            let Some(rest) = left.checked_sub(lines) else { return };
            left = rest;
            let stream = &poll.streams[at];
            poll.state.memory.entry(stream.key.clone()).or_default().note_asked(poll.at);
            let kind = QuestionKind::Memory { samples: MEMORY_SAMPLES };
            self.ask(at, stream, QuestionPurpose::Memory, kind, LINE_BYTES);
        }
    }

    /// Asks for one chunk for each unfinished scan. If the budget does not reach for all of them, the next poll starts
    /// with the first stream that was left out, so that all get their turn.
    fn ask_for_scans(&mut self, poll: &mut PollState<'_>) {
        let unfinished = &poll.worklists.scans;
        if self.is_full() || poll.budget.is_spent() || unfinished.is_empty() {
            return;
        }
        let share = poll.budget.entries / u32::try_from(unfinished.len()).unwrap_or(u32::MAX);
        let turn = poll.state.next_scan % unfinished.len();
        let (later, sooner) = unfinished.split_at(turn);
        for (served, at) in sooner.iter().chain(later).enumerate() {
            let stream = &poll.streams[*at];
            let entry_bytes = stream.info.entry_bytes;
            for (start, after, until) in ranges(stream) {
                if !poll.counts_trimmable && stream.is_for_trimming(start) {
                    continue;
                }
                let chunk = match self.is_full() {
                    true => None,
                    false => poll.budget.take_chunk(share.max(LEAST_CHUNK), entry_bytes),
                };
                let Some(at_most) = chunk else {
                    poll.state.next_scan = turn + served;
                    return;
                };
                let purpose = QuestionPurpose::CountScan { start, after, until, at_most };
                let kind = QuestionKind::Entries { after, until, at_most };
                self.ask(*at, stream, purpose, kind, u64::from(at_most) * entry_bytes);
            }
        }
    }

    /// Asks for the oldest undelivered entry of each group that is behind, unless it is cached or a scan of this round
    /// starts at the group's position and so returns it.
    fn ask_for_next_entries(&mut self, poll: &mut PollState<'_>) {
        let scanned_from: HashSet<_> = self.0.iter().filter_map(scan_from).collect();
        while !self.is_full()
            && let Some(at) = poll.worklists.next_entries.next(poll.streams.len())
        {
            let stream = &mut poll.streams[at];
            for number in 0..stream.groups.len() {
                let position = stream.info.groups[number].last_delivered;
                if stream.knows_next_entry(position) {
                    continue;
                }
                let entry_bytes = stream.info.entry_bytes;
                let is_asked = scanned_from.contains(&(at, position)) || stream.next_was_asked(position);
                if stream.entries_unavailable || is_asked {
                    continue;
                }
                if !poll.budget.take_one(entry_bytes) {
                    // Answers may give back what was not used.
                    return poll.worklists.next_entries.look_again(&[at]);
                }
                stream.groups[number].next_was_asked = true;
                let kind =
                    QuestionKind::Entries { after: position, until: stream.info.last_generated, at_most: 1 };
                self.ask(at, stream, QuestionPurpose::NextEntry(position), kind, entry_bytes);
            }
        }
    }

    /// Asks for the audits that are due, the oldest first, one range per stream and poll.
    fn ask_for_audits(&mut self, poll: &mut PollState<'_>) {
        if self.is_full() || std::mem::replace(&mut poll.audits_were_asked, true) {
            return;
        }
        let period = poll.budget.audit_period;
        let due =
            |stream: &StreamState| audit::oldest_due(&stream.cache.checkpoints, stream.info.time, period);
        // Each audit takes at least one entry of the budget.
        let mut all = Smallest::new(poll.budget.audit_entries as usize);
        for (at, stream) in poll.streams.iter().enumerate() {
            if let Some(due) = due(stream) {
                all.push((due.counted_at, at));
            }
        }
        for (_, at) in all.into_sorted() {
            let stream = &poll.streams[at];
            let Some(due) = due(stream) else { continue };
            let entry_bytes = stream.info.entry_bytes;
            // One more than expected, so that a surplus is noticed.
            let wanted = u32::try_from(due.expected + 1).unwrap_or(u32::MAX);
            let Some(at_most) = poll.budget.take_audit(wanted, entry_bytes) else { return };
            let kind = QuestionKind::Entries { after: due.from, until: due.until, at_most };
            self.ask(
                at,
                stream,
                QuestionPurpose::Audit { due, at_most },
                kind,
                u64::from(at_most) * entry_bytes,
            );
        }
    }

    /// Asks for a second reading of streams in which a group seems to have lost entries. Streams that are still being
    /// scanned are left to a later round, since a loss can be computed only from an exact lag.
    fn ask_for_losses(&mut self, poll: &mut PollState<'_>) {
        let counting: HashSet<_> = self.0.iter().filter_map(scan_from).map(|(at, _)| at).collect();
        while !self.is_full()
            && let Some(at) = poll.worklists.losses.next(poll.streams.len())
        {
            if !counting.contains(&at) {
                self.ask_for_loss(at, &mut poll.streams[at]);
            }
        }
    }

    fn ask_for_loss(&mut self, at: usize, stream: &mut StreamState) {
        if stream.loss_question != LossQuestion::NotAsked || !stream.has_losses_to_confirm() {
            return;
        }
        let StreamInfo { group_count, consumer_count, entry_bytes, .. } = *stream.info;
        let (question, kind, reply_bytes) = if group_count.saturating_add(consumer_count) <= MAX_FULL_LINES {
            let reply_bytes = entry_bytes + (group_count * 2 + consumer_count) * LINE_BYTES;
            (LossQuestion::Atomic, QuestionKind::FullStream, reply_bytes)
        } else {
            (LossQuestion::Positions, QuestionKind::Groups, group_count * LINE_BYTES)
        };
        stream.loss_question = question;
        self.ask(at, stream, QuestionPurpose::Loss, kind, reply_bytes);
    }
}

/// Returns the start of each scan with entries left to read, and the range to read.
fn ranges<'a>(stream: &'a StreamState) -> impl Iterator<Item = (StreamId, StreamId, StreamId)> + 'a {
    let cache = &stream.cache;
    cache.scans.iter().filter_map(|scan| {
        let (after, until) = cache.scans.range(scan, &cache.checkpoints)?;
        Some((scan.start, after, until))
    })
}

fn scan_from(planned: &PlannedQuestion) -> Option<(usize, StreamId)> {
    match planned.purpose {
        QuestionPurpose::CountScan { after, .. } => Some((planned.stream, after)),
        _ => None,
    }
}
