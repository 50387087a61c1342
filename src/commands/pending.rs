//! `streamgauge pending`: the entries of a group that were read and not acknowledged.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use serde_json::json;

use crate::api;
use crate::cli;
use crate::commands::output::{self, terminal_width};
use crate::commands::redis_args;
use crate::config::{Config, Poll, Role, Target};
use crate::format::units::count;
use crate::poller::list_pending::{PendingError, PendingList, PendingQuery};
use crate::poller::poll::Poller;
use crate::self_metrics::target::TargetMetrics;
use crate::terminal::entries::{self, ListedEntry};
use redis_stream_core::name::Name;
use redis_stream_lag::question::{FATAL_DELIVERIES, PendingEntry};

/// Lists pending entries.
///
/// # Errors
///
/// The server does not answer, or there is no such group.
pub async fn run(args: &cli::Pending, matches: &ArgMatches) -> anyhow::Result<()> {
    let Config { poll, mut targets, .. } = redis_args::config(matches)?;
    let query = query(args);
    let listed = list(targets.swap_remove(0), &poll, &query).await?;
    let entries = entries(listed);
    let mut out = output::stdout();
    let written =
        if args.json { write_json(args, &entries, &mut out) } else { write(&query, &entries, &mut out) };
    Ok(written?)
}

fn query(args: &cli::Pending) -> PendingQuery {
    PendingQuery {
        // `\xHH` is a byte, as in every other place that shows names.
        stream: Name::from_text(&args.stream),
        group: Name::from_text(&args.group),
        consumer: args.consumer.as_deref().filter(|name| !name.is_empty()).map(Name::from_text),
        min_idle: args.min_idle,
        count: usize::try_from(args.count).unwrap_or(usize::MAX),
    }
}

/// Lists pending entries over a new connection.
pub(super) async fn list(
    target: Target,
    poll: &Poll,
    query: &PendingQuery,
) -> Result<PendingList, PendingError> {
    // Replicas list pending entries, too.
    let target = Target { role: Role::Any, ..target };
    let metrics = TargetMetrics::unexported(&target.name);
    Poller::new(Arc::new(target), poll.clone(), metrics).list_pending(query).await
}

/// Converts the entries for display.
pub(super) fn entries(listed: PendingList) -> Vec<ListedEntry> {
    let time = listed.time;
    let entry = |(entry, consumer): (PendingEntry, Name)| ListedEntry {
        id: entry.id.to_string(),
        consumer: consumer.to_string(),
        age_seconds: time.and_then(|time| entry.id.age(time)).map(|age| age.as_secs_f64()),
        idle_seconds: entry.idle_ms.map(|ms| Duration::from_millis(ms).as_secs_f64()),
        deliveries: Some(entry.deliveries).filter(|deliveries| *deliveries < FATAL_DELIVERIES),
    };
    listed.entries.into_iter().map(entry).collect()
}

fn write(query: &PendingQuery, entries: &[ListedEntry], out: &mut dyn Write) -> io::Result<()> {
    if entries.is_empty() {
        let idle = query
            .min_idle
            .map_or_else(String::new, |time| format!(" idle for {}", humantime::format_duration(time)));
        return writeln!(out, "no pending entries{idle}");
    }
    for line in entries::table(entries, terminal_width()) {
        writeln!(out, "{line}")?;
    }
    let more = if is_cut(query.count, entries) { "; there may be more: see --count" } else { "" };
    let entries_are = if entries.len() == 1 { "entry is" } else { "entries are" };
    writeln!(out, "\n{} pending {entries_are} shown{more}", count(entries.len() as u64))
}

fn is_cut(count: usize, entries: &[ListedEntry]) -> bool {
    entries.len() == count
}

fn write_json(args: &cli::Pending, entries: &[ListedEntry], out: &mut dyn Write) -> io::Result<()> {
    let query = query(args);
    let listed = json!({
        "stream": query.stream.to_string(),
        "group": query.group.to_string(),
        "entries": entries,
        "may_be_more": is_cut(query.count, entries),
    });
    api::json::write(&listed, out)?;
    out.write_all(b"\n")
}
