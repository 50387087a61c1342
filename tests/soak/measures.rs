//! What the program holds, seen from outside: its memory over time, and all else while nobody asks anything of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use redis_stream_core::clock::{now, unix_time};
use tokio::time::{Instant, sleep};

use crate::journal::Window;
use crate::say;
use crate::setup::{Setup, USER};
use crate::support::footprint;
use crate::support::server::connect;
use crate::support::snapshot::{ask, text};

/// From one look at the memory to the next.
const PAUSE: Duration = Duration::from_millis(500);
/// Interval of progress messages.
const TOLD_MINUTES: u64 = 5;
/// Threads for blocking work end when they had nothing to do for ten seconds.
const REST: Duration = Duration::from_secs(12);
/// Parts that the time is divided into, to find which way the memory goes.
const PARTS: usize = 24;

/// Resident bytes, and when, since the first look.
pub(crate) struct Memory(Vec<(Duration, u64)>);

/// Resources in use without requests: the least of several readings, so that a poll in progress does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AtRest {
    /// Open files.
    pub(crate) descriptors: usize,
    /// Threads.
    pub(crate) threads: usize,
    /// Tasks, as it says itself.
    pub(crate) tasks: usize,
    /// Connections to each node, in their order.
    pub(crate) connections: Vec<usize>,
}

impl Memory {
    /// Looks at it until then.
    pub(crate) async fn watch(pid: u32, until: Instant) -> Self {
        let (mut looks, began, mut told) = (Vec::new(), now(), 0);
        while now() < until {
            let (elapsed, bytes) = (began.elapsed(), footprint::resident_bytes(pid));
            looks.push((elapsed, bytes));
            let minutes = elapsed.as_secs() / 60;
            if minutes >= told + TOLD_MINUTES {
                told = minutes;
                let (descriptors, threads) = (footprint::descriptors(pid), footprint::threads(pid));
                let mib = bytes as f64 / f64::from(1 << 20);
                say(&format!("{minutes} min: {mib:.1} MiB, {descriptors} descriptors, {threads} threads"));
            }
            sleep(PAUSE).await;
        }
        Self(looks)
    }

    /// Medians of equal parts of the time.
    fn parts(&self) -> Vec<(f64, f64)> {
        let parts = self.0.chunks(self.0.len().div_ceil(PARTS).max(1));
        let medians = parts.map(|part| {
            let mut sorted: Vec<_> = part.iter().map(|(_, bytes)| *bytes).collect();
            sorted.sort_unstable();
            (part[part.len() / 2].0.as_secs_f64(), sorted[sorted.len() / 2] as f64)
        });
        medians.collect()
    }

    /// Bytes that it has in the middle of the time, and bytes per second that it grows by: the median of the slopes
    /// between all pairs of parts, which no single peak moves.
    pub(crate) fn level_and_slope(&self) -> (f64, f64) {
        let parts = self.parts();
        let mut slopes: Vec<f64> = Vec::new();
        for (at, (time, bytes)) in parts.iter().enumerate() {
            slopes.extend(parts[at + 1..].iter().map(|(later, more)| (more - bytes) / (later - time)));
        }
        (median(parts.into_iter().map(|(_, bytes)| bytes).collect()), median(slopes))
    }

    /// For how long it was looked at.
    pub(crate) fn span(&self) -> Duration {
        self.0.last().map(|(at, _)| *at).unwrap_or_default()
    }

    /// The most that was seen.
    pub(crate) fn peak(&self) -> u64 {
        self.0.iter().map(|(_, bytes)| *bytes).max().unwrap_or_default()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a small count, written as a float"
)]
fn count(value: f64) -> usize {
    value as usize
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

impl AtRest {
    /// Looks for a while. Nobody else may read from the program meanwhile.
    pub(crate) async fn of(setup: &Setup) -> Self {
        let pid = setup.exporter.pid();
        let (mut descriptors, mut threads, mut tasks) = (usize::MAX, usize::MAX, usize::MAX);
        let until = now() + REST;
        while now() < until {
            descriptors = descriptors.min(footprint::descriptors(pid));
            threads = threads.min(footprint::threads(pid));
            tasks = tasks.min(count(setup.exporter.metrics().await["streamgauge_tasks"]));
            sleep(PAUSE).await;
        }
        let mut connections = Vec::new();
        for node in &setup.nodes {
            let mut connection = connect(&node.url).await.expect("all servers are up");
            let clients =
                text(&ask(&mut connection, &["CLIENT", "LIST"]).await.expect("it lists its clients"));
            let own = format!(" user={USER} ");
            connections.push(clients.lines().filter(|line| line.contains(&own)).count());
        }
        Self { descriptors, threads, tasks, connections }
    }
}

/// Finds when the machine did not let anybody run: a thread that sleeps and sees how late it wakes up.
pub(crate) struct Stalls {
    is_over: Arc<AtomicBool>,
    found: Arc<Mutex<Vec<Window>>>,
    thread: JoinHandle<()>,
}

impl Stalls {
    const NAP: Duration = Duration::from_millis(20);
    /// Later than this is no accident of a busy machine.
    const LATE: Duration = Duration::from_millis(150);

    /// Begins.
    pub(crate) fn watch() -> Self {
        let (is_over, found) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (ends, finds) = (Arc::clone(&is_over), Arc::clone(&found));
        let thread = thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                let from = unix_time();
                thread::sleep(Self::NAP);
                let until = unix_time();
                if until.saturating_sub(from) > Self::NAP + Self::LATE {
                    let stall = Window { target: None, from, until };
                    finds.lock().unwrap_or_else(PoisonError::into_inner).push(stall);
                }
            }
        });
        Self { is_over, found, thread }
    }

    /// Ends, and tells what was found.
    pub(crate) fn end(self) -> Vec<Window> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("it only sleeps");
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
