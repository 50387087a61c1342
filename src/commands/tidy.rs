//! `streamgauge tidy`: prints the commands that delete unused consumers and groups. It runs none of
//! them. Each looks and deletes in one step on the server, so that one that came back to life in between is kept.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use clap::ArgMatches;

use crate::cli;
use crate::commands::config_source;
use crate::commands::output;
use crate::config::env::of_process;
use crate::config::{Config, Poll, Target};
use crate::format::redis_cli;
use crate::format::unicode::printable;
use crate::format::units::{count, counted, span};
use crate::monitor::redis_cli::words;
use crate::poller::poll::{Poller, describe_unread};
use crate::self_metrics::target::TargetMetrics;
use redis_stream_lag::report::{ConsumerReport, GroupReport, GroupValues, Report, StreamReport};

/// The most consumers of a group that are looked at: the poller does not list more.
const MAX_CONSUMERS: usize = 5_000;

/// Deletes the consumers of a group that have nothing pending and are idle for some milliseconds. Returns their number.
const DELETE_CONSUMERS: &str = "\
local deleted = 0 \
for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do \
local consumer = {} \
for at = 1, #fields, 2 do consumer[fields[at]] = fields[at + 1] end \
if consumer.pending == 0 and consumer.idle >= tonumber(ARGV[2]) then \
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name) \
deleted = deleted + 1 end end \
return deleted";

/// Destroys a group whose last-delivered-id is still the same and whose consumers are all idle for some milliseconds.
/// Returns 1 if it did.
const DESTROY_GROUP: &str = "\
for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do \
for at = 1, #fields, 2 do \
if fields[at] == 'idle' and fields[at + 1] < tonumber(ARGV[2]) then return 0 end end end \
for _, fields in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do \
local group = {} \
for at = 1, #fields, 2 do group[fields[at]] = fields[at + 1] end \
if group.name == ARGV[1] and group['last-delivered-id'] == ARGV[3] then \
return redis.call('XGROUP', 'DESTROY', KEYS[1], ARGV[1]) end end \
return 0";

/// Something that can be deleted.
struct Leftover {
    description: String,
    command: String,
}

/// Polls each target once, and prints what is unused.
///
/// # Errors
///
/// The configuration is invalid, or a target cannot be polled.
pub async fn run(args: &cli::Tidy, matches: &ArgMatches) -> anyhow::Result<()> {
    let Config { poll, targets, .. } = config_source::read(matches, &of_process)?;
    let mut out = output::stdout();
    let mut failed = Vec::new();
    for target in targets {
        writeln!(out, "target {:?} at {}", printable(&target.name), target.topology)?;
        let name = target.name.clone();
        if let Err(error) = tidy(target, &poll, args.idle, &mut out).await {
            writeln!(out, "  error: {}", printable(&error.to_string()))?;
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("cannot poll {}", failed.join(", "));
    }
    Ok(())
}

async fn tidy(mut target: Target, poll: &Poll, idle: Duration, out: &mut impl Write) -> anyhow::Result<()> {
    target.limits.consumers_per_group = MAX_CONSUMERS;
    target.streams.iter_mut().for_each(|rule| rule.consumers = true);
    let target = Arc::new(target);
    // Consumers count as silent from this time on.
    let poll = Poll { consumer_max_idle: idle, ..poll.clone() };
    let metrics = TargetMetrics::unexported(&target.name);
    let mut poller = Poller::new(Arc::clone(&target), poll, metrics);
    let polled = poller.poll().await?;
    if let Some(unread) = describe_unread(&polled) {
        writeln!(out, "  warning: {}", printable(&unread))?;
    }
    let program = poller.node_address().map(|endpoint| words(&target, endpoint));
    let leftovers = leftovers(&polled.report, idle, &program.unwrap_or_default());
    write(&leftovers, out)?;
    Ok(())
}

fn write(leftovers: &[Leftover], out: &mut impl Write) -> io::Result<()> {
    if leftovers.is_empty() {
        return writeln!(out, "  nothing to delete");
    }
    for Leftover { description, command } in leftovers {
        writeln!(out, "\n  {}\n  {command}", printable(description))?;
    }
    Ok(())
}

fn leftovers(report: &Report, idle: Duration, program: &[String]) -> Vec<Leftover> {
    let groups =
        report.streams.iter().flat_map(|stream| stream.groups.iter().map(move |group| (stream, group)));
    let found = groups.filter_map(|(stream, group)| {
        let values = group.values.as_ref()?;
        unused_group(stream, group, values, idle, program)
            .or_else(|| idle_consumers(stream, group, values, idle, program))
    });
    found.collect()
}

fn name(stream: &StreamReport, group: &GroupReport) -> String {
    format!("{} / {}", stream.key, group.name)
}

fn idle_consumers(
    stream: &StreamReport,
    group: &GroupReport,
    values: &GroupValues,
    idle: Duration,
    program: &[String],
) -> Option<Leftover> {
    let silent = values.silent_consumers.filter(|silent| silent.idle > 0)?;
    let (key, group_name, ms) = (stream.key.as_bytes(), group.name.as_bytes(), millis(idle));
    let arguments: [&[u8]; 6] = [b"EVAL", DELETE_CONSUMERS.as_bytes(), b"1", key, group_name, ms.as_bytes()];
    Some(Leftover {
        description: format!(
            "{}: {} of its {} tried to read for {} or longer, with nothing pending",
            name(stream, group),
            count(silent.idle),
            match values.consumers {
                1 => "1 consumer has not".to_owned(),
                all => format!("{} consumers have not", count(all)),
            },
            span(idle),
        ),
        command: redis_cli::line(program, &arguments),
    })
}

/// Returns a group for which entries have waited for some time, and none of whose consumers has tried to read since. A
/// group that has read everything may have a consumer that blocks until there is more.
fn unused_group(
    stream: &StreamReport,
    group: &GroupReport,
    values: &GroupValues,
    idle: Duration,
    program: &[String],
) -> Option<Leftover> {
    let waiting = values.lag_seconds.filter(|waiting| *waiting >= idle)?;
    let consumers = group.consumers.as_deref().or_else(|| (values.consumers == 0).then_some(&[]))?;
    let is_silent = |consumer: &ConsumerReport| consumer.idle >= idle;
    if !consumers.iter().all(is_silent) || consumers.len() as u64 != values.consumers {
        return None;
    }
    let (key, group_name, ms) = (stream.key.as_bytes(), group.name.as_bytes(), millis(idle));
    let position = values.last_delivered_id.to_string();
    let arguments: [&[u8]; 7] =
        [b"EVAL", DESTROY_GROUP.as_bytes(), b"1", key, group_name, ms.as_bytes(), position.as_bytes()];
    Some(Leftover {
        description: format!(
            "{}: no consumer has tried to read for {} or longer; the next entry has waited for {}. Destroying the group \
             forgets its position and {}",
            name(stream, group),
            span(idle),
            span(waiting),
            counted(
                usize::try_from(values.messages_pending).unwrap_or(usize::MAX),
                "pending entry",
                "pending entries"
            ),
        ),
        command: redis_cli::line(program, &arguments),
    })
}

fn millis(time: Duration) -> String {
    time.as_millis().to_string()
}
