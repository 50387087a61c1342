//! `streamgauge produce`: the load generator, with a summary on standard output.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use anyhow::Context as _;
use bytesize::ByteSize;

use crate::cli;
use crate::commands::endpoint;
use redis_stream_consumer::produce::rate::Pattern;
use redis_stream_consumer::produce::trim::{Precision, Trim};
use redis_stream_consumer::produce::{self, ProduceConfig, ProduceStats};
use tokio_util::sync::CancellationToken;

/// Below, the time between the first entry and the last says little of a rate, in seconds.
const SHORTEST_FOR_A_RATE: f64 = 1.0;

/// Adds entries until all are added or it is asked to end, and says how many there were.
///
/// # Errors
///
/// A usage error for settings that cannot be; otherwise what the server or standard output refuses.
pub async fn run(args: cli::Produce, shutdown: CancellationToken) -> anyhow::Result<()> {
    let load = load(args)?;
    let produced = produce::run(&load, shutdown.cancelled_owned()).await.map_err(endpoint::classify)?;
    write!(io::stdout(), "{}", summary(&produced)).context("cannot write to standard output")
}

fn load(args: cli::Produce) -> anyhow::Result<ProduceConfig> {
    Ok(ProduceConfig {
        connect: endpoint::read(&args.server)?,
        pattern: pattern(&args),
        trim: trim(&args),
        streams: args.stream.into_iter().map(String::into_bytes).collect(),
        rate: args.rate,
        count: args.count,
        payload_bytes: args.payload_bytes,
    })
}

fn pattern(args: &cli::Produce) -> Pattern {
    let period = args.period;
    match args.pattern {
        cli::Pattern::Steady => Pattern::Steady,
        cli::Pattern::Bursts => Pattern::Bursts { period },
        cli::Pattern::Sine => Pattern::Sine { period },
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

/// What was added, in all and by stream, and what may have been.
fn summary(produced: &ProduceStats) -> String {
    let ProduceStats { added, bytes, unknown, elapsed, streams } = produced;
    let seconds = elapsed.as_secs_f64();
    let places = match streams.as_slice() {
        [only] => String::from_utf8_lossy(&only.stream).into_owned(),
        several => format!("{} streams", several.len()),
    };
    let mut text = format!("added {} ({}) to {places} in {seconds:.1} s", entries(*added), ByteSize(*bytes));
    if seconds >= SHORTEST_FOR_A_RATE {
        let _ = write!(text, ", {:.1} per second", *added as f64 / seconds);
    }
    text.push('\n');
    if streams.len() > 1 {
        for share in streams {
            let (stream, entries) = (String::from_utf8_lossy(&share.stream), entries(share.added));
            let _ = write!(text, "  {stream}: {entries} ({})", ByteSize(share.bytes));
            if share.unknown > 0 {
                let _ = write!(text, ", unknown: {}", share.unknown);
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

fn entries(count: u64) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use redis_stream_consumer::produce::StreamStats;

    fn share(stream: &str, added: u64, unknown: u64) -> StreamStats {
        StreamStats { stream: stream.into(), added, bytes: added * 100, unknown }
    }

    fn produced(streams: Vec<StreamStats>, ms: u64) -> ProduceStats {
        let sum = |of: fn(&StreamStats) -> u64| streams.iter().map(of).sum();
        ProduceStats {
            added: sum(|share| share.added),
            bytes: sum(|share| share.bytes),
            unknown: sum(|share| share.unknown),
            elapsed: Duration::from_millis(ms),
            streams,
        }
    }

    #[test]
    fn a_summary_of_one_stream_is_one_line() {
        insta::assert_snapshot!(summary(&produced(vec![share("orders", 1, 0)], 40)), @"added 1 entry (100 B) to orders in 0.0 s");
        insta::assert_snapshot!(summary(&produced(vec![share("orders", 1_000, 0)], 9_900)), @"added 1000 entries (97.7 KiB) to orders in 9.9 s, 101.0 per second");
    }

    #[test]
    fn a_summary_of_several_streams_has_a_line_for_each_and_tells_what_is_not_known() {
        let shares = vec![share("orders", 501, 12), share("invoices", 500, 0)];
        insta::assert_snapshot!(summary(&produced(shares, 100_100)), @r"
        added 1001 entries (97.8 KiB) to 2 streams in 100.1 s, 10.0 per second
          orders: 501 entries (48.9 KiB), unknown: 12
          invoices: 500 entries (48.8 KiB)
        unknown: 12 entries, whose reply was lost with the connection: each may have been added, too
        ");
    }
}
