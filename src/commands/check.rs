//! `streamgauge check`: validates the configuration, polls each target once, and says what was found.

use std::io::{self, Write};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tokio::sync::watch;

use crate::cli;
use crate::commands::source;
use crate::config::environment::of_process;
use crate::config::{self, Config};
use crate::exposition::page::Layout;
use crate::lag::report::{Lag, Report};
use crate::poller::node::Identity;
use crate::self_metrics::SelfMetrics;
use crate::target::{State, Target};

/// Names that one line shows; the rest is counted.
const SHOWN_NAMES: usize = 5;

/// Checks each target.
///
/// # Errors
///
/// The configuration is wrong, or a target cannot be polled.
pub async fn run(args: &cli::Check) -> anyhow::Result<()> {
    let config = source::read(&args.source, None, &of_process)?;
    let mut out = io::stdout();
    if let Some(path) = &args.source.config {
        writeln!(out, "{} is valid", path.display())?;
    }
    let mut failed = Vec::new();
    for target in &config.targets {
        let text = match check(&config, target).await {
            Ok(text) => text,
            Err(error) => {
                failed.push(target.name.as_str());
                // Its own text holds its cause already.
                format!("  error    {error}\n")
            }
        };
        write!(out, "\ntarget {:?} at {}\n{text}", target.name, target.place)
            .context("cannot write the result")?;
    }
    if !failed.is_empty() {
        bail!("cannot poll {} of {} targets: {}", failed.len(), config.targets.len(), failed.join(", "));
    }
    Ok(())
}

async fn check(config: &Config, target: &config::Target) -> anyhow::Result<String> {
    let layout = Arc::new(Layout::new(|_| true, config.metrics.consumer_max_idle));
    let metrics = SelfMetrics::new(std::time::Duration::ZERO, &[])?.for_target(&target.name, &[]);
    let state = Arc::new(watch::Sender::new(State::default()));
    let mut target = Target::new(target.clone(), config.poll.clone(), layout, metrics, state);
    let report = target.poll_once().await?;
    let upstream = target.upstream();
    Ok(describe(&report, upstream.identity(), upstream.scan_problem()))
}

/// What was found, one line for each kind of thing.
fn describe(report: &Report, identity: Option<&Identity>, scan_problem: Option<&str>) -> String {
    let mut lines = Vec::new();
    let mut line = |title: &str, text: String| lines.push(format!("  {title:<8} {text}\n"));
    match identity {
        Some(identity) => {
            line("server", format!("{} {}, {}", identity.server, identity.version, identity.role));
        }
        None => {
            line("server", "does not tell what it is (HELLO refused): the role is not checked".to_owned());
        }
    }
    if let Some(problem) = scan_problem {
        line("warning", format!("cannot look for streams by SCAN: {problem}"));
    }
    let (read, unread): (Vec<_>, Vec<_>) = report.streams.iter().partition(|stream| stream.values.is_some());
    line("streams", counted(read.iter().map(|stream| stream.key.to_string())));
    if !unread.is_empty() {
        let names = counted(unread.iter().map(|stream| stream.key.to_string()));
        line("warning", format!("missing, of another type or denied: {names}"));
    }
    let groups = || report.streams.iter().flat_map(|stream| &stream.groups);
    let lags: Vec<_> = groups().filter_map(|group| group.values.as_ref().map(|values| values.lag)).collect();
    let exact = lags.iter().filter(|lag| matches!(lag, Lag::Exact(_))).count();
    line("groups", format!("{}, the lag of {exact} is known by now", lags.len()));
    let missing: Vec<_> = groups().filter(|group| group.values.is_none()).collect();
    if !missing.is_empty() {
        let names = counted(missing.iter().map(|group| group.name.to_string()));
        line("warning", format!("groups that are missing: {names}"));
    }
    lines.concat()
}

/// How many, and the first of them.
fn counted(names: impl ExactSizeIterator<Item = String>) -> String {
    let count = names.len();
    if count == 0 {
        return "none".to_owned();
    }
    let shown: Vec<_> = names.take(SHOWN_NAMES).collect();
    let more = if count > shown.len() { ", ..." } else { "" };
    format!("{count} ({}{more})", shown.join(", "))
}
