//! `streamgauge tidy`: prints a shell script with the commands that delete unused consumers and groups, and runs none of
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
use crate::format::units::{count, span};
use crate::monitor::redis_cli::{ASK_PASSWORD, words};
use crate::poller::poll::{Poller, describe_unread};
use crate::poller::selection::MAX_CONSUMERS;
use crate::self_metrics::target::TargetMetrics;
use redis_stream_lag::many_consumers::MAX_LISTED;
use redis_stream_lag::report::{
    ConsumerView, GroupReport, GroupValues, GroupView, Report, ReportedStream, StreamReport,
};

/// A script for the server, and the variable of the shell that has it.
struct Script {
    variable: &'static str,
    text: &'static str,
}

/// Deletes the consumers of a group that have nothing pending and are idle for some milliseconds. Returns their number.
const DELETE_CONSUMERS: Script = Script {
    variable: "delete_consumers",
    text: "\
local deleted = 0 \
for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do \
local consumer = {} \
for at = 1, #fields, 2 do consumer[fields[at]] = fields[at + 1] end \
if consumer.pending == 0 and consumer.idle >= tonumber(ARGV[2]) then \
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name) \
deleted = deleted + 1 end end \
return deleted",
};

/// Deletes those of the named consumers that have nothing pending. Returns their number. A consumer of this name that reads
/// again is created again, so none of these loses anything.
const DELETE_NAMED: Script = Script {
    variable: "delete_named",
    text: "\
local deleted = 0 \
for at = 2, #ARGV do \
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[at]) == 0 then \
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[at]) \
deleted = deleted + 1 end end \
return deleted",
};

/// Number of consumers that one command deletes of a group with too many of them to be looked at in one step.
const DELETED_AT_ONCE: u64 = 500;

/// Destroys a group whose last-delivered-id is still the same and whose consumers are all idle for some milliseconds.
/// Returns 1 if it did. Without consumers nothing shows when it was last read, so it is kept.
const DESTROY_GROUP: Script = Script {
    variable: "destroy_group",
    text: "\
local consumers = redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1]) \
if #consumers == 0 then return 0 end \
for _, fields in ipairs(consumers) do \
for at = 1, #fields, 2 do \
if fields[at] == 'idle' and fields[at + 1] < tonumber(ARGV[2]) then return 0 end end end \
for _, fields in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do \
local group = {} \
for at = 1, #fields, 2 do group[fields[at]] = fields[at + 1] end \
if group.name == ARGV[1] and group['last-delivered-id'] == ARGV[3] then \
return redis.call('XGROUP', 'DESTROY', KEYS[1], ARGV[1]) end end \
return 0",
};

/// Something that can be deleted.
struct Leftover {
    description: String,
    script: &'static Script,
    command: String,
}

/// Polls each target once, and prints what is unused.
///
/// # Errors
///
/// The configuration is invalid, or a target cannot be polled.
pub async fn run(args: &cli::Tidy, matches: &ArgMatches) -> anyhow::Result<()> {
    let Config { poll, targets, .. } = config_source::read(matches, &of_process)?;
    output::tell_unverified(&targets);
    let mut out = output::stdout();
    let (mut failed, mut defined) = (Vec::new(), Vec::new());
    for target in targets {
        comment(&mut out, &format!("target {:?} at {}", target.name, target.topology))?;
        let name = target.name.clone();
        match find(target, &poll, args.idle, &mut out).await {
            Ok(leftovers) => write(&leftovers, &mut defined, &mut out)?,
            Err(error) => {
                comment(&mut out, &format!("error: {error:#}"))?;
                failed.push(name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("cannot poll {}", failed.join(", "));
    }
    Ok(())
}

async fn find(
    mut target: Target,
    poll: &Poll,
    idle: Duration,
    out: &mut impl Write,
) -> anyhow::Result<Vec<Leftover>> {
    target.limits.consumers_per_group = usize::try_from(MAX_CONSUMERS).unwrap_or(usize::MAX);
    target.streams.iter_mut().for_each(|rule| rule.consumers = true);
    let target = Arc::new(target);
    let poll = Poll { consumer_max_idle: idle, ..poll.clone() };
    let metrics = TargetMetrics::unexported(&target.name);
    let mut poller = Poller::new(Arc::clone(&target), poll, metrics);
    let mut polled = poller.poll().await?;
    // Each poll looks at one group with many consumers.
    let mut unknown = unknown_groups(&polled.report);
    while unknown > 0 {
        polled = poller.poll().await?;
        let before = std::mem::replace(&mut unknown, unknown_groups(&polled.report));
        if unknown >= before {
            break;
        }
    }
    if let Some(unread) = describe_unread(&polled) {
        comment(out, &format!("warning: {unread}"))?;
    }
    for (stream, group) in polled.report.groups() {
        if let Some(description) = without_consumers(stream, group, idle) {
            comment(out, &format!("{} / {}: {description}", stream.key, group.name))?;
        }
    }
    let program = poller.node_address().map(|endpoint| words(&target, endpoint)).unwrap_or_default();
    Ok(leftovers(&polled.report, idle, &program))
}

/// Returns the number of groups whose idle consumers are not known yet, though there are not too many to be counted.
fn unknown_groups(report: &Report) -> usize {
    let groups = report.streams.iter().flat_map(|stream| &stream.groups);
    let values = groups.filter_map(|group| group.values.as_ref());
    values.filter(|values| values.silent_consumers.is_none() && values.consumers <= MAX_LISTED).count()
}

/// Writes a line that the shell ignores.
fn comment(out: &mut impl Write, text: &str) -> io::Result<()> {
    writeln!(out, "# {}", printable(text))
}

/// Writes the commands, each script before the first that uses it. `defined` are the variables of scripts so far.
fn write(leftovers: &[Leftover], defined: &mut Vec<&'static str>, out: &mut impl Write) -> io::Result<()> {
    if leftovers.is_empty() {
        return comment(out, "nothing to delete");
    }
    for Leftover { description, script: Script { variable, text }, command } in leftovers {
        if !defined.contains(variable) {
            defined.push(variable);
            writeln!(out, "\n{variable}={}", redis_cli::line(&[], &[text.as_bytes()]))?;
        }
        writeln!(out)?;
        comment(out, description)?;
        writeln!(out, "{command}")?;
    }
    Ok(())
}

fn leftovers(report: &Report, idle: Duration, program: &[String]) -> Vec<Leftover> {
    let found = report.groups().filter_map(|(stream, group)| {
        let values = group.values.as_ref()?;
        let at = |script, description: String, arguments: &[&str]| Leftover {
            description: format!("{} / {}: {description}", stream.key, group.name),
            script,
            command: eval(program, script, stream, group, arguments),
        };
        let idle_ms = idle.as_millis().to_string();
        if let Some(description) = unused_group(stream, group, idle) {
            return Some(at(&DESTROY_GROUP, description, &[&idle_ms, &values.last_delivered_id.to_string()]));
        }
        if values.consumers > MAX_LISTED {
            let command = delete_in_batches(program, stream, group, &idle_ms);
            let mut description = too_many_consumers(values, idle);
            if program.iter().any(|word| word == ASK_PASSWORD) {
                description.push_str(". Set REDISCLI_AUTH to the password first");
            }
            return Some(Leftover { command, ..at(&DELETE_NAMED, description, &[]) });
        }
        Some(at(&DELETE_CONSUMERS, idle_consumers(values, idle)?, &[&idle_ms]))
    });
    found.collect()
}

/// Returns the command line that runs a script. If names must be quoted for redis-cli, so must the script, and it stands
/// in the line itself.
fn eval(
    program: &[String],
    script: &Script,
    stream: &StreamReport,
    group: &GroupReport,
    arguments: &[&str],
) -> String {
    let names = [stream.key.as_bytes(), group.name.as_bytes()];
    let rest =
        [&b"1"[..]].into_iter().chain(names).chain(arguments.iter().map(|argument| argument.as_bytes()));
    if names.iter().all(|name| redis_cli::is_plain(name)) {
        let rest: Vec<_> = rest.collect();
        return format!(
            "{} \"${}\" {}",
            redis_cli::line(program, &[b"EVAL"]),
            script.variable,
            redis_cli::line(&[], &rest)
        );
    }
    let all: Vec<_> = [&b"EVAL"[..], script.text.as_bytes()].into_iter().chain(rest).collect();
    redis_cli::line(program, &all)
}

/// Prints the names of the idle consumers in a reply of XINFO CONSUMERS, one a line. It takes `pending` for a field only
/// where it follows `name` and one line, so a name with a line break in it is left out, and none of the names around it.
const IDLE_NAMES: &str = "\
before == \"name\" && $0 == \"pending\" { name = last; known = 1 } \
before != \"name\" && last == \"pending\" { pending = $0 } \
before != \"name\" && last == \"idle\" && known { if (pending == 0 && $0 >= idle) print name; known = 0 } \
{ before = last; last = $0 }";

/// Returns the command line that lists the consumers of a group and deletes those that are idle, some at a time. Names
/// that must be quoted for redis-cli cannot stand between two programs. Nor can redis-cli prompt for a password there: it
/// would print the prompt into the pipe, and read the password from it.
fn delete_in_batches(
    program: &[String],
    stream: &StreamReport,
    group: &GroupReport,
    idle_ms: &str,
) -> String {
    let names = [stream.key.as_bytes(), group.name.as_bytes()];
    if !names.iter().all(|name| redis_cli::is_plain(name)) {
        return "# there is no command for it, since the name of the stream or group has unprintable characters"
            .to_owned();
    }
    let program: Vec<_> = program.iter().filter(|word| *word != ASK_PASSWORD).cloned().collect();
    let list = redis_cli::line(&program, &[b"XINFO", b"CONSUMERS", names[0], names[1]]);
    format!(
        "{list} | LC_ALL=C awk -v idle={idle_ms} '{IDLE_NAMES}' | LC_ALL=C tr '\\n' '\\0' | \
         xargs -0 -n {DELETED_AT_ONCE} {}",
        eval(&program, &DELETE_NAMED, stream, group, &[])
    )
}

fn too_many_consumers(values: &GroupValues, idle: Duration) -> String {
    format!(
        "{} consumers, too many to find out how many are idle. This lists them once, which takes the server about 0.4 s \
         and 100 MB for each million, and deletes, {DELETED_AT_ONCE} at a time, those that have not tried to read for {} \
         or longer and still have nothing pending",
        count(values.consumers),
        span(idle)
    )
}

/// Describes the idle consumers of a group; `None` if it has none, or they are not known.
fn idle_consumers(values: &GroupValues, idle: Duration) -> Option<String> {
    let silent = values.silent_consumers.filter(|silent| silent.idle() > 0)?;
    let consumers = match values.consumers {
        1 => "1 consumer has not".to_owned(),
        all => format!("{} consumers have not", count(all)),
    };
    Some(format!(
        "{} of its {consumers} tried to read for {} or longer, with nothing pending",
        count(silent.idle().into()),
        span(idle)
    ))
}

/// Returns the values of a group, and for how long entries wait for it, if that is as long as `idle`. A group that has read
/// everything may have a consumer that blocks until there is more.
fn waiting<'r>(
    stream: &'r ReportedStream,
    group: &'r GroupReport,
    idle: Duration,
) -> Option<(GroupView<'r>, Duration)> {
    let values = stream.view(group)?;
    let waiting = values.lag_seconds().filter(|waiting| *waiting >= idle)?;
    Some((values, waiting))
}

/// Describes a group for which entries have waited for some time, and that has consumers, none of which has tried to read
/// since.
fn unused_group(stream: &ReportedStream, group: &GroupReport, idle: Duration) -> Option<String> {
    let (values, waiting) = waiting(stream, group, idle).filter(|(values, _)| values.consumers > 0)?;
    let consumers: Vec<_> = stream.consumers(group)?.collect();
    let is_silent = |consumer: &ConsumerView<'_>| consumer.idle() >= idle;
    if !consumers.iter().all(is_silent) || consumers.len() as u64 != values.consumers {
        return None;
    }
    let who = match values.consumers {
        1 => "its only consumer has not".to_owned(),
        all => format!("none of its {} consumers has", count(all)),
    };
    let pending = match values.messages_pending {
        0 => String::new(),
        1 => " and 1 pending entry".to_owned(),
        all => format!(" and {} pending entries", count(all)),
    };
    Some(format!(
        "{who} tried to read for {} or longer; the next entry is {} old by its ID. Destroying the group forgets its \
         position{pending}",
        span(idle),
        span(waiting)
    ))
}

/// Describes a group without consumers for which entries wait that are older than `idle`. It may have been read a moment
/// ago by a consumer that was deleted, or may have just been created.
fn without_consumers(stream: &ReportedStream, group: &GroupReport, idle: Duration) -> Option<String> {
    let (_, waiting) = waiting(stream, group, idle).filter(|(values, _)| values.consumers == 0)?;
    Some(format!(
        "it has no consumers, so nothing shows when it was last read, and there is no command for it; the next entry is \
         {} old by its ID. The page of a streamgauge serve that has run for {} or longer shows since when it is abandoned",
        span(waiting),
        span(idle)
    ))
}
