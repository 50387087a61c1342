//! Finding streams by SCAN, at a bounded pace, beside the polls and outside their deadline.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, cmd};
use tokio::time::Instant;

use crate::clock::now;
use crate::config::{Poll, StreamRule};
use crate::poller::catalogue::Catalogue;
use crate::poller::decode;
use crate::poller::error::PollError;
use crate::poller::exchange::call;
use crate::self_metrics::TargetMetrics;
use crate::self_metrics::labels::Command;

/// Most keys that one SCAN walks: about half a millisecond of the server's time.
const MAX_SCAN_COUNT: u32 = 1_000;

/// Where a turn of SCAN over the keyspace stands.
#[derive(Debug)]
pub(super) struct Discovery {
    pattern: Pattern,
    cursor: u64,
    turn_began: Option<Instant>,
    /// When the next SCAN is due.
    due: Option<Instant>,
    /// Whether any turn is over.
    pub(super) ended_a_turn: bool,
    turn_takes_at_least: Duration,
    /// Keys that one SCAN walks: no more than a second allows, as they are walked at once.
    scan_count: u32,
    step_takes_at_least: Duration,
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
            cursor: 0,
            turn_began: None,
            due: None,
            turn_takes_at_least: poll.discovery_interval,
            scan_count,
            step_takes_at_least: Duration::from_secs(1) * scan_count / keys_per_second,
        }
    }

    /// When the next SCAN is due; `None` while there is no connection, or nothing to find.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Begins a new turn on a new connection.
    pub(super) fn connected(&mut self, catalogue: &mut Catalogue, now: Instant) {
        if !matches!(self.pattern, Pattern::None) {
            catalogue.begin_turn();
            (self.cursor, self.turn_began, self.due) = (0, Some(now), Some(now));
        }
    }

    /// There is no connection any more.
    pub(super) fn disconnected(&mut self) {
        self.due = None;
    }

    /// Sends one SCAN, and notes what it found.
    pub(super) async fn step(
        &mut self,
        connection: &mut MultiplexedConnection,
        address: &str,
        catalogue: &mut Catalogue,
        metrics: &TargetMetrics,
        limit: Duration,
    ) -> Result<(), PollError> {
        let sent = now();
        let began = *self.turn_began.get_or_insert(sent);
        metrics.count_commands(Command::Scan, 1);
        // On an error the next turn starts over, no sooner than it would have.
        self.due = Some(began.max(sent) + self.turn_takes_at_least);
        let reply = call(connection, address, sent + limit, &self.command()).await;
        let protocol = |error: decode::DecodeError| PollError::Protocol {
            address: address.to_owned(),
            detail: error.to_string(),
        };
        let (cursor, keys) = match reply.and_then(|reply| decode::scan(reply).map_err(protocol)) {
            Ok(found) => found,
            Err(error) => {
                catalogue.begin_turn();
                (self.cursor, self.turn_began) = (0, None);
                return Err(error);
            }
        };
        keys.into_iter().for_each(|key| catalogue.found(key));
        self.cursor = cursor;
        if cursor == 0 {
            catalogue.end_turn();
            self.ended_a_turn = true;
            self.due = Some((began + self.turn_takes_at_least).max(sent + self.step_takes_at_least));
            self.turn_began = None;
        } else {
            self.due = Some(sent + self.step_takes_at_least);
        }
        Ok(())
    }

    fn command(&self) -> Cmd {
        let mut scan = cmd("SCAN");
        scan.arg(self.cursor);
        if let Pattern::One(pattern) = &self.pattern {
            scan.arg("MATCH").arg(pattern);
        }
        scan.arg("COUNT").arg(self.scan_count).arg("TYPE").arg("stream");
        scan
    }
}
