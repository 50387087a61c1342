//! `streamgauge check`: validates the configuration, polls each target once, and prints what it found. It also warns of
//! rules that cannot fire and of receivers that cannot be reached.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::Arc;

use anyhow::bail;
use bytesize::ByteSize;
use clap::ArgMatches;

use crate::cli;
use crate::commands::config_source;
use crate::commands::exit_code::UsageError;
use crate::commands::output;
use crate::config::cursor::closest;
use crate::config::env::of_process;
use crate::config::topology::Topology;
use crate::config::{self, Config, LoginPassword, Password};
use crate::exposition::alerts;
use crate::format::unicode::printable;
use crate::format::units;
use crate::http::tls::ServerTls;
use crate::poller::node::Identity;
use crate::poller::poll::{Polled, Poller, describe_unread};
use crate::self_metrics::SelfMetrics;
use crate::self_metrics::labels::Reason;
use crate::self_metrics::target::TargetMetrics;
use crate::terminal::table::limits;
use crate::values::table::FAMILIES;
use redis_stream_core::clock::unix_time;
use redis_stream_core::glob::Glob;
use redis_stream_core::tls::{SKIPPED, Verification};
use redis_stream_lag::report::{Lag, Report};

mod alerting;
mod cost;
mod leaks;

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
        let of_target = match check(&config, target, &mut lines).await {
            Ok(found) => {
                alerting::of_target(&config.alerts.rules, target, &found, &mut lines);
                Some(found)
            }
            Err(error) => {
                // The error's text includes its cause.
                lines.add("error", &error.to_string());
                None
            }
        };
        if target.tls.verification == Verification::Skipped {
            lines.warn(SKIPPED);
        }
        if has_variable_as_password(target) {
            lines.warn("the password looks like a variable that is not replaced; write ${NAME}");
        }
        warnings += lines.write(&mut out)?;
        found.push((target, of_target));
    }
    warnings += warn_of_excluded(&config.metrics.exclude)?.write(&mut out)?;
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
    let of_sentinels = match &target.topology {
        Topology::Sentinel(sentinel) => sentinel.password.as_ref(),
        Topology::Standalone(_) | Topology::Cluster(_) => None,
    };
    let is_name = |name: &str| {
        let is_part = |one: char| one.is_ascii_uppercase() || one.is_ascii_digit() || one == '_';
        name.starts_with(|first: char| first.is_ascii_uppercase() || first == '_')
            && name.chars().all(is_part)
    };
    let is_variable = |password: &Password| match password {
        Password::Text(secret) => secret.expose().strip_prefix('$').is_some_and(is_name),
        Password::File(_) => false,
    };
    target.password.iter().chain(of_sentinels).filter_map(LoginPassword::configured).any(is_variable)
}

/// Returns warnings of globs of `metrics.exclude` that match no metric, and if no metric of streams is left.
fn warn_of_excluded(exclude: &[Glob]) -> anyhow::Result<Lines> {
    let mut lines = Lines::below("metrics");
    let own = SelfMetrics::new(unix_time(), &[])?;
    let of_streams = || FAMILIES.iter().map(|family| family.name);
    let alerts = alerts::FAMILIES.iter().map(|(name, _)| *name);
    let names: Vec<_> = of_streams().chain(alerts).chain(own.names().iter().map(String::as_str)).collect();
    for (at, glob) in exclude.iter().enumerate() {
        if names.iter().any(|name| glob.matches(name.as_bytes())) {
            continue;
        }
        let glob = glob.to_string();
        let hint = closest(&glob, &names).map(|name| format!("; did you mean {name}?")).unwrap_or_default();
        lines.warn(&format!("metrics.exclude[{at}]: {glob:?} matches no metric{hint}"));
    }
    if of_streams().all(|name| exclude.iter().any(|glob| glob.matches(name.as_bytes()))) {
        lines.warn("metrics.exclude leaves no metric of a stream or group");
    }
    Ok(lines)
}

/// Lines below a heading.
struct Lines {
    text: String,
    warnings: usize,
    is_empty: bool,
}

impl Lines {
    fn below(heading: &str) -> Self {
        Self { text: format!("\n{}\n", printable(heading)), warnings: 0, is_empty: true }
    }

    fn add(&mut self, title: &str, text: &str) {
        self.is_empty = false;
        let _ = writeln!(self.text, "  {:<8} {}", printable(title), printable(text));
    }

    fn warn(&mut self, text: &str) {
        self.add("warning", text);
        self.warnings += 1;
    }

    /// Writes the lines, unless there are none. Returns the number of warnings.
    fn write(self, out: &mut dyn io::Write) -> anyhow::Result<usize> {
        if self.is_empty {
            return Ok(0);
        }
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
}

async fn check(config: &Config, target: &config::Target, lines: &mut Lines) -> anyhow::Result<Found> {
    let metrics = TargetMetrics::unexported(&target.name);
    let mut poller = Poller::new(Arc::new(target.clone()), config.poll.clone(), metrics);
    let polled = poller.poll().await?;
    let unread_streams = describe_unread(&polled);
    let Polled { report, has_answered, is_time_refused, memory_warning, warning, .. } = polled;
    describe_nodes(&poller, lines);
    if let Some(warning) = &warning {
        lines.warn(warning);
    }
    if let Some(problem) = poller.scan_problem() {
        lines.warn(&format!("cannot look for streams by SCAN: {problem}"));
    }
    if is_time_refused {
        lines.warn("TIME is refused: ages use this machine's clock");
    }
    memory_warning.iter().for_each(|warning| lines.warn(warning));
    describe_streams(&poller, &report, lines);
    describe_memory(&report, lines);
    if let Some(unread) = &unread_streams {
        lines.warn(unread);
    }
    warn_of_unclosed(target, lines);
    let is_complete = has_answered && warning.is_none() && poller.has_found_streams();
    // With a shard, or at the limit, a matching stream may be another exporter's, or left out.
    let shows_all =
        is_complete && unread_streams.is_none() && config.poll.shard.is_none() && report.limited.streams == 0;
    if shows_all {
        warn_of_unmatched(target, &report, lines);
    }
    describe_groups(&report, lines);
    leaks::describe(&report, config.poll.consumer_max_idle, lines);
    let identity = poller.nodes().find_map(|node| node.identity.cloned());
    cost::describe(&mut poller, config.poll.interval, lines).await;
    Ok(Found { report, is_complete, identity })
}

/// Adds a line about each node, with its address if there are several.
fn describe_nodes(poller: &Poller, lines: &mut Lines) {
    let is_alone = poller.nodes().count() == 1;
    for node in poller.nodes() {
        let address = if is_alone { String::new() } else { format!("{}: ", node.address) };
        match (node.failure, node.identity) {
            (Some(failure), _) => lines.warn(&format!("{address}{failure}")),
            (None, Some(Identity { server, version, role, .. })) => {
                lines.add("server", &format!("{address}{server} {version}, {role}"));
            }
            (None, None) => {
                let text = "HELLO is refused: version and role are not known, and the role is not checked";
                lines.add("server", &format!("{address}{text}"));
            }
        }
    }
}

fn describe_streams(poller: &Poller, report: &Report, lines: &mut Lines) {
    let (read, unread): (Vec<_>, Vec<_>) = report.streams.iter().partition(|stream| stream.values.is_some());
    lines.add("streams", &counted(read.iter().map(|stream| stream.key.to_string())));
    if !unread.is_empty() {
        let reasons = unread.iter().map(|stream| describe_problem(poller.stream_problem(&stream.key)));
        let reasons: Vec<_> = reasons.collect::<BTreeSet<_>>().into_iter().collect();
        let names = counted(unread.iter().map(|stream| stream.key.to_string()));
        lines.warn(&format!("{}: {names}", reasons.join(", ")));
    }
}

/// Adds the memory of all streams, and of those that take the most.
fn describe_memory(report: &Report, lines: &mut Lines) {
    let all = report.largest_streams(usize::MAX);
    if all.is_empty() {
        return;
    }
    let total = all.iter().fold(0, |total: u64, (_, bytes)| total.saturating_add(*bytes));
    let largest = all.iter().map(|(stream, bytes)| format!("{} {}", stream.key, ByteSize(*bytes)));
    lines.add("memory", &format!("{} in {}", ByteSize(total), counted(largest)));
}

pub(super) fn describe_problem(problem: Option<Reason>) -> &'static str {
    match problem {
        None => "on a node that cannot be reached",
        Some(Reason::MissingKey) => "missing",
        Some(Reason::WrongType) => "of another type",
        Some(Reason::Denied) => "denied",
        Some(Reason::Protocol) => "not understood",
        Some(_) => "refused (is XINFO renamed?)",
    }
}

/// Warns of globs of `streams` with a class that is not closed.
fn warn_of_unclosed(target: &config::Target, lines: &mut Lines) {
    let globs = target.streams.iter().flat_map(|rule| {
        [&rule.exclude, &rule.include_groups, &rule.exclude_groups].into_iter().flatten().chain([&rule.key])
    });
    for glob in globs.filter(|glob| glob.has_unclosed_class()) {
        let glob = glob.to_string();
        lines.warn(&format!("the [ of {glob:?} is not closed; write \\[ for the character itself"));
    }
}

/// Warns of globs of `streams` that match no stream of the report.
fn warn_of_unmatched(target: &config::Target, report: &Report, lines: &mut Lines) {
    let matches_none =
        |glob: &&Glob| !report.streams.iter().any(|stream| glob.matches(stream.key.as_bytes()));
    let globs = target.streams.iter().map(|rule| &rule.key).filter(|glob| glob.literal().is_none());
    for glob in globs.filter(matches_none) {
        lines.warn(&format!("no stream matches {:?}", glob.to_string()));
    }
}

fn describe_groups(report: &Report, lines: &mut Lines) {
    let groups = || report.streams.iter().flat_map(|stream| &stream.groups);
    let lags: Vec<_> = groups().filter_map(|group| group.values.as_ref().map(|values| values.lag)).collect();
    let exact = lags.iter().filter(|lag| matches!(lag, Lag::Exact(_))).count();
    let text = match lags.len() {
        0 => "none".to_owned(),
        all if exact == all => format!("{all} (lag known for all)"),
        all => format!("{all} (lag known for {exact} so far)"),
    };
    lines.add("groups", &text);
    let missing: Vec<_> = groups().filter(|group| group.values.is_none()).collect();
    if !missing.is_empty() {
        let names = counted(missing.iter().map(|group| group.name.to_string()));
        lines.warn(&format!("groups that are missing: {names}"));
    }
    limits(&report.limited.into()).iter().for_each(|limit| lines.warn(limit));
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
