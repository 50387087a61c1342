//! The flags of the commands that answer in a terminal.

use std::time::Duration;

use clap::Args;
use clap::builder::FalseyValueParser;
use clap_complete::Shell;

use super::{Polled, Server};

/// What help of `pending` ends with.
pub(super) const PENDING_COST: &str = "\
The list begins with the smallest ID. It is read in pages of at most 1,000 entries, so it keeps the server busy only \
for moments, except with --min-idle: then the server looks at every pending entry of the group (or of the consumer) \
for each page, which blocks it for some 10 ms per 100,000 entries.";

/// `streamgauge status`.
#[derive(Debug, Args)]
pub struct Status {
    /// URL of a running streamgauge to ask; it takes the place of polling.
    #[arg(
        long,
        env = "STREAMGAUGE_SERVER",
        value_name = "URL",
        hide_env_values = true,
        help = "URL of a running streamgauge to ask, http[s]://[user:password@]host[:port]; it takes the place of \
                polling"
    )]
    pub server: Option<String>,
    /// What to poll.
    #[command(flatten)]
    pub polled: Polled,
    /// Time to poll for before the status of the groups is printed; not used with --server.
    #[arg(long, env = "STREAMGAUGE_OBSERVE", value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub observe: Duration,
    /// Print JSON, as /api/v1/groups has it.
    #[arg(long, env = "STREAMGAUGE_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
    /// Show the groups again and again, to look around in; q ends it.
    #[arg(long, env = "STREAMGAUGE_WATCH", value_parser = FalseyValueParser::new(), conflicts_with = "json")]
    pub watch: bool,
    /// Exit with code 3 if a group has one of these statuses.
    #[arg(
        long,
        env = "STREAMGAUGE_FAIL_ON",
        value_name = "STATUS",
        value_delimiter = '\n',
        help = "Exit with code 3 if a group has this status, or one of several with commas between, as in \
                stalled,abandoned"
    )]
    pub fail_on: Vec<String>,
}

/// `streamgauge pending`.
#[derive(Debug, Args)]
pub struct Pending {
    /// The server.
    #[command(flatten)]
    pub redis: Server,
    /// Key of the stream.
    #[arg(long, env = "STREAMGAUGE_STREAM", value_name = "KEY")]
    pub stream: String,
    /// Consumer group.
    #[arg(long, env = "STREAMGAUGE_GROUP", value_name = "NAME")]
    pub group: String,
    /// Only the entries of this consumer [default: of all].
    #[arg(long, env = "STREAMGAUGE_CONSUMER", value_name = "NAME")]
    pub consumer: Option<String>,
    /// Only entries that were last delivered at least so long ago, such as 1m; see below for what it costs.
    #[arg(long, env = "STREAMGAUGE_MIN_IDLE", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub min_idle: Option<Duration>,
    /// Most entries that are listed.
    #[arg(long, env = "STREAMGAUGE_COUNT", value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub count: u32,
    /// Print JSON.
    #[arg(long, env = "STREAMGAUGE_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
}

/// `streamgauge completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    pub shell: Shell,
}
