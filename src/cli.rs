//! Types of the command line. Every flag has an environment variable `STREAMGAUGE_<FLAG>`, with lists separated by
//! newlines.
//!
//! Commands that poll read most of their flags from clap's matches (`commands::config_source`), which record where a
//! value came from.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Arg, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub mod parse;

const FIRST_STEPS: &str = "\
First steps:
  streamgauge demo                                       see it at work on a private server
  streamgauge check --redis-url redis://localhost:6379   see what it finds on yours
  streamgauge init --redis-url redis://localhost:6379    print a configuration for it
  streamgauge status --redis-url redis://localhost:6379  see how far behind each group is
  streamgauge serve --redis-url redis://localhost:6379   serve it on http://localhost:10121/metrics";

const INIT: &str = "\
It polls like `serve`: SCAN reads at most 50,000 keys per second, for at most 10 seconds. It finds out whether the URL \
leads to a single server, a cluster or a sentinel. A password is never printed. To find missing permissions, \
it sends each command once; those that the user may not run then appear in the server's ACL LOG.";

const PENDING_COST: &str = "\
The list begins with the smallest ID. It is read in pages of at most 1,000 entries, each of which takes the server 1 to \
4 ms. With --min-idle, pages are read until --count entries with that idle time are found or the list ends.";

const HANDLERS: &str = "\
Exit codes of the program of --exec:
  0         the entry is acknowledged
  65        it goes to the dead-letter stream at once
  75        it is tried again later, and this delivery does not count
  126, 127  the same; also if the program cannot be started
  others    it is tried again, up to --max-deliveries times
Its environment has STREAM, GROUP, CONSUMER, ID and DELIVERIES. Its standard error is logged, and the last line goes \
into the dead letter.

Answers of the program of --worker, one line each, in any order:
  ok ID                      the entry is acknowledged
  retry ID [DELAY] [REASON]  it is tried again, up to --max-deliveries times, and not before DELAY (30s, 5m)
  dead ID REASON             it goes to the dead-letter stream at once
It gets up to --concurrency entries at a time. If it ends or writes anything else, it is started again, and the \
deliveries of the entries that it had do not count. Its environment has STREAM, GROUP and CONSUMER.

The first SIGINT or SIGTERM lets entries that are being handled finish, for --grace at most; a second one ends at once.";

const DEAD_LETTERS: &str = "\
replay and drop change nothing without --execute. Each letter is replayed in one atomic step on the server, by a script: \
if the letter is still there, its entry is added to its stream and the letter deleted. So a run that was killed can be \
started again. The entry begins with fields streamgauge-replay-..., which name the letter that it comes from.

A letter belongs to the stream that it names: in the fields that `streamgauge consume` writes, or in those of \
--letter-field; and otherwise to --stream. Letters that name another stream than --stream are left out.";

const ENTRY: &str = "\
An entry has two fields, n, its number from 1 over all streams, and payload:
  n 1 payload xxxxxxxxxx
With --field it has these fields instead:
  --field 'id={{uuid}}' --field 'user={{choice ann bob}}' --field 'total={{number}}.50' --field 'at={{time}}'
  {{number}} is n, {{uuid}} a random UUID, {{time}} the time in RFC 3339, {{unixtime}} milliseconds since 1970, and
  {{choice A B ...}} one of the words
With --json-lines entries come from standard input: {\"user\":\"ann\",\"total\":5}, or as a list of pairs,
[[\"user\",\"ann\"],[\"user\",\"bob\"]]. A value that is not a string is added as JSON, {\"base64\":\"/wA=\"} as its bytes.
Entries whose reply was lost with the connection are sent again, so some may be duplicates.
A summary is printed on standard output at the end.";

/// Prometheus exporter for Redis and Valkey Streams: how far each consumer group is behind, and what is stuck.
#[derive(Debug, Parser)]
#[command(
    name = "streamgauge",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = FIRST_STEPS,
    mut_args(with_variable),
    mut_subcommands(|command| command.mut_args(with_variable))
)]
pub struct Cli {
    #[command(flatten)]
    pub logging: Logging,
    #[command(subcommand)]
    pub command: Command,
}

/// Reads a flag from its environment variable where it is not given.
fn with_variable(arg: Arg) -> Arg {
    match arg.get_long().map(|long| long.to_uppercase().replace('-', "_")) {
        Some(name) => arg.env(OsString::from(format!("STREAMGAUGE_{name}"))),
        None => arg,
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Logging, to standard error")]
pub struct Logging {
    /// Least severe level that is logged [default: info for serve, consume, produce and demo; error for check, init, status,
    /// pending and tidy, which print warnings with their results; otherwise warn].
    #[arg(long, global = true, value_name = "LEVEL", value_enum)]
    pub log_level: Option<LogLevel>,
    /// Form of the log lines.
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text", value_enum)]
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// A person is needed.
    Error,
    /// Degraded, but handled.
    Warn,
    /// Lifecycle and changes of state.
    Info,
    /// Each poll.
    Debug,
    /// Everything.
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the exporter: poll streams on a timer and serve what was found on /metrics.
    Serve(Serve),
    /// Validate the configuration, poll each target once, and print what was found or is wrong.
    Check(Check),
    /// Print a configuration for a server, with what was found there.
    #[command(after_help = INIT)]
    Init(Init),
    /// Show how far behind each group is, asked of a running streamgauge or polled for a while.
    Status(StatusArgs),
    /// List the entries of a group that were read and not acknowledged.
    #[command(after_help = PENDING_COST)]
    Pending(Pending),
    /// Print the commands that delete unused consumers and groups, and run none of them.
    Tidy(Tidy),
    /// Print the alert rules, those of a configuration or the recommended ones, as a Prometheus rule file.
    Rules(Rules),
    /// Read a stream as a consumer of a group: a JSON line or a program for each entry, then XACK.
    #[command(after_help = HANDLERS)]
    Consume(Box<Consume>),
    /// List the dead letters of a stream, look at them, put them back, or drop them.
    #[command(after_help = DEAD_LETTERS)]
    DeadLetters(Box<DeadLettersArgs>),
    /// Add generated entries to one or more streams, to try things out.
    #[command(after_help = ENTRY)]
    Produce(Produce),
    /// Run a demo: a private Redis server, a producer, three consumer groups and the exporter.
    Demo(Demo),
    /// Print a script that completes commands and flags in a shell.
    Completions(Completions),
    /// Ask a running exporter whether it is healthy: for the health check of an image without a shell.
    #[command(hide = true)]
    Healthcheck(Healthcheck),
}

impl Command {
    /// Returns the least severe level that this command logs, given the level of the flag; `None` for no logs at all.
    pub fn log_level(&self, requested: Option<LogLevel>) -> Option<LogLevel> {
        let default = match self {
            // Log lines would destroy the screen.
            Self::Status(status) if status.watch => return None,
            Self::Serve(_) | Self::Consume(_) | Self::Produce(_) | Self::Demo(_) => LogLevel::Info,
            // Their results tell what the poller would warn of.
            Self::Check(_) | Self::Init(_) | Self::Status(_) | Self::Pending(_) | Self::Tidy(_) => {
                LogLevel::Error
            }
            _ => LogLevel::Warn,
        };
        Some(requested.unwrap_or(default))
    }
}

#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    pub source: Source,
    /// Address to serve /metrics on.
    #[arg(
        long,
        value_name = "ADDR",
        help = "Address, or port alone, to serve /metrics on [default: [::]:10121]"
    )]
    pub listen: Option<String>,
}

#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    pub source: Source,
    /// Exit with code 1 if there are warnings.
    #[arg(long, value_parser = FalseyValueParser::new())]
    pub strict: bool,
}

#[derive(Debug, Args)]
pub struct Init {
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Debug, Args)]
pub struct Rules {
    /// Configuration file whose rules are printed [default: the recommended rules].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Source {
    #[command(flatten)]
    pub polled: PolledArgs,
    /// Time from one poll to the next, such as 10s or 1m [default: 10s].
    #[arg(long, value_name = "DURATION")]
    pub interval: Option<String>,
    /// Poll one part of N of all streams, by a hash of their keys: 0/3, 1/3 and 2/3 together poll each once.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<String>,
}

/// A configuration file, or one server given by flags.
#[derive(Debug, Args)]
pub struct PolledArgs {
    /// Configuration file (YAML), instead of --redis-url.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub server: ServerArgs,
    /// Key or glob of streams; may be given several times.
    #[arg(
        long,
        value_name = "KEY_OR_GLOB",
        value_delimiter = '\n',
        help = "Key or glob of streams; may be given several times (in the variable: one per line) [default: *]"
    )]
    pub stream: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ServerArgs {
    /// URL of the server; `REDIS_URL` where it is not given.
    #[arg(
        long,
        value_name = "URL",
        hide_env_values = true,
        help = "URL of the server: redis[s]://[user[:password]@]host[:port][/db], unix:///path[?db=N], or host[:port] [default: $REDIS_URL]"
    )]
    pub redis_url: Option<String>,
    /// ACL user, if the URL has none.
    #[arg(long, value_name = "NAME")]
    pub redis_username: Option<String>,
    /// File with the password, if the URL has none; read again at every connect.
    #[arg(long, value_name = "FILE")]
    pub redis_password_file: Option<PathBuf>,
    #[command(flatten)]
    pub tls: TlsArgs,
}

/// TLS of a server whose URL is `rediss://`. The files are read again at every connect.
#[derive(Clone, Debug, Default, Args)]
pub struct TlsArgs {
    /// File with the certificates of trusted authorities [default: those of the system].
    #[arg(long, value_name = "FILE")]
    pub redis_tls_ca_file: Option<PathBuf>,
    /// File with a client certificate, if the server requires one.
    #[arg(long, value_name = "FILE", requires = "redis_tls_key_file")]
    pub redis_tls_cert_file: Option<PathBuf>,
    /// File with the private key of the client certificate.
    #[arg(long, value_name = "FILE", requires = "redis_tls_cert_file")]
    pub redis_tls_key_file: Option<PathBuf>,
    /// Name that the server's certificate must be for [default: the host of the URL].
    #[arg(long, value_name = "NAME")]
    pub redis_tls_server_name: Option<String>,
    /// Accept any certificate, so that any host can pose as the server; logs a warning.
    #[arg(long, value_parser = FalseyValueParser::new())]
    pub redis_tls_insecure_skip_verify: bool,
}

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
        help = "Exit with code 3 if a group has this status, or one of several separated by commas: \
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
    /// Also show the fields of the entries, of at most 1,000 of them.
    #[arg(long, value_parser = FalseyValueParser::new())]
    pub fields: bool,
    /// Print JSON.
    #[arg(long, value_parser = FalseyValueParser::new())]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Tidy {
    #[command(flatten)]
    pub source: Source,
    /// Time for which a consumer must not have tried to read, such as 12h or 7d.
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = humantime::parse_duration)]
    pub idle: Duration,
}

#[derive(Debug, Args)]
pub struct Completions {
    #[arg(value_enum)]
    pub shell: Shell,
}

#[derive(Debug, Args)]
pub struct Consume {
    #[command(flatten)]
    pub server: ServerArgs,
    /// Key of the stream; it is created if it is missing.
    #[arg(long, value_name = "KEY")]
    pub stream: String,
    /// Consumer group; it is created if it is missing.
    #[arg(long, value_name = "NAME")]
    pub group: String,
    /// Create neither the stream nor the group, and end if one is missing.
    #[arg(long, value_parser = FalseyValueParser::new())]
    pub no_create: bool,
    /// Name of this consumer in the group [default: host name, process ID and 4 random characters].
    #[arg(long, value_name = "NAME")]
    pub consumer: Option<String>,
    /// ID after which a group that is created here starts: 0 for all entries, $ for new ones only.
    #[arg(long, value_name = "ID", default_value = "0")]
    pub start_id: String,
    /// Most entries that one XREADGROUP reads, and that this process buffers.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub batch: u32,
    /// Entries handled at a time; with 1 they are handled in order.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub concurrency: u32,
    /// Claim pending entries that have been idle for this long.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = humantime::parse_duration)]
    pub claim_min_idle: Duration,
    /// Deliveries after which an entry that fails goes to the dead-letter stream; 21 take at least 15 minutes with the
    /// default delays, 0 is never.
    #[arg(long, value_name = "N", default_value_t = 21)]
    pub max_deliveries: u64,
    /// Key of the dead-letter stream [default: KEY:dead, in a cluster {KEY}:dead].
    #[arg(long, value_name = "KEY")]
    pub dead_letter: Option<String>,
    /// Delay after a first failure; doubles with each further one.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    pub retry_delay: Duration,
    /// Longest delay between two attempts.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = humantime::parse_duration)]
    pub max_retry_delay: Duration,
    /// Different entries that fail in a row before the circuit breaker opens: reading stops, and single entries are tried
    /// without counting their deliveries, until one succeeds; 0 is never.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub breaker_threshold: u32,
    /// Time that entries being handled have to finish on SIGTERM.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub grace: Duration,
    /// Run a program for each entry, its JSON on standard input; see below. There is no shell.
    #[arg(long, value_name = "COMMAND")]
    pub exec: Option<String>,
    /// Start one program that handles all entries: their JSON lines on its standard input, an answer for each on its
    /// standard output; see below.
    #[arg(long, value_name = "COMMAND", conflicts_with = "exec")]
    pub worker: Option<String>,
    /// Longest time for an entry, after which the program is killed: of --exec, its run time; of --worker, the time until
    /// its answer, multiplied by the number of entries that it has not answered.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = humantime::parse_duration)]
    pub exec_timeout: Duration,
    /// Time to spend on each entry before it is handled, to simulate work.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    pub work_time: Duration,
    /// Share of deliveries that fail, 0 to 1, to simulate failures.
    #[arg(long, value_name = "RATE", default_value_t = 0.0, value_parser = ratio)]
    pub fail_rate: f64,
    /// Address to serve the consumer's own metrics on, such as 127.0.0.1:10122 [default: not served].
    #[arg(long, value_name = "ADDR")]
    pub metrics_listen: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub struct DeadLettersArgs {
    #[arg(value_enum)]
    pub action: DeadLettersAction,
    #[command(flatten)]
    pub server: ServerArgs,
    /// Key of the stream that the letters belong to; may be left out if --dead-letter is given.
    #[arg(long, value_name = "KEY", required_unless_present = "dead_letter")]
    pub stream: Option<String>,
    /// Key of the dead-letter stream [default: KEY:dead, in a cluster {KEY}:dead].
    #[arg(long, value_name = "KEY")]
    pub dead_letter: Option<String>,
    /// Name of a field in letters of another program, such as stream=x-original-stream; may be given several times.
    #[arg(
        long,
        value_name = "WHAT=NAME",
        value_delimiter = '\n',
        help = "Name of a field in letters of another program, such as stream=x-original-stream; WHAT is stream, \
                group, consumer, id, deliveries or error; may be given several times (in the variable: one per line)"
    )]
    pub letter_field: Vec<String>,
    /// Only the letter with this ID; may be given several times.
    #[arg(
        long,
        value_name = "ID",
        value_delimiter = '\n',
        help = "Only the letter with this ID; may be given several times (in the variable: one per line)"
    )]
    pub id: Vec<String>,
    /// Only letters of this group.
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// Only letters that were written at least this long ago, such as 1h.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub older_than: Option<Duration>,
    /// Only letters that were written at most this long ago.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub newer_than: Option<Duration>,
    /// Most letters, the oldest first [default: 100 for list and show, otherwise all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// For replay: stream that all entries go to, instead of their own.
    #[arg(long, value_name = "KEY")]
    pub to: Option<String>,
    /// For replay: letters per second; 0 is as fast as the server takes them.
    #[arg(long, value_name = "N", default_value_t = 0.0)]
    pub rate: f64,
    /// For replay and drop: do it.
    #[arg(long, value_parser = FalseyValueParser::new(), conflicts_with = "dry_run")]
    pub execute: bool,
    /// For replay and drop: only count the letters; the default.
    #[arg(long, value_parser = FalseyValueParser::new())]
    pub dry_run: bool,
    /// Print JSON.
    #[arg(long, value_parser = FalseyValueParser::new())]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeadLettersAction {
    /// Print a table of letters.
    List,
    /// Print letters with all their fields.
    Show,
    /// Put entries back into their streams, and delete their letters.
    Replay,
    /// Delete letters.
    Drop,
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

#[derive(Debug, Args)]
pub struct Produce {
    #[command(flatten)]
    pub server: ServerArgs,
    /// Keys of the streams; entries go to them in turn.
    #[arg(
        long,
        value_name = "KEY",
        value_delimiter = '\n',
        required = true,
        help = "Key of a stream, created if it is missing; may be given several times (in the variable: one per \
                line), and entries go to the streams in turn"
    )]
    pub stream: Vec<String>,
    /// Entries per second in all streams together, on average; 0 is as fast as the server takes them.
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    pub rate: f64,
    /// How the entries spread over time.
    #[arg(long, value_name = "PATTERN", default_value = "steady", value_enum)]
    pub pattern: RatePattern,
    /// Period of the patterns bursts and sine.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = humantime::parse_duration)]
    pub period: Duration,
    /// Entries to add in all, then exit [default: until it is stopped].
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Trim each stream to this many entries (MAXLEN) [default: no trimming].
    #[arg(long, value_name = "N", conflicts_with = "max_age")]
    pub maxlen: Option<u64>,
    /// Trim entries that are older, by the server's clock (MINID) [default: no trimming].
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub max_age: Option<Duration>,
    /// How closely --maxlen or --max-age trim.
    #[arg(long, value_name = "HOW", default_value = "about", value_enum)]
    pub trim: TrimPrecision,
    /// Size of the field payload in bytes.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub payload_bytes: usize,
    /// A field of each entry, in place of n and payload; may be given several times.
    #[arg(
        long,
        value_name = "NAME=TEMPLATE",
        value_delimiter = '\n',
        conflicts_with = "json_lines",
        help = "A field of each entry, in place of n and payload; see below; may be given several times (in the \
                variable: one per line)"
    )]
    pub field: Vec<String>,
    /// Add the entries that standard input has, one JSON object a line; without --rate as fast as they come.
    #[arg(long, value_parser = FalseyValueParser::new())]
    pub json_lines: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RatePattern {
    /// The same all the time.
    Steady,
    /// Ten times the rate in the first tenth of each period, then nothing.
    Bursts,
    /// From nothing to twice the rate and back in each period.
    Sine,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TrimPrecision {
    /// A node of entries at a time (~): cheap for the server, and some more entries stay.
    About,
    /// To the entry (=).
    Exact,
}

#[derive(Debug, Args)]
pub struct Demo {
    /// Address to serve /metrics on.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:10121")]
    pub listen: String,
    /// Redis or Valkey server program to start [default: redis-server or valkey-server on PATH].
    #[arg(long, value_name = "PROGRAM")]
    pub redis_server: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Healthcheck {
    /// Address that the exporter listens on [default: 127.0.0.1:10121].
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
}
