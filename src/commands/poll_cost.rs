//! The cost of one poll of a target.

use std::time::Duration;

use crate::poller::poll::{PollOutcome, Poller};
use redis_stream_core::clock::now;

/// The cost of one poll.
#[derive(Clone, Copy, Debug)]
pub(super) struct PollCost {
    pub(super) time: Duration,
    pub(super) commands: u64,
    pub(super) reply_bytes: u64,
}

/// Polls, and measures that. A first poll also connects and looks for streams, so this should be a later one.
pub(super) async fn measure(poller: &mut Poller) -> (PollCost, PollOutcome) {
    let (began, before) = (now(), poller.traffic());
    let outcome = poller.poll().await;
    let time = now() - began;
    poller.read_later_pages().await;
    let after = poller.traffic();
    let cost = PollCost { time, commands: after.0 - before.0, reply_bytes: after.1 - before.1 };
    (cost, outcome)
}
