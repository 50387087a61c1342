//! Compares streamgauge with prometheus-redis-exporter: the same streams, on one server, in one run, by turns.
//!
//! ```text
//! make bench                          the whole comparison: a table in Markdown, and whether each goal is met
//! make bench BENCH_FLAGS="--rounds 1" the same with fewer rounds
//! make bench BENCH_FLAGS=--quick      a small one that only checks that all of it works
//! ```
//!
//! Only ratios within one run mean anything: other machines, and the same machine at another time, are faster
//! or slower. prometheus-redis-exporter collects when it is scraped, streamgauge when its timer says so; a
//! collection of the one is a scrape, of the other a poll, which ends when the page is written and compressed.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`load`] | streams as a server in use has them |
//! | [`proxy`] | adds a round trip, and limits nothing |
//! | [`usage`] | what a server has done, from INFO |
//! | [`scrape`] | a GET of a page, timed |
//! | [`runs`] | one run of either exporter |
//! | [`idle`] | what either uses where there is nothing to do |
//! | [`table`] | the figures as Markdown, and the goals |

mod idle;
mod load;
mod proxy;
mod runs;
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

use load::Load;
use proxy::Proxy;
use runs::{Figures, Peer, Rounds};
use support::server::Server;
use support::servers::{self, Program};
use table::{Goals, Table};

/// How much is done.
struct Size {
    /// Streams on loopback.
    streams: usize,
    /// Streams behind the proxy.
    distant_streams: usize,
    rounds: Rounds,
    /// How long the idle exporters are looked at.
    idle: Duration,
    /// How long all of it may take.
    limit: Duration,
    /// What to reach on loopback.
    goals: Goals,
    /// And behind the proxy, where there is a round trip to wait for.
    distant_goals: Goals,
}

const FULL: Size = Size {
    streams: 10_000,
    distant_streams: 1_000,
    rounds: Rounds { count: 5, polls: 5, interval: Duration::from_secs(3) },
    idle: Duration::from_secs(20),
    limit: Duration::from_secs(30 * 60),
    goals: Goals { collection: Some(7.0), scrape: Some(40.0), redis_cpu: Some(5.0), peak_memory: Some(2.5) },
    distant_goals: Goals { collection: Some(50.0), ..Goals::NONE },
};

const QUICK: Size = Size {
    streams: 50,
    distant_streams: 20,
    rounds: Rounds { count: 1, polls: 2, interval: Duration::from_millis(500) },
    idle: Duration::from_secs(2),
    limit: Duration::from_secs(60),
    goals: Goals::NONE,
    distant_goals: Goals::NONE,
};

/// Half of what the proxy adds to a round trip.
const ONE_WAY: Duration = Duration::from_micros(500);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let is_quick = env::args().any(|argument| argument == "--quick");
    let mut size = if is_quick { QUICK } else { FULL };
    if let Some(rounds) = env::args().skip_while(|argument| argument != "--rounds").nth(1) {
        let Ok(rounds) = rounds.parse() else { return fail("--rounds wants a number") };
        size.rounds.count = rounds;
    }
    let mut terminated = signal(SignalKind::terminate()).expect("SIGTERM can be waited for");
    // Whatever ends first, everything that was started is dropped, and so killed, on the way out.
    let goals_met = tokio::select! {
        goals_met = compare(&size) => goals_met,
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

/// Runs all of it, and prints it; whether every goal was met.
async fn compare(size: &Size) -> bool {
    let (program, peer) = (program(), peer_program());
    let mut table = Table::begin(&program.name, &version_of(&peer));

    progress(&format!("{} streams on loopback", size.streams));
    let server = Server::start(program, &[]).await;
    Load { streams: size.streams }.fill(&server).await;
    let (ours, theirs) = by_turns(&server, &server.url(), &peer, size.streams, &size.rounds).await;
    table.compare(&format!("{} streams on loopback", size.streams), &ours, &theirs, &size.goals);
    progress("streamgauge, while all groups move between polls");
    let moving =
        runs::moving(&mut server.connection().await, &server.url(), size.streams, &size.rounds).await;
    table.moving(&moving, &theirs, &size.goals);
    drop(server);

    progress(&format!("{} streams behind a proxy", size.distant_streams));
    let server = Server::start(program, &[]).await;
    Load { streams: size.distant_streams }.fill(&server).await;
    let proxy = Proxy::start(server.address(), ONE_WAY);
    let added = usage::round_trip(&proxy.url()).await.saturating_sub(usage::round_trip(&server.url()).await);
    let (ours, theirs) = by_turns(&server, &proxy.url(), &peer, size.distant_streams, &size.rounds).await;
    let title = format!(
        "{} streams behind {:.1} ms of round trip",
        size.distant_streams,
        added.as_secs_f64() * 1_000.0
    );
    table.compare(&title, &ours, &theirs, &size.distant_goals);
    drop((proxy, server));

    progress("one stream, idle");
    let server = Server::start(program, &[]).await;
    Load { streams: 1 }.fill(&server).await;
    table.idle(&idle::watch(&server, &peer, size.idle).await);

    say(&table.text());
    table.goals_met()
}

/// Runs of both exporters, one after the other, round by round.
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
        ours.push(runs::streamgauge(&mut info, url, streams, rounds).await);
        progress(&format!("round {round} of {}: prometheus-redis-exporter", rounds.count));
        theirs.push(runs::peer(&mut info, Peer::start(peer, url).await, streams).await);
    }
    (Figures::median(&ours), Figures::median(&theirs))
}

/// The server that `STREAMGAUGE_REDIS_SERVER` names, else the newest.
fn program() -> &'static Program {
    let named = env::var_os("STREAMGAUGE_REDIS_SERVER").map(PathBuf::from);
    let named = servers::all().iter().find(|program| Some(&program.path) == named.as_ref());
    named.unwrap_or_else(|| servers::newest())
}

fn peer_program() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/prometheus-redis-exporter");
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

/// Says what goes on, apart from the result.
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
