//! Finding streams by SCAN, at a bounded pace, beside the polls and outside their deadline.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, cmd};
use tokio::time::Instant;

use crate::config::{Poll, StreamRule};
use crate::poller::catalogue::Catalogue;
use crate::poller::decode;
use crate::poller::error::PollError;
use crate::poller::exchange::call;
use crate::poller::node::Node;
use crate::self_metrics::labels::Command;
use crate::self_metrics::target::TargetMetrics;
use redis_stream_core::clock::now;
use redis_stream_lag::snapshot::Epoch;

/// Most keys that one SCAN walks: about half a millisecond of the server's time.
const MAX_SCAN_COUNT: u32 = 1_000;

/// Where a turn of SCAN over the keyspace stands: one walk on each node.
#[derive(Debug)]
pub(super) struct Discovery {
    pattern: Pattern,
    walks: Vec<Walk>,
    turn_began: Option<Instant>,
    /// Whether this turn does not go over all keys: a node is missing, or was added in the midst of it.
    is_torn: bool,
    /// Nodes that hold keys and are not connected.
    missing_nodes: usize,
    /// Whether any turn is over.
    pub(super) ended_a_turn: bool,
    turn_takes_at_least: Duration,
    /// Keys that one SCAN walks: no more than a second allows, as they are walked at once.
    scan_count: u32,
    step_takes_at_least: Duration,
}

/// The way through the keys of one node.
#[derive(Debug)]
struct Walk {
    node: Arc<str>,
    /// The connection that it goes over.
    epoch: Epoch,
    cursor: u64,
    /// When the next SCAN is due; `None` once all keys of this node were seen in this turn.
    due: Option<Instant>,
}

impl Walk {
    fn is_of(&self, node: &Arc<str>, epoch: Epoch) -> bool {
        self.node == *node && self.epoch == epoch
    }
}

#[derive(Debug)]
enum Pattern {
    /// Every stream is named: there is nothing to find.
    None,
    /// One glob: the server filters, which spares it the look at the type of other keys.
    One(Vec<u8>),
    /// Several globs: one walk over all streams.
    All,
}

impl Discovery {
    pub(super) fn new(rules: &[StreamRule], poll: &Poll) -> Self {
        let mut globs = rules.iter().map(|rule| &rule.key).filter(|key| key.literal().is_none());
        let pattern = match (globs.next(), globs.next()) {
            (None, _) => Pattern::None,
            (Some(glob), None) if glob.pattern() != b"*" => Pattern::One(glob.pattern().to_vec()),
            _ => Pattern::All,
        };
        let keys_per_second = poll.scan_keys_per_second.max(1);
        let scan_count = MAX_SCAN_COUNT.min(keys_per_second);
        Self {
            ended_a_turn: matches!(pattern, Pattern::None),
            pattern,
            walks: Vec::new(),
            turn_began: None,
            is_torn: false,
            missing_nodes: 0,
            turn_takes_at_least: poll.discovery_interval,
            scan_count,
            step_takes_at_least: Duration::from_secs(1) * scan_count / keys_per_second,
        }
    }

    /// When the next SCAN is due; `None` while there is no connection, or nothing to find.
    pub(super) fn due(&self) -> Option<Instant> {
        self.walks.iter().filter_map(|walk| walk.due).min()
    }

    /// The node that it is due on.
    pub(super) fn next_node(&self) -> Option<&Arc<str>> {
        let due = self.walks.iter().filter(|walk| walk.due.is_some());
        due.min_by_key(|walk| walk.due).map(|walk| &walk.node)
    }

    /// Begins a new walk on each new connection, and leaves those that there are no more.
    pub(super) fn note_nodes<'n>(
        &mut self,
        nodes: impl Iterator<Item = (&'n Arc<str>, Epoch)>,
        catalogue: &mut Catalogue,
        now: Instant,
    ) {
        if matches!(self.pattern, Pattern::None) {
            return;
        }
        let before = std::mem::take(&mut self.walks);
        let count = before.len();
        let mut before: Vec<_> = before.into_iter().map(Some).collect();
        for (node, epoch) in nodes {
            let is_it = |walk: &Option<Walk>| walk.as_ref().is_some_and(|walk| walk.is_of(node, epoch));
            let known = before.iter_mut().find(|walk| is_it(walk)).and_then(Option::take);
            // Where keys of other nodes were seen before, some may have come from there to here, or the reverse.
            self.is_torn |= known.is_none() && count > 0;
            let begin = || Walk { node: Arc::clone(node), epoch, cursor: 0, due: Some(now) };
            self.walks.push(known.unwrap_or_else(begin));
        }
        self.is_torn |= before.iter().any(Option::is_some);
        if count == 0 && !self.walks.is_empty() {
            catalogue.begin_turn();
            (self.turn_began, self.is_torn) = (Some(now), false);
        }
    }

    /// There is no connection to this node any more.
    pub(super) fn disconnected(&mut self, node: &str) {
        let before = self.walks.len();
        self.walks.retain(|walk| *walk.node != *node);
        self.is_torn |= self.walks.len() != before;
    }

    /// How many nodes hold keys and are not connected.
    pub(super) fn note_missing_nodes(&mut self, count: usize) {
        self.missing_nodes = count;
    }

    /// Sends one SCAN to a node, and notes what it found.
    pub(super) async fn step(
        &mut self,
        node: &mut Node,
        catalogue: &mut Catalogue,
        metrics: &TargetMetrics,
        limit: Duration,
    ) -> Result<(), PollError> {
        let Some(at) = self.walks.iter().position(|walk| walk.node == node.address) else { return Ok(()) };
        let sent = now();
        let began = *self.turn_began.get_or_insert(sent);
        metrics.count_commands(Command::Scan, 1);
        // On an error the next walk starts over, no sooner than it would have.
        let cursor = std::mem::take(&mut self.walks[at].cursor);
        self.walks[at].due = Some(began.max(sent) + self.turn_takes_at_least);
        let protocol = |error: decode::DecodeError| PollError::Protocol {
            address: node.address.to_string(),
            detail: error.to_string(),
        };
        let command = self.command(cursor);
        let reply = call(&mut node.connection, &node.address, sent + limit, &command).await;
        let (cursor, keys) = match reply.and_then(|reply| decode::scan(reply).map_err(protocol)) {
            Ok(found) => found,
            Err(error) => {
                if self.walks.len() == 1 {
                    catalogue.begin_turn();
                }
                (self.turn_began, self.is_torn) = (None, self.walks.len() > 1);
                return Err(error);
            }
        };
        keys.into_iter().for_each(|key| catalogue.found(key));
        let walk = &mut self.walks[at];
        walk.cursor = cursor;
        walk.due = (cursor != 0).then(|| sent + self.step_takes_at_least);
        if self.walks.iter().all(|walk| walk.due.is_none()) {
            self.end_turn(began, sent, catalogue);
        }
        Ok(())
    }

    fn end_turn(&mut self, began: Instant, sent: Instant, catalogue: &mut Catalogue) {
        if self.is_torn || self.missing_nodes > 0 {
            catalogue.end_torn_turn();
        } else {
            catalogue.end_turn();
        }
        self.ended_a_turn = true;
        let due = (began + self.turn_takes_at_least).max(sent + self.step_takes_at_least);
        for walk in &mut self.walks {
            (walk.cursor, walk.due) = (0, Some(due));
        }
        (self.turn_began, self.is_torn) = (None, false);
    }

    fn command(&self, cursor: u64) -> Cmd {
        let mut scan = cmd("SCAN");
        scan.arg(cursor);
        if let Pattern::One(pattern) = &self.pattern {
            scan.arg("MATCH").arg(pattern);
        }
        scan.arg("COUNT").arg(self.scan_count).arg("TYPE").arg("stream");
        scan
    }
}
