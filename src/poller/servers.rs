//! The servers behind one target: their connections, the streams found on them, reading and asking.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::config::{Poll, Target};
use crate::poller::ask;
use crate::poller::discovery::Discovery;
use crate::poller::error::{KeyError, PollError};
use crate::poller::interner::NameInterner;
use crate::poller::list_pending::{self, PendingError, PendingList, PendingQuery};
use crate::poller::node::{Identity, NodeState};
use crate::poller::node_reader::Asking;
use crate::poller::nodes::Nodes;
use crate::poller::payload_budget::PayloadBudget;
use crate::poller::read::{Read, ReadRequest};
use crate::poller::read_plan::{ReadPlan, ratio};
use crate::poller::sample::{self, StreamSample};
use crate::poller::selection::MAX_CONSUMERS;
use crate::poller::slots::slot;
use crate::poller::streams::StreamRegistry;
use crate::self_metrics::labels::{Limited, Reason};
use crate::self_metrics::target::TargetMetrics;
use redis_stream_core::clock::{now, unix_time};
use redis_stream_core::cluster::Redirect;
use redis_stream_core::name::Name;
use redis_stream_core::redis_url::Endpoint;
use redis_stream_core::tls::{SKIPPED, Verification};
use redis_stream_lag::poll_readings::PollReadings;
use redis_stream_lag::question::{Answer, Question, QuestionKind};
use redis_stream_lag::report::{LimitedCounts, Report};
use redis_stream_lag::snapshot::ConsumerLimit;

const LONG_NAMES: &str = "some streams have names longer than 64 KiB: they are left out";

/// The most streams that are assumed to be read for each whose questions are answered.
const MOST_LATE: f64 = 4.0;

/// The warning where `poll.memory_interval` is set, and a server refuses MEMORY USAGE.
pub(super) const MEMORY_REFUSED: &str = "MEMORY USAGE is refused: redis_stream_memory_bytes is absent; permit it (+memory|usage), or leave out poll.memory_interval";

/// The servers behind one target.
#[derive(Debug)]
pub(super) struct Servers {
    target: Arc<Target>,
    timeout: Duration,
    stale_after: Duration,
    nodes: Nodes,
    streams: StreamRegistry,
    discovery: Discovery,
    names: NameInterner,
    payload: PayloadBudget,
    consumer_max_idle: Duration,
    /// The nodes of the last reading, by their number in it; `None` once a node took too long over a question.
    nodes_read: Vec<Option<(usize, Asking)>>,
    poll_number: u64,
    /// Streams that were due in the last poll, for each that was read: of the node where that is the most.
    due_per_read: f64,
    /// True if a node refused TIME in the last poll.
    is_time_refused: bool,
    /// True if a node refused MEMORY USAGE when it was last sent.
    is_memory_refused: bool,
    metrics: TargetMetrics,
}

impl Servers {
    /// Returns servers that are not connected yet.
    pub(super) fn new(target: Arc<Target>, poll: &Poll, metrics: TargetMetrics) -> Self {
        if target.tls.verification == Verification::Skipped {
            warn!(target_name = %target.name, "{SKIPPED}");
        }
        Self {
            nodes: Nodes::new(Arc::clone(&target), metrics.clone()),
            streams: StreamRegistry::new(&target, poll.shard),
            discovery: Discovery::new(&target.streams, poll),
            names: NameInterner::default(),
            payload: PayloadBudget::new(poll.payload_budget),
            consumer_max_idle: poll.consumer_max_idle,
            timeout: poll.timeout,
            stale_after: poll.stale_after,
            target,
            metrics,
            nodes_read: Vec::new(),
            poll_number: 0,
            due_per_read: 1.0,
            is_time_refused: false,
            is_memory_refused: false,
        }
    }

    /// Drops all connections and takes another configuration of the same servers. Streams that both configurations
    /// select stay known. No later connection reuses an epoch.
    pub(super) fn reconfigure(&mut self, target: &Arc<Target>, poll: &Poll, metrics: TargetMetrics) {
        let nodes = self.nodes.successor(Arc::clone(target), metrics.clone());
        let next =
            Self { nodes, poll_number: self.poll_number, ..Self::new(Arc::clone(target), poll, metrics) };
        let before = std::mem::replace(self, next);
        let finds_the_same = before.streams.finds_the_same(target, poll.shard);
        self.discovery.ended_a_turn |= finds_the_same && before.discovery.ended_a_turn;
        self.streams = before.streams.successor(target, poll.shard);
    }

    pub(super) fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.nodes.handles.iter().map(|handle| &handle.endpoint)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeState<'_>> {
        self.nodes.handles.iter().map(|handle| NodeState {
            address: &handle.address,
            identity: handle.identity.as_ref(),
            failure: handle.failure.as_deref(),
            run_id: handle.run_id(),
        })
    }

    pub(super) fn node_identity(&self) -> Option<&Identity> {
        self.nodes.connected().next().and_then(|(_, handle, _)| handle.identity.as_ref())
    }

    pub(super) fn node_address(&self) -> Option<&Endpoint> {
        let connected = self.nodes.connected().next().map(|(_, handle, _)| handle);
        connected.or(self.nodes.handles.first()).map(|handle| &handle.endpoint)
    }

    pub(super) fn scan_problem(&self) -> Option<&str> {
        self.discovery.problem.as_deref()
    }

    fn consumer_limit(&self) -> ConsumerLimit {
        ConsumerLimit { at_most: self.target.limits.consumers_per_group, max_idle: self.consumer_max_idle }
    }

    /// Returns true if TIME was refused in the last poll.
    pub(super) fn is_time_refused(&self) -> bool {
        self.is_time_refused
    }

    /// Returns true if MEMORY USAGE was refused when it was last sent.
    pub(super) fn is_memory_refused(&self) -> bool {
        self.is_memory_refused
    }

    pub(super) fn stream_problem(&self, key: &Name) -> Option<Reason> {
        self.streams.problem_of(key).map(KeyError::reason)
    }

    /// Returns the bytes of entries that this poll may still read to count lag.
    pub(super) fn payload_left(&self) -> u64 {
        self.payload.left()
    }

    /// Subtracts bytes of entries that were read to answer questions.
    pub(super) fn spend_payload(&mut self, bytes: u64) {
        self.payload.spend(bytes);
    }

    pub(super) fn are_all_connected(&self) -> bool {
        self.nodes.handles.iter().all(|handle| handle.node.is_some())
    }

    pub(super) fn is_connected(&self) -> bool {
        self.nodes.connected().next().is_some()
    }

    /// Connects where there is no connection, and checks each node's role. Returns why some node could not be
    /// connected.
    ///
    /// # Errors
    ///
    /// No node could be connected.
    pub(super) async fn connect(&mut self, deadline: Instant) -> Result<Option<PollError>, PollError> {
        let connected = self.nodes.connect(deadline).await;
        let nodes = self.nodes.connected().map(|(_, handle, node)| (&handle.address, node.epoch));
        self.discovery.note_nodes(nodes, &mut self.streams, now());
        self.note_missing_nodes();
        connected.inspect_err(|_| self.disconnect())
    }

    fn note_missing_nodes(&mut self) {
        let missing = self.nodes.handles.iter().filter(|handle| handle.node.is_none()).count();
        self.discovery.note_missing_nodes(missing);
    }

    /// Closes all connections. The next [`connect`](Self::connect) resolves and dials again.
    pub(super) fn disconnect(&mut self) {
        for handle in &self.nodes.handles {
            self.discovery.disconnected(&handle.address);
        }
        self.nodes.disconnect();
    }

    /// Returns true if SCAN has walked all keys at least once, or every stream is named.
    pub(super) fn has_found_streams(&self) -> bool {
        self.discovery.ended_a_turn
    }

    pub(super) fn next_scan(&self) -> Option<Instant> {
        self.discovery.due()
    }

    /// Runs the next SCAN. A refused SCAN is counted, and logged when that changes.
    ///
    /// # Errors
    ///
    /// The only node does not answer.
    pub(super) async fn scan(&mut self) -> Result<(), PollError> {
        let Some(address) = self.discovery.next_node().cloned() else { return Ok(()) };
        let node = match self.nodes.reopened(&address, now() + self.timeout).await {
            Ok(Some(node)) => node,
            Ok(None) => {
                self.discovery.disconnected(&address);
                return Ok(());
            }
            Err(error) => return self.lose(&address, error),
        };
        let (streams, metrics) = (&mut self.streams, &self.metrics);
        let problem = match self.discovery.step(node, streams, metrics, self.timeout).await {
            Ok(()) => None,
            Err(error) if error.is_refusal() => {
                self.metrics.count_errors(error.reason(), 1);
                Some(error.to_string())
            }
            Err(error) => return self.lose(&address, error),
        };
        if self.discovery.problem != problem {
            match &problem {
                Some(error) => {
                    warn!(target_name = %self.target.name, error, "cannot look for streams by SCAN");
                }
                None => info!(target_name = %self.target.name, "SCAN works again"),
            }
            self.discovery.problem = problem;
        }
        Ok(())
    }

    pub(super) async fn keep_alive(&mut self) {
        self.nodes.keep_alive(now() + self.timeout).await;
    }

    /// Returns the first warning of a node.
    pub(super) fn node_warning(&self) -> Option<&str> {
        self.nodes.handles.iter().find_map(|handle| handle.warning.as_deref())
    }

    /// Returns a warning if there are streams that can never be read.
    pub(super) fn name_warning(&self) -> Option<&'static str> {
        self.discovery.leaves_out_long_names.then_some(LONG_NAMES)
    }

    /// Drops a node that was lost between two polls. Returns the error if it was the only node.
    fn lose(&mut self, address: &str, error: PollError) -> Result<(), PollError> {
        if self.nodes.handles.len() == 1 {
            return Err(error);
        }
        self.metrics.count_errors(error.reason(), 1);
        if let Some(at) = self.nodes.handles.iter().position(|handle| *handle.address == *address) {
            self.fail(at, &error);
        }
        Ok(())
    }

    fn fail(&mut self, at: usize, error: &PollError) {
        self.nodes.fail(at, error);
        self.discovery.disconnected(&self.nodes.handles[at].address);
        self.note_missing_nodes();
    }

    /// Reads every stream that is due. `unreachable` is the error of a node that could not be connected. `until` is
    /// the time until which streams are asked for, and the deadline of their replies; `readings` takes what is read, and
    /// `at` is the start of the poll by its clock. Returns the first error that cut the reading short.
    ///
    /// # Errors
    ///
    /// Nothing could be read. Then nothing is added to `readings`.
    pub(super) async fn read(
        &mut self,
        mut unreachable: Option<PollError>,
        until: (Instant, Instant),
        (readings, at): (&mut PollReadings<'_>, Duration),
    ) -> Result<Option<PollError>, PollError> {
        self.poll_number += 1;
        self.is_time_refused = false;
        self.streams.admit();
        self.names.forget_unused();
        self.payload.begin_poll();
        let due = self.payload.select(&self.streams.tracked, self.poll_number);
        self.streams.note_due(&due, now());
        readings.reserve(self.streams.tracked.len());
        let mut plan = ReadPlan::new(&self.nodes, &self.streams.tracked, &due);
        let redirected = self.read_from(&mut plan, 0, until, (readings, at)).await;
        if !redirected.is_empty() {
            self.metrics.count_errors(Reason::Moved, redirected.len() as u64);
            let (first, failed) = plan.follow(redirected, &mut self.nodes, until.1).await;
            unreachable = unreachable.or(failed);
            // A second redirect is followed in the next poll.
            self.read_from(&mut plan, first, until, (readings, at)).await;
        }
        self.finish(plan, unreachable, readings)
    }

    /// Reads from the plan's nodes, from `first` on. Returns the streams that they redirected.
    async fn read_from(
        &mut self,
        plan: &mut ReadPlan,
        first: usize,
        until: (Instant, Instant),
        (readings, at): (&mut PollReadings<'_>, Duration),
    ) -> Vec<(usize, usize, Redirect)> {
        let ReadPlan { node_reads, .. } = plan;
        let (nodes, target) = (&self.nodes, &self.target);
        // Each of them is connected: the plan has just chosen them.
        let asked: Vec<_> = node_reads[first..]
            .iter()
            .filter_map(|reads| Some((nodes.reader(reads.node, reads.asking)?, &reads.due[..])))
            .collect();
        let consumer_limit = self.consumer_limit();
        for (reader, _) in &asked {
            readings.add_node(reader.info(consumer_limit));
        }
        let mut request = ReadRequest {
            target,
            streams: &mut self.streams,
            metrics: &self.metrics,
            names: &mut self.names,
            poll_number: self.poll_number,
            payload_left: self.payload.left(),
            consumer_limit,
            payload_budget: self.payload.per_poll(),
            until,
            readings,
            read: Vec::new(),
            nodes_before: first,
            at,
        };
        let Read { payload_bytes, is_time_refused, ended, redirected } = request.read(&asked).await;
        self.is_time_refused |= is_time_refused;
        self.payload.spend(payload_bytes);
        for (reads, ended) in node_reads[first..].iter_mut().zip(ended) {
            reads.ended = ended;
        }
        redirected.into_iter().map(|(at, by, redirect)| (at, by + first, redirect)).collect()
    }

    /// Reads streams for losses, each from the node that owns it. Streams whose entries the payload budget does not allow
    /// are left out, those with very many groups, and replies that are errors.
    pub(super) async fn sample(&mut self, keys: &[Name], deadline: Instant) -> Vec<StreamSample> {
        let mut by_node: Vec<(usize, Vec<Name>)> = Vec::new();
        for key in keys {
            if self.streams.has_many_groups(key) {
                continue;
            }
            let payload = self.streams.payload_of(key).unwrap_or(0);
            let Some(node) = self.nodes.owner(slot(key)).filter(|_| payload <= self.payload.left()) else {
                continue;
            };
            self.payload.spend(payload);
            match by_node.iter_mut().find(|(known, _)| *known == node) {
                Some((_, keys)) => keys.push(key.clone()),
                None => by_node.push((node, vec![key.clone()])),
            }
        }
        let readers: Vec<_> = by_node
            .iter()
            .filter_map(|(node, keys)| Some((self.nodes.reader(*node, Asking::None)?, &keys[..])))
            .collect();
        sample::sample(&readers, &self.metrics, deadline).await
    }

    /// Adds the streams that were not read, and drops nodes that failed.
    fn finish(
        &mut self,
        plan: ReadPlan,
        mut cut_off_by: Option<PollError>,
        readings: &mut PollReadings<'_>,
    ) -> Result<Option<PollError>, PollError> {
        let was_any_read = self.streams.tracked.iter().any(|stream| stream.last_read == self.poll_number);
        let has_any_ended_well = plan.node_reads.iter().any(|reads| reads.ended.is_none());
        let is_error = cut_off_by.is_some() || plan.node_reads.iter().any(|reads| reads.ended.is_some());
        let got_no_reply = plan.got_no_reply(&self.streams.tracked, self.poll_number);
        if was_any_read || has_any_ended_well || !is_error {
            plan.add_unread(&got_no_reply, &self.streams, self.poll_number, readings);
        }
        self.due_per_read = plan.due_per_read(&self.streams.tracked, self.poll_number);
        self.nodes_read.clear();
        for (reads, got_no_reply) in plan.node_reads.into_iter().zip(got_no_reply) {
            self.nodes_read.push(Some((reads.node, reads.asking)));
            let Some(error) = reads.ended else { continue };
            if (got_no_reply && !matches!(error, PollError::OutOfTime)) || !error.is_late() {
                self.fail(reads.node, &error);
            }
            cut_off_by = PollError::first(cut_off_by, Some(error));
        }
        self.streams.forget_missing();
        match cut_off_by {
            Some(error) if !was_any_read && !has_any_ended_well => Err(error),
            cut_off_by => Ok(cut_off_by),
        }
    }

    /// Asks the nodes of the last reading. Returns an answer for each question, in order, and the first error that left
    /// questions unanswered.
    pub(super) async fn ask(
        &mut self,
        questions: &[Question],
        deadline: Instant,
    ) -> (Vec<Answer>, Option<PollError>) {
        let readers = self.nodes_read.iter().enumerate().filter_map(|(number, node)| {
            let (at, asking) = (*node)?;
            Some((number, self.nodes.reader(at, asking)?))
        });
        let readers: Vec<_> = readers.collect();
        let asked = ask::ask(&readers, questions, &mut self.names, &self.metrics, deadline);
        let (answers, ended) = asked.await;
        let numbers: Vec<_> = readers.iter().map(|(number, _)| *number).collect();
        self.note_memory(questions, &answers);
        let limit = self.consumer_limit();
        for (question, answer) in questions.iter().zip(&answers) {
            let Answer::Consumers(found) = answer else { continue };
            let left_out = limit.left_out(found);
            // Where there are more, all of them are left out already.
            if left_out > 0 && found.len() as u64 <= MAX_CONSUMERS {
                self.streams.note_consumers_left_out(&question.key, left_out);
            }
        }
        let mut cut_off_by = None;
        for (number, error) in numbers.into_iter().zip(ended) {
            let Some(error) = error else { continue };
            let node = self.nodes_read[number].take();
            if let Some((at, _)) = node.filter(|_| !error.is_late()) {
                self.fail(at, &error);
            }
            cut_off_by = PollError::first(cut_off_by, Some(error));
        }
        (answers, cut_off_by)
    }

    /// Notes whether MEMORY USAGE is refused, and logs when that changes.
    fn note_memory(&mut self, questions: &[Question], answers: &[Answer]) {
        let of_memory = questions.iter().zip(answers).filter(|(question, answer)| {
            matches!(question.kind, QuestionKind::Memory { .. })
                && !matches!(answer, Answer::Gone | Answer::Late)
        });
        let refused: Vec<bool> = of_memory.map(|(_, answer)| *answer == Answer::Unavailable).collect();
        if refused.is_empty() {
            return;
        }
        let is_refused = refused.contains(&true);
        let was_refused = std::mem::replace(&mut self.is_memory_refused, is_refused);
        match (was_refused, is_refused) {
            (false, true) => warn!(target_name = %self.target.name, "{MEMORY_REFUSED}"),
            (true, false) => info!(target_name = %self.target.name, "MEMORY USAGE works again"),
            _ => {}
        }
    }

    /// Takes a report of the last reading, with the streams that it keeps the values of the report before for, as they
    /// were late. Returns the time that a poll of all streams would take, if this one took `elapsed`.
    pub(super) fn note_report(&mut self, late: &[Name], elapsed: Duration) -> Duration {
        let read = self.streams.tracked.iter().filter(|stream| stream.last_read == self.poll_number).count();
        let shown = read.saturating_sub(late.len());
        self.streams.note_shown(self.poll_number, late);
        // A poll whose questions were nearly all late is no measure.
        elapsed.mul_f64(self.due_per_read * ratio(read, shown).min(MOST_LATE))
    }

    /// Returns the report without streams whose values are older than `poll.stale_after`, and exports the age of the others.
    pub(super) fn without_stale(&self, report: &Arc<Report>) -> Arc<Report> {
        let now = now();
        let oldest = now.checked_sub(self.stale_after);
        let age = self.streams.oldest_reading(oldest).map(|at| now - at);
        self.metrics.set_oldest_reading(age.map(|age| unix_time().saturating_sub(age)));
        self.streams.without_stale(report, oldest)
    }

    pub(super) async fn list_pending(&mut self, query: &PendingQuery) -> Result<PendingList, PendingError> {
        list_pending::list(&mut self.nodes, query, self.timeout).await
    }

    /// Exports and logs what was found, and what the limits leave out. Returns the latter.
    pub(super) fn export_counts(&mut self) -> LimitedCounts {
        if self.streams.limit_changed() {
            warn!(
                target_name = %self.target.name,
                streams_left_out = self.streams.left_out,
                "limits of the target leave out streams"
            );
        }
        for stream in &mut self.streams.tracked {
            stream.log_left_out(&self.target.name);
        }
        self.metrics.set_discovered_streams(self.streams.tracked.len());
        let limited = self.limited();
        let LimitedCounts { streams, groups, consumers } = limited;
        self.metrics.set_limited(Limited::Streams, streams);
        self.metrics.set_limited(Limited::Groups, groups);
        self.metrics.set_limited(Limited::Consumers, consumers);
        limited
    }

    /// Returns the numbers of what the limits leave out.
    fn limited(&self) -> LimitedCounts {
        let StreamRegistry { tracked, left_out, .. } = &self.streams;
        LimitedCounts {
            streams: *left_out,
            groups: tracked.iter().map(|stream| stream.left_out.groups as usize).sum(),
            consumers: tracked.iter().map(|stream| stream.left_out.consumers as usize).sum(),
        }
    }
}
