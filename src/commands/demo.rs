//! `streamgauge demo`: runs a private server, a producer, three groups in three conditions, and the exporter.
//!
//! Everything except the server runs in this process, with the code of the other subcommands.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;

use crate::cli;
use crate::commands::healthcheck::listen_address;
use crate::commands::output;
use crate::config::error::ConfigError;
use crate::config::{Config, load};
use redis_stream_consumer::connect_options::ConnectOptions;
use redis_stream_consumer::consume::handler::Noop;
use redis_stream_consumer::consume::simulate::Simulated;
use redis_stream_consumer::consume::{self, ConsumerConfig};
use redis_stream_consumer::error::RunError;
use redis_stream_consumer::produce::trim::{Precision, Trim};
use redis_stream_consumer::produce::{self, ProduceConfig};
use tokio_util::sync::CancellationToken;

pub mod private_server;

use private_server::{PrivateServer, find_program};

const STREAM: &str = "orders";
/// Entries per second.
const RATE: f64 = 20.0;
/// Half of [`RATE`].
const SLOW_WORK: Duration = Duration::from_millis(100);
/// Long enough that a batch is in flight when the consumer stops.
const STOPPED_WORK: Duration = Duration::from_secs(1);
const STOPS_AFTER: Duration = Duration::from_secs(5);
/// Bounds the memory of a demo that is left running.
const MAXLEN: u64 = 100_000;

/// Runs until a signal. `serve` runs the exporter with the given configuration.
///
/// # Errors
///
/// A usage error for an invalid address; otherwise the server does not start, the address is in use, or the exporter
/// or a part of the load fails. The private server is stopped in every case.
pub async fn run<S, F>(args: cli::Demo, shutdown: CancellationToken, serve: S) -> anyhow::Result<()>
where
    S: FnOnce(Config, CancellationToken) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let listen = free_address(&args.listen)?;
    // A closed terminal must not leave the server behind.
    let mut hangup = signal(SignalKind::hangup()).context("cannot catch SIGHUP")?;
    let program = find_program(args.redis_server.as_deref())?;
    let server = tokio::select! {
        started = PrivateServer::start(&program, &[]) => started?,
        () = shutdown.cancelled() => return Ok(()),
    };

    let ending = CancellationToken::new();
    let _guard = ending.clone().drop_guard();
    let mut cast = cast(&server, &ending)?;
    let guide = guide(listen, server.address());
    // Standard output may be a pipe that is not read.
    tokio::select! {
        printed = spawn_blocking(move || write!(output::stdout(), "{guide}")) => printed??,
        () = shutdown.cancelled() => {}
    }

    let mut serving = pin!(serve(config(listen, &server.url())?, ending.clone()));
    let mut ended = Ok(());
    let served = tokio::select! {
        served = &mut serving => served,
        end = end(&shutdown, &mut hangup, &mut cast) => {
            ended = end;
            ending.cancel();
            serving.await
        }
    };
    ending.cancel();
    // The server stops last, as the other parts use it until they end.
    while cast.join_next().await.is_some() {}
    server.stop().await;
    served.and(ended)
}

/// Resolves when the demo ends, with the error of the part that failed.
async fn end(shutdown: &CancellationToken, hangup: &mut Signal, cast: &mut Cast) -> anyhow::Result<()> {
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        _ = hangup.recv() => Ok(()),
        failed = failure(cast) => failed,
    }
}

/// The producer and consumer tasks, which end with the set.
type Cast = JoinSet<Result<(), RunError>>;

/// Resolves with the first failure. A task that ends without an error is not one.
async fn failure(cast: &mut Cast) -> anyhow::Result<()> {
    while let Some(done) = cast.join_next().await {
        done.context("a part of the demo panicked")?.context("a part of the demo failed")?;
    }
    std::future::pending().await
}

fn cast(server: &PrivateServer, ending: &CancellationToken) -> anyhow::Result<Cast> {
    let connect = ConnectOptions::new(&server.url(), None, None)?;
    let trim = Trim::Length { entries: MAXLEN, precision: Precision::About };
    let load = ProduceConfig { rate: RATE, trim, ..ProduceConfig::new(connect.clone(), STREAM) };
    let mut cast = Cast::new();
    let stop = ending.clone().cancelled_owned();
    cast.spawn(async move { produce::run(&load, stop).await.map(drop) });

    for (group, work_time) in [("fast", Duration::ZERO), ("slow", SLOW_WORK)] {
        let (member, handler, stop) =
            (member(&connect, group), work(work_time), ending.clone().cancelled_owned());
        cast.spawn(async move { consume::run(&member, handler, stop).await.map(drop) });
    }

    let stopped = member(&connect, "stopped");
    let stop = ending.clone().cancelled_owned();
    let stop = async move {
        tokio::select! {
            () = stop => {}
            () = sleep(STOPS_AFTER) => {}
        }
    };
    cast.spawn(async move { consume::run(&stopped, work(STOPPED_WORK), stop).await.map(drop) });
    Ok(cast)
}

fn member(connect: &ConnectOptions, group: &str) -> ConsumerConfig {
    ConsumerConfig { batch: 20, ..ConsumerConfig::new(connect.clone(), STREAM, group, format!("{group}-1")) }
}

fn work(work_time: Duration) -> Simulated<Noop> {
    Simulated { inner: Noop, work_time, fail_rate: 0.0 }
}

/// Returns the address to listen on, with a free port in place of 0, so that it can be printed first.
fn free_address(listen: &str) -> anyhow::Result<SocketAddr> {
    let address = listen_address(listen)?;
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    Ok(listener.local_addr()?)
}

/// Returns the exporter's configuration: the private server with all streams.
fn config(listen: SocketAddr, server: &str) -> Result<Config, ConfigError> {
    // The stream is created shortly after the first SCAN, so SCAN is repeated soon.
    let text = format!(
        "web: {{listen: '{listen}'}}\n\
         poll: {{interval: 2s, discovery_interval: 2s}}\n\
         status: {{window: 20s}}\n\
         targets: [{{name: demo, url: '{server}'}}]\n"
    );
    load::from_text("demo", &text, Path::new(""), &|_| None)
}

/// Returns the text that explains the demo: one screenful.
fn guide(listen: SocketAddr, server: SocketAddr) -> String {
    let host = match listen.ip() {
        ip if ip.is_unspecified() => format!("localhost:{}", listen.port()),
        _ => listen.to_string(),
    };
    let port = server.port();
    format!(
        "\
streamgauge demo: a private server with one stream, {STREAM}, that gets {RATE} entries per second.

  status    http://{host}/
  metrics   http://{host}/metrics
  server    redis-cli -p {port} XINFO GROUPS {STREAM}

Three groups read the stream. What shows their condition, after a few seconds:

  group     its consumer             metric
  fast      keeps up                 redis_stream_group_lag stays at or near 0
  slow      takes half of it         redis_stream_group_lag and redis_stream_group_lag_seconds grow
  stopped   stops after {} seconds    redis_stream_group_messages_pending stays above 0,
                                     redis_stream_group_oldest_pending_age_seconds grows,
                                     and so does redis_stream_group_lag

  curl -s http://{host}/metrics | grep redis_stream_group_lag
  curl -s http://{host}/metrics | grep pending

Ctrl-C ends it all; the server and its data are removed.
",
        STOPS_AFTER.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::exit_code::UsageError;

    #[test]
    fn the_guide_is_one_screenful_with_the_addresses_in_it() {
        let guide = guide("[::]:10121".parse().unwrap(), "127.0.0.1:40123".parse().unwrap());
        insta::assert_snapshot!(guide, @r"
        streamgauge demo: a private server with one stream, orders, that gets 20 entries per second.

          status    http://localhost:10121/
          metrics   http://localhost:10121/metrics
          server    redis-cli -p 40123 XINFO GROUPS orders

        Three groups read the stream. What shows their condition, after a few seconds:

          group     its consumer             metric
          fast      keeps up                 redis_stream_group_lag stays at or near 0
          slow      takes half of it         redis_stream_group_lag and redis_stream_group_lag_seconds grow
          stopped   stops after 5 seconds    redis_stream_group_messages_pending stays above 0,
                                             redis_stream_group_oldest_pending_age_seconds grows,
                                             and so does redis_stream_group_lag

          curl -s http://localhost:10121/metrics | grep redis_stream_group_lag
          curl -s http://localhost:10121/metrics | grep pending

        Ctrl-C ends it all; the server and its data are removed.
        ");
    }

    #[test]
    fn an_address_that_is_none_is_a_usage_error_and_port_0_becomes_a_real_one() {
        let error = free_address("localhost").unwrap_err();
        assert!(error.is::<UsageError>());
        assert_eq!(
            error.to_string(),
            "--listen localhost: expected an address and a port, as in 127.0.0.1:10121"
        );
        assert_ne!(free_address("127.0.0.1:0").unwrap().port(), 0);
    }
}
