//! `streamgauge pending`: the entries of a group that were read and not acknowledged.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use clap::ArgMatches;
use serde_json::json;

use crate::api;
use crate::cli;
use crate::commands::exit_code::UsageError;
use crate::commands::output::{self, terminal_width};
use crate::commands::redis_args;
use crate::config::{Config, Poll, Role, Target};
use crate::format::units::count;
use crate::poller::decode::FieldText;
use crate::poller::list_pending::{PendingError, PendingList, PendingQuery};
use crate::poller::poll::Poller;
use crate::self_metrics::target::TargetMetrics;
use crate::terminal::entries::{self, ListedEntry, ListedFields};
use crate::terminal::fields::{FieldValue, ListedField};
use redis_stream_core::name::Name;
use redis_stream_lag::question::PendingEntry;

/// The most entries whose fields are read.
const MAX_WITH_FIELDS: u32 = 1_000;

/// Lists pending entries.
///
/// # Errors
///
/// The server does not answer, or there is no such group.
pub async fn run(args: &cli::Pending, matches: &ArgMatches) -> anyhow::Result<()> {
    let Config { poll, mut targets, .. } = redis_args::config(matches)?;
    let query = query(args)?;
    output::tell_unverified(&targets);
    let listed = list(targets.swap_remove(0), &poll, &query).await?;
    if let Some(consumer) = query.consumer.as_ref().filter(|_| !listed.has_consumer) {
        bail!("group {:?} of stream {:?} has no consumer {consumer:?}", query.group, query.stream);
    }
    let total = listed.total;
    let entries = entries(listed);
    let mut out = output::stdout();
    let written = match args.json {
        true => write_json(&query, &entries, total, &mut out),
        false => write(&query, &entries, total, &mut out),
    };
    Ok(written?)
}

fn query(args: &cli::Pending) -> Result<PendingQuery, UsageError> {
    if args.fields && args.count > MAX_WITH_FIELDS {
        return Err(UsageError(format!("--fields goes with --count {MAX_WITH_FIELDS} at most")));
    }
    Ok(PendingQuery {
        // `\xHH` is a byte, as in every other place that shows names.
        stream: Name::from_text(&args.stream),
        group: Name::from_text(&args.group),
        consumer: args.consumer.as_deref().filter(|name| !name.is_empty()).map(Name::from_text),
        min_idle: args.min_idle,
        count: usize::try_from(args.count).unwrap_or(usize::MAX),
        fields: args.fields,
    })
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
    let mut fields = listed.fields.into_iter().map(|fields| {
        fields.map_or(ListedFields::Gone, |pairs| {
            ListedFields::Found(pairs.iter().map(|(name, value)| field(name, value)).collect())
        })
    });
    let entry = |(entry, consumer): (PendingEntry, Name)| ListedEntry {
        fields: fields.next(),
        id: entry.id.to_string(),
        consumer: consumer.to_string(),
        age_seconds: time.and_then(|time| entry.id.age(time)).map(|age| age.as_secs_f64()),
        idle_seconds: entry.idle_ms.map(|ms| Duration::from_millis(ms).as_secs_f64()),
        deliveries: Some(entry.deliveries).filter(|_| !entry.is_failed()),
    };
    listed.entries.into_iter().map(entry).collect()
}

/// Returns a field. The value of a long name is left out too, so that the field cannot be taken for the entry's.
fn field(name: &FieldText, value: &FieldText) -> ListedField {
    match (name, value) {
        (FieldText::Kept(name), FieldText::Kept(value)) => ListedField::new(name, value),
        (FieldText::Kept(name), FieldText::Long(length)) => {
            ListedField { name: name.clone(), value: FieldValue::Omitted(*length) }
        }
        (FieldText::Long(length), value) => {
            let name = format!("({} bytes)", count(*length)).into_bytes();
            let length = match value {
                FieldText::Kept(bytes) => bytes.len() as u64,
                FieldText::Long(length) => *length,
            };
            ListedField { name, value: FieldValue::Omitted(length) }
        }
    }
}

fn write(
    query: &PendingQuery,
    entries: &[ListedEntry],
    total: Option<u64>,
    out: &mut dyn Write,
) -> io::Result<()> {
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
    let of_all = total.map_or_else(String::new, |total| format!(" of {}", count(total)));
    let entries_are = if total.unwrap_or(entries.len() as u64) == 1 { "entry is" } else { "entries are" };
    writeln!(out, "\n{}{of_all} pending {entries_are} shown{more}", count(entries.len() as u64))
}

fn is_cut(count: usize, entries: &[ListedEntry]) -> bool {
    entries.len() == count
}

fn write_json(
    query: &PendingQuery,
    entries: &[ListedEntry],
    total: Option<u64>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let listed = json!({
        "stream": query.stream.to_string(),
        "group": query.group.to_string(),
        "messages_pending": total,
        "entries": entries,
        "may_be_more": is_cut(query.count, entries),
    });
    api::json::write(&listed, out)?;
    out.write_all(b"\n")
}
