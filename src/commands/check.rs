//! `streamgauge check`: validates the configuration, polls each target once, and prints what it found. It also warns of
//! rules that cannot fire and of receivers that cannot be reached.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::Arc;

use anyhow::bail;
use clap::ArgMatches;

use crate::cli;
use crate::commands::config_source;
use crate::commands::exit_code::UsageError;
use crate::commands::output;
use crate::config::env::of_process;
use crate::config::{self, Config, Password};
use crate::format::unicode::printable;
use crate::format::units;
use crate::http::tls::ServerTls;
use crate::poller::node::{Identity, NodeState};
use crate::poller::poll::{Polled, Poller, describe_unread};
use crate::self_metrics::labels::Reason;
use crate::self_metrics::target::TargetMetrics;
use crate::terminal::table::limits;
use redis_stream_core::glob::Glob;
use redis_stream_lag::report::{Lag, Report};

mod alerting;

/// The most names on one line; the rest is counted.
const SHOWN_NAMES: usize = 5;

/// Checks each target.
///
/// # Errors
///
/// The configuration is invalid, a target cannot be polled, or `--strict` is given and there are warnings.
pub async fn run(args: &cli::Check, matches: &ArgMatches) -> anyhow::Result<()> {
    let config = config_source::read(matches, &of_process)?;
    if let Some(tls) = &config.web.tls {
        ServerTls::new(tls.clone()).map_err(|error| UsageError(error.to_string()))?;
    }
    let mut out = output::stdout();
    for line in config_source::describe(matches, &of_process) {
        writeln!(out, "{}", printable(&line))?;
    }
    let (mut found, mut warnings) = (Vec::new(), 0);
    for target in &config.targets {
        let mut lines = Lines::below(&format!("target {:?} at {}", target.name, target.topology));
        let of_target = match check(&config, target).await {
            Ok(found) => {
                describe(&found, &mut lines);
                alerting::of_target(&config.alerts.rules, target, &found, &mut lines);
                Some(found)
            }
            Err(error) => {
                // The error's text includes its cause.
                lines.add("error", &error.to_string());
                None
            }
        };
        if has_variable_as_password(target) {
            lines.warn("the password looks like a variable that is not replaced; write ${NAME}");
        }
        warnings += lines.write(&mut out)?;
        found.push((target, of_target));
    }
    warnings += alerting::of_rules(&config.alerts, &found).write(&mut out)?;
    if !config.alerts.notifiers.is_empty() {
        warnings += alerting::of_notifiers(&config.alerts.notifiers).await.write(&mut out)?;
    }
    let failed: Vec<_> = found.iter().filter(|(_, found)| found.is_none()).collect();
    if !failed.is_empty() {
        let names: Vec<_> = failed.iter().map(|(target, _)| target.name.as_str()).collect();
        bail!("cannot poll {} of {} targets: {}", names.len(), found.len(), names.join(", "));
    }
    if args.strict && warnings > 0 {
        bail!("{} (--strict)", units::counted(warnings, "warning", "warnings"));
    }
    Ok(())
}

/// Returns true for a password such as `$NAME`, which is not replaced by the variable.
fn has_variable_as_password(target: &config::Target) -> bool {
    let Some(Password::Text(secret)) = &target.password else { return false };
    let is_name = |name: &str| {
        let is_part = |one: char| one.is_ascii_uppercase() || one.is_ascii_digit() || one == '_';
        name.starts_with(|first: char| first.is_ascii_uppercase() || first == '_')
            && name.chars().all(is_part)
    };
    secret.expose().strip_prefix('$').is_some_and(is_name)
}

/// Lines below a heading.
struct Lines {
    text: String,
    warnings: usize,
}

impl Lines {
    fn below(heading: &str) -> Self {
        Self { text: format!("\n{}\n", printable(heading)), warnings: 0 }
    }

    fn add(&mut self, title: &str, text: &str) {
        let _ = writeln!(self.text, "  {:<8} {}", printable(title), printable(text));
    }

    fn warn(&mut self, text: &str) {
        self.add("warning", text);
        self.warnings += 1;
    }

    /// Writes the lines. Returns the number of warnings.
    fn write(self, out: &mut dyn io::Write) -> anyhow::Result<usize> {
        out.write_all(self.text.as_bytes())?;
        Ok(self.warnings)
    }
}

/// The result of polling a target.
struct Found {
    report: Arc<Report>,
    /// True if all keys of all nodes were looked at.
    is_complete: bool,
    /// The identity of the node, or of a cluster's first; `None` where HELLO is refused.
    identity: Option<Identity>,
    /// The nodes, or why they cannot be polled, with their addresses if there are several.
    nodes: Vec<Result<String, String>>,
    /// The reasons why streams could not be read, each once.
    unread_because: Vec<&'static str>,
    /// Globs of `streams` with a class that is not closed.
    unclosed: Vec<String>,
    /// Globs of `streams` that select no stream, although all were found.
    unmatched: Vec<String>,
    is_time_refused: bool,
    /// The streams that were not read in this poll, and the reason; `None` if all were.
    unread_streams: Option<String>,
    /// Why streams are not found though every node answered; `None` if all are found.
    warning: Option<String>,
    /// Why SCAN failed; `None` if it succeeded, or was not needed.
    scan_problem: Option<String>,
}

async fn check(config: &Config, target: &config::Target) -> anyhow::Result<Found> {
    let metrics = TargetMetrics::unexported(&target.name);
    let mut poller = Poller::new(Arc::new(target.clone()), config.poll.clone(), metrics);
    let polled = poller.poll().await?;
    let unread_streams = describe_unread(&polled);
    let Polled { report, has_answered, is_time_refused, warning, .. } = polled;
    let unread = report.streams.iter().filter(|stream| stream.values.is_none());
    let mut unread_because: Vec<_> =
        unread.map(|stream| describe_problem(poller.stream_problem(&stream.key))).collect();
    unread_because.sort_unstable();
    unread_because.dedup();
    let is_complete = has_answered && warning.is_none() && poller.has_found_streams();
    // With a shard, or at the limit, a matching stream may be another exporter's, or left out.
    let shows_all =
        is_complete && unread_streams.is_none() && config.poll.shard.is_none() && report.limited.streams == 0;
    Ok(Found {
        unclosed: unclosed(target),
        unmatched: if shows_all { unmatched(target, &report) } else { Vec::new() },
        unread_because,
        is_time_refused,
        is_complete,
        unread_streams,
        report,
        identity: poller.nodes().find_map(|node| node.identity.cloned()),
        nodes: poller.nodes().map(|node| summary(&node, poller.nodes().count())).collect(),
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

fn summary(node: &NodeState<'_>, count: usize) -> Result<String, String> {
    let address = if count > 1 { format!("{}: ", node.address) } else { String::new() };
    match (node.failure, node.identity) {
        (Some(failure), _) => Err(format!("{address}{failure}")),
        (None, Some(Identity { server, version, role, .. })) => {
            Ok(format!("{address}{server} {version}, {role}"))
        }
        (None, None) => {
            Ok(format!("{address}does not tell what it is (HELLO refused): the role is not checked"))
        }
    }
}

fn describe(found: &Found, lines: &mut Lines) {
    for node in &found.nodes {
        match node {
            Ok(state) => lines.add("server", state),
            Err(failure) => lines.warn(failure),
        }
    }
    if let Some(warning) = &found.warning {
        lines.warn(warning);
    }
    if let Some(problem) = &found.scan_problem {
        lines.warn(&format!("cannot look for streams by SCAN: {problem}"));
    }
    if found.is_time_refused {
        lines.warn("TIME is refused: ages use this machine's clock");
    }
    let streams = &found.report.streams;
    let (read, unread): (Vec<_>, Vec<_>) = streams.iter().partition(|stream| stream.values.is_some());
    lines.add("streams", &counted(read.iter().map(|stream| stream.key.to_string())));
    if !unread.is_empty() {
        let names = counted(unread.iter().map(|stream| stream.key.to_string()));
        lines.warn(&format!("{}: {names}", found.unread_because.join(", ")));
    }
    if let Some(unread) = &found.unread_streams {
        lines.warn(unread);
    }
    found.unclosed.iter().for_each(|glob| {
        lines.warn(&format!("the [ of {glob:?} is not closed; write \\[ for the character itself"));
    });
    found.unmatched.iter().for_each(|glob| lines.warn(&format!("no stream matches {glob:?}")));
    let groups = || streams.iter().flat_map(|stream| &stream.groups);
    let lags: Vec<_> = groups().filter_map(|group| group.values.as_ref().map(|values| values.lag)).collect();
    let exact = lags.iter().filter(|lag| matches!(lag, Lag::Exact(_))).count();
    lines.add("groups", &format!("{}, the lag of {exact} is known by now", lags.len()));
    let missing: Vec<_> = groups().filter(|group| group.values.is_none()).collect();
    if !missing.is_empty() {
        let names = counted(missing.iter().map(|group| group.name.to_string()));
        lines.warn(&format!("groups that are missing: {names}"));
    }
    limits(&found.report.limited.into()).iter().for_each(|limit| lines.warn(limit));
}

fn unclosed(target: &config::Target) -> Vec<String> {
    let globs = target.streams.iter().flat_map(|rule| {
        [&rule.exclude, &rule.include_groups, &rule.exclude_groups].into_iter().flatten().chain([&rule.key])
    });
    globs.filter(|glob| glob.has_unclosed_class()).map(ToString::to_string).collect()
}

/// Returns the globs of `streams` that match no stream of the report.
fn unmatched(target: &config::Target, report: &Report) -> Vec<String> {
    let matches_none =
        |glob: &&Glob| !report.streams.iter().any(|stream| glob.matches(stream.key.as_bytes()));
    let globs = target.streams.iter().map(|rule| &rule.key).filter(|glob| glob.literal().is_none());
    globs.filter(matches_none).map(ToString::to_string).collect()
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
