//! `status` without a running streamgauge: polls the targets for a while and derives the groups' status from that.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, interval, sleep_until};

use crate::api::groups::filter::GroupFilter;
use crate::api::groups::{Listing, TargetSnapshot};
use crate::commands::output::{print_error, stderr};
use crate::config::{self, Config, Poll};
use crate::monitor::redis_cli;
use crate::monitor::settings::alert_labels;
use crate::poller::poll::{Poller, describe_unread, has_answered, problem};
use crate::self_metrics::target::TargetMetrics;
use redis_stream_core::clock::{now, unix_time};

/// Polls after the first.
const POLLS: u32 = 8;
/// The most time that SCAN may take before the first poll.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(30);
/// Time without output after which progress is shown.
const PROGRESS_AFTER: Duration = Duration::from_secs(2);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Polls every target for `time`, or once if that is zero. Returns the groups, and what could not be read.
pub(super) async fn observe(config: Config, time: Duration) -> (Listing, Vec<String>) {
    let runs = config.targets.into_iter().map(|target| observe_target(target, &config.poll, time));
    let observed = tokio::select! {
        biased;
        observed = join_all(runs) => observed,
        () = show_progress(time) => Vec::new(),
    };
    clear_progress();
    let (targets, problems): (Vec<_>, Vec<_>) = observed.into_iter().unzip();
    (Listing::of(&targets, &GroupFilter::default()), problems.into_iter().flatten().collect())
}

/// Polls a target. Returns the last report, and what could not be read; the status window is `time`.
async fn observe_target(
    mut target: config::Target,
    poll: &Poll,
    time: Duration,
) -> (TargetSnapshot, Option<String>) {
    if !time.is_zero() {
        target.streams.iter_mut().for_each(|rule| rule.window = time);
    }
    let timeout = poll.timeout.max(Duration::from_secs(8));
    // The interval bounds the time of the first SCAN only.
    let poll = Poll { timeout, interval: DISCOVERY_TIMEOUT, ..poll.clone() };
    let metrics = TargetMetrics::unexported(&target.name);
    let labels = Arc::new(alert_labels(&target));
    let target = Arc::new(target);
    let mut poller = Poller::new(Arc::clone(&target), poll, metrics);
    let mut snapshot = TargetSnapshot {
        labels,
        is_up: false,
        last_read: None,
        error: None,
        report: None,
        redis_cli: Arc::default(),
    };
    let mut unread = poll_into(&mut poller, &mut snapshot).await;
    if snapshot.report.is_none() {
        return (snapshot, None);
    }
    let began = now();
    if !time.is_zero() {
        for poll in 1..=POLLS {
            sleep_until(began + time * poll / POLLS).await;
            unread = poll_into(&mut poller, &mut snapshot).await;
        }
    }
    if let Some(endpoint) = poller.node_address() {
        snapshot.redis_cli = redis_cli::words(&target, endpoint);
    }
    let problem = discovery_problem(&poller).or(unread);
    let problem = problem.map(|problem| format!("target {:?}: {problem}", snapshot.labels.name));
    (snapshot, problem)
}

/// Polls once, and returns a text about streams that were not read. A failed poll keeps the report of the one before.
async fn poll_into(poller: &mut Poller, snapshot: &mut TargetSnapshot) -> Option<String> {
    let outcome = poller.poll().await;
    poller.read_later_pages().await;
    snapshot.is_up = has_answered(&outcome);
    snapshot.error = problem(&outcome);
    let polled = outcome.ok()?;
    // The error of a poll that was cut off is shown by itself.
    let unread = if polled.cut_off_by.is_none() { describe_unread(&polled) } else { None };
    (snapshot.report, snapshot.last_read) = (Some(polled.report), Some(unix_time()));
    unread
}

fn discovery_problem(poller: &Poller) -> Option<String> {
    if let Some(problem) = poller.scan_problem() {
        return Some(format!("cannot look for streams by SCAN: {problem}"));
    }
    (!poller.has_found_streams()).then(|| {
        let seconds = DISCOVERY_TIMEOUT.as_secs();
        format!("there are more keys than SCAN could walk in {seconds} s; name streams with --stream")
    })
}

/// Shows progress on standard error. Never returns.
async fn show_progress(time: Duration) {
    let began = now();
    sleep_until(began + PROGRESS_AFTER).await;
    let shown = humantime::format_duration(time);
    if !stderr().is_terminal() {
        print_error(&format!("observing for {shown} (--observe)"));
        return std::future::pending().await;
    }
    let mut ticks = interval(PROGRESS_INTERVAL);
    loop {
        ticks.tick().await;
        let passed = seconds_since(began);
        // A closed standard error must not end the command.
        let _ = write!(stderr(), "\robserving for {shown} (--observe): {passed} s ");
    }
}

fn seconds_since(began: Instant) -> u64 {
    (now() - began).as_secs()
}

/// Clears the line that progress was shown on.
fn clear_progress() {
    if stderr().is_terminal() {
        let _ = write!(stderr(), "\r\x1b[K");
    }
}
