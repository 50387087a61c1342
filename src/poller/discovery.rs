//! Finds streams by SCAN at a bounded pace, between polls and outside their deadline.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Pipeline, cmd};
use tokio::time::Instant;

use crate::config::{Poll, StreamRule};
use crate::poller::decode::{self, Scanned};
use crate::poller::error::PollError;
use crate::poller::node::Node;
use crate::poller::pipeline::{Turn, call, command, run_pipelines};
use crate::poller::streams::StreamRegistry;
use crate::self_metrics::labels::Command;
use crate::self_metrics::target::TargetMetrics;
use redis_stream_core::clock::now;
use redis_stream_core::name::Name;
use redis_stream_lag::snapshot::Epoch;

/// The most keys that one SCAN walks: about half a millisecond of server time.
const MAX_SCAN_COUNT: u32 = 1_000;

/// Assumed size of a reply to XINFO GROUPS, in bytes.
const EXPECTED_GROUPS_BYTES: u64 = 512;

/// The state of a SCAN over all keys of all nodes, called a turn: one cursor on each node.
#[derive(Debug)]
pub(super) struct Discovery {
    pattern: MatchPattern,
    walks: Vec<ScanCursor>,
    turn_began: Option<Instant>,
    /// True if this turn misses keys: a node is missing, or was added during the turn.
    is_incomplete: bool,
    missing_nodes: usize,
    /// True once SCAN has walked all keys, or if every stream is named.
    pub(super) ended_a_turn: bool,
    /// Why SCAN was refused last; logged when it changes.
    pub(super) problem: Option<String>,
    /// True if this turn met a stream whose name is too long.
    met_long_name: bool,
    /// The same of this turn or the last one.
    pub(super) leaves_out_long_names: bool,
    turn_takes_at_least: Duration,
    /// At most one second's allowance, as SCAN walks them without a pause.
    scan_count: u32,
    step_takes_at_least: Duration,
}

#[derive(Debug)]
struct ScanCursor {
    node: Arc<str>,
    /// The connection that the cursor belongs to.
    epoch: Epoch,
    cursor: u64,
    /// When the next SCAN is due; `None` once this turn has walked all keys of the node.
    due: Option<Instant>,
}

impl ScanCursor {
    fn is_of(&self, node: &Arc<str>, epoch: Epoch) -> bool {
        self.node == *node && self.epoch == epoch
    }
}

#[derive(Debug)]
enum MatchPattern {
    /// Every stream is named, so that there is nothing to find.
    None,
    /// One glob: the server filters by it, which spares it looking up the type of other keys.
    One(Vec<u8>),
    /// Several globs: SCAN returns all streams.
    All,
}

impl Discovery {
    pub(super) fn new(rules: &[StreamRule], poll: &Poll) -> Self {
        let mut globs = rules.iter().map(|rule| &rule.key).filter(|key| key.literal().is_none());
        let pattern = match (globs.next(), globs.next()) {
            (None, _) => MatchPattern::None,
            (Some(glob), None) if glob.pattern() != b"*" => MatchPattern::One(glob.pattern().to_vec()),
            _ => MatchPattern::All,
        };
        let keys_per_second = poll.scan_keys_per_second.max(1);
        let scan_count = MAX_SCAN_COUNT.min(keys_per_second);
        Self {
            ended_a_turn: matches!(pattern, MatchPattern::None),
            pattern,
            problem: None,
            walks: Vec::new(),
            turn_began: None,
            is_incomplete: false,
            missing_nodes: 0,
            met_long_name: false,
            leaves_out_long_names: false,
            turn_takes_at_least: poll.discovery_interval,
            scan_count,
            step_takes_at_least: Duration::from_secs(1) * scan_count / keys_per_second,
        }
    }

    /// Returns when the next SCAN is due; `None` while no node is connected, or if there is nothing to find.
    pub(super) fn due(&self) -> Option<Instant> {
        self.walks.iter().filter_map(|walk| walk.due).min()
    }

    /// Returns the node whose SCAN is due first.
    pub(super) fn next_node(&self) -> Option<&Arc<str>> {
        let due = self.walks.iter().filter(|walk| walk.due.is_some());
        due.min_by_key(|walk| walk.due).map(|walk| &walk.node)
    }

    /// Starts a cursor for each new connection, and drops those of closed connections.
    pub(super) fn note_nodes<'n>(
        &mut self,
        nodes: impl Iterator<Item = (&'n Arc<str>, Epoch)>,
        streams: &mut StreamRegistry,
        now: Instant,
    ) {
        if matches!(self.pattern, MatchPattern::None) {
            return;
        }
        let before = std::mem::take(&mut self.walks);
        let count = before.len();
        let mut before: Vec<_> = before.into_iter().map(Some).collect();
        for (node, epoch) in nodes {
            let is_it = |walk: &Option<ScanCursor>| walk.as_ref().is_some_and(|walk| walk.is_of(node, epoch));
            let known = before.iter_mut().find(|walk| is_it(walk)).and_then(Option::take);
            // A key may have moved between nodes that were walked before and this one.
            self.is_incomplete |= known.is_none() && count > 0;
            let begin = || ScanCursor { node: Arc::clone(node), epoch, cursor: 0, due: Some(now) };
            self.walks.push(known.unwrap_or_else(begin));
        }
        self.is_incomplete |= before.iter().any(Option::is_some);
        if count == 0 && !self.walks.is_empty() {
            streams.begin_turn();
            (self.turn_began, self.is_incomplete) = (Some(now), false);
        }
    }

    pub(super) fn disconnected(&mut self, node: &str) {
        let before = self.walks.len();
        self.walks.retain(|walk| *walk.node != *node);
        self.is_incomplete |= self.walks.len() != before;
    }

    /// Sets the number of nodes that are not connected.
    pub(super) fn note_missing_nodes(&mut self, count: usize) {
        self.missing_nodes = count;
    }

    /// Sends one SCAN to a node, and notes the keys that it returns.
    pub(super) async fn step(
        &mut self,
        node: &mut Node,
        streams: &mut StreamRegistry,
        metrics: &TargetMetrics,
        limit: Duration,
    ) -> Result<(), PollError> {
        let Some(at) = self.walks.iter().position(|walk| walk.node == node.address) else { return Ok(()) };
        let sent = now();
        let began = *self.turn_began.get_or_insert(sent);
        metrics.count_commands(Command::Scan, 1);
        // After an error the next turn starts no sooner than it would have without.
        let cursor = std::mem::take(&mut self.walks[at].cursor);
        self.walks[at].due = Some(began.max(sent) + self.turn_takes_at_least);
        let protocol = |error| PollError::protocol(&node.address, &error);
        let command = self.command(cursor);
        let reply = call(node.connection.get_mut(), &node.address, sent + limit, &command).await;
        let Scanned { cursor, keys, has_longer } =
            match reply.and_then(|reply| decode::scan(reply.value()).map_err(protocol)) {
                Ok(found) => found,
                Err(error) => {
                    if self.walks.len() == 1 {
                        streams.begin_turn();
                    }
                    (self.turn_began, self.is_incomplete) = (None, self.walks.len() > 1);
                    return Err(error);
                }
            };
        self.met_long_name |= has_longer;
        self.leaves_out_long_names |= has_longer;
        let unknown = streams.found(keys);
        let walk = &mut self.walks[at];
        walk.cursor = cursor;
        walk.due = (cursor != 0).then(|| sent + self.step_takes_at_least);
        find_groups(node, unknown, streams, metrics, sent + limit).await?;
        if self.walks.iter().all(|walk| walk.due.is_none()) {
            self.end_turn(began, sent, streams);
        }
        Ok(())
    }

    fn end_turn(&mut self, began: Instant, sent: Instant, streams: &mut StreamRegistry) {
        if self.is_incomplete || self.missing_nodes > 0 {
            streams.end_incomplete_turn();
        } else {
            streams.end_turn();
        }
        self.ended_a_turn = true;
        self.leaves_out_long_names = std::mem::take(&mut self.met_long_name);
        let due = (began + self.turn_takes_at_least).max(sent + self.step_takes_at_least);
        for walk in &mut self.walks {
            (walk.cursor, walk.due) = (0, Some(due));
        }
        (self.turn_began, self.is_incomplete) = (None, false);
    }

    fn command(&self, cursor: u64) -> Cmd {
        let mut scan = cmd("SCAN");
        scan.arg(cursor);
        if let MatchPattern::One(pattern) = &self.pattern {
            scan.arg("MATCH").arg(pattern);
        }
        scan.arg("COUNT").arg(self.scan_count).arg("TYPE").arg("stream");
        scan
    }
}

/// Asks whether streams that the limit might leave out have groups.
async fn find_groups(
    node: &Node,
    keys: Vec<Name>,
    streams: &mut StreamRegistry,
    metrics: &TargetMetrics,
    deadline: Instant,
) -> Result<(), PollError> {
    if keys.is_empty() {
        return Ok(());
    }
    let pipelines = [node.pipelines(keys.iter().map(|_| EXPECTED_GROUPS_BYTES))];
    let ended = run_pipelines(
        &pipelines,
        (deadline, deadline),
        |_, batch, _| {
            let mut pipeline = Pipeline::with_capacity(batch.len());
            for key in &keys[batch] {
                pipeline.add_command(command([b"XINFO", b"GROUPS", key.as_bytes()]));
                metrics.count_commands(Command::XinfoGroups, 1);
            }
            Turn::Send(pipeline)
        },
        |_, batch, replies| {
            for (key, reply) in keys[batch].iter().zip(replies) {
                // An error reply concerns this key alone, which stays a candidate like any other.
                if decode::xinfo_groups(reply).is_ok_and(|groups| !groups.is_empty()) {
                    streams.found_groups(key.clone());
                }
            }
            Ok(())
        },
    )
    .await;
    match ended.into_iter().flatten().next() {
        // Keys that were not asked stay candidates.
        None | Some(PollError::OutOfTime) => Ok(()),
        Some(error) => Err(error),
    }
}
