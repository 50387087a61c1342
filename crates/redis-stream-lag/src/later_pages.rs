//! Pages of long lists of pending entries, which are read after the report of a poll is published: a pass over such a list
//! takes many polls, so its result can wait for the next report, and the report need not wait for the pages.

use std::time::Duration;

use crate::census::{Census, DuePage, PageReading, PelReading};
use crate::history::NodeClock;
use crate::question::{LINE_BYTES, PendingEntry, Question, QuestionKind};
use crate::snapshot::{GroupInfo, StreamInfo};
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;

/// The pages that are left to be read after a poll.
#[derive(Debug, Default)]
pub(crate) struct LaterPages {
    pub(crate) due: Vec<LaterPage>,
    /// The pages that were asked for last.
    pub(crate) asked: Vec<LaterPage>,
    /// The rest of the budget of the poll, in entries.
    pub(crate) left: u32,
}

/// A page, and the poll whose budget pays for it.
#[derive(Debug)]
pub(crate) struct LaterPage {
    /// The node that the stream was read from.
    node: usize,
    pub(crate) key: Name,
    pub(crate) group: Name,
    list: PelReading,
    /// ID of the first entry of the stream.
    first: Option<StreamId>,
    /// Start of the poll, by the caller's clock.
    at: Duration,
    page: DuePage,
}

impl LaterPage {
    pub(crate) fn new(
        node: usize,
        key: &Name,
        (info, group): (&StreamInfo, &GroupInfo),
        at: Duration,
        page: DuePage,
    ) -> Self {
        let (key, name) = (key.clone(), group.name.clone());
        Self { node, key, group: name, list: PelReading::of(info, group), first: info.first, at, page }
    }

    pub(crate) fn question(&self) -> Question {
        let DuePage { after, at_most } = self.page;
        Question {
            node: self.node,
            key: self.key.clone(),
            reply_bytes: self.list.pending.min(at_most.into()) * LINE_BYTES,
            kind: QuestionKind::PendingPage { group: self.group.clone(), after, at_most },
        }
    }

    /// Adds the entries of the page to the census. Returns the next page of the list, if it is not read to its end and the
    /// budget allows.
    pub(crate) fn note(
        self,
        entries: &[(PendingEntry, Name)],
        census: &mut Census,
        clock: NodeClock,
        budget: &mut u32,
    ) -> Option<Self> {
        let Self { list, first, at, page: DuePage { at_most, .. }, .. } = self;
        let clock_jump = clock.jump(list.time, at);
        if census.note_page(entries, &PageReading { at_most, time: list.time, at, clock_jump, first }) {
            return None;
        }
        let page = census.next_page(list, at, budget)?;
        Some(Self { page, ..self })
    }
}
