//! One run of either exporter: start, warm-up, measurement, end.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::aio::MultiplexedConnection;

use crate::load::move_all;
use crate::scrape::{Coding, Page, median_time, scrape, series, value};
use crate::support::config::ConfigFile;
use crate::support::footprint;
use crate::support::http;
use crate::support::program::{Exporter, Streamgauge};
use crate::support::server::free_port;
use crate::support::wait::{wait_for, wait_until};
use crate::usage::Usage;

/// Time limit for the start of an exporter and for a poll.
const DEADLINE: Duration = Duration::from_secs(60);
/// Number of polls within which everything must be counted.
const MAX_WARM_UP: usize = 40;
/// The number of entries that were read to count lags and what can be trimmed, and for audits, which begin after ten
/// minutes.
const COUNTED: &str = "streamgauge_counted_entries_total";
/// Polls in a window, of streams to which nothing happens.
const POLLS_PER_WINDOW: u32 = 10;
/// CPU time over which that of the peer is measured.
const PEER_CPU: Duration = Duration::from_secs(1);
/// Windows within which most of them repeat themselves.
const MAX_WINDOWS: u32 = 8;

pub(crate) struct Rounds {
    /// Number of runs, whose medians are the figures.
    pub(crate) count: u32,
    /// Number of measured polls per run: so many that they take half a second of CPU time or more, which is known to 20 ms.
    pub(crate) polls: u32,
    /// Poll interval.
    pub(crate) interval: Duration,
    /// Number of scrapes of each kind, whose median time is taken: so few that they are over before the next poll.
    pub(crate) scrapes: usize,
}

/// The results of one run.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// Time of a full collection.
    pub(crate) collection: Duration,
    /// Time of a scrape without compression.
    pub(crate) plain_scrape: Duration,
    /// Time of the first scrape with compression after a collection.
    pub(crate) first_gzip_scrape: Duration,
    /// Time of another one.
    pub(crate) gzip_scrape: Duration,
    /// CPU time of the exporter per collection.
    pub(crate) cpu: Duration,
    /// CPU time of the server per collection.
    pub(crate) redis_cpu: Duration,
    /// Commands per collection.
    pub(crate) commands: u64,
    /// Bytes sent by the server per collection.
    pub(crate) sent_bytes: u64,
    /// Maximum resident memory, in bytes.
    pub(crate) peak_bytes: u64,
    /// Size of the page, in bytes.
    pub(crate) page_bytes: u64,
    /// Duration of the slowest poll until everything was counted; for the peer, of its first scrape.
    pub(crate) slowest_warm_up: Duration,
}

impl Figures {
    /// Returns the median of each figure.
    pub(crate) fn median(runs: &[Self]) -> Self {
        Self {
            collection: median(runs, |run| run.collection),
            plain_scrape: median(runs, |run| run.plain_scrape),
            first_gzip_scrape: median(runs, |run| run.first_gzip_scrape),
            gzip_scrape: median(runs, |run| run.gzip_scrape),
            cpu: median(runs, |run| run.cpu),
            redis_cpu: median(runs, |run| run.redis_cpu),
            commands: median(runs, |run| run.commands),
            sent_bytes: median(runs, |run| run.sent_bytes),
            peak_bytes: median(runs, |run| run.peak_bytes),
            page_bytes: median(runs, |run| run.page_bytes),
            slowest_warm_up: median(runs, |run| run.slowest_warm_up),
        }
    }
}

fn median<T: Ord + Copy>(runs: &[Figures], figure: impl Fn(&Figures) -> T) -> T {
    let mut sorted: Vec<T> = runs.iter().map(figure).collect();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

/// Starts streamgauge with a log level at which it logs each poll.
pub(crate) async fn start_streamgauge(url: &str, interval: Duration) -> Exporter {
    let interval = format!("{}ms", interval.as_millis());
    let args = ["--redis-url", url, "--interval", &interval, "--log-level", "debug"];
    Streamgauge::serve().args(args).serving().await
}

/// Returns the logged durations of the polls so far.
pub(crate) fn polls(exporter: &Exporter) -> Vec<Duration> {
    let log = exporter.stderr();
    let lines = log.lines().filter(|line| line.contains("polled") && line.contains("elapsed_ms="));
    lines
        .map(|line| {
            assert!(line.contains("result=\"ok\""), "a poll was cut off or failed: {line}");
            let (_, after) = line.split_once("elapsed_ms=").expect("the line was filtered by it");
            let digits = after.split(|c: char| !c.is_ascii_digit()).next();
            Duration::from_millis(digits.and_then(|digits| digits.parse().ok()).expect("milliseconds"))
        })
        .collect()
}

/// Waits until this number of polls were made since the start.
pub(crate) async fn polled(exporter: &Exporter, count: usize) {
    wait_until(DEADLINE, "streamgauge polls", async || polls(exporter).len() >= count).await;
}

/// Measures a streamgauge that was just started, and stops it.
pub(crate) async fn streamgauge(
    server: &mut MultiplexedConnection,
    exporter: Exporter,
    streams: usize,
    rounds: &Rounds,
) -> Figures {
    let before = warmed_up(&exporter, streams).await;
    let slowest_warm_up = polls(&exporter).into_iter().max().unwrap_or_default();

    let done = polls(&exporter).len();
    polled(&exporter, done + 1).await;
    let (usage, cpu) = (Usage::of(server).await, footprint::cpu(exporter.pid()));
    for poll in 1..=rounds.polls as usize {
        polled(&exporter, done + 1 + poll).await;
    }
    let (used, cpu) = (usage.since(server).await, footprint::cpu(exporter.pid()) - cpu);
    assert_eq!(polls(&exporter).len(), done + 1 + rounds.polls as usize, "no poll was missed");

    // Between two polls.
    tokio::time::sleep(rounds.interval / 4).await;
    let plain_scrape = median_time(exporter.address, Coding::Plain, rounds.scrapes).await;
    let first_gzip = scrape(exporter.address, Coding::Gzip).await;
    let gzip_scrape = median_time(exporter.address, Coding::Gzip, rounds.scrapes).await;
    // A client that keeps a whole page may be slower than a poll, and keeps an old report meanwhile.
    let peak_bytes = footprint::peak_bytes(exporter.pid());
    let plain = scrape(exporter.address, Coding::Plain).await;
    let gzip = scrape(exporter.address, Coding::Gzip).await;
    let after = plain.text();
    check(&plain, &gzip);
    let grown = |metric: &str| value(&after, metric) - value(&before, metric);
    let collection =
        grown("streamgauge_poll_duration_seconds_sum") / grown("streamgauge_poll_duration_seconds_count");
    let ended = exporter.stop().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    Figures {
        collection: Duration::from_secs_f64(collection),
        plain_scrape,
        first_gzip_scrape: first_gzip.took,
        gzip_scrape,
        cpu: cpu / rounds.polls,
        redis_cpu: used.cpu / rounds.polls,
        commands: used.commands / u64::from(rounds.polls),
        sent_bytes: used.sent_bytes / u64::from(rounds.polls),
        peak_bytes,
        page_bytes: plain.bytes(),
        slowest_warm_up,
    }
}

/// The results of a run in which every group moved between polls.
pub(crate) struct Moving {
    /// Median duration of a poll.
    pub(crate) collection: Duration,
    /// Number of entries read to count lags.
    pub(crate) counted: f64,
}

/// Runs streamgauge while each group reads an entry between two polls. All lags must stay exact.
pub(crate) async fn moving(
    server: &mut MultiplexedConnection,
    url: &str,
    streams: usize,
    rounds: &Rounds,
) -> Moving {
    let exporter = start_streamgauge(url, rounds.interval).await;
    // The first move lets the counters of the group that was caught up be trusted.
    warmed_up(&exporter, streams).await;
    move_all(streams, server).await;
    let before = warmed_up(&exporter, streams).await;
    let mut times = Vec::new();
    for _ in 0..rounds.polls {
        let done = polls(&exporter).len();
        polled(&exporter, done + 1).await;
        move_all(streams, server).await;
        polled(&exporter, done + 2).await;
        times.push(polls(&exporter)[done + 1]);
        let page = scrape(exporter.address, Coding::Plain).await.text();
        assert_eq!(series(&page, "redis_stream_group_lag"), 2 * streams, "every lag is exact");
    }
    times.sort_unstable();
    let after = scrape(exporter.address, Coding::Plain).await.text();
    let counted = value(&after, COUNTED) - value(&before, COUNTED);
    let ended = exporter.stop().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    Moving { collection: times[times.len() / 2], counted }
}

/// The results of a run in which nothing happened to the streams for several windows.
pub(crate) struct Unchanged {
    /// Median duration of a poll.
    pub(crate) collection: Duration,
    /// CPU time of the exporter per poll.
    pub(crate) cpu: Duration,
    /// CPU time of the server per poll.
    pub(crate) redis_cpu: Duration,
}

/// Runs streamgauge with a window of ten polls until most streams repeat themselves, and measures over a window.
pub(crate) async fn unchanged(
    server: &mut MultiplexedConnection,
    url: &str,
    streams: usize,
    interval: Duration,
) -> Unchanged {
    let config = ConfigFile::new(&format!(
        "poll: {{interval: {}ms}}\nstatus: {{window: {}ms}}\ntargets: [{{url: '{url}'}}]\n",
        interval.as_millis(),
        interval.as_millis() * u128::from(POLLS_PER_WINDOW),
    ));
    let exporter = config.serve().args(["--log-level", "debug"]).serving().await;
    let time = interval * POLLS_PER_WINDOW * MAX_WINDOWS;
    wait_until(time, "most streams repeat themselves", async || last_unchanged(&exporter) * 4 > streams * 3)
        .await;
    let done = polls(&exporter).len();
    polled(&exporter, done + 1).await;
    let (usage, cpu) = (Usage::of(server).await, footprint::cpu(exporter.pid()));
    polled(&exporter, done + 1 + POLLS_PER_WINDOW as usize).await;
    let (used, cpu) = (usage.since(server).await, footprint::cpu(exporter.pid()) - cpu);
    let mut times = polls(&exporter).split_off(done + 1);
    times.sort_unstable();
    let ended = exporter.stop().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    Unchanged {
        collection: times[times.len() / 2],
        cpu: cpu / POLLS_PER_WINDOW,
        redis_cpu: used.cpu / POLLS_PER_WINDOW,
    }
}

/// Returns the number of streams that were not derived in the last poll, as it is logged.
fn last_unchanged(exporter: &Exporter) -> usize {
    let log = exporter.stderr();
    let last = log.lines().filter_map(|line| line.split_once("unchanged_streams=")).next_back();
    let digits = last.map(|(_, after)| after.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Waits until the page contains the lag of every group, and a poll has counted nothing: neither lags nor what can be
/// trimmed. Returns the page.
async fn warmed_up(exporter: &Exporter, streams: usize) -> String {
    let mut counted = None;
    for _ in 0..MAX_WARM_UP {
        polled(exporter, polls(exporter).len() + 1).await;
        let page = scrape(exporter.address, Coding::Plain).await.text();
        let counted_before = counted.replace(value(&page, COUNTED));
        if counted_before == counted && series(&page, "redis_stream_group_lag") == 2 * streams {
            assert_eq!(series(&page, "redis_stream_length"), streams, "every stream is there");
            let consumers = series(&page, "redis_stream_group_consumer_idle_seconds");
            assert_eq!(consumers, 6 * streams, "every consumer is there");
            return page;
        }
    }
    panic!("not everything was counted within {MAX_WARM_UP} polls");
}

fn check(plain: &Page, gzip: &Page) {
    let (plain, unpacked) = (plain.bytes(), gzip.unpacked_bytes());
    assert!(plain.abs_diff(unpacked) * 100 < plain, "{unpacked} bytes unpacked of {plain}");
}

/// A running prometheus-redis-exporter, killed on drop.
pub(crate) struct Peer {
    child: Child,
    address: SocketAddr,
}

impl Peer {
    /// Starts it on a free loopback port and waits until it listens.
    pub(crate) async fn start(program: &Path, url: &str) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let child = Command::new(program)
            .args(["--redis.addr", url, "--web.listen-address", &address.to_string()])
            .arg("--check-streams=*")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the peer runs");
        let mut peer = Self { child, address };
        wait_for(DEADLINE, "prometheus-redis-exporter listens", async || {
            let ended = peer.child.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "prometheus-redis-exporter ended: {ended:?}");
            http::try_get(address, "/", &[]).await
        })
        .await;
        peer
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it serves.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Fails if it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the peer, which collects on each scrape.
pub(crate) async fn peer(server: &mut MultiplexedConnection, peer: Peer, streams: usize) -> Figures {
    let first = scrape(peer.address, Coding::Plain).await;
    let page = first.text();
    assert_eq!(series(&page, "redis_stream_length"), streams, "every stream is there");
    let consumers = series(&page, "redis_stream_group_consumer_idle_seconds");
    assert_eq!(consumers, 6 * streams, "every consumer is there");

    let (usage, cpu_before) = (Usage::of(server).await, footprint::cpu(peer.pid()));
    let mut plain = scrape(peer.address, Coding::Plain).await;
    let took = plain.took;
    let (mut scrapes, mut cpu) = (1, footprint::cpu(peer.pid()) - cpu_before);
    while cpu < PEER_CPU {
        plain = scrape(peer.address, Coding::Plain).await;
        (scrapes, cpu) = (scrapes + 1, footprint::cpu(peer.pid()) - cpu_before);
    }
    let used = usage.since(server).await;
    let gzip = scrape(peer.address, Coding::Gzip).await;
    let peak_bytes = footprint::peak_bytes(peer.pid());
    check(&plain, &gzip);
    Figures {
        collection: took,
        plain_scrape: took,
        first_gzip_scrape: gzip.took,
        gzip_scrape: gzip.took,
        cpu: cpu / scrapes,
        redis_cpu: used.cpu / scrapes,
        commands: used.commands / u64::from(scrapes),
        sent_bytes: used.sent_bytes / u64::from(scrapes),
        peak_bytes,
        page_bytes: plain.bytes(),
        slowest_warm_up: first.took,
    }
}
