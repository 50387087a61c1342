//! Types of the commands that print to a terminal.

use std::time::Duration;

use clap::Args;
use clap::builder::FalseyValueParser;
use clap_complete::Shell;

use super::{PolledArgs, ServerArgs};

pub(super) const PENDING_COST: &str = "\
The list begins with the smallest ID. It is read in pages of at most 1,000 entries, so it keeps the server busy only \
for moments, except with --min-idle: then the server looks at every pending entry of the group (or of the consumer) \
for each page, which blocks it for some 10 ms per 100,000 entries.";

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// URL of a running streamgauge to query instead of polling.
    #[arg(
        long,
        value_name = "URL",
        hide_env_values = true,
        help = "URL of a running streamgauge to query instead of polling, http[s]://[user:password@]host[:port]"
    )]
    pub server: Option<String>,
    #[command(flatten)]
    pub polled: PolledArgs,
    /// Time to poll before the status of the groups is printed; not used with --server.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub observe: Duration,
    /// Print JSON in the form of /api/v1/groups.
    #[arg(long, value_parser = FalseyValueParser::new())]
    pub json: bool,
    /// Refresh the groups on an interactive screen; q quits.
    #[arg(long, value_parser = FalseyValueParser::new(), conflicts_with = "json")]
    pub watch: bool,
    /// Exit with code 3 if a group has one of these statuses.
    #[arg(
        long,
        value_name = "STATUS",
        value_delimiter = '\n',
        help = "Exit with code 3 if a group has this status, or one of several with commas between, as in \
                stalled,abandoned"
    )]
    pub fail_on: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Pending {
    #[command(flatten)]
    pub redis: ServerArgs,
    /// Key of the stream.
    #[arg(long, value_name = "KEY")]
    pub stream: String,
    /// Consumer group.
    #[arg(long, value_name = "NAME")]
    pub group: String,
    /// Only entries of this consumer [default: all].
    #[arg(long, value_name = "NAME")]
    pub consumer: Option<String>,
    /// Only entries last delivered at least this long ago, such as 1m; see below for the cost.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub min_idle: Option<Duration>,
    /// Most entries to list.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub count: u32,
    /// Print JSON.
    #[arg(long, value_parser = FalseyValueParser::new())]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Completions {
    #[arg(value_enum)]
    pub shell: Shell,
}
