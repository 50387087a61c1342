//! `streamgauge consume`: runs the reference consumer, and serves its metrics over HTTP.

use std::fs;
use std::net::SocketAddr;
use std::process;
use std::sync::Arc;

use anyhow::Context as _;
use clap::ArgMatches;
use hyper::StatusCode;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::cli;
use crate::commands::exit_code::UsageError;
use crate::commands::output::entries_stdout;
use crate::commands::redis_args;
use crate::http::access::AccessControl;
use crate::http::body::Body;
use crate::http::limits::ServerLimits;
use crate::http::reply::Reply;
use crate::http::request::Request;
use crate::http::routes::{OTHER, Routes};
use crate::http::{listener, server};
use crate::shutdown::Shutdown;
use redis_stream_consumer::consume::exec::Exec;
use redis_stream_consumer::consume::handler::Handler;
use redis_stream_consumer::consume::json_lines::JsonLinesWriter;
use redis_stream_consumer::consume::metrics::Metrics;
use redis_stream_consumer::consume::simulate::Simulated;
use redis_stream_consumer::consume::worker::{Worker, WorkerTask};
use redis_stream_consumer::consume::{self, ConsumerConfig, GroupCreation};
use redis_stream_consumer::entry::GroupMember;
use tokio_util::sync::CancellationToken;

const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Consumes until a signal, or until standard output is closed.
///
/// # Errors
///
/// A usage error for invalid settings; otherwise errors of the server or of standard output.
pub async fn run(args: cli::Consume, matches: &ArgMatches, signals: Shutdown) -> anyhow::Result<()> {
    let config = config(&args, matches)?;
    let member = config.member();
    let handler = Program::of(&args, &member)?;
    let metrics = Metrics::new(&member).context("cannot register the metrics")?;
    let ended = CancellationToken::new();
    let _guard = ended.clone().drop_guard();
    let serving = args.metrics_listen.map(|address| serve(address, metrics.clone(), &ended)).transpose()?;
    let result = match handler {
        Program::ForEach(exec) => consume_with(&args, &config, exec, metrics, signals).await,
        Program::ForAll(worker, task) => {
            let result = consume_with(&args, &config, worker, metrics, signals).await;
            task.ended().await;
            result
        }
        Program::None => {
            let out = entries_stdout().map_err(|error| UsageError(error.to_string()))?;
            let lines = JsonLinesWriter::new(&member, out).context("cannot start a thread")?;
            consume_with(&args, &config, lines, metrics, signals).await
        }
    };
    ended.cancel();
    if let Some(serving) = serving {
        serving.await.context("the HTTP server failed")?;
    }
    result
}

/// The program that handles entries.
enum Program {
    ForEach(Exec),
    ForAll(Worker, WorkerTask),
    /// Entries go to standard output.
    None,
}

impl Program {
    fn of(args: &cli::Consume, member: &GroupMember) -> anyhow::Result<Self> {
        if let Some(command) = &args.exec {
            let exec = Exec::new(command, args.exec_timeout, member).map_err(redis_args::classify)?;
            return Ok(Self::ForEach(exec));
        }
        let Some(command) = &args.worker else { return Ok(Self::None) };
        let started = Worker::start(command, args.exec_timeout, member);
        let (worker, task) = started.map_err(redis_args::classify)?;
        Ok(Self::ForAll(worker, task))
    }
}

async fn consume_with(
    args: &cli::Consume,
    config: &ConsumerConfig,
    inner: impl Handler,
    metrics: Metrics,
    signals: Shutdown,
) -> anyhow::Result<()> {
    let handler = Simulated { inner, work_time: args.work_time, fail_rate: args.fail_rate };
    let Shutdown { requested, repeated } = signals;
    let stop = async {
        requested.cancelled().await;
        let grace = humantime::format_duration(config.grace);
        info!(%grace, "finishing entries that are being handled; a second signal ends at once");
    };
    let result = consume::run_with(config, handler, metrics, stop, repeated.cancelled_owned()).await;
    result.map(drop).map_err(redis_args::classify)
}

/// Characters of a glob. A key may have them, but is more often a mistake for several streams.
const GLOB: [char; 3] = ['*', '?', '['];

fn creation(args: &cli::Consume) -> GroupCreation {
    if args.stream.contains(GLOB) {
        warn!(
            stream = args.stream,
            "the key looks like a glob, but consume reads one stream: this key is used as it is, and not created"
        );
        return GroupCreation::Never;
    }
    if args.no_create { GroupCreation::Never } else { GroupCreation::IfMissing }
}

fn config(args: &cli::Consume, matches: &ArgMatches) -> anyhow::Result<ConsumerConfig> {
    let consumer = args.consumer.clone().unwrap_or_else(consumer_name);
    let connect = redis_args::read(matches)?;
    Ok(ConsumerConfig {
        creation: creation(args),
        start_id: args.start_id.clone(),
        batch: args.batch,
        concurrency: args.concurrency,
        claim_min_idle: args.claim_min_idle,
        max_deliveries: args.max_deliveries,
        dead_letter: args.dead_letter.clone().map(String::into_bytes),
        retry_delay: args.retry_delay,
        max_retry_delay: args.max_retry_delay,
        breaker_threshold: args.breaker_threshold,
        grace: args.grace,
        ..ConsumerConfig::new(connect, args.stream.as_str(), args.group.as_str(), consumer)
    })
}

/// Serves the metrics until `ended`, also while entries in flight are finished.
fn serve(address: SocketAddr, metrics: Metrics, ended: &CancellationToken) -> anyhow::Result<JoinHandle<()>> {
    let listener = listener::bind(Some(address))?;
    let address = listener.local_addr().context("cannot read the address of the listener")?;
    info!(%address, "listening");
    let limits = ServerLimits::within_descriptors(1);
    let open = watch::channel(AccessControl::default()).1;
    Ok(tokio::spawn(server::run(
        listener,
        Arc::new(MetricsRoutes(metrics)),
        open,
        limits,
        |_, _| {},
        ended.clone().cancelled_owned(),
    )))
}

struct MetricsRoutes(Metrics);

impl Routes for MetricsRoutes {
    fn route(&self, path: &str) -> &'static str {
        ["/metrics", "/-/healthy"].into_iter().find(|route| *route == path).unwrap_or(OTHER)
    }

    fn is_open(&self, _: &str) -> bool {
        false
    }

    async fn reply(&self, route: &'static str, request: &Request) -> Reply {
        match (request.method.as_str(), route) {
            ("GET" | "HEAD", "/metrics") => rendered(&self.0),
            ("GET" | "HEAD", "/-/healthy") => Reply::text(StatusCode::OK, "healthy\n"),
            (_, OTHER) => Reply::not_found(),
            _ => Reply::method_not_allowed("GET, HEAD"),
        }
    }
}

fn rendered(metrics: &Metrics) -> Reply {
    match metrics.render() {
        Ok(text) => Reply::new(StatusCode::OK, METRICS_TYPE, Body::Whole(text.into())),
        Err(error) => {
            error!(%error, "cannot render the metrics");
            Reply::text(StatusCode::INTERNAL_SERVER_ERROR, "cannot render the metrics\n")
        }
    }
}

/// Returns host name, process ID and four random characters: two containers may have the same host name and process ID.
fn consumer_name() -> String {
    let random: String = std::iter::repeat_with(fastrand::alphanumeric).take(4).collect();
    format!("{}-{}-{random}", host_name(), process::id())
}

fn host_name() -> String {
    // The first exists on Linux, also in a container.
    ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .into_iter()
        .find_map(|path| fs::read_to_string(path).ok())
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "host".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_name_ends_in_the_process_id_and_random_characters() {
        let name = consumer_name();
        let (before, random) = name.rsplit_once('-').unwrap();
        let (host, pid) = before.rsplit_once('-').unwrap();
        assert!(!host.is_empty() && !host.contains(char::is_whitespace));
        assert_eq!((pid, random.len()), (process::id().to_string().as_str(), 4));
        assert_ne!(name, consumer_name());
    }
}
