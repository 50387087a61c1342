//! The servers behind one target: their connections, and the streams known on them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::config::{Poll, Target};
use crate::poller::ask;
use crate::poller::catalogue::Catalogue;
use crate::poller::discovery::Discovery;
use crate::poller::error::{KeyError, PollError};
use crate::poller::fleet::Fleet;
use crate::poller::names::Names;
use crate::poller::node::Identity;
use crate::poller::pending::{self, PendingError};
use crate::poller::read::{Read, Reading};
use crate::poller::round::Round;
use crate::poller::schedule::PayloadBudget;
use crate::poller::source::Courtesy;
use crate::self_metrics::labels::{Limited, Reason};
use crate::self_metrics::target::TargetMetrics;
use redis_stream_core::clock::now;
use redis_stream_core::cluster::Redirect;
use redis_stream_core::name::Name;
use redis_stream_core::redis_url::Place;
use redis_stream_core::tls::{SKIPPED, Verification};
use redis_stream_lag::question::{Answer, Question};
use redis_stream_lag::snapshot::Snapshot;

/// The servers behind one target.
#[derive(Debug)]
pub struct Upstream {
    target: Arc<Target>,
    metrics: TargetMetrics,
    fleet: Fleet,
    /// The nodes of the last snapshot: their numbers in the fleet, and how they are asked. `None`: not any more, as it
    /// took too long over a question about it.
    sources: Vec<Option<(usize, Courtesy)>>,
    /// Why some of the nodes could not be connected for this poll.
    missing: Option<PollError>,
    /// Whether there were any for the last poll.
    is_missing_nodes: bool,
    polls: u64,
    catalogue: Catalogue,
    names: Names,
    discovery: Discovery,
    payload: PayloadBudget,
    scan_problem: Option<String>,
    /// Whether a node refused TIME in the last poll.
    is_time_refused: bool,
    /// Whether the limit cut the streams last; logged when it changes.
    leaves_out_streams: bool,
    timeout: Duration,
}

/// A node, as it stands.
#[derive(Clone, Copy, Debug)]
pub struct NodeState<'a> {
    /// Host and port, or the path of its socket.
    pub address: &'a str,
    /// What it said it is; `None` where it does not tell, and before the first connection.
    pub identity: Option<&'a Identity>,
    /// Why it cannot be polled; `None` if it can.
    pub failure: Option<&'a str>,
}

impl Upstream {
    /// Servers that were not connected to yet.
    #[must_use]
    pub fn new(target: Arc<Target>, poll: &Poll, metrics: TargetMetrics) -> Self {
        if target.tls.verification == Verification::Skipped {
            warn!(target_name = %target.name, "{SKIPPED}");
        }
        Self {
            fleet: Fleet::new(Arc::clone(&target), metrics.clone()),
            catalogue: Catalogue::new(&target, poll.shard),
            names: Names::default(),
            discovery: Discovery::new(&target.streams, poll),
            payload: PayloadBudget::new(poll.payload_budget),
            timeout: poll.timeout,
            target,
            metrics,
            sources: Vec::new(),
            missing: None,
            is_missing_nodes: false,
            polls: 0,
            scan_problem: None,
            is_time_refused: false,
            leaves_out_streams: false,
        }
    }

    /// Connects anew, with another configuration of the same servers, and goes on with the streams that it selects too.
    /// No connection takes the epoch of one before.
    pub fn renew(&mut self, target: &Arc<Target>, poll: &Poll, metrics: TargetMetrics) {
        let fleet = self.fleet.successor(Arc::clone(target), metrics.clone());
        let next = Self { fleet, polls: self.polls, ..Self::new(Arc::clone(target), poll, metrics) };
        let before = std::mem::replace(self, next);
        let finds_the_same = before.catalogue.finds_the_same(target, poll.shard);
        self.discovery.ended_a_turn |= finds_the_same && before.discovery.ended_a_turn;
        self.catalogue = before.catalogue.successor(target, poll.shard);
    }

    /// The nodes, as they stand.
    pub fn nodes(&self) -> impl Iterator<Item = NodeState<'_>> {
        self.fleet.members.iter().map(|member| NodeState {
            address: &member.address,
            identity: member.identity.as_ref(),
            failure: member.failure.as_deref(),
        })
    }

    /// Where one of its nodes is, the first that is connected; `None` while none is.
    #[must_use]
    pub fn place(&self) -> Option<&Place> {
        self.fleet.connected().next().map(|(_, member, _)| &member.place)
    }

    /// Why SCAN did not work last; `None` if it did, or was not needed.
    #[must_use]
    pub fn scan_problem(&self) -> Option<&str> {
        self.scan_problem.as_deref()
    }

    /// Whether TIME was refused in the last poll, so that this machine's clock had to serve.
    #[must_use]
    pub fn is_time_refused(&self) -> bool {
        self.is_time_refused
    }

    /// Why a stream could not be read last; `None` if it was, or if no node that holds it could be asked.
    #[must_use]
    pub fn problem_of(&self, key: &Name) -> Option<Reason> {
        self.catalogue.problem_of(key).map(KeyError::reason)
    }

    /// Bytes of entries that may be read in this poll to count lag.
    #[must_use]
    pub fn payload_left(&self) -> u64 {
        self.payload.left()
    }

    /// Whether every node is connected, and none was lost since.
    #[must_use]
    pub fn has_all_nodes(&self) -> bool {
        !self.is_missing_nodes && self.fleet.members.iter().all(|member| member.node.is_some())
    }

    /// Whether any node is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.fleet.connected().next().is_some()
    }

    /// Connects where there is no connection, and checks that the nodes are what they are to be.
    ///
    /// # Errors
    ///
    /// None can be reached: each refuses the login, has another role, or is not there. There is no connection then.
    pub async fn connect(&mut self, deadline: Instant) -> Result<(), PollError> {
        let connected = self.fleet.connect(deadline).await;
        let nodes = self.fleet.connected().map(|(_, member, node)| (&member.address, node.epoch));
        self.discovery.note_nodes(nodes, &mut self.catalogue, now());
        self.note_missing_nodes();
        self.missing = connected.inspect_err(|_| self.disconnect())?;
        Ok(())
    }

    fn note_missing_nodes(&mut self) {
        let missing = self.fleet.members.iter().filter(|member| member.node.is_none()).count();
        self.discovery.note_missing_nodes(missing);
    }

    /// Closes all connections. The next [`connect`](Self::connect) resolves and dials anew.
    pub fn disconnect(&mut self) {
        for member in &self.fleet.members {
            self.discovery.disconnected(&member.address);
        }
        self.fleet.disconnect();
    }

    /// Whether every key was looked at at least once, if there are globs to find streams by.
    #[must_use]
    pub fn knows_its_streams(&self) -> bool {
        self.discovery.ended_a_turn
    }

    /// When the next [`scan`](Self::scan) is due; `None` while there is no connection, or nothing to find.
    #[must_use]
    pub fn next_scan(&self) -> Option<Instant> {
        self.discovery.due()
    }

    /// Looks at the next keys. That the server refuses SCAN is counted, and logged when it changes.
    ///
    /// # Errors
    ///
    /// The node does not answer, or answers nothing, and there is no other.
    pub async fn scan(&mut self) -> Result<(), PollError> {
        let Some(address) = self.discovery.next_node().cloned() else { return Ok(()) };
        let Some(node) = self.fleet.node_mut(&address) else {
            self.discovery.disconnected(&address);
            return Ok(());
        };
        let (catalogue, metrics) = (&mut self.catalogue, &self.metrics);
        let problem = match self.discovery.step(node, catalogue, metrics, self.timeout).await {
            Ok(()) => None,
            Err(error) if error.is_refusal() => {
                self.metrics.count_errors(error.reason(), 1);
                Some(error.to_string())
            }
            Err(error) => return self.lose(&address, error),
        };
        if self.scan_problem != problem {
            match &problem {
                Some(error) => {
                    warn!(target_name = %self.target.name, error, "cannot look for streams by SCAN");
                }
                None => info!(target_name = %self.target.name, "can look for streams by SCAN again"),
            }
            self.scan_problem = problem;
        }
        Ok(())
    }

    /// A node was lost between two polls: an error only where there is no other.
    fn lose(&mut self, address: &str, error: PollError) -> Result<(), PollError> {
        if self.fleet.members.len() == 1 {
            return Err(error);
        }
        self.metrics.count_errors(error.reason(), 1);
        if let Some(at) = self.fleet.members.iter().position(|member| *member.address == *address) {
            self.fail(at, &error);
        }
        Ok(())
    }

    fn fail(&mut self, at: usize, error: &PollError) {
        self.fleet.fail(at, error);
        self.discovery.disconnected(&self.fleet.members[at].address);
        self.note_missing_nodes();
    }

    /// Reads the facts of every stream that is due.
    ///
    /// # Errors
    ///
    /// Nothing could be read.
    pub async fn read(&mut self, deadline: Instant) -> Result<(Snapshot, Option<PollError>), PollError> {
        self.polls += 1;
        self.is_time_refused = false;
        self.catalogue.admit();
        self.names.forget_unused();
        self.payload.begin_poll();
        let due = self.payload.select(&self.catalogue.watched);
        let mut round = Round::new(&self.fleet, &self.catalogue.watched, &due);
        let redirected = self.read_from(&mut round, 0, deadline).await;
        if !redirected.is_empty() {
            self.metrics.count_errors(Reason::Moved, redirected.len() as u64);
            let first = round.follow(redirected, &mut self.fleet, deadline).await;
            // Whoever sends us on once more is asked again in the next poll.
            self.read_from(&mut round, first, deadline).await;
        }
        self.finish(round)
    }

    /// Reads from the sources of a round, from `first` on. Returns what they do not hold.
    async fn read_from(
        &mut self,
        round: &mut Round,
        first: usize,
        deadline: Instant,
    ) -> Vec<(usize, usize, Redirect)> {
        let Round { sources, outcomes, .. } = round;
        let (fleet, target) = (&self.fleet, &self.target);
        // Each of them is connected: they were chosen just now.
        let asked: Vec<_> = sources[first..]
            .iter()
            .filter_map(|planned| Some((fleet.source(planned.member, planned.courtesy)?, &planned.due[..])))
            .collect();
        let mut reading = Reading {
            target,
            catalogue: &mut self.catalogue,
            metrics: &self.metrics,
            names: &mut self.names,
            poll_number: self.polls,
            payload_left: self.payload.left(),
            deadline,
        };
        let Read { payload_bytes, is_time_refused, ended, redirected } = reading.read(&asked, outcomes).await;
        self.is_time_refused |= is_time_refused;
        self.payload.spend(payload_bytes);
        for (planned, ended) in sources[first..].iter_mut().zip(ended) {
            planned.ended = ended;
        }
        redirected.into_iter().map(|(at, by, redirect)| (at, by + first, redirect)).collect()
    }

    /// What a round has brought, by node.
    fn finish(&mut self, mut round: Round) -> Result<(Snapshot, Option<PollError>), PollError> {
        let was_any_read = self.catalogue.watched.iter().any(|watched| watched.last_read == self.polls);
        let (nodes, are_silent) = round.readings(&self.fleet, &self.catalogue, self.polls);
        let has_any_ended_well = round.sources.iter().any(|planned| planned.ended.is_none());
        let mut cut_off_by = self.missing.take();
        self.is_missing_nodes = cut_off_by.is_some();
        self.sources.clear();
        for (planned, is_silent) in round.sources.into_iter().zip(are_silent) {
            self.sources.push(Some((planned.member, planned.courtesy)));
            let Some(error) = planned.ended else { continue };
            if is_silent || !matches!(error, PollError::Timeout { .. }) {
                self.fail(planned.member, &error);
            }
            cut_off_by.get_or_insert(error);
        }
        self.catalogue.forget_missing();
        self.show_numbers();
        match cut_off_by {
            Some(error) if !was_any_read && !has_any_ended_well => Err(error),
            cut_off_by => Ok((Snapshot { nodes }, cut_off_by)),
        }
    }

    /// Puts questions about a snapshot; an answer for each, in their order, and why the rest was not answered.
    pub async fn ask(
        &mut self,
        snapshot: &Snapshot,
        questions: &[Question],
        deadline: Instant,
    ) -> (Vec<Answer>, Option<PollError>) {
        let sources = self.sources.iter().enumerate().filter_map(|(number, source)| {
            let (member, courtesy) = (*source)?;
            Some((number, self.fleet.source(member, courtesy)?))
        });
        let sources: Vec<_> = sources.collect();
        let asked = ask::ask(&sources, snapshot, questions, &mut self.names, &self.metrics, deadline);
        let (answers, ended) = asked.await;
        let numbers: Vec<_> = sources.iter().map(|(number, _)| *number).collect();
        let mut cut_off_by = None;
        for (number, error) in numbers.into_iter().zip(ended) {
            let Some(error) = error else { continue };
            let source = self.sources[number].take();
            if let Some((member, _)) = source.filter(|_| !matches!(error, PollError::Timeout { .. })) {
                self.fail(member, &error);
            }
            cut_off_by.get_or_insert(error);
        }
        (answers, cut_off_by)
    }

    /// Lists pending entries of a group, for a person. There has to be a connection.
    ///
    /// # Errors
    ///
    /// The node does not answer, there is no such group, or the server does not let it be read.
    pub async fn pending(&mut self, query: &pending::Query) -> Result<pending::Listed, PendingError> {
        pending::list(&mut self.fleet, query, self.timeout).await
    }

    /// Notes bytes of entries that were read to answer questions.
    pub fn spend_payload(&mut self, bytes: u64) {
        self.payload.spend(bytes);
    }

    fn show_numbers(&mut self) {
        let (watched, left_out) = (&self.catalogue.watched, self.catalogue.left_out);
        if std::mem::replace(&mut self.leaves_out_streams, left_out > 0) != (left_out > 0) {
            warn!(
                target_name = %self.target.name,
                streams_left_out = left_out,
                "limits of the target leave out streams"
            );
        }
        self.metrics.set_discovered_streams(watched.len());
        self.metrics.set_limited(Limited::Streams, left_out);
        self.metrics.set_limited(Limited::Groups, watched.iter().map(|stream| stream.left_out.groups).sum());
        self.metrics
            .set_limited(Limited::Consumers, watched.iter().map(|stream| stream.left_out.consumers).sum());
    }
}
