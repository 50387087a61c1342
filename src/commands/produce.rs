//! `streamgauge produce`: the load generator, with one line of summary on standard output.

use std::io::{self, Write as _};

use anyhow::Context as _;

use crate::cli;
use crate::commands::endpoint;
use crate::shutdown::Shutdown;
use crate::workload::produce::{self, Load};

/// Adds entries until all are added or it is asked to end, and says how many there were.
///
/// # Errors
///
/// A usage error for settings that cannot be; otherwise what the server or standard output refuses.
pub async fn run(args: cli::Produce, shutdown: Shutdown) -> anyhow::Result<()> {
    let stream = args.stream;
    let load = Load {
        endpoint: endpoint::read(&args.server)?,
        stream: stream.clone().into_bytes(),
        rate: args.rate,
        count: args.count,
        maxlen: args.maxlen,
        payload_bytes: args.payload_bytes,
    };
    let produced = produce::run(&load, shutdown.requested()).await.map_err(endpoint::classify)?;
    let seconds = produced.elapsed.as_secs_f64();
    writeln!(io::stdout(), "added {} entries to {stream} in {seconds:.1} s", produced.added)
        .context("cannot write to standard output")
}
