//! What is to be asked next.

use std::collections::HashSet;

use crate::lag::inquiry::{Inquiry, OpenStream};
use crate::lag::settle::MAX_ORPHANS;
use crate::snapshot::facts::GroupFacts;
use crate::snapshot::id::StreamId;
use crate::snapshot::question::{Ask, Question, StreamIndex};

/// Expected size of a reply that names one pending entry or one consumer, in bytes.
const LINE_BYTES: u64 = 150;

/// The questions of the next round.
pub(super) fn questions(inquiry: &mut Inquiry<'_>) -> Vec<Question> {
    let mut questions = Vec::new();
    if inquiry.first_round {
        inquiry.first_round = false;
        for stream in &inquiry.streams {
            ask_about_groups(stream, &mut questions);
        }
        ask_for_walks(inquiry, &mut questions);
        ask_for_next_entries(inquiry, &mut questions);
    } else {
        for stream in &mut inquiry.streams {
            ask_for_orphans(stream, &mut questions);
        }
        ask_for_walks(inquiry, &mut questions);
    }
    questions
}

fn ask_about_groups(stream: &OpenStream<'_>, questions: &mut Vec<Question>) {
    for group in &stream.facts.groups {
        if group.pending > 0 {
            let ask = Ask::OldestPending { group: group.name.clone() };
            questions.push(Question { stream: stream.index, reply_bytes: LINE_BYTES, ask });
        }
        if group.wants_consumers && group.consumers > 0 {
            let ask = Ask::Consumers { group: group.name.clone() };
            let reply_bytes = group.consumers * LINE_BYTES;
            questions.push(Question { stream: stream.index, reply_bytes, ask });
        }
    }
}

fn ask_for_orphans(stream: &mut OpenStream<'_>, questions: &mut Vec<Question>) {
    let Some(first) = stream.facts.first else { return };
    for (group, open) in stream.facts.groups.iter().zip(&mut stream.groups) {
        let begins_below = matches!(open.oldest_pending, Some(Some(entry)) if entry.id < first);
        if begins_below && !std::mem::replace(&mut open.asked_pending_below, true) {
            questions.push(pending_below(stream.index, group, first));
        }
    }
}

fn pending_below(stream: StreamIndex, group: &GroupFacts, first: StreamId) -> Question {
    let at_most = MAX_ORPHANS + 1;
    let reply_bytes = group.pending.min(u64::from(at_most)) * LINE_BYTES;
    let ask = Ask::PendingBelow { group: group.name.clone(), below: first, at_most };
    Question { stream, reply_bytes, ask }
}

/// One chunk for each walk that has something to read, in turn, so that all get their share of the budget.
fn ask_for_walks(inquiry: &mut Inquiry<'_>, questions: &mut Vec<Question>) {
    let stretches: Vec<_> = inquiry
        .streams
        .iter()
        .enumerate()
        .filter(|(_, stream)| !stream.silent)
        .flat_map(|(at, stream)| stretches(stream).map(move |stretch| (at, stretch)))
        .collect();
    if stretches.is_empty() {
        return;
    }
    let share = inquiry.budget.entries / u32::try_from(stretches.len()).unwrap_or(u32::MAX);
    let turn = inquiry.memory.turn % stretches.len();
    let (later, sooner) = stretches.split_at(turn);
    for (served, (at, (after, until))) in sooner.iter().chain(later).enumerate() {
        let stream = &inquiry.streams[*at];
        let entry_bytes = stream.facts.entry_bytes;
        let Some(at_most) = inquiry.budget.take_chunk(share.max(1), entry_bytes) else {
            inquiry.memory.turn = turn + served;
            return;
        };
        let ask = Ask::Entries { after: *after, until: *until, at_most };
        questions.push(Question { stream: stream.index, reply_bytes: u64::from(at_most) * entry_bytes, ask });
    }
}

fn stretches<'a>(stream: &'a OpenStream<'_>) -> impl Iterator<Item = (StreamId, StreamId)> + 'a {
    let memory = &stream.memory;
    memory.walks.iter().filter_map(|walk| memory.walks.stretch(walk, &memory.marks))
}

/// The first entry above each group that is behind, where neither memory nor a walk of this round tells it.
fn ask_for_next_entries(inquiry: &mut Inquiry<'_>, questions: &mut Vec<Question>) {
    let mut asked: HashSet<_> = questions.iter().filter_map(read_from).collect();
    for stream in &inquiry.streams {
        for place in stream.facts.groups.iter().map(|group| group.last_delivered) {
            if stream.lag(place) == Some(0) || stream.next_entry(place).is_some() {
                continue;
            }
            let entry_bytes = stream.facts.entry_bytes;
            if !asked.insert((stream.index, place)) || !inquiry.budget.take_one(entry_bytes) {
                continue;
            }
            let ask = Ask::Entries { after: place, until: stream.facts.last_generated, at_most: 1 };
            questions.push(Question { stream: stream.index, reply_bytes: entry_bytes, ask });
        }
    }
}

fn read_from(question: &Question) -> Option<(StreamIndex, StreamId)> {
    match question.ask {
        Ask::Entries { after, .. } => Some((question.stream, after)),
        _ => None,
    }
}
