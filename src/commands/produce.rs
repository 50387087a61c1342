//! `streamgauge produce`: runs the load generator, and prints a summary to standard output.

use std::fmt::Write as _;
use std::io::{self, BufReader, IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use bytesize::ByteSize;
use clap::ArgMatches;
use clap::parser::ValueSource;

use crate::cli;
use crate::commands::{output, redis_args};
use crate::format::unicode::printable;
use redis_stream_consumer::produce::lines::read_lines;
use redis_stream_consumer::produce::rate::Pattern;
use redis_stream_consumer::produce::trim::{Precision, Trim};
use redis_stream_consumer::produce::{self, FieldTemplate, ProduceConfig, ProduceStats};
use redis_stream_core::escape::escape;
use tokio_util::sync::CancellationToken;

/// Shortest run, in seconds, whose rate is shown.
const MIN_SECONDS_FOR_RATE: f64 = 1.0;

/// From one log line about the progress to the next, on a terminal.
const PROGRESS: Duration = Duration::from_secs(10);

/// Adds entries until all are added, or until `shutdown`, and prints their number.
///
/// # Errors
///
/// A usage error for an invalid setting; otherwise an error of the server or of standard output.
pub async fn run(
    args: cli::Produce,
    matches: &ArgMatches,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let reads_lines = args.json_lines;
    let config = config(args, matches)?;
    let stop = shutdown.cancelled_owned();
    let ended = if reads_lines {
        let lines = read_lines(BufReader::new(io::stdin())).context("cannot start a thread")?;
        if io::stdin().is_terminal() {
            output::print_error(
                "reading entries from the terminal, one JSON object a line; Ctrl-D ends them",
            );
        }
        produce::run_lines(&config, lines, stop).await
    } else {
        produce::run(&config, stop).await
    };
    let stats = ended.map_err(redis_args::classify)?;
    Ok(write!(output::stdout(), "{}", summary(&stats))?)
}

fn config(args: cli::Produce, matches: &ArgMatches) -> anyhow::Result<ProduceConfig> {
    let templates = args.field.iter().filter(|text| !text.is_empty()).map(|text| FieldTemplate::parse(text));
    let fields = templates.collect::<Result<_, _>>().map_err(redis_args::classify)?;
    let is_rate_given = matches.value_source("rate") != Some(ValueSource::DefaultValue);
    Ok(ProduceConfig {
        connect: redis_args::read(matches)?,
        pattern: pattern(&args),
        trim: trim(&args),
        streams: args.stream.into_iter().map(String::into_bytes).collect(),
        // Lines set their own pace.
        rate: if args.json_lines && !is_rate_given { 0.0 } else { args.rate },
        count: args.count,
        payload_bytes: args.payload_bytes,
        fields,
        progress: output::stderr().is_terminal().then_some(PROGRESS),
    })
}

fn pattern(args: &cli::Produce) -> Pattern {
    let period = args.period;
    match args.pattern {
        cli::RatePattern::Steady => Pattern::Steady,
        cli::RatePattern::Bursts => Pattern::Bursts { period },
        cli::RatePattern::Sine => Pattern::Sine { period },
    }
}

fn trim(args: &cli::Produce) -> Trim {
    let precision = match args.trim {
        cli::TrimPrecision::About => Precision::About,
        cli::TrimPrecision::Exact => Precision::Exact,
    };
    match (args.maxlen, args.max_age) {
        (Some(entries), _) => Trim::Length { entries, precision },
        (None, Some(age)) => Trim::Age { age, precision },
        (None, None) => Trim::Never,
    }
}

fn summary(stats: &ProduceStats) -> String {
    let ProduceStats { added, bytes, unknown, elapsed, streams } = stats;
    let seconds = elapsed.as_secs_f64();
    let target = match streams.as_slice() {
        [only] => shown(&only.stream),
        several => format!("{} streams", several.len()),
    };
    let mut text = format!("added {} ({}) to {target} in {seconds:.1} s", entries(*added), ByteSize(*bytes));
    if seconds >= MIN_SECONDS_FOR_RATE {
        let _ = write!(text, ", {:.1} per second", *added as f64 / seconds);
    }
    text.push('\n');
    if streams.len() > 1 {
        for stream in streams {
            let (name, entries) = (shown(&stream.stream), entries(stream.added));
            let _ = write!(text, "  {name}: {entries} ({})", ByteSize(stream.bytes));
            if stream.unknown > 0 {
                let _ = write!(text, ", unknown: {}", stream.unknown);
            }
            text.push('\n');
        }
    }
    if *unknown > 0 {
        let _ = writeln!(
            text,
            "unknown: {}, whose reply was lost with the connection: each may have been added, too",
            entries(*unknown)
        );
    }
    text
}

fn shown(name: &[u8]) -> String {
    printable(&escape(name)).into_owned()
}

fn entries(count: u64) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis_stream_consumer::produce::StreamStats;

    fn stream_stats(stream: &str, added: u64, unknown: u64) -> StreamStats {
        StreamStats { stream: stream.into(), added, bytes: added * 100, unknown }
    }

    fn stats(streams: Vec<StreamStats>, ms: u64) -> ProduceStats {
        let sum = |of: fn(&StreamStats) -> u64| streams.iter().map(of).sum();
        ProduceStats {
            added: sum(|stream| stream.added),
            bytes: sum(|stream| stream.bytes),
            unknown: sum(|stream| stream.unknown),
            elapsed: Duration::from_millis(ms),
            streams,
        }
    }

    #[test]
    fn a_summary_of_one_stream_is_one_line() {
        insta::assert_snapshot!(summary(&stats(vec![stream_stats("orders", 1, 0)], 40)), @"added 1 entry (100 B) to orders in 0.0 s");
        insta::assert_snapshot!(summary(&stats(vec![stream_stats("orders", 1_000, 0)], 9_900)), @"added 1000 entries (97.7 KiB) to orders in 9.9 s, 101.0 per second");
    }

    #[test]
    fn a_summary_of_several_streams_has_a_line_for_each_and_lists_unknown_entries() {
        let streams = vec![stream_stats("orders", 501, 12), stream_stats("invoices", 500, 0)];
        insta::assert_snapshot!(summary(&stats(streams, 100_100)), @r"
        added 1001 entries (97.8 KiB) to 2 streams in 100.1 s, 10.0 per second
          orders: 501 entries (48.9 KiB), unknown: 12
          invoices: 500 entries (48.8 KiB)
        unknown: 12 entries, whose reply was lost with the connection: each may have been added, too
        ");
    }
}
