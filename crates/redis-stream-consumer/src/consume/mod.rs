//! The reference consumer: reads a stream as a member of a group, and loses nothing.
//!
//! # What happens to an entry
//!
//! ```text
//!            XREADGROUP >                   Handler::handle
//! reader ------------------> queue ------------------------> workers (concurrency)
//!                              ^                                |
//!              XCLAIM          |                                | outcome
//! waiting ---------------------+                                v
//!    ^  own unfinished entries, those taken over           done: XACK, up to 1,000 IDs at a time
//!    +---- (XAUTOCLAIM), those whose handler failed <----- failed: waits, or goes to the dead-letter stream
//! ```
//!
//! Two connections: the reader waits in XREADGROUP on one, the engine does all else on the other. The
//! engine owns what is in hand and does what is due, turn by turn; while it waits for a reply, outcomes gather
//! and go into the next XACK together: batches form by themselves under load, and nothing waits for a timer when
//! there is none.
//!
//! # What it guarantees, and how
//!
//! * **At least once.** XACK goes out only after the handler succeeded. What was handled and could not be
//!   acknowledged, for the connection was lost, is kept and acknowledged later, not handled again.
//! * **Nothing gets lost on the way.** At the start, and after each connection that was lost, the consumer looks up
//!   what is pending for it (XPENDING): a reply that never arrived may have delivered entries.
//! * **A delivery is an attempt.** Entries that were delivered before are claimed one by one, as workers get free
//!   (XCLAIM, which counts a delivery), and until then taken over without counting (JUSTID). So an entry that
//!   fails, or kills its process, gets `max_deliveries` attempts, and entries that only lay beside it are
//!   not used up. The first delivery, by XREADGROUP, counts when the entry is read.
//! * **Nobody takes away what is being worked on.** Entries in hand are claimed again (JUSTID) before they have
//!   been idle for `claim_min_idle`. Each XCLAIM names an idle time that the entry only has if nobody else took it
//!   over, so that a process that was paused takes nothing back. A pause longer than `claim_min_idle` leads to
//!   duplicates: what was handled here meanwhile is handled there too.
//! * **Order.** With a concurrency of 1 entries are handled in the order of the stream, except that an entry that
//!   failed comes again later, and entries taken over from others come before new ones.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`handler`] | the trait that a program implements |
//! | [`json_lines`], [`exec`], [`simulate`] | handlers: JSON lines, a child per entry, made-up work |
//! | [`metrics`] | the consumer's own metrics |
//! | `consumer` | turns: what is done when, from the first connection to the end |
//! | `recovery` | own unfinished entries, takeover, retries |
//! | `claims` | the heartbeat, and whose an entry is that could not be kept |
//! | `ack` | acknowledgements, and what is left of the consumer in the end |
//! | `dead_letter` | the dead-letter stream |
//! | `group_client` | creates the group, again where it is lost |
//! | `in_flight` | what is in hand, by ID; pure |
//! | `worker_pool` | entries on their way to the workers, and the workers |
//! | `reader` | XREADGROUP |

mod ack;
mod autoclaim;
mod claims;
mod consumer;
mod dead_letter;
pub mod exec;
mod group_client;
pub mod handler;
mod in_flight;
pub mod json_lines;
pub mod metrics;
mod reader;
mod recovery;
mod retries;
pub mod simulate;
mod worker_pool;

use std::time::Duration;

use tokio::time::sleep;
use tracing::{Instrument as _, info, info_span};

use super::connect_options::ConnectOptions;
use super::connection::Timeouts;
use super::entry::{GroupMember, StreamId};
use super::error::WorkloadError;
use consumer::Consumer;
use handler::Handler;
use metrics::Metrics;
use redis_stream_core::escape::escape;
use tokio_util::sync::CancellationToken;

/// Who consumes what, and how.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// The server; of a cluster, any node.
    pub connect: ConnectOptions,
    /// Key of the stream. It is created, empty, where it is missing.
    pub stream: Vec<u8>,
    /// The group. It is created where it is missing.
    pub group: Vec<u8>,
    /// The consumer's name in the group; a consumer of the same name goes on with its pending entries. Two
    /// processes must not use one name at a time.
    pub consumer: Vec<u8>,
    /// Where a group that is created starts: `0` for all entries, `$` for new ones only, or an ID.
    pub start_id: String,
    /// Most entries that one XREADGROUP takes, and that wait here to be handled; at least 1.
    pub batch: u32,
    /// Entries handled at a time; at least 1. With 1 they are handled in order.
    pub concurrency: u32,
    /// Pending entries of a consumer that did nothing about them for this long are taken over. The same for
    /// all consumers of a group, and longer than any of them may stand still.
    pub claim_min_idle: Duration,
    /// An entry that was delivered so often and not acknowledged goes to the dead-letter stream. 0: never.
    pub max_deliveries: u64,
    /// Key of the dead-letter stream. `None`: the stream's key followed by `:dead`, and in a cluster with a hash
    /// tag around the stream's key unless it has one.
    pub dead_letter: Option<Vec<u8>>,
    /// Time from a first failure to the next attempt; doubled with each further one, up to a minute or half of
    /// `claim_min_idle`, whichever is less, and with jitter.
    pub retry_delay: Duration,
    /// How long what is being handled may go on once the run shall end.
    pub grace: Duration,
    /// Longest wait of one XREADGROUP on the server: how long an idle consumer takes to notice that it shall end.
    pub block: Duration,
    /// How long to wait for the server.
    pub timeouts: Timeouts,
}

impl ConsumerConfig {
    /// With the usual settings.
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
            consumer: consumer.into(),
            start_id: "0".to_owned(),
            batch: 100,
            concurrency: 1,
            claim_min_idle: Duration::from_secs(60),
            max_deliveries: 5,
            dead_letter: None,
            retry_delay: Duration::from_secs(1),
            grace: Duration::from_secs(10),
            block: Duration::from_secs(1),
            timeouts: Timeouts::default(),
        }
    }

    /// Stream, group and consumer.
    #[must_use]
    pub fn member(&self) -> GroupMember {
        GroupMember {
            stream: self.stream.clone(),
            group: self.group.clone(),
            consumer: self.consumer.clone(),
        }
    }

    fn check(&self) -> Result<(), WorkloadError> {
        let faults = [
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
            Some((_, text)) => Err(WorkloadError::Setting(text.to_owned())),
            None => Ok(()),
        }
    }
}

/// Below it, a reply that is late would look like a consumer that is gone.
const LEAST_MIN_IDLE: Duration = Duration::from_millis(100);

fn is_start(id: &str) -> bool {
    id == "$" || id.parse::<u64>().is_ok() || id.parse::<StreamId>().is_ok()
}

/// What a consumer did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumeStats {
    /// Deliveries that the handler finished.
    pub handled: u64,
    /// Deliveries whose handler failed.
    pub failed: u64,
    /// Entries acknowledged, as counted by the server.
    pub acknowledged: u64,
    /// Entries taken over from consumers that were silent.
    pub claimed: u64,
    /// Entries put on the dead-letter stream.
    pub dead_lettered: u64,
    /// Pending entries that had been deleted from the stream.
    pub deleted: u64,
}

/// Consumes until `stop` resolves, or until the handler says that nobody wants results any more.
///
/// When `stop` resolves, nothing more is read or begun; what is being handled has `grace` to finish, what is done
/// is acknowledged, the rest stays pending. The consumer's name is deleted if nothing is pending on it.
///
/// # Errors
///
/// What waiting cannot mend: see [`WorkloadError`]. What was handled until then is acknowledged where the server
/// allows it.
pub async fn run(
    config: &ConsumerConfig,
    handler: impl Handler,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<ConsumeStats, WorkloadError> {
    let metrics = Metrics::new(&config.member()).expect("each has a name of its own");
    run_with(config, handler, metrics, stop).await
}

/// [`run`], with metrics that somebody else shows.
///
/// # Errors
///
/// The same.
pub async fn run_with(
    config: &ConsumerConfig,
    handler: impl Handler,
    metrics: Metrics,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<ConsumeStats, WorkloadError> {
    config.check()?;
    let (soft, hard) = (CancellationToken::new(), CancellationToken::new());
    let (ending, over, grace) = (soft.clone(), hard.clone(), config.grace);
    // Beside the engine, which may be waiting for a server while the stop is asked for.
    let watch = tokio::spawn(async move {
        tokio::select! {
            () = stop => ending.cancel(),
            () = ending.cancelled() => {}
        }
        sleep(grace).await;
        over.cancel();
    });
    let [stream, group, name] = [&config.stream, &config.group, &config.consumer].map(|name| escape(name));
    let span = info_span!("consume", %stream, %group, consumer = %name);
    let stops = consumer::Stops { soft, hard };
    let engine = span.in_scope(|| Consumer::start(config, handler, metrics, stops));
    let ended = engine.run().instrument(span.clone()).await;
    watch.abort();
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
    fn a_wrong_setting_is_named() {
        let connect = ConnectOptions::new("redis://localhost", None, None).unwrap();
        let right = ConsumerConfig::new(connect, "s", "g", "c");
        assert!(right.check().is_ok());
        for (wrong, text) in [
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
