//! The program: parses the command line, starts logging, runs the command, maps its error to an exit code.

use std::env;
use std::process::{self, ExitCode};
use std::time::Duration;

use anyhow::Context as _;
use clap::ArgMatches;
use streamgauge::cli::{Cli, Command, parse};
use streamgauge::commands::{
    check, completions, config_source, consume, dead_letters, demo, descriptors, exit_code, healthcheck,
    init, pending, produce, rules, serve, status, tidy,
};
use streamgauge::{logging, shutdown};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// A poll of many streams allocates millions of small strings on one thread and frees them on another, the worst case
/// of the C library's allocator: half of all CPU time. When idle, jemalloc costs 0.8 MiB.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Blocking work that is still running, such as a DNS lookup, delays the exit by this time at most.
const RUNTIME_END: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let code = match parse::parse(env::args_os()) {
        Ok((cli, matches)) => match started(cli, matches) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => exit_code::report(&error),
        },
        Err(error) if error.use_stderr() => exit_code::report_usage(&error),
        Err(help) => help.exit(),
    };
    logging::flush();
    code
}

fn started(cli: Cli, matches: ArgMatches) -> anyhow::Result<()> {
    descriptors::require()?;
    if let Some(log_level) = cli.command.log_level(cli.logging.log_level) {
        logging::start(log_level, cli.logging.log_format);
    }
    config_source::report_misspelled(env::vars_os().filter_map(|(name, _)| name.into_string().ok()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let result = runtime.block_on(run(cli.command, matches));
    runtime.shutdown_timeout(RUNTIME_END);
    result
}

/// Ends the process after a signal if the command does not end, since it is blocked by a terminal or a pipe that is not
/// read.
async fn end_if_blocked(requested: CancellationToken, grace: Duration) {
    requested.cancelled().await;
    sleep(grace).await;
    logging::print("ended by a signal: the command was blocked, for example by an output that is not read");
    logging::flush();
    process::exit(1);
}

/// A result that is cut short must not pass for a success.
fn interrupted() -> anyhow::Error {
    anyhow::anyhow!("interrupted before the result was complete")
}

/// Returns the time in which a command ends after a signal unless it is blocked; `None` where it depends on others.
fn longest_end(command: &Command) -> Option<Duration> {
    match command {
        Command::Serve(_) | Command::Consume(_) | Command::Demo(_) => None,
        Command::Produce(_) | Command::DeadLetters(_) => Some(Duration::from_secs(10)),
        Command::Check(_)
        | Command::Completions(_)
        | Command::Healthcheck(_)
        | Command::Init(_)
        | Command::Pending(_)
        | Command::Rules(_)
        | Command::Status(_)
        | Command::Tidy(_) => Some(Duration::from_secs(2)),
    }
}

async fn run(command: Command, matches: ArgMatches) -> anyhow::Result<()> {
    let signals = shutdown::on_signal()?;
    let shutdown = signals.requested.clone();
    if let Some(grace) = longest_end(&command) {
        tokio::spawn(end_if_blocked(shutdown.clone(), grace));
    }
    match command {
        Command::Serve(_) => serve::run(matches, shutdown).await,
        Command::Check(args) => tokio::select! {
            result = check::run(&args, &matches) => result,
            () = shutdown.cancelled() => Err(interrupted()),
        },
        Command::Init(_) => tokio::select! {
            result = init::run(&matches) => result,
            () = shutdown.cancelled() => Err(interrupted()),
        },
        Command::Status(args) => status::run(&args, &matches, shutdown).await,
        Command::Pending(args) => tokio::select! {
            result = pending::run(&args, &matches) => result,
            () = shutdown.cancelled() => Err(interrupted()),
        },
        Command::Tidy(args) => tokio::select! {
            result = tidy::run(&args, &matches) => result,
            () = shutdown.cancelled() => Err(interrupted()),
        },
        Command::Rules(args) => rules::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Consume(args) => consume::run(*args, &matches, signals).await,
        Command::DeadLetters(args) => dead_letters::run(&args, &matches, shutdown).await,
        Command::Produce(args) => produce::run(args, &matches, shutdown).await,
        Command::Demo(args) => demo::run(args, shutdown, serve::run_with).await,
        Command::Healthcheck(args) => healthcheck::run(&args).await,
    }
}
