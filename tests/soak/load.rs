//! Producers and consumers, those that the program itself brings: on each node a stream with a group that keeps up and
//! one that does not.

use std::time::Duration;

use redis_stream_consumer::connect_options::ConnectOptions;
use redis_stream_consumer::connection::Timeouts;
use redis_stream_consumer::consume::handler::Noop;
use redis_stream_consumer::consume::simulate::Simulated;
use redis_stream_consumer::consume::{self, ConsumerConfig};
use redis_stream_consumer::produce::rate::Pattern;
use redis_stream_consumer::produce::trim::{Precision, Trim};
use redis_stream_consumer::produce::{self, ProduceConfig};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::setup::Node;

/// Entries per second that are added on each node.
const RATE: f64 = 50.0;
const MAXLEN: u64 = 1_000;
/// Time that the slow group takes for each entry: it falls behind until what it has not read is trimmed.
const SLOWNESS: Duration = Duration::from_millis(30);

/// All that produces and consumes.
pub(crate) struct Load {
    trigger: CancellationToken,
    tasks: JoinSet<Done>,
}

/// Counts of requests.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Entries that were added.
    pub(crate) added: u64,
    /// Entries that were handled.
    pub(crate) handled: u64,
    /// Errors.
    pub(crate) errors: Vec<String>,
}

impl Load {
    /// Starts it.
    pub(crate) fn start(nodes: &[Node]) -> Self {
        let shutdown = CancellationToken::new();
        let trigger = shutdown.clone();
        let mut tasks = JoinSet::new();
        for node in nodes {
            let key = format!("{}orders", node.tag);
            tasks.spawn(produce(connect(node), key.clone(), shutdown.clone()));
            for (group, slowness) in [("workers", Duration::ZERO), ("archive", SLOWNESS)] {
                tasks.spawn(consume(connect(node), key.clone(), group, slowness, shutdown.clone()));
            }
        }
        Self { trigger, tasks }
    }

    /// Ends it, and waits until it has ended.
    pub(crate) async fn stop(mut self) -> Done {
        self.trigger.cancel();
        let mut done = Done::default();
        while let Some(ended) = self.tasks.join_next().await {
            let Done { added, handled, errors } = ended.expect("no load panics");
            done.added += added;
            done.handled += handled;
            done.errors.extend(errors);
        }
        done
    }
}

fn connect(node: &Node) -> ConnectOptions {
    ConnectOptions::new(&node.url, None, None).expect("the URL of a test server is one")
}

async fn produce(connect: ConnectOptions, key: String, shutdown: CancellationToken) -> Done {
    let load = ProduceConfig {
        rate: RATE,
        pattern: Pattern::Sine { period: Duration::from_secs(20) },
        trim: Trim::Length { entries: MAXLEN, precision: Precision::About },
        ..ProduceConfig::new(connect, key.as_str())
    };
    match produce::run(&load, shutdown.cancelled_owned()).await {
        Ok(done) => Done { added: done.added, ..Done::default() },
        Err(error) => Done { errors: vec![format!("producer of {key}: {error}")], ..Done::default() },
    }
}

async fn consume(
    connect: ConnectOptions,
    key: String,
    group: &str,
    slowness: Duration,
    shutdown: CancellationToken,
) -> Done {
    let config = ConsumerConfig {
        claim_min_idle: Duration::from_secs(5),
        retry_delay: Duration::from_millis(200),
        block: Duration::from_millis(500),
        grace: Duration::from_millis(500),
        timeouts: Timeouts {
            connect: Duration::from_secs(2),
            reply: Duration::from_secs(2),
            longest_delay: Duration::from_millis(500),
        },
        ..ConsumerConfig::new(connect, key.as_str(), group, "member")
    };
    let handler = Simulated { inner: Noop, work_time: slowness, fail_rate: 0.01 };
    match consume::run(&config, handler, shutdown.cancelled_owned()).await {
        Ok(done) => Done { handled: done.handled, ..Done::default() },
        Err(error) => {
            Done { errors: vec![format!("consumer of {key}, {group}: {error}")], ..Done::default() }
        }
    }
}
