//! One round of reading: which node is asked for which streams, and what came of it.

use std::sync::Arc;

use tokio::time::Instant;

use crate::poller::catalogue::{Catalogue, Watched};
use crate::poller::error::PollError;
use crate::poller::exchange::share;
use crate::poller::fleet::Fleet;
use crate::poller::read::{Outcomes, stream_reading};
use crate::poller::source::Courtesy;
use redis_stream_core::cluster::{Redirect, RedirectKind};
use redis_stream_lag::snapshot::{Epoch, NodeReading, ReadOutcome};

/// A node, and what it is asked for.
pub(super) struct Planned {
    /// Its number in the fleet.
    pub(super) member: usize,
    pub(super) courtesy: Courtesy,
    /// The streams that are read from it, by their positions, in that order.
    pub(super) due: Vec<usize>,
    /// Why it ended early, if it did.
    pub(super) ended: Option<PollError>,
}

/// One round.
pub(super) struct Round {
    pub(super) sources: Vec<Planned>,
    /// For each watched stream, the source that holds it; `None` where no node that holds it is connected.
    read_by: Vec<Option<usize>>,
    /// For each watched stream, what became of it.
    pub(super) outcomes: Outcomes,
}

impl Round {
    /// Each stream that is due is asked for where its slot is known to be.
    pub(super) fn new(fleet: &Fleet, watched: &[Watched], due: &[usize]) -> Self {
        let planned = |member| Planned { member, courtesy: Courtesy::None, due: Vec::new(), ended: None };
        let mut sources: Vec<_> = fleet.connected().map(|(member, ..)| planned(member)).collect();
        let mut numbers = vec![None; fleet.members.len()];
        for (number, source) in sources.iter().enumerate() {
            numbers[source.member] = Some(number);
        }
        let home = |stream: &Watched| fleet.home(stream.slot).and_then(|member| numbers[member]);
        let read_by: Vec<_> = watched.iter().map(home).collect();
        for &at in due {
            if let Some(number) = read_by[at] {
                sources[number].due.push(at);
            }
        }
        Self { sources, read_by, outcomes: vec![(ReadOutcome::Deferred, Vec::new()); watched.len()] }
    }

    /// Asks for streams where other nodes sent us, in further sources; the number of the first of those.
    pub(super) async fn follow(
        &mut self,
        redirected: Vec<(usize, usize, Redirect)>,
        fleet: &mut Fleet,
        deadline: Instant,
    ) -> usize {
        let first = self.sources.len();
        // What cannot be reached leaves its streams to the next poll, and is not tried for each of them.
        let mut unreachable = Vec::new();
        for (at, by, redirect) in redirected {
            let by = self.sources[by].member;
            if unreachable.contains(&redirect.node) {
                continue;
            }
            match fleet.redirected(&redirect, by, share(deadline, 3)).await {
                Ok(member) => self.add(first, member, redirect.kind, at),
                Err(_) => unreachable.push(redirect.node),
            }
        }
        first
    }

    /// A stream is asked for elsewhere after all, in a source from `first` on.
    fn add(&mut self, first: usize, member: usize, kind: RedirectKind, at: usize) {
        let courtesy = Courtesy::towards(kind);
        let is_it = |source: &Planned| (source.member, source.courtesy) == (member, courtesy);
        let known = self.sources[first..].iter().position(is_it);
        let number = known.map_or(self.sources.len(), |at| first + at);
        if known.is_none() {
            self.sources.push(Planned { member, courtesy, due: Vec::new(), ended: None });
        }
        self.sources[number].due.push(at);
        self.read_by[at] = Some(number);
    }

    /// What it has brought, by source, and which sources said nothing at all though they were asked. Behind the
    /// sources come the streams that no node could be asked for, if there are any.
    pub(super) fn readings(
        &mut self,
        fleet: &Fleet,
        catalogue: &Catalogue,
        poll_number: u64,
    ) -> (Vec<NodeReading>, Vec<bool>) {
        let Catalogue { watched, rules, .. } = catalogue;
        let (mut nodes, mut are_silent) = (Vec::new(), Vec::new());
        for planned in &self.sources {
            let member = &fleet.members[planned.member];
            let epoch = member.node.as_ref().map_or(Epoch(0), |node| node.epoch);
            nodes.push(NodeReading { address: Arc::clone(&member.address), epoch, streams: Vec::new() });
            let has_spoken = planned.due.iter().any(|at| watched[*at].last_read == poll_number);
            are_silent.push(planned.ended.is_some() && !has_spoken);
        }
        let mut unreachable = Vec::new();
        for ((watched, outcome), read_by) in watched.iter().zip(self.outcomes.drain(..)).zip(&self.read_by) {
            let is_silent = read_by.is_none_or(|by| are_silent[by]);
            let outcome = match outcome {
                (ReadOutcome::Deferred, groups) if is_silent => (ReadOutcome::Unreachable, groups),
                outcome => outcome,
            };
            let streams = read_by.map_or(&mut unreachable, |by| &mut nodes[by].streams);
            streams.extend(stream_reading(watched, outcome, rules[watched.rule.0].window));
        }
        if !unreachable.is_empty() {
            nodes.push(NodeReading { address: "".into(), epoch: Epoch(0), streams: unreachable });
        }
        (nodes, are_silent)
    }
}
