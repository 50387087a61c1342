//! Polls by itself for a while, and tells the groups' status from that.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep_until};

use crate::api::groups::Listing;
use crate::api::groups::filter::Filter;
use crate::commands::seen::{self, Watched};
use crate::commands::status::say;
use crate::config::{self, Config, Poll};
use crate::exposition::render::FamilySelection;
use crate::monitor::Target;
use crate::monitor::state::State;
use crate::self_metrics::SelfMetrics;
use redis_stream_core::clock::now;

/// Polls of a target while it is observed, after the first.
const POLLS: u32 = 8;
/// Longest time that streams are looked for before the first poll.
const LOOKING: Duration = Duration::from_secs(30);
/// What takes no longer needs no sign of life.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time from one sign of life to the next.
const SIGN: Duration = Duration::from_secs(1);

/// What was found after that time, and what was not. Without time to observe each target is polled once.
pub(super) async fn observe(config: Config, time: Duration) -> (Listing, Vec<String>) {
    let mut watched = Vec::new();
    let mut runs = Vec::new();
    for target in config.targets {
        let (name, labels) = (target.name.clone(), seen::labels(&target));
        let (target, state) = prepare(target, &config.poll, time);
        watched.push((Arc::new(labels), state));
        runs.push(
            async move { run(target, time).await.map(|problem| format!("target {name:?}: {problem}")) },
        );
    }
    let problems = tokio::select! {
        biased;
        problems = join_all(runs) => problems,
        () = show_signs_of_life(time) => Vec::new(),
    };
    clear_sign();
    (listing(&watched), problems.into_iter().flatten().collect())
}

/// The groups of targets as they are now.
pub(super) fn listing(watched: &[Watched]) -> Listing {
    Listing::of(&seen::seen(watched, now()), &Filter::default())
}

/// A target that is observed for a time, which is the window of its groups' status then.
fn prepare(mut target: config::Target, poll: &Poll, time: Duration) -> (Target, watch::Receiver<State>) {
    if !time.is_zero() {
        target.streams.iter_mut().for_each(|rule| rule.window = time);
    }
    let timeout = poll.timeout.max(Duration::from_secs(8));
    // The interval is only how long streams are looked for: polls are told when to be.
    let poll = Poll { timeout, interval: LOOKING, stale_after: LOOKING + 2 * time, ..poll.clone() };
    build(target, poll)
}

/// A target of which nobody counts anything.
pub(super) fn build(target: config::Target, poll: Poll) -> (Target, watch::Receiver<State>) {
    let layout = Arc::new(FamilySelection::new(|_| false, Duration::MAX));
    let metrics = SelfMetrics::new(Duration::ZERO, &[]).expect("a registry of its own takes all of them");
    let metrics = metrics.for_target(&target.name, &[]);
    let (sender, state) = watch::channel(State::default());
    (Target::new(target, poll, layout, metrics, Arc::new(sender)), state)
}

/// Polls until the time is over; what could not be looked at, if anything.
async fn run(mut target: Target, time: Duration) -> Option<String> {
    // Why it failed is in its state.
    target.poll_once().await.ok()?;
    let began = now();
    if !time.is_zero() {
        for poll in 1..=POLLS {
            sleep_until(began + time * poll / POLLS).await;
            // What was read before is still shown, and that it failed is.
            let _ = target.poll_once().await;
        }
    }
    let upstream = target.upstream();
    if let Some(problem) = upstream.scan_problem() {
        return Some(format!("cannot look for streams by SCAN: {problem}"));
    }
    (!upstream.knows_its_streams()).then(|| {
        let seconds = LOOKING.as_secs();
        format!("there are more keys than could be looked at in {seconds} s; name streams with --stream")
    })
}

/// Shows that something goes on, and never ends.
async fn show_signs_of_life(time: Duration) {
    let began = now();
    sleep_until(began + PATIENCE).await;
    let shown = humantime::format_duration(time);
    if !io::stderr().is_terminal() {
        say(&format!("observing for {shown} (--observe)"));
        return std::future::pending().await;
    }
    let mut ticks = interval(SIGN);
    loop {
        ticks.tick().await;
        let passed = seconds_since(began);
        // Without standard error there is nobody to tell.
        let _ = write!(io::stderr(), "\robserving for {shown} (--observe): {passed} s ");
    }
}

fn seconds_since(began: Instant) -> u64 {
    (now() - began).as_secs()
}

/// Makes room for the result on the line of the signs of life.
fn clear_sign() {
    if io::stderr().is_terminal() {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
}
