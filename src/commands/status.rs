//! `streamgauge status`: which group is how far behind, as a table, as JSON, or on a screen that is kept up to date.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::{Context as _, bail};

use crate::api::groups::Listing;
use crate::api::groups::filter::statuses;
use crate::cli::terminal::Status as Arguments;
use crate::commands::exit::{FoundStatus, UsageError};
use crate::commands::source;
use crate::commands::status::remote::Remote;
use crate::config::Config;
use crate::config::environment::of_process;
use crate::format::units::counted;
use crate::terminal::table::{render, unread};
use redis_stream_lag::report::Status;
use tokio_util::sync::CancellationToken;

mod observe;
mod remote;
mod watch;

/// Where the groups come from.
enum Origin {
    /// A running streamgauge.
    Remote(Box<Remote>),
    /// Servers that are polled here.
    Polled(Box<Config>),
}

/// Shows the groups.
///
/// # Errors
///
/// Something could not be read, after the rest was shown; or a group has one of the statuses that are looked for.
pub async fn run(args: &Arguments, shutdown: CancellationToken) -> anyhow::Result<()> {
    let looked_for =
        statuses(&args.fail_on.join(",")).map_err(|error| UsageError(format!("--fail-on: {error}")))?;
    let origin = origin(args)?;
    if args.watch {
        return watch::run(origin, shutdown).await;
    }
    let read = async {
        match origin {
            Origin::Remote(remote) => Ok((remote.listing().await?, Vec::new())),
            Origin::Polled(config) => anyhow::Ok(observe::observe(*config, args.observe).await),
        }
    };
    let (listing, mut problems) = tokio::select! {
        read = read => read?,
        () = shutdown.cancelled() => bail!("interrupted before anything was shown"),
    };
    let mut out = anstream::stdout().lock();
    let written = match args.json {
        true => listing.write(&mut out),
        // Where nothing at all could be read there is no table to show.
        false
            if listing.groups.is_empty() && listing.targets.iter().all(|target| target.streams.is_none()) =>
        {
            Ok(())
        }
        false => out.write_all(render(&listing, room()).as_bytes()),
    };
    written.and_then(|()| out.flush()).context("cannot write the result")?;
    problems.extend(unread(&listing));
    judge(&listing, &looked_for, &problems)
}

/// Says what could not be read; what was looked for and found goes before it.
fn judge(listing: &Listing, looked_for: &[Status], problems: &[String]) -> anyhow::Result<()> {
    problems.iter().for_each(|problem| say(problem));
    let is_found = |status: &Option<Status>| status.is_some_and(|status| looked_for.contains(&status));
    let found = listing.groups.iter().filter(|group| is_found(&group.status)).count();
    if found > 0 {
        let names: Vec<_> = looked_for.iter().map(|status| status.as_str()).collect();
        return Err(
            FoundStatus(format!("{} {}", counted(found, "group", "groups"), names.join(" or "))).into()
        );
    }
    if !problems.is_empty() {
        bail!("not everything could be read");
    }
    Ok(())
}

/// Says something on standard error.
pub(super) fn say(line: &str) {
    // Without standard error there is nobody to tell.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Columns of the terminal that standard output is; `None` if it is none.
pub(super) fn room() -> Option<usize> {
    let size = io::stdout().is_terminal().then(ratatui::crossterm::terminal::size)?;
    size.ok().map(|(columns, _)| usize::from(columns)).filter(|columns| *columns > 0)
}

fn origin(args: &Arguments) -> anyhow::Result<Origin> {
    if let Some(url) = source::running(args.server.as_deref(), &args.polled, &of_process)? {
        let remote = Remote::new(&url.text, &args.polled.stream)
            .map_err(|error| UsageError(format!("{}: {error}", url.name)))?;
        return Ok(Origin::Remote(Box::new(remote)));
    }
    Ok(Origin::Polled(Box::new(source::read_polled(&args.polled, &of_process)?)))
}
