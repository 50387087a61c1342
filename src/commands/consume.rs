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
use tracing::{error, info};

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
use redis_stream_consumer::consume::exec::Exec;
use redis_stream_consumer::consume::handler::Handler;
use redis_stream_consumer::consume::json_lines::JsonLinesWriter;
use redis_stream_consumer::consume::metrics::Metrics;
use redis_stream_consumer::consume::simulate::Simulated;
use redis_stream_consumer::consume::{self, ConsumerConfig};
use tokio_util::sync::CancellationToken;

const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Consumes until `shutdown`, or until standard output is closed.
///
/// # Errors
///
/// A usage error for invalid settings; otherwise errors of the server or of standard output.
pub async fn run(
    args: cli::Consume,
    matches: &ArgMatches,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let config = config(&args, matches)?;
    let member = config.member();
    let exec = args.exec.as_deref().map(|command| Exec::new(command, args.exec_timeout, &member));
    let exec = exec.transpose().map_err(redis_args::classify)?;
    let metrics = Metrics::new(&member).context("cannot register the metrics")?;
    let ended = CancellationToken::new();
    let _guard = ended.clone().drop_guard();
    let serving = args.metrics_listen.map(|address| serve(address, metrics.clone(), &ended)).transpose()?;
    let result = match exec {
        Some(exec) => consume_with(&args, &config, exec, metrics, shutdown).await,
        None => {
            let out = entries_stdout().map_err(|error| UsageError(error.to_string()))?;
            let lines = JsonLinesWriter::new(&member, out).context("cannot start a thread")?;
            consume_with(&args, &config, lines, metrics, shutdown).await
        }
    };
    ended.cancel();
    if let Some(serving) = serving {
        serving.await.context("the HTTP server failed")?;
    }
    result
}

async fn consume_with(
    args: &cli::Consume,
    config: &ConsumerConfig,
    inner: impl Handler,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let handler = Simulated { inner, work_time: args.work_time, fail_rate: args.fail_rate };
    let result = consume::run_with(config, handler, metrics, shutdown.cancelled_owned()).await;
    result.map(drop).map_err(redis_args::classify)
}

fn config(args: &cli::Consume, matches: &ArgMatches) -> anyhow::Result<ConsumerConfig> {
    let consumer = args.consumer.clone().unwrap_or_else(consumer_name);
    let connect = redis_args::read(matches)?;
    Ok(ConsumerConfig {
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
