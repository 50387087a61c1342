//! Compares streamgauge with prometheus-redis-exporter on the same streams and server, in alternating runs.
//!
//! ```text
//! make bench                          tables in Markdown, each with its goals; fails if one is missed
//! make bench BENCH_FLAGS="--rounds 1" fewer rounds
//! make bench BENCH_FLAGS=--scale      only 1,000, 10,000 and 100,000 streams, once each
//! make bench BENCH_FLAGS=--quick      only checks that the benchmark works
//! ```
//!
//! Only ratios within one run are meaningful, since the speed of a machine varies. prometheus-redis-exporter collects
//! when it is scraped, streamgauge on a timer. So a collection is a scrape of the former, and a poll of the latter,
//! which includes rendering and compressing the page.
//!
//! | module | contents |
//! | --- | --- |
//! | [`load`] | typical streams |
//! | [`proxy`] | adds latency, without limiting the throughput |
//! | [`usage`] | resources used by a server, from INFO |
//! | [`scrape`] | a timed GET of a page |
//! | [`runs`] | one run of either exporter |
//! | [`scale`] | both exporters on 1,000, 10,000 and 100,000 streams |
//! | [`idle`] | resources used by idle exporters |
//! | [`table`] | the figures as Markdown, and the goals |

mod idle;
mod load;
mod proxy;
mod runs;
mod scale;
mod scrape;
#[path = "../../tests/support/mod.rs"]
mod support;
mod table;
mod usage;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use load::StreamLoad;
use proxy::LatencyProxy;
use runs::{Figures, Peer, Rounds};
use scale::ScaleStep;
use support::server::Server;
use support::servers::{self, Program};
use table::{Goals, Table};

struct ComparisonSize {
    /// Streams on loopback.
    streams: usize,
    /// Streams behind the proxy.
    distant_streams: usize,
    rounds: Rounds,
    distant_rounds: Rounds,
    /// Numbers of streams, from the smallest.
    scale: &'static [ScaleStep],
    /// Duration of the measurement of idle exporters.
    idle: Duration,
    /// Time limit for the comparison.
    limit: Duration,
    /// Goals on loopback.
    goals: Goals,
    /// Goals behind the proxy.
    distant_goals: Goals,
}

const FULL: ComparisonSize = ComparisonSize {
    streams: 10_000,
    distant_streams: 1_000,
    rounds: Rounds { count: 5, polls: 5, interval: Duration::from_secs(3), scrapes: 5 },
    distant_rounds: Rounds { count: 5, polls: 100, interval: Duration::from_millis(500), scrapes: 5 },
    scale: &[
        ScaleStep { streams: 1_000, polls: 100, interval: Duration::from_millis(250) },
        ScaleStep { streams: 10_000, polls: 10, interval: Duration::from_secs(3) },
        ScaleStep { streams: 100_000, polls: 5, interval: Duration::from_secs(10) },
    ],
    idle: Duration::from_secs(20),
    limit: Duration::from_secs(45 * 60),
    goals: Goals {
        collection: Some(20.0),
        plain_scrape: Some(60.0),
        gzip_scrape: Some(1_000.0),
        redis_cpu: Some(5.0),
        peak_memory: Some(5.0),
    },
    distant_goals: Goals { collection: Some(150.0), ..Goals::NONE },
};

const QUICK: ComparisonSize = ComparisonSize {
    streams: 50,
    distant_streams: 20,
    rounds: Rounds { count: 1, polls: 2, interval: Duration::from_millis(500), scrapes: 1 },
    distant_rounds: Rounds { count: 1, polls: 2, interval: Duration::from_millis(500), scrapes: 1 },
    scale: &[
        ScaleStep { streams: 10, polls: 2, interval: Duration::from_millis(500) },
        ScaleStep { streams: 50, polls: 2, interval: Duration::from_millis(500) },
    ],
    idle: Duration::from_secs(2),
    limit: Duration::from_secs(120),
    goals: Goals::NONE,
    distant_goals: Goals::NONE,
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    All,
    Scale,
}

/// Latency that the proxy adds in each direction.
const ONE_WAY: Duration = Duration::from_micros(500);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let is_quick = env::args().any(|argument| argument == "--quick");
    let mut size = if is_quick { QUICK } else { FULL };
    if let Some(rounds) = env::args().skip_while(|argument| argument != "--rounds").nth(1) {
        let Ok(rounds) = rounds.parse() else { return fail("--rounds wants a number") };
        size.rounds.count = rounds;
    }
    let parts = if env::args().any(|argument| argument == "--scale") { Parts::Scale } else { Parts::All };
    let mut terminated = signal(SignalKind::terminate()).expect("SIGTERM can be waited for");
    // Everything that was started is dropped, and so killed, on every way out.
    let goals_met = tokio::select! {
        goals_met = compare(&size, parts) => goals_met,
        () = tokio::time::sleep(size.limit) => return fail(&format!("not done within {:?}", size.limit)),
        _ = tokio::signal::ctrl_c() => return fail("interrupted"),
        _ = terminated.recv() => return fail("terminated"),
    };
    if is_quick {
        say("\nA quick run: it shows that the comparison works; its figures mean nothing.");
        return ExitCode::SUCCESS;
    }
    if goals_met { ExitCode::SUCCESS } else { fail("a goal was missed") }
}

/// Runs the comparison and prints each table as soon as it is measured. Returns true if every goal was met.
async fn compare(size: &ComparisonSize, parts: Parts) -> bool {
    let (program, peer) = (program(), peer_program());
    let mut table = Table::new();
    say(&Table::heading(&program.name, &version_of(&peer)));
    if parts == Parts::All {
        compare_near(size, program, &peer, &mut table).await;
        compare_distant(size, program, &peer, &mut table).await;
        progress("one stream, idle");
        let server = Server::start(program, &[]).await;
        StreamLoad { streams: 1 }.fill(&server).await;
        say(&table.idle(&idle::watch(&server, &peer, size.idle).await));
    }
    say(Table::scale_heading());
    let mut steps = Vec::new();
    for step in size.scale {
        let figures = scale::measure(program, &peer, step).await;
        say(&Table::scale_step(&figures, steps.last()));
        steps.push(figures);
    }
    say(&table.scale_goals(&steps));
    say(&table.summary());
    table.goals_met()
}

async fn compare_near(size: &ComparisonSize, program: &'static Program, peer: &Path, table: &mut Table) {
    progress(&format!("{} streams on loopback", size.streams));
    let server = Server::start(program, &[]).await;
    StreamLoad { streams: size.streams }.fill(&server).await;
    let (ours, theirs) = by_turns(&server, &server.url(), peer, size.streams, &size.rounds).await;
    let title = format!("{} streams on loopback", size.streams);
    say(&table.compare(&title, &ours, &theirs, &size.goals));
    say(&table.compare_with_server(&title, &ours));
    progress("streamgauge, while all groups move between polls");
    let moving =
        runs::moving(&mut server.connection().await, &server.url(), size.streams, &size.rounds).await;
    say(&table.moving(&moving, &theirs, &size.goals));
    progress("streamgauge, while nothing happens");
    let (info, interval) = (&mut server.connection().await, size.rounds.interval);
    let unchanged = runs::unchanged(info, &server.url(), size.streams, interval).await;
    say(&table.unchanged(&unchanged, &ours));
}

async fn compare_distant(size: &ComparisonSize, program: &'static Program, peer: &Path, table: &mut Table) {
    progress(&format!("{} streams behind a proxy", size.distant_streams));
    let server = Server::start(program, &[]).await;
    StreamLoad { streams: size.distant_streams }.fill(&server).await;
    let proxy = LatencyProxy::start(server.address(), ONE_WAY);
    let added = usage::round_trip(&proxy.url()).await.saturating_sub(usage::round_trip(&server.url()).await);
    let (ours, theirs) =
        by_turns(&server, &proxy.url(), peer, size.distant_streams, &size.distant_rounds).await;
    let title = format!(
        "{} streams behind {:.1} ms of round trip",
        size.distant_streams,
        added.as_secs_f64() * 1_000.0
    );
    say(&table.compare(&title, &ours, &theirs, &size.distant_goals));
}

/// Runs both exporters alternately.
async fn by_turns(
    server: &Server,
    url: &str,
    peer: &Path,
    streams: usize,
    rounds: &Rounds,
) -> (Figures, Figures) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut info = server.connection().await;
    for round in 1..=rounds.count {
        progress(&format!("round {round} of {}: streamgauge", rounds.count));
        let exporter = runs::start_streamgauge(url, rounds.interval).await;
        ours.push(runs::streamgauge(&mut info, exporter, streams, rounds).await);
        progress(&format!("round {round} of {}: prometheus-redis-exporter", rounds.count));
        theirs.push(runs::peer(&mut info, Peer::start(peer, url).await, streams).await);
    }
    (Figures::median(&ours), Figures::median(&theirs))
}

/// Returns the server in `STREAMGAUGE_REDIS_SERVER`, else the newest.
fn program() -> &'static Program {
    let named = env::var_os("STREAMGAUGE_REDIS_SERVER").map(PathBuf::from);
    let named = servers::all().iter().find(|program| Some(&program.path) == named.as_ref());
    named.unwrap_or_else(|| servers::newest())
}

/// Returns the newest prometheus-redis-exporter that `make bench` could bring.
fn peer_program() -> PathBuf {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    let newest = peers.join("newest/prometheus-redis-exporter");
    let path = if newest.exists() { newest } else { peers.join("prometheus-redis-exporter") };
    assert!(path.exists(), "{} is missing: run `scripts/peers.sh prometheus-redis-exporter`", path.display());
    path
}

/// `1.45.0-2+b4` from `Redis Metrics Exporter 1.45.0-2+b4    build date: ...`.
fn version_of(peer: &Path) -> String {
    let output = Command::new(peer).arg("--version").output().expect("the peer runs");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let after = text.split_once("Exporter ").map_or("", |(_, after)| after);
    after.split_whitespace().next().unwrap_or("of unknown version").to_owned()
}

/// Prints progress to standard error.
#[expect(clippy::print_stderr, reason = "a benchmark tells how far it is")]
fn progress(text: &str) {
    eprintln!("{text}");
}

#[expect(clippy::print_stdout, reason = "the result of a benchmark")]
fn say(text: &str) {
    println!("{text}");
}

fn fail(text: &str) -> ExitCode {
    progress(text);
    ExitCode::FAILURE
}
