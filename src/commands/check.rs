//! `streamgauge check`: validates the configuration, polls each target once, and prints what it found. It also warns of
//! rules that cannot fire and of receivers that cannot be reached.

use std::io::{self, Write};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::ArgMatches;

use crate::cli;
use crate::commands::config_source;
use crate::commands::exit_code::UsageError;
use crate::config::env::of_process;
use crate::config::{self, Config};
use crate::http::tls::ServerTls;
use crate::poller::node::{Identity, NodeState};
use crate::poller::poll::{Polled, Poller};
use crate::self_metrics::labels::Reason;
use crate::self_metrics::target::TargetMetrics;
use redis_stream_lag::report::{Lag, Report};

mod alerting;

/// The most names on one line; the rest is counted.
const SHOWN_NAMES: usize = 5;

/// Checks each target.
///
/// # Errors
///
/// The configuration is invalid, or a target cannot be polled.
pub async fn run(args: &cli::Check, matches: &ArgMatches) -> anyhow::Result<()> {
    let config = config_source::read(matches, &of_process)?;
    if let Some(tls) = &config.web.tls {
        ServerTls::new(tls.clone()).map_err(|error| UsageError(error.to_string()))?;
    }
    let mut out = io::stdout();
    if let Some(path) = &args.source.polled.config {
        writeln!(out, "{} is valid", path.display())?;
    }
    let mut found = Vec::new();
    for target in &config.targets {
        let (text, of_target) = match check(&config, target).await {
            Ok(found) => {
                (describe(&found) + &alerting::of_target(&config.alerts.rules, target, &found), Some(found))
            }
            // The error's text includes its cause.
            Err(error) => (line("error", &error.to_string()), None),
        };
        write!(out, "\ntarget {:?} at {}\n{text}", target.name, target.topology)
            .context("cannot write the result")?;
        found.push((target, of_target));
    }
    let alerts = alerting::of_rules(&config.alerts, &found);
    let notifiers = alerting::of_notifiers(&config.alerts.notifiers).await;
    write!(out, "{alerts}{notifiers}").context("cannot write the result")?;
    let failed: Vec<_> = found.iter().filter(|(_, found)| found.is_none()).collect();
    if !failed.is_empty() {
        let names: Vec<_> = failed.iter().map(|(target, _)| target.name.as_str()).collect();
        bail!("cannot poll {} of {} targets: {}", names.len(), found.len(), names.join(", "));
    }
    Ok(())
}

/// The result of polling a target.
struct Found {
    report: Arc<Report>,
    /// True if all keys of all nodes were looked at.
    is_complete: bool,
    /// The identity of the node, or of a cluster's first; `None` where HELLO is refused.
    identity: Option<Identity>,
    /// One line for each node.
    nodes: Vec<String>,
    /// The reasons why streams could not be read, each once.
    unread_because: Vec<&'static str>,
    is_time_refused: bool,
    /// Why streams are not found though every node answered; `None` if all are found.
    warning: Option<String>,
    /// Why SCAN failed; `None` if it succeeded, or was not needed.
    scan_problem: Option<String>,
}

async fn check(config: &Config, target: &config::Target) -> anyhow::Result<Found> {
    let metrics = TargetMetrics::unexported(&target.name);
    let mut poller = Poller::new(Arc::new(target.clone()), config.poll.clone(), metrics);
    let Polled { report, has_answered, is_time_refused, warning, .. } = poller.poll().await?;
    let unread = report.streams.iter().filter(|stream| stream.values.is_none());
    let mut unread_because: Vec<_> =
        unread.map(|stream| describe_problem(poller.stream_problem(&stream.key))).collect();
    unread_because.sort_unstable();
    unread_because.dedup();
    Ok(Found {
        unread_because,
        is_time_refused,
        report,
        is_complete: has_answered && warning.is_none() && poller.has_found_streams(),
        identity: poller.nodes().find_map(|node| node.identity.cloned()),
        nodes: poller.nodes().map(|node| describe_node(&node, poller.nodes().count())).collect(),
        warning,
        scan_problem: poller.scan_problem().map(str::to_owned),
    })
}

fn describe_problem(problem: Option<Reason>) -> &'static str {
    match problem {
        None => "on a node that cannot be reached",
        Some(Reason::MissingKey) => "missing",
        Some(Reason::WrongType) => "of another type",
        Some(Reason::Denied) => "denied",
        Some(Reason::Protocol) => "not understood",
        Some(_) => "refused (is XINFO renamed?)",
    }
}

/// Returns a line about a node, with its address if there are several.
fn describe_node(node: &NodeState<'_>, count: usize) -> String {
    let (title, text) = match (node.failure, node.identity) {
        (Some(failure), _) => ("warning", failure.to_owned()),
        (None, Some(Identity { server, version, role, .. })) => {
            ("server", format!("{server} {version}, {role}"))
        }
        (None, None) => {
            ("server", "does not tell what it is (HELLO refused): the role is not checked".to_owned())
        }
    };
    if count > 1 { line(title, &format!("{}: {text}", node.address)) } else { line(title, &text) }
}

fn describe(found: &Found) -> String {
    let mut lines = found.nodes.concat();
    let mut add = |title: &str, text: String| lines.push_str(&line(title, &text));
    if let Some(warning) = &found.warning {
        add("warning", warning.clone());
    }
    if let Some(problem) = &found.scan_problem {
        add("warning", format!("cannot look for streams by SCAN: {problem}"));
    }
    if found.is_time_refused {
        add("warning", "TIME is refused: ages use this machine's clock".to_owned());
    }
    let streams = &found.report.streams;
    let (read, unread): (Vec<_>, Vec<_>) = streams.iter().partition(|stream| stream.values.is_some());
    add("streams", counted(read.iter().map(|stream| stream.key.to_string())));
    if !unread.is_empty() {
        let names = counted(unread.iter().map(|stream| stream.key.to_string()));
        add("warning", format!("{}: {names}", found.unread_because.join(", ")));
    }
    let groups = || streams.iter().flat_map(|stream| &stream.groups);
    let lags: Vec<_> = groups().filter_map(|group| group.values.as_ref().map(|values| values.lag)).collect();
    let exact = lags.iter().filter(|lag| matches!(lag, Lag::Exact(_))).count();
    add("groups", format!("{}, the lag of {exact} is known by now", lags.len()));
    let missing: Vec<_> = groups().filter(|group| group.values.is_none()).collect();
    if !missing.is_empty() {
        let names = counted(missing.iter().map(|group| group.name.to_string()));
        add("warning", format!("groups that are missing: {names}"));
    }
    lines
}

fn line(title: &str, text: &str) -> String {
    format!("  {title:<8} {text}\n")
}

/// Returns the number of names, and the first of them.
fn counted(names: impl ExactSizeIterator<Item = String>) -> String {
    let count = names.len();
    if count == 0 {
        return "none".to_owned();
    }
    let shown: Vec<_> = names.take(SHOWN_NAMES).collect();
    let more = if count > shown.len() { ", ..." } else { "" };
    format!("{count} ({}{more})", shown.join(", "))
}
