//! The program: parses the command line, starts logging, runs the command, maps its error to an exit code.

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use clap::ArgMatches;
use streamgauge::cli::{Command, parse};
use streamgauge::commands::{
    check, completions, consume, dead_letters, demo, exit_code, healthcheck, init, pending, produce, rules,
    serve, status, tidy,
};
use streamgauge::{logging, shutdown};

/// A poll of many streams allocates millions of small strings on one thread and frees them on another, the worst case
/// of the C library's allocator: half of all CPU time. When idle, jemalloc costs 0.8 MiB.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Blocking work that is still running, such as a DNS lookup, delays the exit by this time at most.
const RUNTIME_END: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let (cli, matches) = parse::parse(env::args_os()).unwrap_or_else(|error| error.exit());
    if let Some(log_level) = cli.command.log_level(cli.logging.log_level) {
        logging::start(log_level, cli.logging.log_format);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return exit_code::report(&anyhow::Error::from(error).context("cannot start the runtime"));
        }
    };
    let result = runtime.block_on(run(cli.command, matches));
    runtime.shutdown_timeout(RUNTIME_END);
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit_code::report(&error),
    };
    logging::flush();
    code
}

async fn run(command: Command, matches: ArgMatches) -> anyhow::Result<()> {
    let signals = shutdown::on_signal()?;
    let shutdown = signals.requested.clone();
    match command {
        Command::Serve(_) => serve::run(matches, shutdown).await,
        Command::Check(args) => tokio::select! {
            result = check::run(&args, &matches) => result,
            () = shutdown.cancelled() => Ok(()),
        },
        Command::Init(_) => tokio::select! {
            result = init::run(&matches) => result,
            () = shutdown.cancelled() => Ok(()),
        },
        Command::Status(args) => status::run(&args, &matches, shutdown).await,
        Command::Pending(args) => tokio::select! {
            result = pending::run(&args, &matches) => result,
            () = shutdown.cancelled() => Ok(()),
        },
        Command::Tidy(args) => tokio::select! {
            result = tidy::run(&args, &matches) => result,
            () = shutdown.cancelled() => Ok(()),
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
