//! `streamgauge status`: each group's lag as a table, as JSON, or on a screen that refreshes itself.

use std::io::Write as _;
use std::time::Duration;

use anyhow::bail;
use clap::ArgMatches;

use crate::api::groups::filter::statuses;
use crate::api::groups::{ListedGroup, Listing};
use crate::cli::StatusArgs;
use crate::commands::config_source;
use crate::commands::exit_code::{FoundStatus, UsageError};
use crate::commands::output::{self, print_error, terminal_width};
use crate::commands::status::remote::Remote;
use crate::config::Config;
use crate::config::env::of_process;
use crate::format::units::counted;
use crate::terminal::table::{groups_abandoned, largest_streams, limited, render, unread, unread_streams};
use redis_stream_lag::report::Status;
use tokio_util::sync::CancellationToken;

mod observe;
mod remote;
mod watch;

/// A time of observation as long as the default of `status.window`.
const LONG_ENOUGH: Duration = Duration::from_secs(120);

/// The source of the groups.
enum Origin {
    /// A running streamgauge.
    Remote(Box<Remote>),
    /// Servers that this command polls.
    Polled(Box<Config>),
}

/// Prints the groups.
///
/// # Errors
///
/// Something could not be read (the rest is printed first), or a group has a status of `--fail-on`.
pub async fn run(args: &StatusArgs, matches: &ArgMatches, shutdown: CancellationToken) -> anyhow::Result<()> {
    let fail_on =
        statuses(&args.fail_on.join(",")).map_err(|error| UsageError(format!("--fail-on: {error}")))?;
    let origin = origin(args, matches)?;
    let head = match origin {
        Origin::Remote(_) => String::new(),
        Origin::Polled(_) => head(args.observe),
    };
    if args.watch {
        return watch::run(origin, shutdown).await;
    }
    let read = async {
        match origin {
            Origin::Remote(remote) => Ok((remote.listing().await?, Vec::new())),
            Origin::Polled(config) => {
                output::tell_unverified(&config.targets);
                anyhow::Ok(observe::observe(*config, args.observe).await)
            }
        }
    };
    let (listing, mut problems) = tokio::select! {
        read = read => read?,
        () = shutdown.cancelled() => bail!("interrupted before all targets were read"),
    };
    let mut out = output::stdout();
    let written = match args.json {
        true => listing.write(&mut out),
        // Without any stream there is no table.
        false
            if listing.groups.is_empty() && listing.targets.iter().all(|target| target.streams.is_none()) =>
        {
            Ok(())
        }
        false => write!(out, "{head}{}", render(&listing, terminal_width())),
    };
    written.and_then(|()| out.flush())?;
    let notes =
        [limited(&listing), unread_streams(&listing), groups_abandoned(&listing), largest_streams(&listing)];
    notes.iter().flatten().for_each(|line| print_error(line));
    problems.extend(unread(&listing));
    result(&listing, &fail_on, &problems)
}

/// Returns the line above the table that tells what the status rests on.
fn head(observed: Duration) -> String {
    let time = humantime::format_duration(observed);
    match observed {
        Duration::ZERO => "polled once: most statuses need --observe\n\n".to_owned(),
        _ if observed >= LONG_ENOUGH => format!("observed for {time}\n\n"),
        _ => format!(
            "observed for {time}: a group that pauses for longer looks stalled or abandoned (--observe)\n\n"
        ),
    }
}

/// Prints what could not be read. A status of `--fail-on` takes precedence over that as the command's error.
fn result(listing: &Listing, fail_on: &[Status], problems: &[String]) -> anyhow::Result<()> {
    problems.iter().for_each(|problem| print_error(problem));
    let is_found = |group: &&ListedGroup| {
        let statuses = group.conditions.iter().copied().chain(group.status);
        statuses.into_iter().any(|status| fail_on.contains(&status))
    };
    let found = listing.groups.iter().filter(is_found).count();
    if found > 0 {
        let names: Vec<_> = fail_on.iter().map(|status| status.as_str()).collect();
        return Err(
            FoundStatus(format!("{} {}", counted(found, "group", "groups"), names.join(" or "))).into()
        );
    }
    if !problems.is_empty() {
        bail!("not everything could be read");
    }
    Ok(())
}

fn origin(args: &StatusArgs, matches: &ArgMatches) -> anyhow::Result<Origin> {
    if let Some(url) = config_source::running(matches)? {
        let remote = Remote::new(&url.text, &args.polled.stream)
            .map_err(|error| UsageError(format!("{}: {error}", url.name)))?;
        return Ok(Origin::Remote(Box::new(remote)));
    }
    Ok(Origin::Polled(Box::new(config_source::read(matches, &of_process)?)))
}
