//! The reference consumer: reads a stream as a member of a group, at least once and without losing entries.
//!
//! # Life of an entry
//!
//! ```text
//!            XREADGROUP >                   Handler::handle
//! reader ------------------> queue ------------------------> workers (concurrency)
//!                              ^                                |
//!              XCLAIM          |                                | outcome
//! waiting ---------------------+                                v
//!    ^  own pending entries, claimed ones,                    success: XACK, up to 1,000 IDs at a time
//!    +---- and those whose handler failed <------------------ failure: waits, or moves to the dead-letter stream
//! ```
//!
//! There are two connections: one blocks in XREADGROUP, the other sends all other commands. The consumer runs what is due
//! in a loop. While it waits for a reply, outcomes accumulate and share the next XACK: batches grow with the load, and
//! without load no entry waits for a timer.
//!
//! # Guarantees
//!
//! * **At least once.** XACK is sent only after the handler succeeded. If it fails because the connection was lost, it is
//!   sent again later, and the entry is not handled again.
//! * **No entry is lost.** At the start and after each lost connection, the consumer scans what is pending for it
//!   (XPENDING), since a reply that never arrived may have delivered entries.
//! * **A delivery is an attempt.** Entries that were delivered before are claimed one by one as workers become free
//!   (XCLAIM, which counts a delivery), and until then without counting (JUSTID). So an entry that fails or crashes its
//!   process gets `max_deliveries` attempts, and those that were only buffered with it lose none. The first delivery, by
//!   XREADGROUP, counts when the entry is read.
//! * **An outage is no failure of entries.** If different entries fail one after the other and none succeeds, a circuit
//!   breaker opens: entries are tried one at a time, and no delivery counts. A handler can also report that it cannot work
//!   at present ([`HandlerError::Unavailable`](handler::HandlerError::Unavailable)). The server counts each delivery, so
//!   it is set back (XCLAIM with RETRYCOUNT).
//! * **What a consumer leaves is free at once**, from Redis 8.8 on: at the end of a run entries are released (XNACK), those
//!   that were not started without counting a delivery, and other consumers claim them at once (XREADGROUP CLAIM). A
//!   handler that failed is no reason to release its entry before the end, since another consumer would then handle it
//!   without the delay between attempts.
//! * **Entries being handled are not claimed by others.** Claims are renewed (JUSTID) before entries have been idle for
//!   `claim_min_idle`. Each XCLAIM names an idle time that the entry can only have if no other consumer claimed it, so
//!   that a process that was paused takes nothing back. A pause longer than `claim_min_idle` leads to duplicates.
//! * **Order.** With a concurrency of 1, entries are handled in the order of the stream, except that failed entries are
//!   retried later, and claimed ones come before new ones.
//!
//! # Modules
//!
//! | module | contents |
//! | --- | --- |
//! | [`handler`] | the trait that a program implements |
//! | [`json_lines`], [`exec`], [`worker`], [`simulate`] | handlers: JSON lines, a program per entry or for all, simulated work |
//! | `program`, `pipe_lines` | child processes and what they write |
//! | `progress` | the log line each 30 seconds |
//! | [`metrics`] | the consumer's own metrics |
//! | `consumer` | owns the parts below, and runs what is due |
//! | `reader` | XREADGROUP on its own connection |
//! | `worker_pool` | the queue of delivered entries, the workers, and their outcomes |
//! | `in_flight` | entries in flight, by ID; pure |
//! | `ack` | XACK of handled entries |
//! | `claims` | renews claims, and drops entries whose claim was lost |
//! | `recovery` | scans entries that are pending for this consumer, but unknown to it |
//! | `autoclaim` | entries claimed from idle consumers |
//! | `retries` | delivers entries again |
//! | `breaker` | opens when all entries fail; pure |
//! | `corrections` | takes back deliveries that do not count |
//! | `dead_letter` | the dead-letter stream |
//! | `group_client` | the commands of a member of a group |

mod ack;
mod autoclaim;
mod breaker;
mod claims;
mod consumer;
mod corrections;
mod dead_letter;
pub mod exec;
mod group_client;
pub mod handler;
mod in_flight;
pub mod json_lines;
pub mod metrics;
mod pipe_lines;
mod program;
mod progress;
mod reader;
mod recovery;
mod retries;
pub mod simulate;
pub mod worker;
mod worker_pool;

use std::future::pending;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{Instrument as _, info, info_span};

use super::connect_options::ConnectOptions;
use super::connection::Timeouts;
use super::entry::{GroupMember, StreamId};
use super::error::{InvalidConfig, RunError};
use consumer::{Consumer, Stops};
use handler::Handler;
use metrics::Metrics;
use redis_stream_core::escape::escape;
use tokio_util::sync::CancellationToken;

/// Settings of a consumer.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// The server; any node of a cluster.
    pub connect: ConnectOptions,
    /// Key of the stream.
    pub stream: Vec<u8>,
    /// Name of the group.
    pub group: Vec<u8>,
    /// The treatment of a missing stream or group.
    pub creation: GroupCreation,
    /// Name of the consumer in the group. It continues with the entries pending for this name, so two processes must not
    /// use one name at the same time.
    pub consumer: Vec<u8>,
    /// Position at which a missing group is created: `0` for all entries, `$` for new ones only, or an ID.
    pub start_id: String,
    /// Most entries that one XREADGROUP returns and that wait in this process; at least 1.
    pub batch: u32,
    /// Number of entries handled at the same time; at least 1. With 1, they are handled in order.
    pub concurrency: u32,
    /// Idle time after which pending entries of another consumer are claimed; at least 100 ms. It must be the same for all
    /// consumers of a group, and longer than any of them may pause.
    pub claim_min_idle: Duration,
    /// Number of deliveries after which an entry moves to the dead-letter stream. 0 means never.
    pub max_deliveries: u64,
    /// Key of the dead-letter stream. `None` is the stream's key followed by `:dead`; in a cluster, with a hash tag around
    /// the stream's key unless it has one.
    pub dead_letter: Option<Vec<u8>>,
    /// Delay after the first failure of an entry. It doubles with each further one, up to `max_retry_delay`, and up to a
    /// quarter is added as jitter.
    pub retry_delay: Duration,
    /// Longest delay between two attempts, without jitter.
    pub max_retry_delay: Duration,
    /// Number of different entries that must fail one after the other, without a success, until the circuit breaker
    /// opens: then nothing is read, one entry at a time is tried, with growing delays up to `max_retry_delay`, and no
    /// delivery counts, until an entry succeeds. 0 means never.
    pub breaker_threshold: u32,
    /// Time for entries that are being handled when the run is stopped.
    pub grace: Duration,
    /// BLOCK time of XREADGROUP, and so the longest time until an idle consumer stops.
    pub block: Duration,
    /// Timeouts of the connections.
    pub timeouts: Timeouts,
}

/// The treatment of a stream or group that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupCreation {
    /// Both are created, the stream empty, also when they vanish later.
    IfMissing,
    /// The run ends with the server's error.
    Never,
}

impl ConsumerConfig {
    /// Returns the default settings: from the first entry on, in batches of 100, one at a time, and 21 deliveries, which
    /// with the default delays are at least 15 minutes apart.
    pub fn new(
        connect: ConnectOptions,
        stream: impl Into<Vec<u8>>,
        group: impl Into<Vec<u8>>,
        consumer: impl Into<Vec<u8>>,
    ) -> Self {
        Self {
            connect,
            stream: stream.into(),
            group: group.into(),
            creation: GroupCreation::IfMissing,
            consumer: consumer.into(),
            start_id: "0".to_owned(),
            batch: 100,
            concurrency: 1,
            claim_min_idle: Duration::from_secs(60),
            max_deliveries: 21,
            dead_letter: None,
            retry_delay: Duration::from_secs(1),
            max_retry_delay: Duration::from_secs(60),
            breaker_threshold: 10,
            grace: Duration::from_secs(10),
            block: Duration::from_secs(1),
            timeouts: Timeouts::default(),
        }
    }

    /// Returns stream, group and consumer.
    #[must_use]
    pub fn member(&self) -> GroupMember {
        GroupMember {
            stream: self.stream.clone(),
            group: self.group.clone(),
            consumer: self.consumer.clone(),
        }
    }

    fn check(&self) -> Result<(), InvalidConfig> {
        let faults = [
            (self.stream.is_empty(), "the key of the stream is empty"),
            (self.group.is_empty(), "the name of the group is empty"),
            (self.consumer.is_empty(), "the name of the consumer is empty"),
            (self.batch == 0, "a batch has at least 1 entry"),
            (self.concurrency == 0, "a concurrency of at least 1 is needed"),
            (self.claim_min_idle < LEAST_MIN_IDLE, "claim-min-idle is at least 100ms"),
            (
                self.dead_letter.as_ref() == Some(&self.stream),
                "the dead-letter stream cannot be the stream itself",
            ),
            (!is_start(&self.start_id), "a start ID is 0, $, or an ID such as 1700000000000-0"),
        ];
        match faults.into_iter().find(|(is_wrong, _)| *is_wrong) {
            Some((_, text)) => Err(InvalidConfig::new(text)),
            None => Ok(()),
        }
    }
}

/// Below it, a consumer with a late reply would be considered idle.
const LEAST_MIN_IDLE: Duration = Duration::from_millis(100);

fn is_start(id: &str) -> bool {
    id == "$" || id.parse::<u64>().is_ok() || id.parse::<StreamId>().is_ok()
}

/// Result of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumeStats {
    /// Deliveries that the handler finished successfully.
    pub handled: u64,
    /// Deliveries whose handler failed.
    pub failed: u64,
    /// Entries acknowledged, as counted by the server.
    pub acknowledged: u64,
    /// Entries claimed from idle consumers.
    pub claimed: u64,
    /// Entries moved to the dead-letter stream.
    pub dead_lettered: u64,
    /// Pending entries that were deleted from the stream before they were handled.
    pub deleted: u64,
}

/// Consumes until `stop` resolves, or the handler returns [`HandlerError::Closed`](handler::HandlerError::Closed).
///
/// Once `stop` resolves, no further entry is read or started. Entries that are being handled have `grace` to finish, those
/// handled are acknowledged, and the rest is released, or stays pending before Redis 8.8. The consumer's name is deleted if
/// nothing is pending for it.
///
/// # Errors
///
/// The first error that retrying cannot overcome. Entries handled until then are acknowledged if the server permits.
pub async fn run(
    config: &ConsumerConfig,
    handler: impl Handler,
    stop: impl Future<Output = ()>,
) -> Result<ConsumeStats, RunError> {
    let metrics = Metrics::new(&config.member()).expect("each metric has its own name");
    run_with(config, handler, metrics, stop, pending()).await
}

/// Consumes as [`run`] does, with metrics that the caller exposes. They should be new, since the result has their values.
/// Once `stop_now` resolves after `stop`, entries that are being handled have no more time to finish.
///
/// # Errors
///
/// The errors of [`run`].
pub async fn run_with(
    config: &ConsumerConfig,
    handler: impl Handler,
    metrics: Metrics,
    stop: impl Future<Output = ()>,
    stop_now: impl Future<Output = ()>,
) -> Result<ConsumeStats, RunError> {
    config.check()?;
    let (soft, hard) = (CancellationToken::new(), CancellationToken::new());
    let watch = async {
        tokio::select! {
            () = stop => soft.cancel(),
            () = soft.cancelled() => {}
        }
        tokio::select! {
            () = sleep(config.grace) => {}
            () = stop_now => {}
        }
        hard.cancel();
        pending().await
    };
    let [stream, group, name] = [&config.stream, &config.group, &config.consumer].map(|name| escape(name));
    let span = info_span!("consume", %stream, %group, consumer = %name);
    let stops = Stops { soft: soft.clone(), hard: hard.clone() };
    let consumer = span.in_scope(|| Consumer::start(config, handler, metrics.clone(), stops));
    let progress = progress::log(&metrics).instrument(span.clone());
    let ended = tokio::select! {
        biased;
        never = watch => never,
        never = progress => match never {},
        ended = consumer.run().instrument(span.clone()) => ended,
    };
    if let Ok(stats) = &ended {
        let ConsumeStats { handled, failed, acknowledged, claimed, dead_lettered, deleted } = *stats;
        span.in_scope(|| {
            info!(handled, failed, acknowledged, claimed, dead_lettered, deleted, "consumer ended");
        });
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_setting_is_named() {
        let connect = ConnectOptions::new("redis://localhost", None, None).unwrap();
        let right = ConsumerConfig::new(connect, "s", "g", "c");
        assert!(right.check().is_ok());
        for (wrong, text) in [
            (ConsumerConfig { stream: Vec::new(), ..right.clone() }, "the key of the stream is empty"),
            (ConsumerConfig { group: Vec::new(), ..right.clone() }, "the name of the group is empty"),
            (ConsumerConfig { consumer: Vec::new(), ..right.clone() }, "the name of the consumer is empty"),
            (ConsumerConfig { batch: 0, ..right.clone() }, "a batch has at least 1 entry"),
            (ConsumerConfig { concurrency: 0, ..right.clone() }, "a concurrency of at least 1 is needed"),
            (
                ConsumerConfig { claim_min_idle: Duration::from_millis(99), ..right.clone() },
                "claim-min-idle is at least 100ms",
            ),
            (
                ConsumerConfig { dead_letter: Some(b"s".to_vec()), ..right.clone() },
                "the dead-letter stream cannot be the stream itself",
            ),
            (
                ConsumerConfig { start_id: "new".to_owned(), ..right },
                "a start ID is 0, $, or an ID such as 1700000000000-0",
            ),
        ] {
            assert_eq!(wrong.check().unwrap_err().to_string(), text);
        }
        for start_id in ["0", "$", "5", "1700000000000-3"] {
            assert!(is_start(start_id), "{start_id}");
        }
    }
}
