//! Measures the throughput of the reference consumer, and the maximum that the same server provides in the same run.
//!
//! ```text
//! make bench-consume                            three rounds of a million entries
//! make bench-consume BENCH_FLAGS=--quick        a small one that only checks that it works
//! ```
//!
//! The handler is empty. The bare loop sends XACK for one batch and XREADGROUP for the next in one pipeline and reads
//! only the IDs: the maximum over one connection. redis-benchmark, if it is on PATH, only reads, with NOACK.

#[path = "../tests/support/mod.rs"]
mod support;

use std::future::pending;
use std::io::{self, Write as _};
use std::process::{Command, ExitCode, Stdio};

use std::time::{Duration, Instant};

use redis::{Pipeline, Value, cmd};
use redis_stream_consumer::connect_options::ConnectOptions;
use redis_stream_consumer::consume::handler::Noop;
use redis_stream_consumer::consume::metrics::Metrics;
use redis_stream_consumer::consume::{self, ConsumerConfig};
use tokio_util::sync::CancellationToken;

use support::footprint;
use support::server::Server;
use support::servers::all;
use tikv_jemallocator::Jemalloc;

/// The program's default.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Entries per XREADGROUP, in each measurement.
const BATCH: u32 = 1_000;
const PAYLOAD_BYTES: usize = 100;
const LIMIT: Duration = Duration::from_secs(5 * 60);

/// A run over the whole stream.
#[derive(Clone, Copy)]
struct Run {
    entries: u64,
    took: Duration,
    /// CPU time of this process.
    cpu: Duration,
}

impl Run {
    fn per_second(&self) -> f64 {
        self.entries as f64 / self.took.as_secs_f64()
    }

    fn per_cpu_second(&self) -> f64 {
        self.entries as f64 / self.cpu.as_secs_f64()
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let (entries, rounds) = if is_quick { (20_000, 1) } else { (1_000_000, 3) };
    tokio::select! {
        () = compare(entries, rounds) => ExitCode::SUCCESS,
        () = tokio::time::sleep(LIMIT) => ExitCode::FAILURE,
        _ = tokio::signal::ctrl_c() => ExitCode::FAILURE,
    }
}

async fn compare(entries: u64, rounds: usize) {
    let program = all().first().expect("all() is never empty");
    let program = all().iter().find(|program| program.name.starts_with("redis-7.0")).unwrap_or(program);
    let server = Server::start(program, &[]).await;
    fill(&server, entries).await;
    let (mut bare, mut ours, mut benchmark) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        bare.push(bare_loop(&server, &format!("bare-{round}")).await);
        ours.push(consumer(&server, &format!("ours-{round}"), entries).await);
        benchmark.extend(redis_benchmark(&server, &format!("benchmark-{round}"), entries).await);
    }
    let mut lines = vec![
        format!("{}, {entries} entries of {PAYLOAD_BYTES} bytes, best of {rounds}", server.program()),
        String::new(),
        "| | entries a second | a second of this process' CPU |".to_owned(),
        "| --- | ---: | ---: |".to_owned(),
    ];
    let best = |runs: &[Run]| *runs.iter().min_by_key(|run| run.took).expect("there is a round");
    for (name, run) in
        [("streamgauge, empty handler", best(&ours)), ("bare XREADGROUP and XACK", best(&bare))]
    {
        lines.push(format!("| {name} | {:.0} | {:.0} |", run.per_second(), run.per_cpu_second()));
    }
    if let Some(best) = benchmark.into_iter().reduce(f64::max) {
        lines.push(format!("| redis-benchmark, XREADGROUP with NOACK | {best:.0} | |"));
    }
    lines.push(String::new());
    lines.push(format!(
        "share of the bare loop: {:.0} %",
        100.0 * best(&ours).per_second() / best(&bare).per_second()
    ));
    #[expect(clippy::disallowed_methods, reason = "prints text of its own")]
    let mut out = io::stdout();
    writeln!(out, "{}", lines.join("\n")).expect("standard output takes it");
}

async fn fill(server: &Server, entries: u64) {
    let mut connection = server.connection().await;
    let payload = "x".repeat(PAYLOAD_BYTES);
    for start in (0..entries).step_by(5_000) {
        let mut pipeline = Pipeline::new();
        for n in start..(start + 5_000).min(entries) {
            pipeline.cmd("XADD").arg("orders").arg("*").arg("n").arg(n).arg("payload").arg(&payload).ignore();
        }
        let () = pipeline.query_async(&mut connection).await.expect("entries are added");
    }
}

async fn create(server: &Server, group: &str) {
    server.command::<()>(&["XGROUP", "CREATE", "orders", group, "0"]).await;
}

/// Each pipeline acknowledges the last batch and reads the next.
async fn bare_loop(server: &Server, group: &str) -> Run {
    create(server, group).await;
    let mut connection = server.connection().await;
    let (started, cpu) = (now(), footprint::cpu(std::process::id()));
    let mut ids: Vec<Value> = Vec::new();
    let mut entries = 0;
    loop {
        let mut pipeline = Pipeline::new();
        let mut ack = cmd("XACK");
        ack.arg("orders").arg(group);
        for id in &ids {
            let Value::BulkString(id) = id else { panic!("an ID is a string") };
            ack.arg(id);
        }
        if ids.is_empty() {
            ack.arg("0-1");
        }
        pipeline.add_command(ack).ignore();
        pipeline.cmd("XREADGROUP").arg("GROUP").arg(group).arg("bare").arg("COUNT").arg(BATCH);
        pipeline.arg("STREAMS").arg("orders").arg(">");
        let (reply,): (Value,) = pipeline.query_async(&mut connection).await.expect("it is read");
        ids = ids_of(reply);
        if ids.is_empty() {
            break;
        }
        entries += ids.len() as u64;
    }
    server.command::<()>(&["XGROUP", "DESTROY", "orders", group]).await;
    Run { entries, took: started.elapsed(), cpu: footprint::cpu(std::process::id()) - cpu }
}

fn ids_of(reply: Value) -> Vec<Value> {
    let first = |value: Value, at: usize| match value {
        Value::Array(mut parts) if parts.len() > at => Some(parts.swap_remove(at)),
        _ => None,
    };
    match first(reply, 0).and_then(|stream| first(stream, 1)) {
        Some(Value::Array(entries)) => entries.into_iter().filter_map(|entry| first(entry, 0)).collect(),
        _ => Vec::new(),
    }
}

async fn consumer(server: &Server, group: &str, entries: u64) -> Run {
    create(server, group).await;
    let connect = ConnectOptions::new(&server.url(), None, None).expect("the URL is right");
    let config = ConsumerConfig { batch: BATCH, ..ConsumerConfig::new(connect, "orders", group, "ours") };
    let metrics = Metrics::new(&config.member()).expect("each has a name of its own");
    let shutdown = CancellationToken::new();
    let trigger = shutdown.clone();
    let mut connection = server.connection().await;
    let (started, cpu) = (now(), footprint::cpu(std::process::id()));
    let running = tokio::spawn(async move {
        consume::run_with(&config, Noop, metrics, shutdown.cancelled_owned(), pending()).await
    });
    // All entries were delivered and acknowledged.
    let last: Vec<(String, Value)> = cmd("XREVRANGE")
        .arg("orders")
        .arg("+")
        .arg("-")
        .arg("COUNT")
        .arg(1)
        .query_async(&mut connection)
        .await
        .expect("it is there");
    let took = loop {
        let groups: Vec<std::collections::HashMap<String, Value>> =
            cmd("XINFO").arg("GROUPS").arg("orders").query_async(&mut connection).await.expect("it is there");
        let is_done = groups.iter().any(|found| {
            found["name"] == Value::BulkString(group.into())
                && found["pending"] == Value::Int(0)
                && found["last-delivered-id"] == Value::BulkString(last[0].0.clone().into())
        });
        if is_done {
            break started.elapsed();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let cpu = footprint::cpu(std::process::id()) - cpu;
    trigger.cancel();
    let consumed = running.await.expect("it does not panic").expect("it succeeds");
    assert_eq!(consumed.acknowledged, entries, "each was acknowledged once");
    server.command::<()>(&["XGROUP", "DESTROY", "orders", group]).await;
    Run { entries, took, cpu }
}

/// Returns entries per second; `None` without redis-benchmark.
async fn redis_benchmark(server: &Server, group: &str, entries: u64) -> Option<f64> {
    create(server, group).await;
    let port = server.port().to_string();
    let (batch, requests) = (BATCH.to_string(), (entries / u64::from(BATCH)).to_string());
    let read = ["XREADGROUP", "GROUP", group, "c", "COUNT", &batch, "NOACK", "STREAMS", "orders", ">"];
    let started = now();
    let output = Command::new("redis-benchmark")
        .args(["-p", &port, "-c", "1", "-P", "4", "-n", &requests, "-q"])
        .args(read)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let took = started.elapsed();
    server.command::<()>(&["XGROUP", "DESTROY", "orders", group]).await;
    output.status.success().then(|| entries as f64 / took.as_secs_f64())
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "measures from outside")]
    Instant::now()
}
