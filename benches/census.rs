//! Measures what a census of a long list of pending entries adds to a poll, until its report is published.
//!
//! ```text
//! make bench-census                       a table in Markdown; fails if the goal is missed
//! make bench-census BENCH_FLAGS=--quick   only checks that the benchmark works
//! ```
//!
//! One poller polls a server again and again: first during the census of a group, then after it.

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use redis::Pipeline;
use redis_stream_core::clock::now;
use streamgauge::config::Config;
use streamgauge::config::load::from_text;
use streamgauge::poller::poll::Poller;
use streamgauge::self_metrics::SelfMetrics;
use support::server::Server;
use support::servers::newest;

/// Ratio of the time of a poll during a census to that of one without.
const GOAL: f64 = 1.2;
/// Time between two polls: a task that is woken by its timer, as in `serve`, does not find warm caches.
const PAUSE: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// The times of polls.
#[derive(Default)]
struct PollTimes {
    /// Until the report is there.
    report: Vec<Duration>,
    /// Until the pages are read as well.
    all: Vec<Duration>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let pending = if is_quick { 20_000 } else { 1_000_000 };
    tokio::select! {
        is_met = compare(pending) => if is_met || is_quick { ExitCode::SUCCESS } else { ExitCode::FAILURE },
        () = tokio::time::sleep(LIMIT) => ExitCode::FAILURE,
        _ = tokio::signal::ctrl_c() => ExitCode::FAILURE,
    }
}

async fn compare(pending: u64) -> bool {
    let server = Server::start(newest(), &[]).await;
    fill(&server, pending).await;
    let mut lines = vec![
        format!("{}, a census of {pending} pending entries, medians", server.program()),
        String::new(),
        "| poll of | polls | with census | without | ratio | goal | and the pages |".to_owned(),
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |".to_owned(),
    ];
    let mut is_met = true;
    for (name, key) in [("that stream alone", "long"), ("1,000 streams, one with that group", "*")] {
        let [during, after] = measure(&server, key).await;
        let polls = during.report.len();
        let [during_all, during, after] = [during.all, during.report, after.report].map(median);
        let ratio = during.as_secs_f64() / after.as_secs_f64();
        is_met &= ratio <= GOAL;
        let ms = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
        lines.push(format!(
            "| {name} | {polls} | {} | {} | {ratio:.2}x | {GOAL}x | {} |",
            ms(during),
            ms(after),
            ms(during_all.saturating_sub(during))
        ));
    }
    #[expect(clippy::disallowed_methods, reason = "prints text of its own")]
    let mut out = io::stdout();
    writeln!(out, "{}", lines.join("\n")).expect("standard output takes it");
    is_met
}

/// Polls until the census ends, and as often after it.
async fn measure(server: &Server, key: &str) -> [PollTimes; 2] {
    let text = format!("{{targets: [{{url: '{}', streams: ['{key}']}}]}}", server.url());
    let Config { poll, mut targets, .. } =
        from_text("bench", &text, Path::new("."), &|_| None).expect("a configuration");
    let metrics = SelfMetrics::new(Duration::ZERO, &[]).expect("metrics");
    let mut poller = Poller::new(Arc::new(targets.remove(0)), poll, metrics.for_target("t", &[]));
    poller.poll().await.expect("it answers");
    let [mut during, mut after] = <[PollTimes; 2]>::default();
    while after.report.len() < during.report.len() || during.report.is_empty() {
        tokio::time::sleep(PAUSE).await;
        let began = now();
        let report = poller.poll().await.expect("it answers").report;
        let reported = now() - began;
        poller.read_later_pages().await;
        let long = report.streams.iter().find(|stream| *stream.key.text() == *"long").expect("it is there");
        let values = long.groups[0].values.as_ref().expect("it was read");
        let times = if values.pending_census.is_none() { &mut during } else { &mut after };
        times.report.push(reported);
        times.all.push(now() - began);
    }
    [during, after]
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Adds a stream with a group with so many pending entries, and 999 streams with an idle group.
async fn fill(server: &Server, pending: u64) {
    const BATCH: u64 = 10_000;
    let mut connection = server.connection().await;
    server.command::<()>(&["XGROUP", "CREATE", "long", "g", "$", "MKSTREAM"]).await;
    for batch in 0..pending.div_ceil(BATCH) {
        let mut pipeline = Pipeline::new();
        for _ in 0..BATCH {
            pipeline.cmd("XADD").arg("long").arg("*").arg("f").arg("v").ignore();
        }
        let consumer = format!("c{}", batch % 5);
        for _ in 0..10 {
            let read = pipeline.cmd("XREADGROUP").arg("GROUP").arg("g").arg(&consumer).arg("COUNT");
            read.arg(BATCH / 10).arg("STREAMS").arg("long").arg(">").ignore();
        }
        let () = pipeline.query_async(&mut connection).await.expect("entries are added");
    }
    let mut pipeline = Pipeline::new();
    for at in 1..1_000 {
        let key = format!("idle:{at}");
        pipeline.cmd("XADD").arg(&key).arg("*").arg("f").arg("v").ignore();
        pipeline.cmd("XGROUP").arg("CREATE").arg(&key).arg("g").arg("$").ignore();
    }
    let () = pipeline.query_async(&mut connection).await.expect("streams are added");
}
